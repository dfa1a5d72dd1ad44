"""What the page for users tells them to type, typed against a real Docker."""

from __future__ import annotations

import subprocess
from pathlib import Path

from documents import blocks, commands
from rig.cli import REPOSITORY
from rig.engine import Engine
from rig.waiting import until

PAGE = "deploy/USERS.md"
PROGRAM = "#!/bin/sh\necho weights > /workspace/model.pt\nexec sleep 1000\n"


def test_the_users_page(engine: Engine, tmp_path: Path) -> None:
    """What somebody with a shell and Docker types: their file keeps the container, and their mount survives it."""
    engine.image("my-image:latest")
    home = tmp_path / "home"
    home.mkdir()
    program, model = home / "runs" / "train", home / "runs" / "model.pt"
    said = []
    shown = [block for block in blocks((REPOSITORY / PAGE).read_text("utf-8")) if block.kind == "console"]
    # The page begins with what one looks for: a container that is there already.
    order = sorted(
        (command for block in shown for command in commands(block, PAGE)),
        key=lambda command: ("mkdir" not in command.text, "docker run" not in command.text, command.line),
    )
    for command in order:
        if command.text.startswith("docker run"):
            program.write_text(PROGRAM)
            program.chmod(0o755)
        line = command.text.replace("docker ", f"docker --host unix://{engine.socket} ", 1)
        line = line.replace(" my-image ", " --network none my-image ")
        ran = subprocess.run(
            ["/bin/sh", "-c", f"HOME={home}; {line}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert ran.returncode == 0, f"{PAGE}:{command.line}: $ {command.text}\n{ran.stdout}{ran.stderr}"
        said.append(command.text.split()[0:2])
        if command.text.startswith("docker run"):  # people type slower than the program writes
            until(lambda: model.exists() and model.read_text() == "weights\n", "the program has written nothing")
    assert said == [["mkdir", "-p"], ["docker", "run"], ["docker", "exec"], ["docker", "cp"]]
    assert (home / "runs" / ".keep-alive").exists()
    assert (tmp_path / "model.pt").read_text() == "weights\n"

"""What the documents tell people to type is typed, on a machine with a real systemd, from a clone to the removal."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator

import pytest
from documents import Block, Command, blocks, commands, fits, section
from rig.age_proxy import AgeProxy
from rig.cli import REPOSITORY
from rig.engine import Engine
from rig.history import History
from rig.machine import SHARED, WHEELS, Machine
from rig.nvidia_smi import SmiGpu, write_nvidia_smi

GPUS = ("GPU-aaaa", "GPU-bbbb")
HOME = "/root"
# What is another on the reader's host: where the clone comes from, and what there was to tell two hours ago.
HERE = {"<this repository>": f"{SHARED}/clone", "--at '2h ago'": "--at '1s ago'"}
# What a person has on their machine and a test's has not. The editor writes what the comment behind the command says.
PEOPLE = {
    "sudo": 'exec "$@"\n',
    "git": f'[ "$1" = pull ] || cp -r {SHARED}/clone ds01-policy\n',
    "sudoedit": """\
sed -i 's|^  url: http://localhost:9090|  url: {prometheus}|; s|^  channels: .*|  channels: [wall]|' "$1"
""",
}
LOCK, LOCKED = "/var/lib/ds01-policy/lock", 5  # and what a run ends with while another one holds it
OFFLINE = f"export PIP_NO_INDEX=1 PIP_FIND_LINKS={WHEELS} PIP_ROOT_USER_ACTION=ignore TZ=UTC; umask 022; "


def document(name: str) -> str:
    return (REPOSITORY / name).read_text("utf-8")


class Reader:
    """Somebody who reads a document from top to bottom, and does what it says."""

    def __init__(self, machine: Machine, name: str) -> None:
        self._machine = machine
        self._name = name
        self._folder = HOME
        self.typed: list[str] = []

    def read(self, text: str) -> None:
        """Do what the blocks of a text say. Fails at the first thing that is not as shown."""
        for block in blocks(text):
            if block.kind == "console":
                for command in commands(block, self._name):
                    self._type(command)
            elif block.kind == "yaml":
                self._write(block)
            else:
                assert block.kind in ("text", "promql"), f"{self._name}:{block.line}: nobody knows what to do with it"

    def _type(self, command: Command) -> None:
        line = command.text
        for theirs, ours in HERE.items():
            line = line.replace(theirs, ours)
        typed = ("sh", "-c", f"{OFFLINE} cd {self._folder} && {line}")
        ran = self._machine(*typed, timeout=300)
        if ran.rc == LOCKED != command.code:  # a tick of the timer is at work: wait for it, as is said, and try again
            self._machine.do("flock", LOCK, "true")
            ran = self._machine(*typed, timeout=300)
        where = f"{self._name}:{command.line}: $ {command.text}\n{ran.out}{ran.err}"
        assert ran.rc == command.code, f"ended with {ran.rc}: {where}"
        assert not command.shown or fits(command.shown, ran.out), where
        if found := re.search(r"&& cd (\S+)", line):
            self._folder = f"{self._folder}/{found[1]}"
        self.typed.append(command.text.partition("  #")[0].strip())

    def _write(self, block: Block) -> None:
        head, _, _ = block.text.partition("\n")
        assert head.startswith("# /"), f"{self._name}:{block.line}: the block does not begin with its file's name"
        self._machine.write(head[2:], block.text)


@pytest.fixture
def server(machine: Machine, engine: Engine, prometheus_with: Callable[..., str], now: float) -> Iterator[Machine]:
    """Make a GPU server of a machine: Docker with alice's container, a driver, a Prometheus; and a clone to install."""
    train = engine.run(name="train", gpus="device=GPU-aaaa")
    history = History(now, span="2h", ahead="1h")
    for uuid in GPUS:
        history.gpu(uuid, 0).energy(uuid, 70)
    history.cpu(train, 0.001).network(train, 10)
    proxy = AgeProxy(engine.socket, machine.shared / "docker.sock")
    proxy.age(train, started="90m")
    mount = {"Type": "bind", "Source": "/home/alice/runs", "Destination": "/workspace", "RW": True}
    proxy.edit(train, lambda answer: answer["Mounts"].append(mount))  # a real one would make that folder here
    leave = shutil.ignore_patterns(".git", ".venv", ".*_cache", ".hypothesis", "__pycache__")
    shutil.copytree(REPOSITORY, machine.shared / "clone", ignore=leave)
    smi = write_nvidia_smi(machine.shared / "nvidia-smi", tuple(map(SmiGpu, GPUS)))
    script = "".join(line for line in smi.read_text().splitlines(keepends=True) if ".calls" not in line)
    smi.write_text(script.replace(str(machine.shared), SHARED))
    machine.do(f"ln -s {SHARED}/docker.sock /run/docker.sock && ln -s {SHARED}/nvidia-smi /usr/local/bin/nvidia-smi")
    machine.do(f"useradd --create-home alice && cp {WHEELS}/ds01_policy-*.whl {SHARED}/clone")
    url = prometheus_with(history)
    for name, line in PEOPLE.items():
        text = line.replace("{prometheus}", url)
        machine.write(f"/usr/local/sbin/{name}", f"#!/bin/sh\n{text}")
        machine.do("chmod", "755", f"/usr/local/sbin/{name}")
    yield machine
    proxy.close()


def test_ten_minutes_on_a_gpu_server(server: Machine) -> None:
    """The README's own set-up, on a host that has never seen it."""
    server.do("rm -rf /opt/ds01-policy")
    reader = Reader(server, "README.md")
    reader.read(section(document("README.md"), "## Ten minutes on a GPU server"))
    assert "train  alice (student)" in server.do("ds01-policy preview")
    assert [line.split("ds01-policy ")[-1].split()[0] for line in reader.typed][-3:] == [
        "doctor",
        "selftest",
        "preview",
    ]


def test_the_operators_page(server: Machine) -> None:
    """From the clone over the wheel, an upgrade and two weeks of switching it on to its removal."""
    reader = Reader(server, "deploy/README.md")
    reader.read(document("deploy/README.md"))
    assert reader.typed[0].startswith("git clone")
    assert reader.typed[-1] == "sudo make uninstall"
    assert server("test", "-e", "/opt/ds01-policy").rc == 1
    assert "expires: 2030-01-31" in server.read("/etc/ds01-policy/exemptions.yaml")
    assert server("test", "-s", "/var/lib/ds01-policy/audit.jsonl").rc == 0

"""The walk-through in the README does what it says: every file written, every command run, every line compared."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from cli_host import REPOSITORY
from documents import Block, Command, DriftError, blocks, commands, fits, section

from ds01_policy.config.why import WHY, WHY_LIVE

SECTION = "## Write your first rule"


def walk(text: str, directory: Path) -> list[str]:
    """Do everything that the blocks of a section say, in their order; give what was done, for the tests' own sake.

    Raises:
        DriftError: at the first thing that is not as shown.

    """
    done = []
    for block in blocks(text):
        if block.kind == "console":
            done += [_run(told, directory) for told in commands(block, "README.md")]
        elif block.kind == "yaml":
            done.append(_write(block, directory))
        elif block.kind == "diff":
            done.append(_mend(block, directory))
        else:
            raise DriftError(f"README.md:{block.line}: nobody knows what to do with a block of {block.kind!r}")
    return done


def _run(told: Command, directory: Path) -> str:
    """Run one line as the shell would; stderr is shown nowhere, so there must be none."""
    command, shown, line, code = told.text, told.shown, told.line, told.code
    path = os.pathsep.join([str(directory / ".bin"), os.environ["PATH"]])
    kept = {key: value for key, value in os.environ.items() if key not in ("DS01_POLICY_CONFIG", "COLUMNS")}
    ran = subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=directory,
        env={**kept, "PATH": path, "TZ": "UTC"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    if (ran.returncode, ran.stderr) != (code, "") or not fits(shown, ran.stdout):
        what = f"README.md:{line}: $ {command}\nexit {ran.returncode}, not {code}" if ran.returncode != code else ""
        what = what or f"README.md:{line}: $ {command}\nsays something else"
        raise DriftError(f"{what}\n--- shown\n{shown}--- said\n{ran.stdout}--- on stderr\n{ran.stderr}")
    return command


def _named(block: Block, directory: Path) -> tuple[Path, str]:
    """Take the file's name off the first line; what follows is what stands there."""
    head, _, rest = block.text.partition("\n")
    if not head.startswith("# ") or not (path := (directory / head[2:]).resolve()).is_relative_to(directory):
        raise DriftError(f"README.md:{block.line}: the block does not begin with a comment that names its file")
    return path, rest


def _write(block: Block, directory: Path) -> str:
    path, _ = _named(block, directory)
    if not path.parent.is_dir() or path.exists():
        raise DriftError(f"README.md:{block.line}: {path.name} cannot be written as shown")
    path.write_text(block.text)
    return f"write {path.relative_to(directory)}"


def _mend(block: Block, directory: Path) -> str:
    path, text = _named(block, directory)
    taken = "".join(line[1:] for line in text.splitlines(keepends=True) if line.startswith("-"))
    given = "".join(line[1:] for line in text.splitlines(keepends=True) if line.startswith("+"))
    before = path.read_text()
    if not taken or before.count(taken) != 1:
        raise DriftError(f"README.md:{block.line}: what is to be taken out does not stand in {path.name} once")
    path.write_text(before.replace(taken, given))
    return f"mend {path.relative_to(directory)}"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Make a directory that looks like a checkout, with this project's command on the path."""
    tmp_path = tmp_path.resolve()
    command = tmp_path / ".bin" / "ds01-policy"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{REPOSITORY}" exec "{sys.executable}" -m ds01_policy "$@"\n')
    command.chmod(0o755)
    (tmp_path / "tests").symlink_to(REPOSITORY / "tests")
    return tmp_path


def readme() -> str:
    return (REPOSITORY / "README.md").read_text("utf-8")


# ── the README ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_write_your_first_rule(checkout: Path) -> None:
    """Line by line, from `init` to what the new rule would do on the recorded host."""
    done = walk(section(readme(), SECTION), checkout)
    verbs = [re.sub(r"ds01-policy (?:--\w+ \S+ )*", "", step).split()[0] for step in done]
    assert verbs == ["init", "write", "write", "test", "mend", "test", "check", "cp", "preview"]


def test_every_warning_of_check_is_listed() -> None:
    """Each slug stands in the table once, and none that there is not."""
    table = section(readme(), "## What check finds").partition("|---|---|")[2]
    slugs = [slug for line in table.splitlines() for slug in re.findall(r"`(\w+)`", line)]
    assert sorted(slugs) == sorted([*WHY, *WHY_LIVE])


def test_every_command_is_listed() -> None:
    """The table of commands names each one that there is."""
    from ds01_policy.cli.app import app

    table = section(readme(), "## Commands")
    rows = {word for line in table.splitlines() if line.startswith("| `") for word in re.findall(r"`([a-z]+)", line)}
    names = {
        str(each.name or getattr(each.callback, "__name__", "")) for each in app.registered_commands if not each.hidden
    }
    assert names - rows == set()


# ── what would not be so ─────────────────────────────────────────────────────────────────────────────────────────────

WRONG = {
    "another line is shown": "```console\n$ echo one\ntwo\n```\n",
    "a line more is shown": "```console\n$ echo one\none\ntwo\n```\n",
    "a line less is shown": "```console\n$ printf 'one\\ntwo\\n'\none\n```\n",
    "another exit code": "```console\n$ false\n```\n",
    "a failure that is none": "```console\n$ true    # exit 1\n```\n",
    "something on stderr": "```console\n$ echo one >&2\n```\n",
    "a command that is not there": "```console\n$ ds01-policy explane\n```\n",
    "output without a command": "```console\none\n```\n",
    "a file without a name": "```yaml\nversion: 1\n```\n",
    "a file outside": "```yaml\n# ../x.yaml\nversion: 1\n```\n",
    "a file where there is no folder": "```yaml\n# nowhere/x.yaml\nversion: 1\n```\n",
    "what is mended is not there": "```yaml\n# x.yaml\na: 1\n```\n\n```diff\n# x.yaml\n-b: 1\n+b: 2\n```\n",
    "what is mended is there twice": "```yaml\n# x.yaml\na: 1\na: 1\n```\n\n```diff\n# x.yaml\n-a: 1\n+a: 2\n```\n",
    "a block of something else": "```python\nprint()\n```\n",
}


@pytest.mark.parametrize("text", WRONG.values(), ids=WRONG)
def test_what_is_not_so_is_told(text: str, checkout: Path) -> None:
    """Nothing that the README shows may be wrong without being found."""
    with pytest.raises(DriftError, match=r"README\.md:\d+: "):
        walk(text, checkout)


FITS = {
    "word for word": ("a b\n", "a b\n", True),
    "anything in a line": ("a … c\n", "a b b c\n", True),
    "not over its end": ("a … c\n", "a\nc\n", False),
    "any lines, or none": ("…\nb\n…\n", "b\n", True),
    "any lines before and after": ("…\nb\n…\n", "a\na\nb\nc\n", True),
    "but that one": ("…\nb\n…\n", "a\nc\n", False),
    "a point is a point": ("a.c\n", "abc\n", False),
    "nothing": ("", "", True),
    "nothing is not something": ("", "a\n", False),
}


@pytest.mark.parametrize(("shown", "said", "good"), FITS.values(), ids=FITS)
def test_three_dots_are_anything(shown: str, said: str, good: bool) -> None:  # noqa: FBT001 - a table
    """As a part of a line they are any words; as a line they are any lines."""
    assert fits(shown, said) is good


def test_a_mended_file_is_mended(checkout: Path) -> None:
    """The lines with a minus go, those with a plus come in their place."""
    done = walk("```yaml\n# x.yaml\na: 1\nb: 1\n```\n\n```diff\n# x.yaml\n-a: 1\n+a: 2\n```\n", checkout)
    assert done == ["write x.yaml", "mend x.yaml"]
    assert (checkout / "x.yaml").read_text() == "# x.yaml\na: 2\nb: 1\n"

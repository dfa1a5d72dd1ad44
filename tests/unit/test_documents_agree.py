"""Documents agree with what they tell of: every alert has its place, every link its file, every option its command."""

from __future__ import annotations

import re

import pytest
import typer
import yaml
from cli_host import REPOSITORY
from documents import blocks, commands, section

from ds01_policy.cli.app import app

DOCUMENTS = ("README.md", "deploy/README.md", "deploy/USERS.md", "CHANGELOG.md", "DECISIONS.md")
_LINK = re.compile(r"\[[^\]]*\]\((?!https?://)([^)#]*)(?:#([^)]*))?\)")
_COMMAND = re.compile(r"(?:`|^\$ |&& )(?:sudo )?ds01-policy ([^`#|&\n]+)", re.MULTILINE)


def read(name: str) -> str:
    return (REPOSITORY / name).read_text("utf-8")


def anchors(text: str) -> set[str]:
    """Give the anchors that GitHub makes of headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_every_alert_has_its_place() -> None:
    """Whoever is woken finds what it means and what to do, under the anchor that the alert names; in the same order."""
    groups = yaml.safe_load(read("deploy/prometheus/alerts.yaml"))["groups"]
    alerts = [rule["alert"] for group in groups for rule in group["rules"]]
    page = read("deploy/README.md")
    told = re.findall(r"^### (Ds01\w+)\n\n- Means: \S.*\n- Do: \S.*\n", page, re.MULTILINE)
    assert sorted(told) == sorted(alerts)
    for group in groups:
        for rule in group["rules"]:
            document, _, anchor = rule["annotations"]["runbook"].partition("#")
            assert anchor in anchors(read(document)), rule["alert"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_link_leads_somewhere(name: str) -> None:
    """Files and headings of this project; other sites are not asked."""
    for path, anchor in _LINK.findall(read(name)):
        target = (REPOSITORY / name).parent / path if path else REPOSITORY / name
        assert target.exists(), path
        assert not anchor or anchor in anchors(target.read_text("utf-8")), anchor


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_command_is_one(name: str) -> None:
    """In a block or in a line: no command and no option that there is not."""
    group = typer.main.get_command(app)
    own = {option for parameter in group.params for option in parameter.opts}
    for line in _COMMAND.findall(read(name)):
        words = re.sub(r"(?:--config|--replay) \S+ ?", "", line).split()
        if not words or words[0].startswith(("-", "test`")):
            continue
        command = group.commands[words[0]]  # type: ignore[attr-defined]  # a group's, which typer types as any command
        options = {option for parameter in command.params for option in parameter.opts} | own
        assert {word for word in words if word.startswith("--")} <= options, line


def test_every_command_is_typed_by_a_test() -> None:
    """Of the README these sections, each by a test of its own; of the pages in deploy/ all, by theirs."""
    typed = ("# ds01-policy", "## Ten minutes on a GPU server", "## Write your first rule")
    page = "\n" + read("README.md")
    shown = [command.text for block in blocks(page) if block.kind == "console" for command in commands(block, "README")]
    known = [
        command.text
        for heading in typed
        for block in blocks(section(page, heading))
        if block.kind == "console"
        for command in commands(block, "README")
    ]
    assert shown == known
    assert [text.split()[1] for text in known if text.startswith("make ")] == ["demo", "test"]

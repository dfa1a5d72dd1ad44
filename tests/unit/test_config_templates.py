"""The shipped texts, as the people who get them read them."""

from __future__ import annotations

import itertools

import pytest

from ds01_policy.config.files import shipped
from ds01_policy.config.templates import MESSAGE_EXAMPLE, MESSAGES, environment, flaws


def text(name: str, **values: object) -> str:
    source = (shipped()[0] / "templates" / name).read_text()
    return environment().from_string(source).render({**MESSAGE_EXAMPLE, **values})


def test_a_warning_says_what_when_why_and_how_to_keep_it() -> None:
    """Everything an owner needs, on one screen."""
    assert (
        text("warning.j2").rstrip()
        == """\
alice, your container train (0123456789ab) on gpu01
will be stopped and removed: 2030-01-31 18:00 UTC, at least 10m from now.

Why:   idle for 60m: gpu 0.3% < 5%
Rule:  idle-gpu
       Holds a GPU and has not used it.
Keep:  use it, or run this inside it; that holds for 24h:
         touch /workspace/.keep-alive
Stays: what is in these mounts; all other files of the container are lost
         /home/alice → /workspace"""
    )


def test_a_message_after_a_stop_says_what_is_left() -> None:
    """Where the files are, and how to keep the next one."""
    assert (
        text("stopped.j2").rstrip()
        == """\
alice, your container train (0123456789ab) on gpu01
was stopped and removed.

Why:   idle for 60m: gpu 0.3% < 5%
Rule:  idle-gpu
       Holds a GPU and has not used it.
Stays: what is in these mounts; all other files of the container are gone
         /home/alice → /workspace
Keep:  next time, run this inside it; that holds for 24h:
         touch /workspace/.keep-alive"""
    )


def test_no_text_promises_what_a_rule_does_not_keep() -> None:
    """Touching a file helps only where the rule honours it, and only warning is no stopping."""
    assert "touch" not in text("warning.j2", keep_alive_path="")
    assert "touch" not in text("stopped.j2", keep_alive_path="")
    assert "only warn so far" in text("warning.j2", mode="warn")
    assert "docker start 0123456789ab" in text("stopped.j2", actions=["stop"])
    assert "lost" not in text("warning.j2", actions=["stop"])
    assert "docker cp" in text("warning.j2", mounts=[])


@pytest.mark.parametrize("name", MESSAGES)
def test_the_shipped_texts_have_no_flaw(name: str) -> None:
    """Loading does not try these again, so they are tried here."""
    assert flaws("message", (shipped()[0] / "templates" / name).read_text()) == ()


@pytest.mark.parametrize("name", MESSAGES)
@pytest.mark.parametrize(
    "values",
    [
        dict(zip(("mode", "mounts", "keep_alive_path", "actions", "summary"), each, strict=True))
        for each in itertools.product(
            ("enforce", "warn"),
            ([], ["a → b", "c → d"]),
            ("", "/k"),
            (["stop"], ["remove"], ["stop", "remove"]),
            ("", "s"),
        )
    ],
    ids=str,
)
def test_every_branch_reads_well(name: str, values: dict[str, object]) -> None:
    """Whatever is left out: lines of a terminal's width, no gap, no dangling word."""
    lines = text(name, **values).rstrip().splitlines()
    assert all(len(line) <= 79 and line == line.rstrip() for line in lines)
    assert lines.count("") == 1
    assert "None" not in "".join(lines)


@pytest.mark.parametrize(
    ("kind", "source", "fine"),
    [
        pytest.param("gauge", 'm{u=~"{{ uuids }}"}[{{ range }}]', True, id="plain variables"),
        pytest.param("gauge", "m{{ '' if ids else '' }}[{{ range }}]", True, id="logic"),
        pytest.param("gauge", "m {{ offset }}", False, id="a counter's variable in a gauge"),
        pytest.param("counter", "m {{ offset }}", True, id="a counter's variable in a counter"),
        pytest.param("counter", "{% if not offset %}{{ range }}{% endif %}m", False, id="a wrong name out of sight"),
        pytest.param("message", "{{ owner | upper }}{{ ' ' * 3 }}", True, id="filters"),
        pytest.param("message", "{{ 1 / 0 }}", False, id="a division by zero"),
        pytest.param("message", "{{ owner.__init__ }}", False, id="a way out of the sandbox"),
        pytest.param("message", f"{{{{ {'(' * 500}1{')' * 500} }}}}", False, id="more parentheses than Python takes"),
        pytest.param("message", "{{ " + "9" * 5000 + " }}", False, id="more digits than Python takes"),
        pytest.param("message", "x" * 70_000, False, id="too long"),
    ],
)  # fmt: skip
def test_templates_are_tried_before_they_are_needed(kind: str, source: str, *, fine: bool) -> None:
    """What would fail at three in the morning fails at load."""
    assert (flaws(kind, source) == ()) is fine

"""The texts that people get."""

from __future__ import annotations

import re
import time
import unicodedata
from dataclasses import replace
from datetime import timedelta, timezone
from pathlib import Path

import pytest
from decided import NOW, STOP_AND_REMOVE, container, decision, policy
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import StrictUndefined

from ds01_policy.act.message import STOPPED, WARNING, Message, message
from ds01_policy.config.templates import MESSAGE_EXAMPLE, environment
from ds01_policy.model import Action, Decision, Mount

CET = timezone(timedelta(hours=1), "CET")
SHIPPED = Path(__file__).parents[2] / "config" / "templates"
WARN = decision(Action.WARN)
STOP = decision(*STOP_AND_REMOVE)


def warning(template: str, of: Decision = WARN, *, keepable: bool = True) -> Message:
    return message(WARNING, of, policy(keepable=keepable, warning=template), "gpu01", now=NOW, zone=CET)


def stopped(template: str, of: Decision = STOP) -> Message:
    return message(STOPPED, of, policy(stopped=template), "gpu01", now=NOW, zone=CET)


@pytest.mark.parametrize(
    ("template", "text"),
    [
        pytest.param("{{ host }} {{ container.name }} {{ container.id }}", "gpu01 train aaaaaaaaaaaa", id="which one"),
        pytest.param("{{ container.short }}", "aaaaaaaaaaaa", id="its short id by its other name"),
        pytest.param("{{ owner }} {{ rule }} {{ summary }}", "alice idle-gpu Holds a GPU and is idle.", id="whose"),
        pytest.param("{{ why }}", "idle for 60m: gpu 0.3% < 5%, cpu 0.1% < 1%", id="why, with no HTML escapes"),
        pytest.param("{{ act_at }}, in {{ notice }}", "2026-03-02 04:43 CET, in 12m", id="when, on the host's clock"),
        pytest.param("{{ actions | join('+') }}", "stop+remove", id="what the rule does then, without the epilog"),
        pytest.param("{{ keep_alive_path }} {{ keep_alive_max }}", "/workspace/.keep-alive 1d", id="how to keep it"),
        pytest.param("{{ mounts | join }}", "/home/alice/data → /data", id="what survives; a tmpfs does not"),
        pytest.param("{{ mode }}", "enforce", id="the mode"),
        pytest.param("a\n{% if true %}\nb\n{% endif %}\nc\n", "a\nb\nc", id="blocks leave no empty lines"),
    ],
)  # fmt: skip
def test_variables(template: str, text: str) -> None:
    """Each thing a template can say."""
    assert warning(template) == Message(text, "gpu01: container train is about to be taken down")


def test_keep_alive_is_offered_only_where_it_helps() -> None:
    """A rule that does not honour the file must not send people to touch it."""
    assert warning("<{{ keep_alive_path }}>", keepable=False).text == "<>"


@pytest.mark.parametrize(
    ("undone", "words"),
    [(frozenset(), "stop remove"), (frozenset({Action.REMOVE}), "stop")],
    ids=["all of it", "what came to nothing is not claimed"],
)
def test_stopped_names_what_was_done(undone: frozenset[Action], words: str) -> None:
    """The notice after the act says what the decision did."""
    text = message(STOPPED, STOP, policy(stopped="{{ actions | join(' ') }}"), "gpu01", now=NOW, undone=undone)
    assert (text.text, text.subject) == (words, "gpu01: container train was taken down")


def test_a_warning_without_a_time_names_the_notice_of_the_rule() -> None:
    """Nothing is undefined where the time of the act is not known."""
    timeless = replace(WARN, act_at=None)
    assert warning("<{{ act_at }}> {{ notice }}", timeless).text == "<> 10m"


def test_a_time_that_has_passed_is_no_negative_notice() -> None:
    """A late warning says that it may happen now."""
    late = replace(WARN, act_at=NOW - timedelta(hours=1))
    assert warning("{{ notice }}", late).text == "0s"


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        pytest.param("{{ nobody }}", "'nobody' is undefined", id="an undefined name"),
        pytest.param("{{ container.nothing }}", "no attribute 'nothing'", id="an undefined attribute"),
        pytest.param("{% if %}", "Expected an expression", id="a syntax error"),
        pytest.param("{{ 1 / 0 }}", "division by zero", id="arithmetic"),
        pytest.param("{{ host + 1 }}", "can only concatenate str", id="a wrong type"),
        pytest.param("{{ host.__class__.__mro__ }}", "access to attribute '__class__'", id="a way out of the sandbox"),
        pytest.param("{% include '/etc/passwd' %}", "no loader", id="another file"),
        pytest.param("{{ mounts.append(1) }}", "access to attribute 'append'", id="changing a value"),
        pytest.param("{% macro a() %}{{ a() }}{% endmacro %}{{ a() }}", "recursion", id="endless recursion"),
        pytest.param("{% for i in range(10**9) %}x{% endfor %}", "Range too big", id="a loop without end"),
        pytest.param("  \n ", "rendered to nothing", id="nothing"),
    ],
)
def test_a_broken_template_still_warns(template: str, problem: str) -> None:
    """People get the built-in text, with all that counts in it; the admin gets told why."""
    for text, name in ((warning(template), WARNING), (stopped(template), STOPPED)):
        assert text.problem.startswith(f"template {name}: ")
        assert problem in text.problem
        assert "gpu01: your container train (aaaaaaaaaaaa)" in text.text
        assert "Rule idle-gpu: idle for 60m" in text.text


def test_no_template_gives_the_built_in_text() -> None:
    """The built-in texts read as they should."""
    assert message(WARNING, WARN, policy(), "gpu01", now=NOW, zone=CET).text == (
        "gpu01: your container train (aaaaaaaaaaaa) is about to be taken down: stop, then remove, "
        "not before 2026-03-02 04:43 CET.\n"
        "Rule idle-gpu: idle for 60m: gpu 0.3% < 5%, cpu 0.1% < 1%\n"
        "If you still need it, use it, or touch /workspace/.keep-alive inside it (holds for 1d)."
    )
    assert message(STOPPED, STOP, policy(), "gpu01", now=NOW, zone=CET).text == (
        "gpu01: your container train (aaaaaaaaaaaa) was taken down: stop, then remove.\n"
        "Rule idle-gpu: idle for 60m: gpu 0.3% < 5%, cpu 0.1% < 1%\n"
        "What it wrote there is still there:\n"
        "  /home/alice/data → /data"
    )


@pytest.mark.parametrize("name", [WARNING, STOPPED])
@pytest.mark.parametrize("mounts", [(), container().mounts], ids=["no mounts", "mounts"])
def test_the_shipped_templates_render(name: str, mounts: tuple[Mount, ...]) -> None:
    """What ships renders without a problem and names container, rule and reason."""
    rules = replace(policy(), templates={name: (SHIPPED / name).read_text()})
    one = decision(*((Action.WARN,) if name == WARNING else STOP_AND_REMOVE), of=container(mounts=mounts))
    text = message(name, one, rules, "gpu01", now=NOW)
    assert text.problem == ""
    for word in ("train", "aaaaaaaaaaaa", "gpu01", "idle-gpu", "gpu 0.3% < 5%", "stopped and removed"):
        assert word in text.text


def test_check_and_sending_see_templates_alike() -> None:
    """What `check` accepts renders when it counts: the same sandbox, the same variables."""
    text = warning(" ".join(f"{{{{ {name} }}}}" for name in MESSAGE_EXAMPLE) + " {{ container.name, container.id }}")
    assert text.problem == ""
    sandbox = environment()
    assert (sandbox.undefined, sandbox.autoescape) == (StrictUndefined, False)
    assert (sandbox.trim_blocks, sandbox.lstrip_blocks) == (True, True)


HOSTILE = st.text(st.one_of(st.characters(codec=None), st.sampled_from("\x1b\x9b\n\r\u202e{}%")), max_size=60)


@given(HOSTILE, HOSTILE, HOSTILE, HOSTILE)
def test_hostile_values_stay_on_their_line(name: str, owner: str, why: str, source: str) -> None:
    """Whatever users write, it adds no line, no control character, and is never a template."""
    of = container(name=name, owner=owner, mounts=(Mount(source, "{{ 1 / 0 }}", "bind"),))
    one = decision(*STOP_AND_REMOVE, of=of, why=why)
    text = stopped("{{ container.name }}|{{ owner }}|{{ why }}|{{ mounts | join }}\nend", one)
    assert text.problem == ""
    assert text.text.count("\n") == 1
    bad = {"Cc", "Cf", "Zl", "Zp", "Cs", "Co", "Cn"}
    for shown in (text.text.replace("\n", ""), text.subject):
        assert not {unicodedata.category(character) for character in shown} & bad


def test_a_text_is_bounded() -> None:
    """Neither a template nor values make a text that a terminal cannot take at once."""
    many = tuple(Mount(f"/home/alice/{number}", f"/{number}", "bind") for number in range(500))
    one = decision(*STOP_AND_REMOVE, of=container(mounts=many), why="x" * 100_000)
    for template in ("{{ why }}" * 50, "{% for i in range(99999) %}line\n{% endfor %}", "{{ mounts | join('\n') }}"):
        text = stopped(template, one)
        assert text.problem == ""
        assert len(text.text) <= 4100
        assert len(text.text.splitlines()) <= 40
    assert re.search(r"and 490 more\Z", stopped("{{ mounts | join('\n') }}", one).text)


def test_times_are_the_hosts_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a zone, people read the clock that `date` shows them."""
    monkeypatch.setenv("TZ", "Asia/Tokyo")
    time.tzset()
    try:
        text = message(WARNING, WARN, policy(warning="{{ act_at }}"), "gpu01", now=NOW)
    finally:
        monkeypatch.undo()
        time.tzset()
    assert text.text == "2026-03-02 12:43 JST"

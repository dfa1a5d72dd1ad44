"""Renders the texts that people get about their containers, from the admin's templates.

Owns which values a template sees and that each is safe to show. Never fails: a broken template gives the built-in text.
Sends nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ds01_policy.model import Action
from ds01_policy.rules import by_id
from ds01_policy.text import lines, plain
from ds01_policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, tzinfo

    from ds01_policy.model import Decision, Mount
    from ds01_policy.policy import Policy
    from ds01_policy.rules import Rule

WARNING = "warning.j2"
STOPPED = "stopped.j2"

_CHARACTERS = 4000  # of one text: what a terminal's buffer takes in one write
_LINES = 40
_LINE = 300
_MOUNTS = 10
_TOLD = frozenset({Action.STOP, Action.REMOVE})  # the check of the GPU afterwards is no owner's business

# What an expression in a template can raise besides jinja's own errors.
_BROKEN = (
    TemplateError, ArithmeticError, AttributeError, LookupError, MemoryError, RecursionError, SyntaxError, TypeError,
    ValueError,
)  # fmt: skip

_SUBJECTS = {WARNING: "is about to be taken down", STOPPED: "was taken down"}
_BUILT_IN = {
    WARNING: """\
{{ host }}: your container {{ container.name }} ({{ container.short }}) is about to be taken down: \
{{ actions | join(', then ') }}{{ ', not before ' ~ act_at if act_at }}.
Rule {{ rule }}: {{ why }}
{% if keep_alive_path %}
If you still need it, use it, or touch {{ keep_alive_path }} inside it (holds for {{ keep_alive_max }}).
{% endif %}
""",
    STOPPED: """\
{{ host }}: your container {{ container.name }} ({{ container.short }}) was taken down: {{ actions | join(', then ') }}.
Rule {{ rule }}: {{ why }}
{% for mount in mounts %}
{{ 'What it wrote there is still there:\n' if loop.first }}  {{ mount }}
{% endfor %}
""",
}


@dataclass(frozen=True, slots=True)
class Message:
    """A text that is safe on a terminal, bounded, without a final newline; and what was wrong with its template."""

    text: str
    subject: str
    problem: str = ""


def message(
    template: str,
    decision: Decision,
    policy: Policy,
    host: str,
    *,
    now: datetime,
    zone: tzinfo | None = None,
    undone: frozenset[Action] = frozenset(),
) -> Message:
    """Render the policy's template of that name (`warning.j2`, `stopped.j2`) for one decision.

    Times are written in `zone`; None: the host's own. `undone` are actions of the decision that came to nothing.
    """
    rule = by_id(policy.rules).get(decision.verdict.rule)
    # A warning is about what the rule does later; the decision itself only warns.
    actions = rule.then if template == WARNING and rule is not None else decision.actions
    values = _values(decision, policy, rule) | {
        "host": plain(host, 80),
        "act_at": f"{decision.act_at.astimezone(zone):%Y-%m-%d %H:%M %Z}" if decision.act_at else "",
        "notice": _notice(decision, rule, now),
        "actions": [action.value for action in actions if action in _TOLD and action not in undone],
    }
    subject = plain(f"{host}: container {decision.container.name} {_SUBJECTS[template]}", 120)
    source, problem = policy.templates.get(template), ""
    if source is not None:
        try:
            text = _render(source, values)
        except _BROKEN as error:
            problem = plain(f"template {template}: {str(error) or type(error).__name__}", 200)
        else:
            if text.strip():
                return Message(text, subject)
            problem = f"template {template}: it rendered to nothing"
    return Message(_render(_BUILT_IN[template], values), subject, problem)


def _render(source: str, values: Mapping[str, Any]) -> str:
    # No HTML escapes: this is plain text, and what would act on a terminal is escaped below.
    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True
    )
    pieces, length = [], 0
    for piece in environment.from_string(source).generate(**values):
        pieces.append(piece)
        length += len(piece)
        if length > _CHARACTERS:
            pieces[-1] = piece[: _CHARACTERS - length] + "…"
            break
    return lines("".join(pieces), _LINE, _LINES)


def _values(decision: Decision, policy: Policy, rule: Rule | None) -> dict[str, Any]:
    """Collect what a template may use of container and rule; users write names and labels, so all text is escaped."""
    container, keep_alive = decision.container, policy.settings.keep_alive
    # Where the rule does not honour the file, telling people to touch it would be a lie.
    keepable = rule is not None and any(entry.name == "keep_alive" for entry in rule.excepts)
    return {
        "container": {"name": plain(container.name, 120), "id": container.short, "short": container.short},
        "owner": plain(container.owner, 80),
        "rule": plain(decision.verdict.rule, 80),
        "summary": plain(rule.summary if rule else "", _LINE),
        "why": plain(decision.verdict.why, _LINE),
        "keep_alive_path": plain(keep_alive.path, 200) if keepable else "",
        "keep_alive_max": format_duration(keep_alive.max),
        "mounts": _survivors(container.mounts),
        "mode": decision.mode.value,
    }


def _notice(decision: Decision, rule: Rule | None, now: datetime) -> str:
    """How long until it may happen, in whole minutes: to the time named, else what the rule promises."""
    if decision.act_at is not None:
        return format_duration(timedelta(minutes=max(0, round((decision.act_at - now) / timedelta(minutes=1)))))
    return format_duration(rule.warn.notice) if rule and rule.warn else ""


def _survivors(mounts: tuple[Mount, ...]) -> list[str]:
    """Where data outlives the container: a tmpfs does not."""
    kept = [mount for mount in mounts if mount.kind != "tmpfs"]
    named = [f"{plain(mount.source, 120)} → {plain(mount.destination, 120)}" for mount in kept[:_MOUNTS]]
    return [*named, f"and {len(kept) - _MOUNTS} more"] if len(kept) > _MOUNTS else named

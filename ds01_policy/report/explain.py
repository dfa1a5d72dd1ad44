"""What `explain CONTAINER` says: a user's three questions, who and what it is, every rule with every clause.

Owns what is told about one container, as JSON and as text. Decides nothing: all of it is in the values it is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ds01_policy.clauses import SIGNS
from ds01_policy.logic import Truth
from ds01_policy.model import Missing
from ds01_policy.report.answers import answers
from ds01_policy.report.document import (
    SCHEMA,
    all_problems,
    container_json,
    decision_json,
    heading,
    instant,
    limit_json,
    verdict_json,
)
from ds01_policy.report.layout import columns, fit, gpu_words, pad, wrap
from ds01_policy.report.words import STYLES, reason, what
from ds01_policy.text import plain
from ds01_policy.units import format_duration, format_quantity

if TYPE_CHECKING:
    from datetime import timedelta

    from ds01_policy.model import Container, Evidence, Reading, Verdict
    from ds01_policy.report.about import About
    from ds01_policy.report.layout import Clock, Page

_LEAD = 11  # columns of the word before each line, its indent included


def explain_document(about: About, clock: Clock) -> dict[str, Any]:
    """Lay out everything known about one container as plain JSON values."""
    container, said = about.container, answers(about, clock)
    return {
        "schema": SCHEMA,
        "command": "explain",
        **heading(about.policy.digest, about.mode, about.snapshot),
        "container": {
            **container_json(container),
            "created_at": instant(container.created_at),
            "running_since": instant(container.running_since),
            "finished_at": instant(container.finished_at),
            "mounts": [
                {"destination": mount.destination, "source": mount.source, "kind": mount.kind}
                for mount in container.mounts
            ],
        },
        "limits": [limit_json(limit) for limit in about.limits],
        "rules": [_rule_json(about, verdict) for verdict in about.verdicts],
        "unmatched": [{"rule": rule, "wants": wants} for rule, wants in about.unmatched],
        "answers": {"asked": list(said.asked), "why": said.why, "when": list(said.when), "do": list(said.do)},
        "problems": [
            {"code": problem.code, "detail": problem.detail}
            for problem in all_problems(about.snapshot, about.evaluation, about.plan)
        ],
    }


def _rule_json(about: About, verdict: Verdict) -> dict[str, Any]:
    spell = about.warned(verdict.rule)
    return {
        **verdict_json(verdict),
        "summary": about.rule(verdict).summary,
        "warned_at": instant(spell.warned_at) if spell else None,
        "delivered": spell.delivered if spell else None,
        "plan": [decision_json(decision) for decision in about.decisions(verdict.rule)],
    }


def explain_text(about: About, page: Page, clock: Clock) -> str:
    """Write everything known about one container for people; ends with a newline."""
    container = about.container
    title = f"{plain(container.name, 128)} ({container.short}) on {plain(about.snapshot.host, 60)}, {clock.stamp()}"
    parts = [
        [page.paint(line, "bold") for line in wrap(title, page.columns)],
        _answers(about, page, clock),
        _facts(about, page, clock),
        *(_rule(about, page, clock, verdict) for verdict in about.verdicts),
        _unmatched(about, page),
        _problems(about, page),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _line(page: Page, word: str, text: str) -> list[str]:
    return page.hang(pad(f"  {word}", _LEAD), text)


# ── who and what ─────────────────────────────────────────────────────────────────────────────────────────────────────


def _facts(about: About, page: Page, clock: Clock) -> list[str]:
    container = about.container
    owner = plain(container.owner) + _by(container.owner_via)
    owner += "" if container.owner_proven else " (a claim: any user could have set it)"
    kind = f"{plain(container.type)}{_by(container.type_via)}, image {plain(container.image)}"
    lines = _line(page, "owner", f"{owner}; group {plain(container.group) or 'none'}")
    lines += _line(page, "type", kind + ("; infrastructure of this site" if container.infrastructure else ""))
    lines += _line(page, "state", _state(container, clock))
    lines += _line(page, "GPU", _gpus(about))
    limits = [
        f"{limit.key} {'never' if limit.value is None else format_duration(limit.value)} ({plain(limit.layer)})"
        for limit in about.limits
    ]
    lines += _line(page, "limits", ", ".join(limits) or "none")
    if container.keep_alive is not None:
        lines += _line(page, "kept", f"keep-alive file of {clock.both(container.keep_alive.modified_at)}")
    return [*lines, *_line(page, "mode", about.mode.value)]


def _by(via: str) -> str:
    return f" by {plain(via)}" if via else ""


def _state(container: Container, clock: Clock) -> str:
    told = [f"created {clock.both(container.created_at)}"]
    if container.started_at is not None:
        told.append(f"started {clock.both(container.started_at)}")
    if container.running_since is not None and container.running_since != container.started_at:
        told.append(f"counted from {clock.both(container.running_since)}, through restarts")
    if container.finished_at is not None:
        earlier = container.started_at is not None and container.finished_at < container.started_at
        told.append(f"{'its life before ended' if earlier else 'ended'} {clock.both(container.finished_at)}")
    return f"{container.state}; " + ", ".join(told)


def _gpus(about: About) -> str:
    claim = about.container.gpus
    if not claim.wants:
        return "none"
    text = gpu_words(claim, about.snapshot.gpus)
    if len(claim.refs) == 1:
        text += f" ({plain(str(claim.refs[0]))})"
    text += _by(claim.via)
    return f"{text}; unclear: {plain(claim.unclear)}" if claim.unclear else text


# ── rules ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _rule(about: About, page: Page, clock: Clock, verdict: Verdict) -> list[str]:
    rule, kind = about.rule(verdict), verdict.kind.value
    tail = f": {plain(rule.summary)}" if rule.summary else ""
    lines = page.hang(f"{verdict.rule} - {kind}", tail, *(STYLES.get(kind) or ("bold",)), indent=2)
    why = reason(verdict)
    if verdict.due_at is not None and verdict.due_at > clock.at:
        why += f"; due {clock.both(verdict.due_at)}"
    lines += _line(page, "why", why)
    if verdict.for_ is not None:
        lines += _line(page, "over", _span(verdict, verdict.for_))
    lines += clauses(page, verdict)
    spell = about.warned(verdict.rule)
    if spell is not None and spell.warned_at is not None:
        reached = "" if spell.delivered else "; nobody was provably reached"
        lines += _line(page, "warned", f"{clock.both(spell.warned_at)}, in mode {spell.warned_mode}{reached}")
    for decision in about.decisions(verdict.rule):
        tag, words = what(decision, (), clock, carried_out=False)
        lines += page.hang(pad(f"  {tag.upper()}", _LEAD), words, *STYLES.get(tag, ()))
    return lines


def _span(verdict: Verdict, asked: timedelta) -> str:
    limit = verdict.limit
    if limit is None:
        return format_duration(asked)
    text = f"{format_duration(asked)} ({limit.key}, {plain(limit.layer)})"
    if limit.value is not None and asked < limit.value:
        text += f", shortened from {format_duration(limit.value)} while demand is high"
    return text


_HEADINGS = ("", "CLAUSE", "OVER", "MEASURED", "SEEN", "BY")


def clauses(page: Page, verdict: Verdict) -> list[str]:
    """One line a clause, then what is wrong with the data of those that cannot be answered."""
    evidence = list(dict.fromkeys(verdict.evidence))
    if not evidence:
        return []
    rows = [_HEADINGS, *(_clause(piece) for piece in evidence)]
    widths = [max(columns(row[index]) for row in rows) for index in range(len(_HEADINGS))]
    lines = [
        fit("  " + "  ".join(pad(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip(), page.columns)
        for row in rows
    ]
    notes = [f"{_truth(piece)}: {_gap(piece)}" for piece in evidence if piece.truth is Truth.UNKNOWN]
    notes += [_instead(piece, piece.passed_over) for piece in evidence if piece.passed_over is not None]
    return [*lines, *(line for note in dict.fromkeys(notes) for line in page.hang("  ", note))]


def _clause(evidence: Evidence) -> tuple[str, ...]:
    reading = evidence.reading
    value, low, high = (format_quantity(each, reading.unit) for each in (reading.value, reading.low, reading.high))
    measured = value if low == value == high else f"{value} [{low}, {high}]"
    return (
        _truth(evidence),
        f"{evidence.label} {SIGNS[evidence.comparator]} {format_quantity(evidence.threshold, reading.unit)}",
        format_duration(reading.window),
        "nothing" if reading.value is None else measured,
        f"{reading.coverage:.0%}",
        reading.source or "nobody",
    )


def _instead(evidence: Evidence, better: Reading) -> str:
    """Say why somebody else than the best source speaks."""
    detail = f" ({plain(better.detail)})" if better.detail else ""
    return f"{evidence.label} by {evidence.reading.source}, not {better.source}: {better.missing}{detail}"


def _truth(evidence: Evidence) -> str:
    if evidence.truth is Truth.UNKNOWN:
        return str(evidence.missing)
    return "true" if evidence.truth is Truth.TRUE else "false"


def _gap(evidence: Evidence) -> str:
    if evidence.reading.missing is None:
        return "what is not covered may lie on either side of the threshold"
    return plain(evidence.reading.detail) or _GAPS[evidence.reading.missing]


_GAPS = {
    Missing.NO_SERIES: "nobody has measured it",
    Missing.STALE: "the newest sample is too old",
    Missing.LOW_COVERAGE: "too little of the window is covered",
    Missing.SOURCE_DOWN: "the source did not answer",
    Missing.NOT_JOINED: "which GPUs it uses is not clear",
    Missing.CONFLICT: "what was measured contradicts itself",
    Missing.TOO_YOUNG: "it is not up for the whole window yet",
}


def _unmatched(about: About, page: Page) -> list[str]:
    rules = [f"{rule} (wants {plain(wants)})" if wants else rule for rule, wants in about.unmatched]
    return wrap(f"Not about it: {', '.join(rules)}", page.columns) if rules else []


# ── the three questions ──────────────────────────────────────────────────────────────────────────────────────────────


def _answers(about: About, page: Page, clock: Clock) -> list[str]:
    said = answers(about, clock)
    lines: list[str] = []
    for question, told in zip(said.asked, ((said.why,), said.when, said.do), strict=True):
        lines.append(page.paint(question, "bold"))
        for sentence in told:
            lines += page.hang("  ", plain(sentence, 2000))
    return lines


def _problems(about: About, page: Page) -> list[str]:
    """Leave out those that speak of other containers: they are preview's."""
    others = [container.short for container in about.snapshot.containers if container.id != about.container.id]
    mine = [
        problem
        for problem in all_problems(about.snapshot, about.evaluation, about.plan)
        if not any(short in problem.detail for short in others)
    ]
    return [
        line for problem in mine for line in page.hang(f"{problem.code}: ", plain(problem.detail), "yellow", indent=4)
    ]

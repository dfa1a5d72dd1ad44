"""The page and the document of `explain CONTAINER --at TIME`.

Owns what is told and in which order. What the answers say is past_answers.py's.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from ds01_policy.clauses import SIGNS
from ds01_policy.report.document import SCHEMA, instant
from ds01_policy.report.layout import pad, wrap
from ds01_policy.report.past_answers import at_of, past_answers, reason_of
from ds01_policy.text import plain
from ds01_policy.units import Unit, format_duration, format_quantity

if TYPE_CHECKING:
    from ds01_policy.hindsight import Hindsight, Line, Span
    from ds01_policy.report.layout import Clock, Page

Json = dict[str, Any]

_LEAD = 11
_SHORT = 12
_DIGEST = 19  # `sha256:` and twelve digits
_LATER, _LIVES = 8, 6  # lines shown


def hindsight_document(past: Hindsight, clock: Clock) -> Json:
    """Lay out everything known about one container at one past instant as plain JSON values."""
    said, life, tick = past_answers(past, clock), past.life, past.tick
    return {
        "schema": SCHEMA,
        "command": "explain",
        "at": instant(past.at),
        "asked": past.who,
        "container": {
            "id": past.span.container,
            "name": past.span.name,
            "owner": _told_of(past, "owner"),
            "owner_via": _told_of(past, "owner_via"),
            "group": _told_of(past, "group"),
            "type": _told_of(past, "type"),
            "image": _told_of(past, "image"),
            "gpus": list(life.gpus) if life else _told_of(past, "gpus"),
        },
        "life": _span_json(past.span),
        "tick": None
        if tick is None
        else {"at": instant(tick.at), "mode": tick.mode, "policy": tick.digest, "next_at": instant(tick.next_at)},
        "rules": [
            {
                "rule": stretch.rule,
                "verdict": stretch.kind,
                "why": stretch.why,
                "held_by": stretch.held_by or None,
                "since": instant(stretch.since),
                "seen": instant(stretch.seen),
            }
            for stretch in past.found
        ],
        "answers": {
            "asked": list(said.asked),
            "why": list(said.why),
            "told": list(said.told),
            "done": list(said.done),
            "others": list(said.others),
        },
        "entries": list(past.lines),
        "later": list(past.later),
        "others": list(past.others),
        "lives": [_span_json(span) for span in past.spans],
    }


def _span_json(span: Span) -> Json:
    return {
        "id": span.container,
        "name": span.name,
        "started_at": instant(span.started_at),
        "begin": instant(span.begin),
        "end": instant(span.end),
    }


def _told_of(past: Hindsight, key: str) -> Any:
    """Look up who it was: in the ledger, else in the last line that says."""
    if past.life is not None and hasattr(past.life, key):
        return getattr(past.life, key)
    owner = past.found[-1].owner if past.found and key == "owner" else None
    return next((line[key] for line in reversed(past.lines) if line.get(key)), owner)


# ── the page ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def hindsight_text(past: Hindsight, page: Page, clock: Clock) -> str:
    """Write everything known about one container at one past instant for people; ends with a newline."""
    said, span = past_answers(past, clock), past.span
    title = f"{plain(span.name, 128)} ({span.container[:_SHORT]}) as it was known on {clock.stamp()}"
    answers: list[str] = []
    for question, told in zip(said.asked, (said.why, said.told, said.done, said.others), strict=True):
        answers.append(page.paint(question, "bold"))
        answers += [line for sentence in told for line in page.hang("  ", plain(sentence, 2000))]
    parts = [
        [page.paint(line, "bold") for line in wrap(title, page.columns)],
        answers,
        _facts(past, page, clock),
        *(_rule(past, page, clock, number) for number in range(len(past.found))),
        _decided(past, page, clock),
        _later(past, page, clock),
        _lives(past, page, clock),
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


def _line(page: Page, word: str, text: str) -> list[str]:
    return page.hang(pad(f"  {word}", _LEAD), text)


def _facts(past: Hindsight, page: Page, clock: Clock) -> list[str]:
    owner, via = plain(str(_told_of(past, "owner") or "not known")), plain(str(_told_of(past, "owner_via") or ""))
    group = plain(str(_told_of(past, "group") or "not known"))
    lines = _line(page, "owner", f"{owner}{f' by {via}' if via else ''}; group {group}")
    image, kind = (plain(str(_told_of(past, key) or "not known")) for key in ("image", "type"))
    lines += _line(page, "type", f"{kind}, image {image}")
    lines += _line(page, "life", _life(past, clock))
    gpus = past.life.gpus if past.life else _told_of(past, "gpus")
    lines += _line(
        page, "GPU", plain(", ".join(map(str, gpus))) if isinstance(gpus, list | tuple) and gpus else "none known"
    )
    policies = list(dict.fromkeys(str(line.get("policy")) for line in past.lines if line.get("policy")))
    if past.tick is not None:
        told = f"of {clock.absolute(past.tick.at)}, mode {past.tick.mode}, policy {plain(past.tick.digest[:_DIGEST])}"
        lines += _line(page, "tick", told)
    elif policies:
        lines += _line(page, "policy", plain(policies[-1][:_DIGEST]))
    return lines


def _life(past: Hindsight, clock: Clock) -> str:
    span = past.span
    told = ["never started" if span.started_at is None else f"started {clock.absolute(span.started_at)}"]
    if past.life is not None:
        told.append(f"seen {clock.absolute(past.life.first_seen)} to {clock.absolute(past.life.last_seen)}")
        if past.life.ended_at is not None:
            told.append(f"ended {clock.absolute(past.life.ended_at)}")
    return ", ".join(told)


def _rule(past: Hindsight, page: Page, clock: Clock, number: int) -> list[str]:
    stretch = past.found[number]
    until = "" if stretch.seen == stretch.since else f" to {clock.absolute(stretch.seen)}"
    lead = f"{stretch.rule} - {stretch.kind}"
    lines = page.hang(lead, f", found {clock.absolute(stretch.since)}{until}", "bold", indent=2)
    return lines + _line(page, "why", plain(stretch.why))


def _decided(past: Hindsight, page: Page, clock: Clock) -> list[str]:
    """Show on what evidence the last decision rests that is in the log."""
    decided = [line for line in past.lines if isinstance(line.get("evidence"), list)]
    if not decided:
        return []
    line = reason_of(past, decided[-1])
    lead = f"Decided {clock.absolute(at_of(line))} by {plain(str(line.get('rule')))}, policy "
    lines = wrap(f"{lead}{plain(str(line.get('policy'))[:_DIGEST])}:", page.columns)
    lines += _line(page, "why", plain(str(line.get("why") or "not said")))
    for piece in line.get("evidence") or ():
        if isinstance(piece, dict):
            truth, words = _piece(piece)
            lines += page.hang(f"  {truth}  ", words, indent=8)
    return lines


def _piece(piece: Json) -> tuple[str, str]:
    """Write one clause: how it was answered, and by what."""
    try:
        unit, window = Unit(piece["unit"]), piece["window_s"]
        sign = next(name for name in SIGNS if name in piece)
        value, low, high = (None if piece[key] is None else float(piece[key]) for key in ("value", "low", "high"))
        over = format_duration(timedelta(seconds=window))
        asked = f"{piece['signal']} {SIGNS[sign]} {format_quantity(piece[sign], unit)} over {over}"
        measured = "nothing" if value is None else format_quantity(value, unit)
        bounds = f" [{format_quantity(low, unit)}, {'unbounded' if high is None else format_quantity(high, unit)}]"
        by = f"{piece['coverage']:.0%} seen, by {piece['source'] or 'nobody'}"
        truth = {True: "true", False: "false"}.get(piece["truth"], piece.get("missing") or "unknown")
    except (KeyError, ValueError, TypeError, StopIteration):  # shortened, or of another version
        return plain(str(piece.get("truth")), _DIGEST), plain(str(piece.get("signal")))
    return plain(truth, _DIGEST), plain(f"{asked}: {measured}{bounds if low != high else ''}, {by}")


def _later(past: Hindsight, page: Page, clock: Clock) -> list[str]:
    shown = [_event(line, clock) for line in past.later if line.get("kind") != "intent"]
    if not shown:
        return []
    more = (
        [f"and {len(shown) - _LATER} more: `audit --container {past.span.container[:_SHORT]}`"]
        if len(shown) > _LATER
        else []
    )
    return [page.paint("Later", "bold"), *(line for text in [*shown[:_LATER], *more] for line in page.hang("  ", text))]


def _event(line: Line, clock: Clock) -> str:
    became = line.get("status") or (f"held back by {line['held_by']}" if line.get("held_by") else line.get("kind"))
    detail = f" ({line['detail']})" if line.get("detail") else ""
    return plain(f"{clock.absolute(at_of(line))}, by {line.get('rule')}: {line.get('action')} {became}{detail}")


def _lives(past: Hindsight, page: Page, clock: Clock) -> list[str]:
    """Name the other lives of this name: whoever meant another one asks for its time."""
    others = [span for span in past.spans if span != past.span]
    if not others:
        return []
    shown = [
        f"{span.container[:_SHORT]}: {clock.absolute(span.begin)} to "
        f"{clock.absolute(span.end) if span.end else 'the newest tick'}"
        for span in others[-_LIVES:]
    ]
    return page.hang("Other lives of it: ", "; ".join(shown), indent=2)

"""PURE: what a line of the audit log says, and how it is kept whole and harmless.

Owns the shape of lines. ASCII only: what users wrote stays inside JSON escapes, so `cat` on a terminal is safe.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ds01_policy.model import Action, Decision, Evidence, Outcome

Json = dict[str, Any]

LINE_BYTES = 64 * 1024  # with its newline
# How long texts and lists may be, tried in this order until the line fits.
_CUTS = ((None, None), (None, 32), (4096, 32), (1024, 8), (128, 4), (32, 1))
_ESSENTIAL = ("kind", "at", "host", "policy", "decision", "container", "rule", "action", "status")
_DEPTH = 8


def intent_fields(decision: Decision, action: Action) -> Json:
    """Say what is about to be done, to whom, and on what evidence."""
    verdict, container = decision.verdict, decision.container
    limit = verdict.limit
    return {
        **_about(decision),
        "action": action,
        "actions": decision.actions,
        "mode": decision.mode,
        "image": container.image,
        "state": container.state,
        "type": container.type,
        "group": container.group,
        "owner_via": container.owner_via,
        "gpus": [str(ref) for ref in container.gpus.refs],
        "verdict": verdict.kind,
        "why": verdict.why,
        "for_s": verdict.for_,
        "limit": None if limit is None else {"key": limit.key, "value_s": limit.value, "layer": limit.layer},
        "due_at": verdict.due_at,
        "evidence": [_evidence(piece) for piece in verdict.evidence],
    }


def outcome_fields(decision: Decision, outcome: Outcome) -> Json:
    """Say what became of it."""
    return {
        **_about(decision),
        "action": outcome.action,
        "status": outcome.status,
        "detail": outcome.detail,
        "delivered": outcome.delivered,
    }


def _about(decision: Decision) -> Json:
    """Say what every line about a decision is found by."""
    container = decision.container
    return {
        "decision": decision.id,
        "container": container.id,
        "name": container.name,
        "started_at": container.started_at,
        "owner": container.owner,
        "rule": decision.verdict.rule,
    }


def _evidence(piece: Evidence) -> Json:
    reading = piece.reading
    return {
        "signal": reading.signal,
        "window_s": reading.window,
        "value": reading.value,
        "low": reading.low,
        "high": reading.high,
        "unit": reading.unit,
        piece.comparator: piece.threshold,
        "coverage": reading.coverage,
        "source": reading.source,
        "instead_of": piece.instead_of,
        "truth": piece.truth,
        "missing": reading.missing,
    }


def line_of(record: Mapping[str, object]) -> bytes:
    """Render one line of at most LINE_BYTES; what had to be shortened is marked, and `cut` is true."""
    for text, items in _CUTS:
        plain = _plain(record, text, items)
        if (text, items) != (None, None):
            plain["cut"] = True
        line = json.dumps(plain, ensure_ascii=True, allow_nan=False, separators=(",", ":")).encode("ascii") + b"\n"
        if len(line) <= LINE_BYTES:
            return line
    return line_of({key: record[key] for key in _ESSENTIAL if key in record} | {"cut": True})


def _plain(value: object, text: int | None, items: int | None, depth: int = _DEPTH) -> Any:  # noqa: PLR0911  one line a type
    """Reduce a value to what JSON has: times as ISO 8601, durations as seconds, what is not a number as null."""
    match value:
        case Enum():
            return _plain(value.value, text, items, depth)
        case None | bool() | int():
            return value
        case float():
            return value if math.isfinite(value) else None
        case datetime():
            return value.astimezone(UTC).isoformat()
        case timedelta():
            return value.total_seconds()
        case Mapping() if depth:
            return {_shortened(str(key), text): _plain(item, text, items, depth - 1) for key, item in value.items()}
        case list() | tuple() | set() | frozenset() if depth:
            every = list(value)
            kept = [_plain(item, text, items, depth - 1) for item in every[:items]]
            return kept if len(kept) == len(every) else [*kept, f"… {len(every) - len(kept)} more"]
        case _:
            return _shortened(str(value), text)


def _shortened(text: str, limit: int | None) -> str:
    return text if limit is None or len(text) <= limit else f"{text[:limit]}… {len(text) - limit} more"

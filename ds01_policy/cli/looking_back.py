"""audit, and explain --at: what was decided before.

Owns what each prints and its exit code.
"""

from __future__ import annotations

import json as json_module
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ds01_policy.audit import AuditError, read
from ds01_policy.cli.exits import Exit, fail
from ds01_policy.cli.moment import moment
from ds01_policy.cli.wiring import now, page, policy_of
from ds01_policy.ledger import LedgerError
from ds01_policy.memory import AUDIT
from ds01_policy.report.layout import Clock, fit
from ds01_policy.text import plain

if TYPE_CHECKING:
    from ds01_policy.cli.options import Options


@dataclass(frozen=True, slots=True)
class Asked:
    """Which lines of the audit log are wanted; all that is given must hold. Times as they were typed."""

    container: str | None = None
    owner: str | None = None
    rule: str | None = None
    action: str | None = None
    status: str | None = None
    since: str | None = None
    until: str | None = None


# ── audit ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def audit(options: Options, asked: Asked, *, json: bool) -> None:
    """Show the lines of the audit log that match, oldest first."""
    policy = policy_of(options)
    path = Path(policy.settings.state_dir) / AUDIT
    entries = read(
        path,
        container=asked.container,
        owner=asked.owner,
        rule=asked.rule,
        action=asked.action,
        status=asked.status,
        since=moment(asked.since, now(), "--since") if asked.since is not None else None,
        until=moment(asked.until, now(), "--until", end=True) if asked.until is not None else None,
    )
    try:
        # One by one: years of it must not stand in memory.
        found = 0
        for row in entries:
            sys.stdout.write(_document_line(row, found) if json else _line(row) + "\n")
            found += 1
    except AuditError as error:
        fail(Exit.FAILED, [str(error)])
    if json:
        sys.stdout.write("\n]}\n" if found else f"{_HEAD}]}}\n")
    elif not found:
        sys.stdout.write(f"nothing in {path} matches\n")
    if entries.broken:
        sys.stderr.write(f"{entries.broken} line{'s' if entries.broken != 1 else ''} of {path} could not be read\n")


_HEAD = '{"schema": 1, "command": "audit", "entries": ['


def _document_line(row: dict[str, Any], number: int) -> str:
    """Write one entry of the document, with what stands before it."""
    return (",\n" if number else f"{_HEAD}\n") + json_module.dumps(row)


def _line(row: dict[str, object]) -> str:
    """Write one entry: when, what, to whom, by which rule, what became of it, why. On a terminal it takes one line."""
    words = [str(row[key]) for key in ("at", "kind", "action", "name", "owner", "rule", "status") if row.get(key)]
    why = row.get("detail") or row.get("why") or ""
    if row.get("held_by"):
        why = f"{row.get('why')}; held by {row['held_by']} ({row.get('detail')})"
    if not sys.stdout.isatty():
        return plain(f"{'  '.join(words)}{f': {why}' if why else ''}", 1000)
    at = datetime.fromisoformat(words[0]).astimezone()
    words = [f"{at:%Y-%m-%d %H:%M:%S}", *words[1:]]
    return fit(plain(f"{'  '.join(words)}{f': {why}' if why else ''}", 1000), page().columns)


# ── explain --at ─────────────────────────────────────────────────────────────────────────────────────────────────────


def explain_past(options: Options, container: str, time: str, *, json: bool) -> None:
    """Show what was decided about a container by a past instant."""
    from ds01_policy.hindsight import Nothing, hindsight
    from ds01_policy.report.hindsight import hindsight_document, hindsight_text

    if options.replay is not None:
        fail(Exit.USAGE, ["a recording holds one instant: --at asks this host's own ledger and audit log"])
    policy = policy_of(options)
    at = moment(time, now(), "--at", end=True)
    clock = Clock(at)
    try:
        past = hindsight(Path(policy.settings.state_dir), container, at)
    except (LedgerError, AuditError) as error:
        fail(Exit.FAILED, [str(error)])
    if isinstance(past, Nothing):
        first = past.spans[0].begin if past.spans else None
        fail(
            Exit.FAILED,
            [
                f"nothing is known of {container!r} on {clock.stamp()}",
                *([f"it is known from {Clock(first).stamp()} on"] if first else []),
                f"the log knows anything from {Clock(past.since).stamp()} on" if past.since else "the log is empty",
            ],
        )
    if json:
        indent = 2 if sys.stdout.isatty() else None
        sys.stdout.write(json_module.dumps(hindsight_document(past, clock), indent=indent) + "\n")
    else:
        sys.stdout.write(hindsight_text(past, page(), clock))

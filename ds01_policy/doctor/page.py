"""What the doctor shows: lines for people, one JSON document for programs.

Owns their layout. Everything passes through `text.plain`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_policy.doctor.finding import Status
from ds01_policy.report.layout import wrap
from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from ds01_policy.doctor.finding import Finding
    from ds01_policy.observe.ports import Json
    from ds01_policy.report.layout import Clock, Page, Style

# What has to be done comes last: that is what stays on a screen.
_ORDER = (Status.OK, Status.SKIPPED, Status.NOTE, Status.BAD)
_LEADS = {Status.OK: "ok", Status.SKIPPED: "skip", Status.NOTE: "note", Status.BAD: "BAD"}
_STYLES: dict[Status, tuple[Style, ...]] = {
    Status.OK: ("green",),
    Status.SKIPPED: ("dim",),
    Status.NOTE: ("yellow",),
    Status.BAD: ("bold", "red"),
}
_LEAD = 6  # columns
_LIMIT = 1000


def page_of(findings: Sequence[Finding], host: str, page: Page, clock: Clock) -> str:
    """Write lines for people: what is in order first, what is wanting last, within each the order of the chain."""
    title = f"{plain(host, 60)}, {clock.stamp()}, doctor"
    lines = [page.paint(line, "bold") for line in wrap(title, page.columns)]
    for status in _ORDER:
        some = [one for one in findings if one.status is status]
        if some and status is not _ORDER[0]:
            lines.append("")
        for one in some:
            slug = "" if status is Status.OK else f" [{one.slug}]"
            lead = _LEADS[status].ljust(_LEAD)
            lines += page.hang(lead, plain(one.what, _LIMIT) + slug, *_STYLES[status])
            lines += page.hang(" " * _LEAD + "do: ", plain(one.do, _LIMIT)) if one.do else []
    return "\n".join([*lines, "", page.paint(_sum(findings), "bold")]) + "\n"


def _sum(findings: Sequence[Finding]) -> str:
    counts = {status: sum(one.status is status for one in findings) for status in _ORDER}
    words = [f"{counts[Status.BAD] or 'nothing'} wanting", f"{counts[Status.OK]} in order"]
    if counts[Status.NOTE]:
        words.insert(1, f"{counts[Status.NOTE]} to know")
    if counts[Status.SKIPPED]:
        words.append(f"{counts[Status.SKIPPED]} not checked")
    return ", ".join(words)


def document(findings: Sequence[Finding], host: str, at: datetime) -> Json:
    """Build the JSON document, in the order of the chain."""
    return {
        "schema": 1,
        "command": "doctor",
        "at": at.isoformat(timespec="seconds").replace("+00:00", "Z"),
        "host": host,
        "findings": [
            {"slug": one.slug, "status": one.status.value, "what": one.what, "do": one.do or None} for one in findings
        ],
    }

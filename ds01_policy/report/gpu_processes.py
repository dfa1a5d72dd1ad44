"""The processes on GPUs that belong to no container, as `preview` and `evaluate` print them.

Owns the rows and the words. Nothing is done about such a process, and nothing of it is printed raw.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_policy.report.layout import columns, pad, wrap
from ds01_policy.text import plain
from ds01_policy.units import Unit, format_quantity

if TYPE_CHECKING:
    from ds01_policy.model import HostProcess, Snapshot
    from ds01_policy.report.layout import Clock, Page

LIMIT = 20  # rows; the JSON has them all
_HEADINGS = ("USER", "COMMAND", "PID", "GPU", "MEMORY")
_CAPS = (12, 15, 10, 13, 10)  # columns each may take


def gpu_processes(snapshot: Snapshot, page: Page, clock: Clock) -> list[str]:
    """List them, the one with most memory first; no line where there are none."""
    found = snapshot.host_processes
    if not found:
        return []
    index = {gpu.uuid: gpu.index for gpu in snapshot.gpus}
    rows = [(_cells(each, index), _since(each, clock)) for each in found[:LIMIT]]
    widths = [
        min(cap, max(columns(cells[at]) for cells in (_HEADINGS, *(cells for cells, _ in rows))))
        for at, cap in enumerate(_CAPS)
    ]
    lines = [page.paint("GPU processes of no container", "bold"), f"  {_row(_HEADINGS, widths)}SINCE"]
    for cells, since in rows:
        lines += page.hang(f"  {_row(cells, widths)}", since)
    if len(found) > LIMIT:
        lines += wrap(f"  {len(found) - LIMIT} more hold less; to see them: ds01-policy preview --json", page.columns)
    return lines


def _row(cells: tuple[str, ...], widths: list[int]) -> str:
    return "".join(f"{pad(cell, width)}  " for cell, width in zip(cells, widths, strict=True))


def _cells(process: HostProcess, index: dict[str, int]) -> tuple[str, ...]:
    gpu = str(index[process.gpu]) if process.gpu in index else plain(process.gpu, 8)
    return (
        plain(process.user, 64) or "?",
        plain(process.command, 64) or "?",
        str(process.pid),
        gpu if process.gpu_instance is None else f"{gpu}:gi{process.gpu_instance}",
        format_quantity(process.memory_bytes, Unit.BYTES),
    )


def _since(process: HostProcess, clock: Clock) -> str:
    """Say since when it has run, and where: in whose session, which service, or whose container."""
    since = "?" if process.started_at is None else clock.both(process.started_at)
    return f"{since}; {plain(process.place, 100)}" if process.place else since

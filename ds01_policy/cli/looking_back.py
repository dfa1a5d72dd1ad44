"""audit and record: what was decided before, and what is seen now kept for later.

Owns what each prints and its exit code.
"""

from __future__ import annotations

import json as json_module
import platform
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_policy import __version__
from ds01_policy.audit import AuditError, read
from ds01_policy.cli.exits import Exit, fail
from ds01_policy.cli.wiring import live_sources, now, policy_of
from ds01_policy.memory import AUDIT, remembered
from ds01_policy.observe.recording import Recorder, RecordingError
from ds01_policy.observe.snapshot import DockerDown
from ds01_policy.span import reach_of
from ds01_policy.text import plain
from ds01_policy.tick import look

if TYPE_CHECKING:
    from ds01_policy.cli.options import Options


def audit(
    options: Options,
    *,
    container: str | None,
    owner: str | None,
    rule: str | None,
    since: datetime | None,
    json: bool,
) -> None:
    """Show the lines of the audit log that match, oldest first."""
    policy = policy_of(options)
    path = Path(policy.settings.state_dir) / AUDIT
    since = since.replace(tzinfo=since.tzinfo or UTC) if since else None
    try:
        entries = read(path, container=container, owner=owner, rule=rule, since=since)
        rows = list(entries)
    except AuditError as error:
        fail(Exit.FAILED, [str(error)])
    if entries.broken:
        sys.stderr.write(f"{entries.broken} line{'s' if entries.broken != 1 else ''} of {path} could not be read\n")
    if json:
        sys.stdout.write(json_module.dumps({"schema": 1, "command": "audit", "entries": rows}, indent=2) + "\n")
        return
    for row in rows:
        sys.stdout.write(_line(row) + "\n")
    if not rows:
        sys.stdout.write(f"nothing in {path} matches\n")


def _line(row: dict[str, object]) -> str:
    """Write one entry: when, what, to whom, by which rule, what became of it, why."""
    words = [str(row[key]) for key in ("at", "kind", "action", "name", "owner", "rule", "status") if row.get(key)]
    why = row.get("detail") or row.get("why") or ""
    if row.get("held_by"):
        why = f"{row.get('why')}; held by {row['held_by']} ({row.get('detail')})"
    return plain(f"{'  '.join(words)}{f': {why}' if why else ''}", 1000)


def record(options: Options, directory: Path) -> None:
    """Look once, writing down every answer."""
    policy = policy_of(options)
    history = remembered(Path(policy.settings.state_dir), reach_of(policy))
    try:
        recorder = Recorder(live_sources(policy), directory)
        at = now()
        report = look(policy, recorder.sources, at, history)
        recorder.finish(at, history, {"ds01-policy": __version__, "python": platform.python_version()})
    except RecordingError as error:
        fail(Exit.FAILED, [str(error)])
    except DockerDown as down:
        fail(Exit.NO_DOCKER, [f"Docker could not be observed: {down}", "nothing was recorded"])
    sys.stdout.write(f"{len(report.snapshot.containers)} containers recorded in {directory}\n")

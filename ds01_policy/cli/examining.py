"""doctor: is this host set up right.

Owns what it prints and its exit code.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from ds01_policy.cli.exits import Exit, fail
from ds01_policy.cli.wiring import Progress, directory_of, live_sources, now, page, policy_of
from ds01_policy.config.load import findings as doubts_of
from ds01_policy.doctor.examine import Examination
from ds01_policy.doctor.finding import Status
from ds01_policy.doctor.page import document, page_of
from ds01_policy.observe.docker import EngineDocker
from ds01_policy.observe.host import unix_group_members
from ds01_policy.observe.prometheus import LivePrometheus
from ds01_policy.report.document import dumps
from ds01_policy.report.layout import Clock

if TYPE_CHECKING:
    from ds01_policy.cli.options import Options


def doctor(options: Options, *, json: bool) -> None:
    """Examine this host, and say what to do."""
    if options.replay is not None:
        fail(Exit.USAGE, ["doctor examines this host as it is now: it cannot be asked about a recording (--replay)"])
    policy = policy_of(options)
    directory = directory_of(options)
    at, progress = now(), Progress()
    sources = live_sources(policy)
    server = LivePrometheus(policy.settings.prometheus) if policy.settings.prometheus is not None else None
    examination = Examination(
        policy,
        sources,
        server,
        at,
        doubts=[str(one) for one in doubts_of(directory, at, unix_group=unix_group_members)],
        own=directory is not None,
        say=progress.say,
    )
    try:
        found = examination.findings()
    finally:
        progress.done()
        for opened in (sources.docker, server):
            if isinstance(opened, EngineDocker | LivePrometheus):
                opened.close()
    host = sources.host.name()
    if json:
        sys.stdout.write(dumps(document(found, host, at), indented=sys.stdout.isatty()))
    else:
        sys.stdout.write(page_of(found, host, page(), Clock(at)))
    raise SystemExit(int(Exit.FAILED if any(one.status is Status.BAD for one in found) else Exit.DONE))

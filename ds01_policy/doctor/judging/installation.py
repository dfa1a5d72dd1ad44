"""PURE: what stands of an installation, against what this version would install → findings.

Owns what is said of units, files and rights. The timer's own state is surroundings.py's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ds01_policy.doctor.finding import Finding, bad, count, note, ok, some
from ds01_policy.install.differences import Do, Step
from ds01_policy.install.layout import DROP_IN, LOGROTATE, RESET_PATH, TIMER, UNITS, WATCH
from ds01_policy.install.reload import stale
from ds01_policy.install.unit_text import schedule
from ds01_policy.text import plain
from ds01_policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ds01_policy.policy import Settings

INSTALL = "`sudo ds01-policy install`"
_WRONG = (Do.WRITE, Do.REMOVE, Do.REFUSE)
_CALENDAR = re.compile(r"OnCalendar=([^;{}]+?)\s*;")


@dataclass(frozen=True, slots=True)
class InstallationFacts:
    """What stands, and what systemd says of it."""

    systemd: bool = True  # it runs this host
    units: int = 0  # unit files of ours that stand
    runs: str = ""  # the program that the units run
    program: str = ""  # this one; empty: it was not installed into an environment
    open: tuple[str, ...] = ()  # what of the units' program others may change, and how
    steps: tuple[Step, ...] = ()  # what `install` would do; only of units that run this program
    policy_open: tuple[str, ...] = ()  # policy files that others may change, and how
    told: Mapping[str, Mapping[str, str]] | None = None  # units by property
    drop_ins: Mapping[str, frozenset[str]] = field(default_factory=dict)  # that stand, by unit
    error: str = ""  # why systemd told nothing


def installation(facts: InstallationFacts, settings: Settings) -> Iterator[Finding]:
    """Judge all of it. Without systemd, and where no unit stands, there is nothing to judge but that."""
    if facts.policy_open:
        what = f"root acts by policy files that others may change: {some(facts.policy_open, between='; ')}"
        yield bad(
            "policy_open", what, "`sudo chown -R root:root /etc/ds01-policy; sudo chmod -R go-w /etc/ds01-policy`"
        )
    if not facts.systemd:
        return
    if not facts.units:
        yield note("units", "no unit of this program is installed", f"{INSTALL}, unless something else runs `evaluate`")
        return
    yield from _program(facts)
    yield from _files(facts, settings)
    if facts.error:
        yield note("services", f"systemd does not tell: {plain(facts.error, 200)}", "`systemctl status 'ds01-policy*'`")
        return
    told = facts.told or {}
    if changed := stale(told, facts.drop_ins):
        what = f"{', '.join(changed)}: the file has changed, and systemd still goes by the old one"
        yield bad("daemon_reload", what, f"{INSTALL}, which looks first whether GPU containers would suffer")
    elif not any(step.do in _WRONG and TIMER in str(step.path) for step in facts.steps):
        yield from _interval(told.get(TIMER, {}), settings)
    yield from _services(told, settings)


def _program(facts: InstallationFacts) -> Iterator[Finding]:
    if facts.runs != facts.program:
        what = f"the units run {plain(facts.runs, 200)}, which is not the program that looks now"
        yield note("program", what, f"`sudo {plain(facts.runs, 200)} doctor` looks at the one that runs")
    if facts.open:
        what = f"root runs a program that others may change: {some(facts.open, between='; ')}"
        yield bad("program_open", what, "install it where only root may write: `sudo make install`")


def _files(facts: InstallationFacts, settings: Settings) -> Iterator[Finding]:
    """Judge each file by what it is for."""
    if facts.runs != facts.program:
        return
    wrong = [step for step in facts.steps if step.do in _WRONG]
    units = [step for step in wrong if step.path.parent == UNITS]
    if units:
        what = f"not as this version installs them: {some(f'{step.path.name} ({step.why})' for step in units)}"
        yield bad("units", what, INSTALL)
    else:
        yield ok(
            "units", f"{count(facts.units, 'unit')} as this version installs them, run by {plain(facts.runs, 200)}"
        )
    for step in wrong:
        if step.path.name == DROP_IN:
            unit = step.path.parent.name.removesuffix(".d")
            yield bad(*_drop_in(unit, settings), INSTALL)
        elif step.path == LOGROTATE:
            yield bad("logrotate", f"nothing rotates the audit log: {LOGROTATE}: {step.why}", INSTALL)
    for step in facts.steps:
        if step.do is Do.CLOSE:
            yield bad("state_open", f"{plain(str(step.path), 200)} is not private to root: {step.why}", INSTALL)


def _drop_in(unit: str, settings: Settings) -> tuple[str, str]:
    if unit == TIMER:
        every = format_duration(settings.local_samples.interval)
        return "timer_interval", f"{unit} does not fire every {every} yet, as local_samples.interval says"
    about = (
        "metrics_file, state_dir, files that it reads" if settings.metrics_file else "state_dir, files that it reads"
    )
    return "unit_settings", f"{unit} does not fit settings.yaml yet, or where the program lies ({about})"


def _interval(timer: Mapping[str, str], settings: Settings) -> Iterator[Finding]:
    """See whether the timer fires as often as settings.yaml says, whoever changed it."""
    fires = _CALENDAR.findall(timer.get("TimersCalendar", ""))
    wanted = [line.removeprefix("OnCalendar=") for line in schedule(settings.local_samples.interval)[1:2]]
    every = format_duration(settings.local_samples.interval)
    if fires and fires != wanted:
        what = f"{TIMER} fires at {some(fires)}, local_samples.interval says every {every}"
        yield bad("timer_interval", what, f"`systemctl cat {TIMER}`: bring both together, then {INSTALL}")


def _services(told: Mapping[str, Mapping[str, str]], settings: Settings) -> Iterator[Finding]:
    later = "GPUs that containers leave are checked minutes later, by the next tick"
    yield from _service("watch", WATCH, told, later)
    if settings.epilog.reset == "when_safe":
        yield from _service("reset", RESET_PATH, told, "no GPU is reset, though epilog.reset is when_safe")


def _service(slug: str, unit: str, told: Mapping[str, Mapping[str, str]], without: str) -> Iterator[Finding]:
    if unit not in told:
        return
    enabled = told[unit].get("UnitFileState", "")
    active = told[unit].get("ActiveState", "")
    words = f"{unit} is {plain(enabled, 20) or 'not enabled'} and {plain(active, 20) or 'not running'}"
    if enabled.startswith("enabled") and active == "active":
        yield ok(slug, words)
    else:
        # Not `systemctl enable`: that has systemd load all its units anew, which may take GPUs from containers.
        do = f"{INSTALL}; if it ends again: `journalctl -u {unit} -n 50`"
        yield bad(slug, f"{words}: {without}", do)

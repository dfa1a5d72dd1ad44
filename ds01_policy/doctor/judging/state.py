"""PURE: what lies in the state directory, and whether the next tick can write there → findings.

Owns when local samples are warm, ticks too rare, and disks too full. Reads nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from ds01_policy.doctor.finding import Finding, bad, count, note, ok, roughly, skipped
from ds01_policy.looks import JITTER, known_from
from ds01_policy.text import plain
from ds01_policy.units import Unit, format_duration, format_quantity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FREE_BYTES = 100_000_000
_FREE_FILES = 100
_RECENT = 13  # looks that tell how often ticks come now
_FEWEST_GAPS = 3
_LATE = 2.5  # intervals without a tick


@dataclass(frozen=True, slots=True)
class StateFacts:
    """What is in the state directory and around it. Sizes in bytes, times aware or in Unix seconds."""

    directory: str
    made: bool = True  # it is there
    root: bool = True
    uid: int = 0
    unwritable: tuple[str, ...] = ()  # paths that this user may not write, where they or their parent are
    metrics_file: str | None = None
    metrics_why: str = ""  # why it cannot be written
    free_bytes: int | None = None
    free_files: int | None = None  # inodes; None: the file system does not count them
    ledger: bool = False  # there is one
    version: int | None = None
    newest_version: int = 0  # that this program knows
    error: str = ""  # why the ledger cannot be read
    last_tick_at: datetime | None = None
    looks: tuple[float, ...] = ()  # when samples were taken, ascending, as far back as any rule asks
    samples: int = 0
    audit_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Expected:
    """What the settings say."""

    interval: timedelta  # of ticks
    retain: timedelta  # of local samples
    window: timedelta  # the longest that a rule over signals asks; 0: none does


def state(facts: StateFacts, expected: Expected, at: datetime) -> Iterator[Finding]:
    """Judge all of it."""
    if not facts.root:
        what = f"asked as user {facts.uid}, who sees and may write less than the timer's root"
        yield note("user", what, "`sudo ds01-policy doctor`, unless `evaluate` runs as this user too")
    yield from _directory(facts)
    yield from _metrics_file(facts)
    if facts.error:
        # The text says what to do already; not to be let in is no damage.
        found = bad if facts.root else skipped
        yield found("ledger", plain(facts.error), "nothing is stopped until it can be used")
        return
    run = f"run `ds01-policy evaluate` as root every {format_duration(expected.interval)}"
    if not facts.ledger:
        yield note("ledger", f"there is no ledger in {plain(facts.directory)} yet: no tick has run", run)
        return
    old = "" if facts.version == facts.newest_version else f"; the next tick brings it to {facts.newest_version}"
    yield ok("ledger", f"ledger version {facts.version}{old}; audit log of {_size(facts.audit_bytes)}")
    yield from _ticks(facts, expected, at, run)
    yield from _samples(facts, expected, at)


def _directory(facts: StateFacts) -> Iterator[Finding]:
    where = plain(facts.directory)
    if facts.unwritable:
        what = f"not writable: {', '.join(plain(path) for path in facts.unwritable)}"
        if facts.root:
            do = "mounted read-only? `findmnt -T` it; see state_dir in settings.yaml"
            yield bad("state_dir", f"{what}: nothing is stopped then", do)
        else:
            yield note("state_dir", f"{what} by this user", "run it as the user that runs `evaluate`")
    else:
        can = "can be written" if facts.made else "is not there yet and can be made"
        yield ok("state_dir", f"{where} {can}{_free(facts)}")
    if facts.free_bytes is not None and facts.free_bytes < FREE_BYTES:
        what = f"{_size(facts.free_bytes)} are left on the disk of {where}: when it is full nothing is stopped"
        yield bad("disk_full", what, f"free some; at least {FREE_BYTES // 10**6} MB should be left")
    if facts.free_files is not None and facts.free_files < _FREE_FILES:
        what = f"{count(facts.free_files, 'more file')} can be made on the disk of {where}"
        yield bad("disk_full", what, "`df -i`: remove small files")


def _free(facts: StateFacts) -> str:
    return "" if facts.free_bytes is None else f", {_size(facts.free_bytes)} free"


def _metrics_file(facts: StateFacts) -> Iterator[Finding]:
    if facts.metrics_file is None:
        return
    where = plain(facts.metrics_file)
    if not facts.metrics_why:
        yield ok("metrics_file", f"{where} can be written")
    elif facts.root:
        do = "make the folder that node_exporter's --collector.textfile.directory names, or correct metrics_file"
        yield bad("metrics_file", f"{where} cannot be written: {facts.metrics_why}", do)
    else:
        yield note("metrics_file", f"{where} cannot be written by this user: {facts.metrics_why}", "run it as root")


def _ticks(facts: StateFacts, expected: Expected, at: datetime, run: str) -> Iterator[Finding]:
    if facts.last_tick_at is None:
        yield note("tick", "no tick has ended well yet", run)
        return
    age = at - facts.last_tick_at
    words = f"the last tick was {roughly(age)} ago"
    if age < -expected.interval:
        yield bad("tick", f"the last tick lies {format_duration(-age)} ahead: the clock was set back", "`timedatectl`")
    elif age > expected.interval * _LATE:
        do = f"see what the timer says; {run}, by hand first to see it work"
        yield bad("tick", f"{words}: nothing is decided meanwhile, and samples get a hole", do)
    else:
        yield ok("tick", words)
    gaps = [after - before for before, after in pairwise(facts.looks[-_RECENT:])]
    usual = timedelta(seconds=median(gaps)) if len(gaps) >= _FEWEST_GAPS else expected.interval
    if usual > expected.interval * JITTER:
        often, said = format_duration(usual), format_duration(expected.interval)
        what = f"ticks come every {often}, local_samples.interval says {said}: local samples never cover a window"
        yield bad("ticks_rare", what, f"{run}, or set local_samples.interval to {often}")


def _samples(facts: StateFacts, expected: Expected, at: datetime) -> Iterator[Finding]:
    """Say whether idle rules could be answered without Prometheus, and since or until when not."""
    if not expected.window:
        return
    window = format_duration(expected.window)
    if expected.retain < expected.window + expected.interval:
        what = f"local_samples.retain is {format_duration(expected.retain)}, the longest window asked {window}"
        yield bad("retain_short", f"{what}: without Prometheus it is never known", "raise local_samples.retain")
        return
    since = run_since(facts.looks, expected.interval, at)
    samples = count(facts.samples, "local sample")
    keep = f"keep `evaluate` running every {format_duration(expected.interval)}"
    if math.isinf(since):
        what = f"no fresh local sample ({facts.samples} in all): without Prometheus nobody is found idle now"
        yield note("local_samples", what, f"{keep}; {window} later all is known")
        return
    covered = at - datetime.fromtimestamp(since, UTC)
    words = f"{samples} cover the last {roughly(covered)} without a gap"
    if covered >= expected.window:
        yield ok("local_samples", f"{words}: idle rules are answered without Prometheus")
    else:
        when = known_from(since, expected.window, at)
        yield note("local_samples", f"{words}; without Prometheus the longest window is {when}", keep)


def run_since(looks: Sequence[float], interval: timedelta, at: datetime) -> float:
    """Find where the stretch of looks that lasts until now began, in Unix seconds; infinite: there is none."""
    most = interval.total_seconds() * JITTER
    since, before = math.inf, at.timestamp()
    for look in reversed([look for look in looks if look <= before]):
        if before - look > most:
            break
        since = before = look
    return since


def _size(size: int) -> str:
    return format_quantity(size, Unit.BYTES)

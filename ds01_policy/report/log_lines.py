"""PURE: one tick as lines of a log, each with its priority: what is due, what was done, what is wrong, and a sum.

Owns the order, the words and what is urgent. Each line is whole by itself, of bounded length, and safe to show.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from ds01_policy.model import HeldBy, Status
from ds01_policy.report.document import all_problems
from ds01_policy.report.layout import Clock, gpu_words, source_words
from ds01_policy.report.priority import Priority
from ds01_policy.report.tables import Tick, summary
from ds01_policy.report.words import reason, result, what
from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ds01_policy.act.epilog.held import Held, Result
    from ds01_policy.model import Container, Decision, Mode
    from ds01_policy.tick import Report

Line = tuple[Priority, str]

LIMIT = 1000  # characters of one line
_OUTCOMES = {Status.FAILED: Priority.ERROR, Status.WITHHELD: Priority.WARNING}
# A guard that waits is how things should be; these three mean that something is out of the ordinary.
_ALARMING = frozenset({HeldBy.LEDGER, HeldBy.BREAKER, HeldBy.BUDGET})
_ERRORS = frozenset({"ledger"})  # nothing is done until that is mended
_NOTES = frozenset({"gpu_note"})  # how it is on this host, tick after tick
_TOLD = "epilog_failed"  # the epilog's own line says it
_UNWELL = {"critical": Priority.ERROR, "warn": Priority.WARNING}


def log_lines(report: Report, mode: Mode, took: timedelta, clock: Clock | None = None) -> list[Line]:
    """Tell of one tick: a line for each decision, then its outcomes; other epilogs; problems; one line that sums up.

    A tick in which nothing is due and nothing is wrong is that one line. `clock` is for the times in it; None: as seen
    from the tick, in the machine's own zone.
    """
    return [
        (priority, plain(text, LIMIT))
        for priority, text in (
            *_decisions(report, clock or Clock(report.snapshot.at)),
            *(epilog_line(held, found) for held, found in report.epilogs),
            *_problems(report),
            (Priority.INFO, _sum(report, mode, took)),
        )
    ]


def epilog_line(held: Held, found: Result) -> Line:
    """Tell what an epilog found. Urgent: a bad GPU, and a look that failed; a note: a process that was ended."""
    told = (f"{one.uuid}: {one.health}: {one.words}" for one in found.findings)
    said = "; ".join(part for part in (found.detail, *(words for words in told if words not in found.detail)) if part)
    priority = _OUTCOMES.get(found.status, Priority.NOTICE if found.ended else Priority.INFO)
    worst = min((priority, *(_UNWELL.get(one.health, priority) for one in found.findings)))
    return worst, plain(f"epilog of {held.name} ({held.container[:12]}), {found.status}: {said}", LIMIT)


def _decisions(report: Report, clock: Clock) -> Iterator[Line]:
    for decision in report.plan.decisions:
        who = f"{_who(report, decision.container)}, {decision.verdict.rule}"
        mine = [outcome for outcome in report.outcomes if outcome.decision == decision.id]
        _, words = what(decision, (), clock, carried_out=False)
        tag = "next" if decision.enforced else "held"
        yield _urgency(decision), f"{who}: {tag}: {words} – {reason(decision.verdict)}"
        for outcome in mine:
            yield _OUTCOMES.get(outcome.status, Priority.NOTICE), f"{who}: {result(outcome)}"
        if decision.enforced and not mine:
            yield Priority.ERROR, f"{who}: {', '.join(decision.actions)}: nothing is known of what became of it"


def _who(report: Report, container: Container) -> str:
    gpu = gpu_words(container.gpus, report.snapshot.gpus)
    about = container.short if gpu == "-" else f"{container.short}, GPU {gpu}"
    return f"{plain(container.name, 64)} ({about}) of {plain(container.owner, 40)}"


def _urgency(decision: Decision) -> Priority:
    if decision.enforced:
        return Priority.NOTICE
    return Priority.WARNING if decision.held_by in _ALARMING else Priority.INFO


def _problems(report: Report) -> Iterator[Line]:
    for problem in all_problems(report.snapshot, report.evaluation, report.plan, report.problems):
        if problem.code != _TOLD:
            urgency = Priority.INFO if problem.code in _NOTES else Priority.WARNING
            yield Priority.ERROR if problem.code in _ERRORS else urgency, f"{problem.code}: {problem.detail}"


def _sum(report: Report, mode: Mode, took: timedelta) -> str:
    demand = report.evaluation.demand
    tick = Tick("evaluate", mode, report.snapshot, report.evaluation, report.plan, report.outcomes, report.problems)
    held = f"{demand.held} of {demand.gpus} GPUs held" if demand.gpus else "no GPU known"
    parts = [
        f"mode {mode}",
        summary(tick, report.evaluation.verdicts, report.plan.decisions),
        held + (", demand is HIGH" if demand.high else ""),
        ", ".join(source_words(name, state) for name, state in report.snapshot.sources.items()),
        f"took {took.total_seconds():.1f} s",
    ]
    return "; ".join(part for part in parts if part)

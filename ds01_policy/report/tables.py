"""What `preview` and `evaluate` print for people: what is due, the rest, problems, a line that sums up.

Owns the order and the words. Decides nothing; lines never exceed the page.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ds01_policy.logic import Truth
from ds01_policy.model import Kind, Mode
from ds01_policy.report.document import all_problems
from ds01_policy.report.gpu_processes import gpu_processes
from ds01_policy.report.layout import columns, fit, gpu_words, pad, source_words, wrap
from ds01_policy.report.sources import answered, in_words
from ds01_policy.report.words import STYLES, reason, what
from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from ds01_policy.model import Container, Decision, Evaluation, Outcome, Plan, Problem, Snapshot, Verdict
    from ds01_policy.report.layout import Clock, Page

# Worst first: what one word has to stand for a container or a decision.
_KINDS = (Kind.ACT, Kind.WARN, Kind.UNKNOWN, Kind.EXEMPT, Kind.YOUNG, Kind.CLEAR, Kind.OFF)
_PENDING = (Kind.ACT, Kind.WARN)
_TAG = 9  # columns of the tag before each line of a block, two of them its indent


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick as it is shown: what was seen, what was decided, and, after `evaluate`, what became of it."""

    command: str
    mode: Mode
    snapshot: Snapshot
    evaluation: Evaluation
    plan: Plan
    outcomes: tuple[Outcome, ...] = ()
    problems: tuple[Problem, ...] = ()  # met while recording and acting


def table(tick: Tick, page: Page, clock: Clock, *, all_: bool = False, rule: str | None = None) -> str:
    """Write one tick for people; ends with a newline.

    `all_` lists every container; without it those that nothing hits are only counted. `rule` keeps one rule.
    """
    verdicts = [verdict for verdict in tick.evaluation.verdicts if rule in (None, verdict.rule)]
    decisions = [decision for decision in tick.plan.decisions if rule in (None, decision.verdict.rule)]
    parts = [
        _header(tick, page, clock, verdicts),
        _due(tick, page, clock, verdicts, decisions),
        _rest(tick, page, clock, verdicts, decisions, all_=all_, rule=rule),
        gpu_processes(tick.snapshot, page, clock),
        _problems(tick, page),
        [page.paint(line, "bold") for line in wrap(summary(tick, verdicts, decisions, rule), page.columns)],
    ]
    return "\n\n".join("\n".join(part) for part in parts if part) + "\n"


_MODES = {Mode.OBSERVE: " (records only)", Mode.WARN: " (stops nothing)", Mode.ENFORCE: ""}


def _header(tick: Tick, page: Page, clock: Clock, verdicts: Sequence[Verdict]) -> list[str]:
    demand = tick.evaluation.demand
    held = f"{demand.held} of {demand.gpus} GPUs held" if demand.gpus else "no GPU known"
    held += ", demand is HIGH" if demand.high else ""
    sources = ", ".join(source_words(name, state) for name, state in tick.snapshot.sources.items())
    title = f"{plain(tick.snapshot.host, 60)}, {clock.stamp()}, {tick.command}, mode {tick.mode}{_MODES[tick.mode]}"
    return [
        *(page.paint(line, "bold") for line in wrap(title, page.columns)),
        *wrap(f"{sources}; {held}" if sources else held, page.columns),
        *wrap(in_words(answered(verdicts)), page.columns),
    ]


# ── what is due ──────────────────────────────────────────────────────────────────────────────────────────────────────


def _due(tick: Tick, page: Page, clock: Clock, verdicts: Sequence[Verdict], decisions: Sequence[Decision]) -> list[str]:
    """One block a container: who, why, what and when, what holds it back."""
    blocks: dict[str, list[Decision]] = {}
    for decision in sorted(decisions, key=lambda decision: not decision.enforced):
        blocks.setdefault(decision.container.id, []).append(decision)
    pending: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if verdict.kind in _PENDING:
            pending.setdefault(verdict.container.id, []).append(verdict)
    lines: list[str] = []
    for identifier, block in blocks.items():
        lines += ["", _who(tick, page, block[0].container)] if lines else [_who(tick, page, block[0].container)]
        reasons = [*(decision.verdict for decision in block), *pending.get(identifier, ())]
        for verdict in {verdict.rule: verdict for verdict in reasons}.values():
            lines += page.hang(pad("  why", _TAG), f"{verdict.rule}: {plain(verdict.why)}")
        for decision in block:
            tag, words = what(decision, tick.outcomes, clock, carried_out=tick.command == "evaluate")
            lines += page.hang(pad(f"  {tag.upper()}", _TAG), words, *STYLES.get(tag, ()))
    return lines or ["Nothing is due."]


def _who(tick: Tick, page: Page, container: Container) -> str:
    gpu = gpu_words(container.gpus, tick.snapshot.gpus)
    about = f"{plain(container.owner, 24)} ({plain(container.group, 16) or 'no group'}), "
    about += f"{'no GPU' if gpu == '-' else f'GPU {gpu}'}, {container.state}, {container.short}"
    name = fit(plain(container.name, 128), max(page.columns - columns(about) - 2, 16))
    return page.paint(name, "bold") + "  " + fit(about, page.columns - columns(name) - 2)


# ── the rest ─────────────────────────────────────────────────────────────────────────────────────────────────────────

_HEADINGS = ("FINDS", "NAME", "OWNER", "GPU")
_CAPS = (7, 20, 12, 8)  # columns each may take


def _rest(
    tick: Tick,
    page: Page,
    clock: Clock,
    verdicts: Sequence[Verdict],
    decisions: Sequence[Decision],
    *,
    all_: bool,
    rule: str | None,
) -> list[str]:
    """One line a verdict that is not due: all of them, or only those an admin should know of."""
    due = {decision.container.id for decision in decisions}
    by_container: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        if not (verdict.container.id in due and verdict.kind in _PENDING):
            by_container.setdefault(verdict.container.id, []).append(verdict)
    rows: list[tuple[tuple[str, ...], str]] = []
    quiet = 0
    for container in sorted(tick.snapshot.containers, key=lambda container: (container.name, container.id)):
        found = by_container.get(container.id, [])
        shown = found if all_ else [verdict for verdict in found if _notable(verdict)]
        who = (plain(container.name, 128), plain(container.owner, 64), gpu_words(container.gpus, tick.snapshot.gpus))
        for verdict in shown:
            rows.append(((verdict.kind.value, *who), _finding(clock, verdict)))
            who = ("", "", "")
        if container.id not in due and not shown:
            quiet += 1
            if all_ and rule is None:
                rows.append((("-", *who), f"no rule is about it ({container.state})"))
    lines = _rows(page, rows) if rows else []
    if quiet and not all_:
        more = "more " if rows or decisions else ""
        hint = f"{quiet} {more}containers that nothing hits" if quiet > 1 else f"1 {more}container that nothing hits"
        hint += f"; to see {'them' if quiet > 1 else 'it'}: ds01-policy preview --all"
        lines += [*([""] if lines else []), *wrap(hint, page.columns)]
    return lines


def _notable(verdict: Verdict) -> bool:
    """Whether an admin should know: data is missing, or an exemption is all that holds it back.

    Not where it is the site's own infrastructure: that is meant to last, and would be listed every night.
    """
    if verdict.kind is Kind.EXEMPT:
        return verdict.beneath in _PENDING and verdict.held_by != "infrastructure"
    return verdict.kind in (Kind.UNKNOWN, *_PENDING)


def _finding(clock: Clock, verdict: Verdict) -> str:
    soon = verdict.due_at is not None and verdict.due_at > clock.at
    when = f"; due {clock.both(verdict.due_at)}" if soon and verdict.due_at is not None else ""
    return f"{verdict.rule}: {reason(verdict, 200)}{when}"


def _rows(page: Page, rows: Sequence[tuple[tuple[str, ...], str]]) -> list[str]:
    """Columns as wide as they need to be, up to a cap; what was found wraps in what is left."""
    widths = [
        min(cap, max(columns(cells[index]) for cells in (_HEADINGS, *(cells for cells, _ in rows))))
        for index, cap in enumerate(_CAPS)
    ]
    lines = [page.paint(f"{_cells(_HEADINGS, widths)}WHY", "bold")]
    for cells, finding in rows:
        lead = _cells(cells, widths)
        lines += page.hang(lead, finding, *STYLES.get(cells[0], ()))
    return lines


def _cells(cells: Iterable[str], widths: Iterable[int]) -> str:
    return "".join(f"{pad(cell, width)}  " for cell, width in zip(cells, widths, strict=True))


# ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _problems(tick: Tick, page: Page) -> list[str]:
    problems = all_problems(tick.snapshot, tick.evaluation, tick.plan, tick.problems)
    lines = [page.paint("Problems", "bold")] if problems else []
    for problem in problems:
        lines += page.hang(f"  {problem.code}: ", plain(problem.detail), "yellow", indent=6)
    return lines


def summary(tick: Tick, verdicts: Sequence[Verdict], decisions: Sequence[Decision], rule: str | None = None) -> str:
    """Sum a tick up in one line, however long: what is due, what became of it, and what the rest is."""
    enforced = sum(decision.enforced for decision in decisions)
    held = Counter(str(decision.held_by) for decision in decisions if not decision.enforced)
    text = f"{len(decisions)} due"
    if decisions:
        text += f": {enforced} {'enforced' if tick.command == 'evaluate' else 'to enforce'}"
        text += f", {held.total()} held back ({_counts(held)})" if held else ""
    statuses = Counter(
        outcome.status.value for outcome in tick.outcomes if outcome.decision in {each.id for each in decisions}
    )
    if statuses:
        text += f"; actions: {_counts(statuses)}"
    due = {decision.container.id for decision in decisions}
    kinds: dict[str, Kind] = {}
    for verdict in verdicts:
        if verdict.container.id not in due:
            kinds[verdict.container.id] = min(kinds.get(verdict.container.id, Kind.OFF), verdict.kind, key=_KINDS.index)
    counted = Counter(kinds.values())
    for kind in _KINDS:
        if counted[kind]:
            text += f"; {counted[kind]} {_WORDS.get(kind, kind.value)}"
            text += f" ({_counts(_missing(verdicts))})" if kind is Kind.UNKNOWN and _missing(verdicts) else ""
    beyond = len(tick.snapshot.containers) - len(due) - len(kinds)
    if not tick.snapshot.containers:
        text += "; Docker lists no container"
    if beyond > 0:
        text += f"; {beyond} not matched by {rule or 'any rule'}"
    return text


_WORDS = {Kind.ACT: "due by another rule", Kind.WARN: "warned"}


def _missing(verdicts: Iterable[Verdict]) -> Counter[str]:
    """Count containers by what is missing: `gpu+cpu stale`."""
    lacks: dict[tuple[str, str], dict[str, None]] = {}
    for verdict in verdicts:
        for piece in verdict.evidence if verdict.kind is Kind.UNKNOWN else ():
            if piece.truth is Truth.UNKNOWN and piece.reading.missing is not None:
                lacks.setdefault((verdict.container.id, piece.reading.missing), {})[piece.label] = None
    return Counter(f"{'+'.join(labels)} {missing}" for (_, missing), labels in lacks.items())


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counter.items(), key=lambda item: (-item[1], item[0])))

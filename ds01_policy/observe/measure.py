"""Ask a source for every signal that is needed, as few times as possible: Answers, and what is wrong with them.

Owns which windows are asked for and in which order, and what a failure costs: a query its signal, a dead source all
that are left, a witness itself. Proves nothing: readings.py does.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from ds01_policy.model import Answer, GpuRef, Problem, SourceState
from ds01_policy.observe import frozen
from ds01_policy.observe.asking import DRIFT, Asking, answer, is_down, send
from ds01_policy.observe.envelope import BadQuery
from ds01_policy.observe.ports import NotRecorded, SourceError
from ds01_policy.observe.promql import changes_query, subjects
from ds01_policy.observe.samples import changes
from ds01_policy.policy import PrometheusSettings

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime, timedelta

    from ds01_policy.model import Container
    from ds01_policy.observe.ports import PrometheusSource
    from ds01_policy.policy import Policy


def measure(
    policy: Policy,
    questions: Mapping[str, frozenset[timedelta]],
    containers: Iterable[Container],
    source: PrometheusSource,
    at: datetime,
) -> tuple[dict[str, Answer], list[Problem], SourceState]:
    """Ask for signals over windows: by signal name one Answer, what an admin should know, and whether the source is up.

    `containers` are those that need data. Signals that none of them needs are not asked for and not answered. A signal
    costs one query for each kind of GPU that is held, or one; its witnesses as many, and whether its exporter is frozen
    one more. Those are asked last: what they cost is at most themselves.
    """
    settings = policy.settings.prometheus or PrometheusSettings()
    asking = Asking(policy, source, at, settings)
    containers = list(containers)
    beside = _beside(policy, questions)
    own = {name: windows | beside.pop(name, frozenset()) for name, windows in questions.items() if windows}
    answers = _answers(asking, own, containers)
    reported = [*_failures(asking), *asking.problems]
    state = _state(asking)
    if not is_down(asking):
        aside = Asking(policy, source, at, settings, witnesses=True)
        answers |= _answers(aside, beside, containers)
        _find_frozen(aside, own, answers)
        reported += [*_silenced(aside), *aside.problems]
        state = replace(state, extra={"queries": asking.queries + aside.queries})
    return answers, reported, state


def _beside(policy: Policy, questions: Mapping[str, frozenset[timedelta]]) -> dict[str, frozenset[timedelta]]:
    """List what must be asked because of what others say: witnesses, and counters that never stand still."""
    wanted: dict[str, frozenset[timedelta]] = {}
    for name, windows in questions.items():
        signal = policy.signals[name]
        for witness in signal.witnesses if windows else ():
            wanted[witness.signal] = wanted.get(witness.signal, frozenset()) | windows
        if windows and signal.frozen is not None and (counter := signal.frozen.counter):
            wanted[counter] = wanted.get(counter, frozenset()) | {policy.settings.awake}
    return wanted


def _answers(
    asking: Asking, questions: Mapping[str, frozenset[timedelta]], containers: list[Container]
) -> dict[str, Answer]:
    answers = {}
    for name, windows in questions.items():
        signal = asking.policy.signals[name]
        needing = [container for container in containers if signal.applies(container) and signal.keys(container)]
        if needing:
            answers[name] = answer(asking, signal, windows, needing)
    return answers


def _find_frozen(asking: Asking, names: Iterable[str], answers: dict[str, Answer]) -> None:
    """Ask whose exporter repeats old values, and mark what it says of those GPUs, in the witnesses' answers too."""
    for signal in [asking.policy.signals[name] for name in names if name in answers]:
        uuids = {key.uuid for key in answers[signal.name].series if isinstance(key, GpuRef)}
        if signal.frozen is None or not uuids:
            continue
        awake = asking.policy.settings.awake
        changed = None
        try:
            promql = changes_query(signal.frozen, subjects(uuids, ()), {signal.frozen.after, awake})
            result = send(asking, promql)
            if result.result_type != "vector":
                raise BadQuery(f"`changes` answers a {result.result_type}, not an instant vector")
            changed = changes(signal.frozen, result.result)
        except SourceError as error:
            asking.failed[f"{signal.name} frozen"] = error
        counter = signal.frozen.counter or ""
        found = frozen.frozen_gpus(
            signal.frozen, changed, asking.policy.signals.get(counter), answers.get(counter), uuids, awake, asking.at
        )
        marks = {uuid: frozen.said([uuid], reason) for uuid, reason in found.items()}
        for name in {signal.name, counter, *(witness.signal for witness in signal.witnesses)} & answers.keys():
            answers[name] = replace(answers[name], frozen={**answers[name].frozen, **marks})
        asking.problems += frozen.problems(found)


def _silenced(asking: Asking) -> list[Problem]:
    """Report what could not be asked beside the signals, each failure once: their answers stand without it."""
    names: dict[tuple[str, str], list[str]] = {}
    for name, error in asking.failed.items():
        names.setdefault((_code(error), str(error)), []).append(name)
    return [
        Problem(code, f"witness {', '.join(some)}: {error}; nothing was heard against what Prometheus says")
        for (code, error), some in names.items()
    ]


def _failures(asking: Asking) -> list[Problem]:
    """Report a source that answers nothing once, a query that fails beside others for its signal."""
    if is_down(asking):
        why = asking.down or next(
            error for error in asking.failed.values() if not isinstance(error, (BadQuery, NotRecorded))
        )
        detail = f"{why}; this host's own samples answer instead, as far as they reach; rules over clocks go on"
        return [Problem("source_down", detail)]
    return [Problem(_code(error), f"signal {name}: {error}") for name, error in asking.failed.items()]


def _code(error: SourceError) -> str:
    return DRIFT if isinstance(error, NotRecorded) else "query_failed"


def _state(asking: Asking) -> SourceState:
    extra = {"queries": asking.queries}
    if is_down(asking):
        return SourceState(up=False, detail=str(asking.down or next(iter(asking.failed.values()))), extra=extra)
    return SourceState(up=True, detail="" if asking.queries else "nothing had to be asked", extra=extra)

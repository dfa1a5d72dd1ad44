"""preview, evaluate, explain: the commands that decide, or show what would be decided.

Owns what each prints and its exit code. Decides nothing itself: tick.py does.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from ds01_policy.cli.exits import Exit, fail
from ds01_policy.cli.journald import is_journal, say
from ds01_policy.cli.wiring import Progress, World, now, page, policy_of, world_of
from ds01_policy.model import (
    Demand,
    Evaluation,
    HeldBy,
    Mode,
    Plan,
    Problem,
    Snapshot,
    SourceState,
    Status,
    weakest,
)
from ds01_policy.observe.asking import DRIFT
from ds01_policy.observe.snapshot import DockerDown
from ds01_policy.report.document import document, dumps
from ds01_policy.report.layout import Clock
from ds01_policy.report.priority import Priority
from ds01_policy.text import plain
from ds01_policy.tick import Report, look

if TYPE_CHECKING:
    from datetime import datetime

    from ds01_policy.cli.options import Options
    from ds01_policy.policy import Policy


def preview(options: Options, *, rule: str | None, all_: bool, json: bool) -> None:
    """Show what would be done now."""
    policy = policy_of(options)
    _known_rule(policy, rule)
    world = world_of(options, policy)
    report = _looked(policy, world, "preview", policy.settings.mode, json=json)
    _print(policy, report, "preview", policy.settings.mode, json=json, all_=all_, rule=rule)


def explain(options: Options, container: str, *, json: bool) -> None:
    """Show everything about one container."""
    from ds01_policy.report.about import About
    from ds01_policy.report.explain import explain_document, explain_text

    policy = policy_of(options)
    world = world_of(options, policy)
    report = _looked(policy, world, "explain", policy.settings.mode, json=json)
    found = [each for each in report.snapshot.containers if each.name == container] or [
        each for each in report.snapshot.containers if container and each.id.startswith(container)
    ]
    if len(found) != 1:
        several = ", ".join(f"{each.name} ({each.short})" for each in found)
        text = f"{container!r} could be any of {several}" if found else f"no container is called {container!r}"
        fail(Exit.USAGE, [text])
    about = About(
        policy, policy.settings.mode, report.snapshot, report.evaluation, report.plan, report.history, found[0]
    )
    clock = Clock(report.snapshot.at)
    if json:
        sys.stdout.write(dumps(explain_document(about, clock), indented=sys.stdout.isatty()))
    else:
        sys.stdout.write(explain_text(about, page(), clock))


def evaluate(options: Options, *, mode: str | None, json: bool) -> None:
    """Run one tick."""
    policy = policy_of(options)
    world = world_of(options, policy)
    effective = weakest(policy.settings.mode, Mode(mode) if mode else None)
    if mode and effective is not Mode(mode):
        words = f"--mode may only weaken: this run is in mode {effective}, as settings.yaml says"
        say([(Priority.NOTICE, words)], sys.stderr, limit=200)
    progress, began = Progress(), now()
    try:
        if world.replay is not None:
            from ds01_policy.cli.acting import replayed_tick

            report = replayed_tick(policy, world, effective)
        else:
            from ds01_policy.cli.acting import locked_tick

            report = locked_tick(policy, world, effective, progress)
    except DockerDown as down:
        _measured(policy, world, None, effective, began)
        _no_docker(policy, world, "evaluate", effective, str(down), json=json)
    finally:
        progress.done()
    report = _drifted(world, report)
    _measured(policy, world, report, effective, began)
    if not json and is_journal(sys.stdout):
        from ds01_policy.report.log_lines import LIMIT, log_lines

        say(log_lines(report, effective, now() - began), sys.stdout, LIMIT)
    else:
        _print(policy, report, "evaluate", effective, json=json)
    raise SystemExit(int(_code(report)))


def _looked(policy: Policy, world: World, command: str, mode: Mode, *, json: bool) -> Report:
    progress = Progress()
    progress.say("asking Docker, the driver and Prometheus …")
    try:
        return _drifted(world, look(policy, world.sources, world.clock(), world.history()))
    except DockerDown as down:
        _no_docker(policy, world, command, mode, str(down), json=json)
    finally:
        progress.done()


def _measured(policy: Policy, world: World, report: Report | None, mode: Mode, began: datetime) -> None:
    """Write the engine's own metrics; that they cannot be written changes nothing about the tick."""
    if world.replay is not None:
        return
    from ds01_policy.metrics import EVERYBODYS, NAME, OURS, families, last_success, success, text, write

    settings, ended = policy.settings, now()
    files = {Path(settings.state_dir) / NAME: OURS}
    if settings.metrics_file is not None:
        files[Path(settings.metrics_file)] = EVERYBODYS
    succeeded = (
        ended.timestamp()
        if report is not None and success(report)
        else next(filter(None, map(last_success, files)), None)
    )
    told = text(families(report, mode, began, ended, succeeded, [rule.id for rule in policy.rules]))
    for path, bits in files.items():
        try:
            write(path, told, bits)
        except OSError as error:
            line = f"metrics: {path} cannot be written: {error.strerror}"
            say([(Priority.WARNING, line)], sys.stderr, limit=1000)


def _drifted(world: World, report: Report) -> Report:
    """Say what a recording was asked that it has no answer to: then what is shown is not what happened."""
    if world.replay is None or not world.replay.mismatches:
        return report
    told = " ".join(problem.detail for problem in report.snapshot.problems if problem.code == DRIFT)
    for mismatch in world.replay.mismatches:
        sys.stderr.write(plain(f"not in this recording: {mismatch}", limit=1000) + "\n")
    more = [Problem(DRIFT, mismatch) for mismatch in world.replay.mismatches if mismatch not in told]
    snapshot = replace(report.snapshot, problems=(*report.snapshot.problems, *more))
    return replace(report, snapshot=snapshot)


def _no_docker(policy: Policy, world: World, command: str, mode: Mode, why: str, *, json: bool) -> NoReturn:
    """Docker is the source of truth: without it nothing is known, and nothing was done."""
    if json:
        problem = Problem("docker_down", why)
        snapshot = Snapshot(
            world.clock(),
            world.sources.host.name(),
            (),
            sources={"docker": SourceState(up=False, detail=why)},
            problems=(problem,),
        )
        empty = Evaluation((), Demand(0, 0, high=False))
        nothing = document(command, policy.digest, mode, snapshot, empty, Plan())
        sys.stdout.write(dumps(nothing, indented=sys.stdout.isatty()))
    fail(Exit.NO_DOCKER, [f"Docker could not be observed: {why}", "nothing was decided and nothing was done"])


def _print(
    policy: Policy, report: Report, command: str, mode: Mode, *, json: bool, all_: bool = False, rule: str | None = None
) -> None:
    if json:
        sys.stdout.write(
            dumps(
                document(
                    command,
                    policy.digest,
                    mode,
                    report.snapshot,
                    report.evaluation,
                    report.plan,
                    report.outcomes,
                    problems=report.problems,
                    all_=all_,
                    rule=rule,
                ),
                indented=sys.stdout.isatty(),
            )
        )
        return
    from ds01_policy.report.tables import Tick, table

    shown = Tick(command, mode, report.snapshot, report.evaluation, report.plan, report.outcomes, report.problems)
    sys.stdout.write(table(shown, page(), Clock(report.snapshot.at), all_=all_, rule=rule))


def _code(report: Report) -> Exit:
    """Failure weighs more than what was withheld."""
    if not report.history.writable or any(outcome.status is Status.FAILED for outcome in report.outcomes):
        return Exit.FAILED
    # Below enforce a budget withholds nothing: it only shows what it would withhold.
    if any(
        decision.held_by in (HeldBy.BUDGET, HeldBy.BREAKER) and decision.mode is Mode.ENFORCE
        for decision in report.plan.decisions
    ):
        return Exit.WITHHELD
    return Exit.DONE


def _known_rule(policy: Policy, rule: str | None) -> None:
    known = [each.id for each in policy.rules]
    if rule is not None and rule not in known:
        fail(Exit.USAGE, [f"no rule is called {plain(rule)!r}; there are: {', '.join(known)}"])

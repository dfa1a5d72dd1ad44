"""What `epilog` runs: the check of the GPUs of one ended container, or of one GPU, asked for by a person.

Owns which container is meant, that one which still runs is refused, what is printed and the exit code.
"""

from __future__ import annotations

import json as json_module
import re
import sys
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ds01_policy.act.epilog.held import Health, Held, Result
from ds01_policy.aftercare import held_of
from ds01_policy.audit import AuditError
from ds01_policy.cli.aftermath import epilog_once
from ds01_policy.cli.epilog_parts import epilog_of
from ds01_policy.cli.exits import Exit, fail
from ds01_policy.cli.wiring import live_sources, now, policy_of
from ds01_policy.journal import Journal
from ds01_policy.ledger import Ledger, LedgerError
from ds01_policy.memory import AUDIT, LEDGER
from ds01_policy.model import ALIVE, GpuRef, History, Mode, Status
from ds01_policy.observe.inspected import container_of
from ds01_policy.observe.nvidia_smi_list import UUID
from ds01_policy.observe.ports import SourceError
from ds01_policy.observe.snapshot import identified
from ds01_policy.text import plain

if TYPE_CHECKING:
    from ds01_policy.cli.options import Options
    from ds01_policy.ledger import EndedLife
    from ds01_policy.model import Container
    from ds01_policy.observe.ports import Json, Sources
    from ds01_policy.policy import Policy


def epilog(options: Options, *, container: str | None, gpu: str | None, dry_run: bool, clear: bool, json: bool) -> None:
    """Check one container's GPUs, or look at one GPU; with `clear`, note that a GPU is fit again."""
    if options.replay is not None:
        fail(Exit.USAGE, ["epilog looks at this host's GPUs: it cannot run on a recording"])
    if bool(container) == bool(gpu):
        fail(Exit.USAGE, ["name one thing to check: --container ID or --gpu UUID"])
    if clear and (not gpu or dry_run):
        fail(Exit.USAGE, ["--clear goes with --gpu UUID, and not with --dry-run"])
    if gpu and not re.fullmatch(UUID, gpu):
        fail(Exit.USAGE, [f"{gpu} is not a GPU's UUID: `nvidia-smi -L` lists them (GPU-…)"])
    policy = policy_of(options)
    sources = live_sources(policy)
    state_dir = Path(policy.settings.state_dir)
    with closing(Journal(state_dir / LEDGER, state_dir / AUDIT, sources.host.name())) as journal:
        journal.under(policy.digest)
        if clear:
            _clear(journal, gpu or "")
            return
        held, owner = _one_gpu(gpu) if gpu else _ended(policy, sources, state_dir, container or "")
        # A GPU is looked at for its own sake: there is nobody whose processes could be ended.
        hands = policy.settings.mode is Mode.ENFORCE and not dry_run and not gpu
        if dry_run or gpu:
            result = epilog_of(policy, hands=False, docker=sources.docker).run(held)
        else:
            once = epilog_once(policy, journal, "epilog", sources.docker, hands=hands)
            result = once.run(held, owner, anew=True)
    _print(held, result, sources.host.name(), hands=hands, json=json)
    bad = result.status is Status.FAILED or any(one.health is Health.CRITICAL for one in result.findings)
    raise SystemExit(int(Exit.FAILED if bad else Exit.DONE))


def _one_gpu(uuid: str) -> tuple[Held, str]:
    return Held("", "", None, None, (GpuRef(uuid),)), ""


def _clear(journal: Journal, uuid: str) -> None:
    """Note that an admin has seen to a GPU."""
    try:
        ledger, audit = journal()
        was = ledger.unfit().get(uuid)
        if was is not None:
            audit.note("cleared", now(), {"gpu": uuid, "by": "epilog --clear", "detail": f"was unfit: {was.why}"})
            ledger.mark_fit(uuid, "cleared by an admin", now())
    except (LedgerError, AuditError) as error:
        fail(Exit.FAILED, [str(error)])
    sys.stdout.write(plain(f"{uuid}: {f'no longer unfit ({was.why})' if was else 'was not unfit'}", 1000) + "\n")


# ── which container is meant ─────────────────────────────────────────────────────────────────────────────────────────


def _ended(policy: Policy, sources: Sources, state_dir: Path, text: str) -> tuple[Held, str]:
    """Find the one container that a person means, and what its last life held; ends the program where there is none."""
    lives = _remembered(state_dir, text)
    try:
        ids = [str(entry["Id"]) for entry in sources.docker.containers() if _is_called(entry, text)]
        container_id = _meant(ids, lives, text)
        raw = sources.docker.inspect(container_id)
        seen = None if raw is None or raw.get("Id") != container_id else container_of(raw)
        if seen is not None and seen.state in ALIVE:
            state = f"{seen.name} ({seen.short}) is {seen.state}"
            fail(Exit.USAGE, [f"{state}: only what a container has left is checked; stop it first"])
        its = None if seen is None or raw is None else _identified(policy, sources, raw)
    except (SourceError, KeyError) as error:
        fail(Exit.NO_DOCKER, [f"Docker could not be observed: {error}", "nothing was done"])
    life = next((life for life in lives if life.container == container_id), None)
    if its is None:
        if life is None:
            fail(Exit.USAGE, [f"{text}: it is gone since a moment ago, and the ledger never knew it"])
        return held_of(life), life.owner
    # What it held while it ran was resolved then; indexes may mean other GPUs by now.
    recorded = life if life is not None and life.started_at == its.started_at and life.gpus else None
    gpus, unclear = (recorded.gpus, recorded.unclear) if recorded else (its.gpus.refs, its.gpus.unclear)
    return Held(its.id, its.name, its.started_at, its.finished_at, gpus, unclear), its.owner


def _remembered(state_dir: Path, text: str) -> list[EndedLife]:
    """Ask the ledger; one that cannot be read knows nothing."""
    with suppress(LedgerError):
        ledger = Ledger.open_readonly(state_dir / LEDGER)
        if ledger is not None:
            with ledger:
                return ledger.named(text)
    return []


def _is_called(entry: Json, text: str) -> bool:
    return str(entry["Id"]).startswith(text) or f"/{text}" in (entry.get("Names") or ())


def _meant(there: list[str], lives: list[EndedLife], text: str) -> str:
    """Choose: a whole id, then what Docker still has, then the newest that was called so, then the only id."""
    known = dict.fromkeys([*there, *(life.container for life in lives)])
    if text in known:
        return text
    called = next((life.container for life in lives if life.name == text), None)
    candidates = there or ([called] if called else list(known))
    if len(candidates) > 1:
        shown = ", ".join(each[:12] for each in candidates[:5])
        fail(Exit.USAGE, [f"{text!r} could be any of {shown}"])
    if not candidates:
        fail(Exit.USAGE, [f"no container is called {text!r}, and none is remembered"])
    return candidates[0]


def _identified(policy: Policy, sources: Sources, raw: Json) -> Container:
    inventory = None
    with suppress(SourceError):  # what it was given by UUID is known all the same
        inventory = sources.gpu.inventory()
    return identified(policy, sources, History(), inventory, raw, [])


# ── telling ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def _print(held: Held, result: Result, host: str, *, hands: bool, json: bool) -> None:
    if json:
        sys.stdout.write(json_module.dumps(_document(held, result, host, hands=hands), indent=2) + "\n")
        return
    about = f"epilog of {held.name} ({held.container[:12]})" if held.container else "look at a GPU"
    lines = [f"{about}: {result.status}{'' if hands else ', looked only'}"]
    lines += [f"  {one.uuid}  {one.health}  {one.words}" for one in result.findings]
    lines += [f"  ended  {words}" for words in result.ended]
    lines += [f"  left   {words}" for words in result.left]
    if result.status is not Status.DONE and all(one.words != result.detail for one in result.findings):
        lines.append(f"  {result.detail}")
    sys.stdout.write("".join(plain(line, 1000) + "\n" for line in lines))


def _document(held: Held, result: Result, host: str, *, hands: bool) -> dict[str, Any]:
    container = {"id": held.container, "name": held.name, "started_at": _time(held.started_at)}
    container["ended_at"] = _time(held.ended_at)
    return {
        "schema": 1,
        "command": "epilog",
        "at": _time(now()),
        "host": host,
        "container": container if held.container else None,
        "hands": hands,
        "status": result.status,
        "detail": result.detail,
        "gpus": [{"uuid": one.uuid, "health": one.health, "why": one.words} for one in result.findings],
        "ended": list(result.ended),
        "left": list(result.left),
    }


def _time(instant: Any) -> str | None:
    return None if instant is None else f"{instant.replace(tzinfo=None).isoformat(timespec='seconds')}Z"

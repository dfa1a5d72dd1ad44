"""What `reset-gpus` runs: the GPUs that were handed over by epilogs that may not reset, each seen to once.

Owns what stands behind that, which requests there are, and the lines and exit code. Decides nothing.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_policy.cli.aftermath import MARGIN
from ds01_policy.cli.epilog_parts import epilog_of
from ds01_policy.cli.exits import Exit, fail
from ds01_policy.cli.wiring import directory_of, now
from ds01_policy.config.load import load
from ds01_policy.config.problems import PolicyError
from ds01_policy.handed_over import HandedOver
from ds01_policy.journal import Journal
from ds01_policy.memory import AUDIT, LEDGER
from ds01_policy.model import Mode
from ds01_policy.observe.capabilities import may_reset
from ds01_policy.observe.host import LocalHost
from ds01_policy.policy import EpilogSettings
from ds01_policy.reset_requests import FOLDER, listed
from ds01_policy.text import plain

if TYPE_CHECKING:
    from types import FrameType

    from ds01_policy.cli.options import Options
    from ds01_policy.once import Epilog
    from ds01_policy.policy import Policy

# No container's end waits for this one, and a reset that is cut short is worse than a slow one. Less than MARGIN:
# other epilogs wait that much longer than they take themselves.
LONGER = timedelta(seconds=20)


def reset_gpus(options: Options) -> None:
    """See to every GPU that waits for its reset, the oldest request first."""
    if options.replay is not None:
        fail(Exit.USAGE, ["reset-gpus resets this host's GPUs: it cannot run on a recording"])
    run = _Run(options)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, run.end)
    # A unit's own state directory, which wakes it: nothing may be left there, or it is woken for ever.
    of_unit = next((Path(each) for each in os.environ.get("STATE_DIRECTORY", "").split(":") if each), None)
    try:
        policy = run.policy()
    except PolicyError as error:
        if of_unit is not None:
            run.all_in(of_unit, "the policy cannot be read: ds01-policy check")
        fail(Exit.USAGE, [*map(str, error.findings), "nothing was reset"])
    state_dir = Path(policy.settings.state_dir)
    run.all_in(state_dir)
    if of_unit is not None and of_unit.resolve() != state_dir.resolve():
        run.all_in(of_unit, f"state_dir in settings.yaml is {state_dir}")
    if not run.seen and not run.ending:
        _say("no GPU waits to be reset")
    raise SystemExit(int(Exit.FAILED if run.failed else Exit.DONE))


@dataclass(slots=True)
class _Run:
    """One run over all requests."""

    options: Options
    seen: int = field(default=0, init=False)
    failed: bool = field(default=False, init=False)
    ending: bool = field(default=False, init=False)

    def end(self, _number: int, _frame: FrameType | None) -> None:
        """Begin no other GPU; the one that is being reset is seen through."""
        self.ending = True

    def policy(self) -> Policy:
        """Load it anew: a mode that was weakened since a GPU was handed over counts. Raises PolicyError."""
        # Who is in a group decides about limits, of which nothing here depends: no directory service is asked.
        return load(directory_of(self.options), unix_group=lambda _: frozenset())

    def all_in(self, state_dir: Path, unwanted: str = "") -> None:
        """See to every request there; with `unwanted`, only take it away and say why."""
        try:
            names = listed(state_dir / FOLDER)
        except OSError as error:
            fail(Exit.FAILED, [f"{state_dir / FOLDER} cannot be read ({error.strerror}): run as root"])
        with closing(Journal(state_dir / LEDGER, state_dir / AUDIT, LocalHost().name())) as journal:
            for name in names:
                if self.ending:
                    return
                done = self._handed_over(state_dir, journal, unwanted).see_to(name)
                if done is not None:
                    self.seen += 1
                    self.failed = self.failed or done.failed
                    _say(f"{name}: {done.words}")

    def _handed_over(self, state_dir: Path, journal: Journal, unwanted: str) -> HandedOver:
        settings, epilog = EpilogSettings(), None
        if not unwanted:
            try:
                policy = self.policy()
            except PolicyError:
                unwanted = "the policy cannot be read: ds01-policy check"
            else:
                settings = policy.settings.epilog
                unwanted = _unwanted(policy)
                epilog = None if unwanted else _epilog(policy)
                journal.under(policy.digest)
        return HandedOver(state_dir, journal, now, settings.timeout + MARGIN, epilog, unwanted)


def _unwanted(policy: Policy) -> str:
    """Say why nothing may be reset, whatever was asked for; empty: it may."""
    settings = policy.settings
    if settings.mode is not Mode.ENFORCE:
        return f"mode is {settings.mode} in settings.yaml"
    if settings.epilog.reset != "when_safe":
        return f"epilog.reset is `{settings.epilog.reset}` in settings.yaml"
    return "" if may_reset() else "this process may not reset a GPU either: it lacks CAP_SYS_ADMIN"


def _epilog(policy: Policy) -> Epilog:
    made = epilog_of(policy, hands=True)
    return replace(
        made,
        resets=None,  # what is handed over here would come back here
        xids=None,  # those of the time before were judged by the epilog that asked
        settings=replace(made.settings, timeout=made.settings.timeout + LONGER),
    )


def _say(line: str) -> None:
    sys.stdout.write(plain(line, 1200) + "\n")
    sys.stdout.flush()

"""PURE: the policy files, the timer, and the ways to tell people → findings.

Owns what is said of them. Never shows a channel's URL: it holds secrets.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ds01_policy.doctor.finding import Finding, bad, count, note, ok
from ds01_policy.text import plain
from ds01_policy.units import format_duration

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

    from ds01_policy.policy import Policy

TIMER, SERVICE = "ds01-policy.timer", "ds01-policy.service"
_DIGEST = len("sha256:") + 12


# ── configuration ────────────────────────────────────────────────────────────────────────────────────────────────────


def configuration(policy: Policy, doubts: Sequence[str], *, own: bool) -> Iterator[Finding]:
    """Judge a policy that loads; `doubts` are what `check` says, `own`: it is this host's, not just what ships."""
    what = (
        f"{plain(policy.directory)}, {policy.digest[:_DIGEST]}, {count(len(policy.rules), 'rule')}, "
        f"mode {policy.settings.mode}"
    )
    if own:
        yield ok("configuration", what)
    else:
        do = "`sudo ds01-policy init /etc/ds01-policy`, and edit settings.yaml there"
        yield note("configuration", f"this host has no policy files of its own: {what}", do)
    if doubts:
        more = f", and {len(doubts) - 1} more" if len(doubts) > 1 else ""
        # Doubts, not errors: a policy with errors does not load. Whoever wants none of them runs `check` itself.
        yield note("check", f"{plain(doubts[0], 200)}{more}", "`ds01-policy check` shows all, with their places")


# ── the timer ────────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class TimerFacts:
    """What systemd says of our units, by unit and property. `error`: why it says nothing."""

    units: Mapping[str, Mapping[str, str]]
    error: str = ""


def timer(facts: TimerFacts, interval: timedelta) -> Iterator[Finding]:
    """Judge whether something runs `evaluate`; the ledger shows whether it did."""
    run = f"run `ds01-policy evaluate` as root every {format_duration(interval)}, e.g. by cron"
    if facts.error:
        yield note("timer", f"no systemd timer here: {plain(facts.error, 200)}", run)
        return
    known = facts.units.get(TIMER, {})
    if known.get("LoadState") != "loaded":
        yield note("timer", f"{TIMER} is not installed ({plain(known.get('LoadState', 'unknown'), 40)})", run)
        return
    enabled, active = known.get("UnitFileState", ""), known.get("ActiveState", "")
    last = plain(known.get("LastTriggerUSec", ""), 60)
    words = f"{TIMER} is {plain(enabled, 20) or 'not enabled'} and {plain(active, 20)}"
    if enabled.startswith("enabled") and active == "active":
        yield ok("timer", f"{words}{f', last run {last}' if last not in ('', 'n/a') else ''}")
    else:
        yield bad("timer", f"{words}: it does not run, or not after a reboot", "`sudo ds01-policy install`")
    service = facts.units.get(SERVICE, {})
    result = service.get("Result", "success")
    if service.get("LoadState") == "loaded" and result != "success":
        code = plain(service.get("ExecMainStatus", "?"), 8)
        what = f"the last run ended badly ({plain(result, 40)}, exit code {code})"
        yield bad("last_run", what, f"`journalctl -u {SERVICE} -n 50`")


# ── telling people ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class ChannelFacts:
    """What there is to tell people with. Nothing was sent."""

    sessions: int | None = None  # with a terminal, as logind counts; None: it does not answer
    logind_error: str = ""
    utmp: bool = False  # can be read
    wall: bool = False  # is installed
    apprise: bool = False  # can be imported


def channels(facts: ChannelFacts, configured: Sequence[str]) -> Iterator[Finding]:
    """Judge each configured channel."""
    if not configured:
        what = "no channel is configured: nobody is told, and every notice lasts longer"
        yield note("notify", what, "notify.channels in settings.yaml: tty, wall, or an apprise URL")
    if "tty" in configured:
        yield _terminals(facts)
    if "wall" in configured:
        yield (
            ok("notify_wall", "`wall` is installed; it never proves that anybody was reached")
            if facts.wall
            else bad("notify_wall", "notify.channels names wall, which is not installed", "install util-linux")
        )
    if schemes := [f"{channel.partition('://')[0]}://…" for channel in configured if "://" in channel]:
        services = ", ".join(plain(scheme, 40) for scheme in dict.fromkeys(schemes))
        yield (
            ok("notify_apprise", f"apprise can be loaded for {services}; nothing was sent")
            if facts.apprise
            else bad("notify_apprise", f"{services} cannot be used", "pip install 'ds01-policy[apprise]'")
        )


def _terminals(facts: ChannelFacts) -> Finding:
    sources = []
    if facts.sessions is not None:
        sources.append(f"logind ({count(facts.sessions, 'session')} with a terminal now)")
    if facts.utmp:
        sources.append("utmp")
    if sources:
        return ok("notify_tty", f"terminals are found through {' and '.join(sources)}")
    why = plain(facts.logind_error, 160)
    what = f"nobody's terminal can be found: logind does not answer ({why}), and there is no /run/utmp"
    return bad("notify_tty", what, "add another channel to notify.channels in settings.yaml: wall, or an apprise URL")

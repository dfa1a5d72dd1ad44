"""PURE: whether two clocks agree.

Owns how far apart they may be.
"""

from __future__ import annotations

from ds01_policy.doctor.finding import Finding, bad, note, ok

_AGREE_S = 5.0  # an HTTP date has whole seconds, and answers take their time
_MOST_S = 30.0  # beyond it the metrics client believes nothing that a server ahead of us says


def skew(slug: str, whose: str, ahead_s: float, costs: str) -> Finding:
    """Judge a clock that is so many seconds ahead of this host's (negative: behind); `costs` is what that spoils."""
    apart = f"{abs(ahead_s):.0f}s {'ahead of' if ahead_s > 0 else 'behind'} this host's"
    do = "compare `timedatectl` on both sides, and let both follow NTP"
    if abs(ahead_s) <= _AGREE_S:
        return ok(slug, f"{whose}'s clock agrees with this host's")
    if abs(ahead_s) <= _MOST_S:
        return note(slug, f"{whose}'s clock is {apart}", do)
    return bad(slug, f"{whose}'s clock is {apart}: {costs}", do)

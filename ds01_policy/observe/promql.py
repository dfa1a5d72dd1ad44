"""PURE: what is asked. Renders a signal's templates with GPUs, container ids and windows into one PromQL query.

Owns what may enter a query: nothing that a user of the host can write. Sends nothing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from jinja2 import StrictUndefined, TemplateError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ds01_policy.observe.envelope import BadQuery
from ds01_policy.units import promql_duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from jinja2 import Template

    from ds01_policy.signals import Frozen, Query

AGO_LABEL = "ds01_ago"  # seconds before the instant that is asked about
PART_LABEL = "ds01_part"  # value or time
VALUE, TIME = "value", "time"
NOW = timedelta(0)
# The window's first sample must not be the first that is fetched: what it follows says whether it was late.
MARGIN = timedelta(minutes=5)

MOST_IDS = 256  # named one by one; beyond, all containers are asked for
_SHORT_ID = 12
_UUID = re.compile(r"GPU-[0-9a-fA-F-]{1,64}")
_ID = re.compile(r"[0-9a-f]{64}")
# An id stands in the last part of a cgroup path, at its start or behind a dash: `/docker/ID`, `…/docker-ID.scope`.
# Where it may begin must be said: Prometheus tries a regular expression on every path that it knows, and 200 ids
# behind a bare `.*` keep it busy for half a minute; behind this, for less than half a second.
_BEFORE_ID, _AFTER_ID = "(?:.*[/:-])?", "[^/]*"
# As patterns: whoever it is, for a look at all that there is.
ANY_UUID, ANY_ID = "GPU-.+", f"{_BEFORE_ID}[0-9a-f]{{64}}{_AFTER_ID}"
_NOTHING = "none"  # an empty pattern would match series that lack the label


@dataclass(frozen=True, slots=True)
class Subjects:
    """What is asked about, as regular expressions that PromQL anchors."""

    uuids: str
    ids: str


def subjects(uuids: Iterable[str], ids: Iterable[str]) -> Subjects:
    """Make the patterns, sorted, so that the same host asks the same questions.

    Ids are shortened to the 12 hex that people know: queries stay short, and answers are joined on all 64 anyway.
    """
    known_uuids = sorted({uuid for uuid in uuids if _UUID.fullmatch(uuid)})
    known_ids = sorted({one[:_SHORT_ID] for one in ids if _ID.fullmatch(one)})
    short = "|".join(known_ids) if len(known_ids) <= MOST_IDS else "[0-9a-f]{64}"
    return Subjects(
        uuids="|".join(known_uuids) or _NOTHING,
        ids=f"{_BEFORE_ID}(?:{short}){_AFTER_ID}" if known_ids else _NOTHING,
    )


def gauge_query(query: Query, about: Subjects, windows: Iterable[timedelta]) -> str:
    """Ask for the raw samples of the longest window, and a margin.

    Raises:
        BadQuery: when the template can't be rendered.

    """
    return _render(query.expr, about, {"range": promql_duration(max(windows) + MARGIN)})


def counter_query(query: Query, about: Subjects, windows: Iterable[timedelta], late: timedelta) -> str:
    """Ask, in one query, for the counter and its sample times at each window's start, just inside of it, and now.

    `late` is how long before an instant a healthy series' sample may lie.

    Raises:
        BadQuery: when a template can't be rendered.

    """
    terms = [
        f'label_replace(label_replace({_render(template, about, {"offset": _offset(ago)})}, "{AGO_LABEL}", '
        f'"{ago_text(ago)}", "", ""), "{PART_LABEL}", "{part}", "", "")'
        for ago in _instants(windows, late)
        for part, template in ((VALUE, query.expr), (TIME, query.time or ""))
    ]
    return " or ".join(terms)


def changes_query(frozen: Frozen, about: Subjects, windows: Iterable[timedelta]) -> str:
    """Ask, in one query, how often anything of each GPU has changed over each of these windows.

    Raises:
        BadQuery: when the template can't be rendered.

    """
    terms = [
        f'label_replace({_render(frozen.changes, about, {"range": promql_duration(window)})}, "{AGO_LABEL}", '
        f'"{ago_text(window)}", "", "")'
        for window in sorted(set(windows))
    ]
    return " or ".join(terms)


def _instants(windows: Iterable[timedelta], late: timedelta) -> list[timedelta]:
    """Choose how long ago to look: now, each window's start, and an instant surely inside of it.

    The sample before a window's start bounds the increase inside from above, the first one inside from below: without
    it a busy container could not be told from one that was busy just before.
    """
    chosen = {NOW, *windows}
    for window in sorted(windows):
        inside = window - min(late, window / 2)
        if not any(window / 2 <= ago <= inside for ago in chosen):
            chosen.add(inside)
    return sorted(chosen)


def ago_text(ago: timedelta) -> str:
    """Write a distance in seconds as the label says it: `0`, `3600`, `1.5`."""
    return f"{ago.total_seconds():.15g}"


def _offset(ago: timedelta) -> str:
    return f"offset {promql_duration(ago)}" if ago else ""


def _render(template: str, about: Subjects, more: Mapping[str, str]) -> str:
    try:
        return _compiled(template).render(uuids=about.uuids, ids=about.ids, **more).strip()
    except TemplateError as error:
        raise BadQuery(f"a template in signals.yaml can't be rendered: {error}") from None


# Plain text: PromQL is no HTML. What enters it is made of hex digits alone.
_SANDBOX = ImmutableSandboxedEnvironment(undefined=StrictUndefined, autoescape=False)


@lru_cache(maxsize=256)
def _compiled(template: str) -> Template:
    return _SANDBOX.from_string(template)

"""When a spell begins, goes on and ends: what makes a warning count."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01_policy.logic import Truth
from ds01_policy.model import Container, Evidence, Kind, Mode, Reading, Spell, State, Verdict
from ds01_policy.spells import FORGOTTEN, continued, life_of, progress
from ds01_policy.units import Unit

NOON = datetime(2026, 3, 2, 12, 0, tzinfo=UTC)
STARTED = NOON - timedelta(days=2)
HOUR = timedelta(hours=1)
LAST_TICK = NOON - timedelta(minutes=5)


def minutes(count: float) -> timedelta:
    return timedelta(minutes=count)


def verdict(
    kind: Kind,
    *,
    held_by: str | None = None,
    beneath: Kind | None = None,
    started_at: datetime | None = STARTED,
    windows: tuple[timedelta, ...] = (minutes(48), minutes(5), HOUR, minutes(5)),
    for_: timedelta | None = HOUR,
) -> Verdict:
    """Build what a rule over signals found; `windows=()` makes it a rule over clocks."""
    container = Container("c" * 64, "train", "img", State.RUNNING, STARTED, started_at)
    evidence = tuple(
        Evidence(
            Reading("gpu_utilization", window, Unit.RATIO, 0.0, 0.0, 0.01, 1.0, "prometheus"),
            "below",
            0.05,
            Truth.TRUE,
            "gpu",
        )
        for window in windows
    )
    return Verdict(container, "idle-gpu", kind, "", held_by, for_, evidence=evidence, beneath=beneath)


def spell(
    seen: datetime = LAST_TICK,
    *,
    started_at: datetime | None = STARTED,
    kept_since: datetime | None = None,
) -> Spell:
    """Build a spell that was warned in earnest."""
    return Spell(
        "c" * 64,
        started_at,
        "idle-gpu",
        since=seen - minutes(30),
        seen=seen,
        warned_at=seen - minutes(20),
        warned_mode=Mode.ENFORCE,
        delivered=True,
        kept_since=kept_since,
        promised_at=seen,
    )


CLOCK = {"windows": (), "for_": timedelta(days=1)}

UNTOUCHED, ENDED, GOES_ON, NEW, KEPT, NEW_KEPT = "untouched", "ended", "goes on", "new", "kept", "new and kept"


@pytest.mark.parametrize(
    ("before", "found", "expected"),
    [
        pytest.param(None, verdict(Kind.ACT), NEW, id="an act opens one"),
        pytest.param(None, verdict(Kind.WARN), NEW, id="a warning span opens one"),
        pytest.param(None, verdict(Kind.CLEAR), ENDED, id="work opens none"),
        pytest.param(None, verdict(Kind.UNKNOWN), ENDED, id="missing data opens none"),
        pytest.param(spell(), verdict(Kind.ACT), GOES_ON, id="idle again goes on"),
        pytest.param(spell(), verdict(Kind.WARN), GOES_ON, id="still in the warning span goes on"),
        pytest.param(spell(), verdict(Kind.CLEAR), ENDED, id="work ends it"),
        pytest.param(spell(), verdict(Kind.OFF), ENDED, id="a limit that became never ends it"),
        pytest.param(spell(), verdict(Kind.UNKNOWN), UNTOUCHED, id="missing data leaves it"),
        pytest.param(spell(), verdict(Kind.YOUNG), UNTOUCHED, id="start-up grace leaves it"),
        pytest.param(
            spell(), verdict(Kind.ACT, started_at=NOON - minutes(90)), NEW, id="another life has a spell of its own"
        ),
        pytest.param(
            spell(), verdict(Kind.YOUNG, started_at=NOON - minutes(1)), ENDED, id="a new life that is young ends it"
        ),
        pytest.param(
            spell(),
            verdict(Kind.UNKNOWN, started_at=NOON - minutes(1)),
            ENDED,
            id="a new life ends it, even unmeasured",
        ),
        pytest.param(spell(NOON - HOUR), verdict(Kind.ACT), GOES_ON, id="an outage as long as the window is bridged"),
        pytest.param(
            spell(NOON - HOUR - minutes(1)), verdict(Kind.ACT), NEW, id="an outage longer than the window is not"
        ),
        pytest.param(
            spell(NOON - minutes(50)), verdict(Kind.WARN), NEW, id="a warning proves only its own shorter window"
        ),
        pytest.param(
            spell(NOON - minutes(50)),
            verdict(Kind.WARN, windows=(HOUR,)),
            GOES_ON,
            id="a warning asked over the whole window proves all of it",
        ),
        pytest.param(
            spell(NOON - timedelta(hours=20)),
            verdict(Kind.ACT, windows=(), for_=HOUR),
            GOES_ON,
            id="a clock needs no proof of what nobody saw",
        ),
        pytest.param(
            spell(NOON - timedelta(hours=25)), verdict(Kind.ACT, windows=()), NEW, id="a day-old warning is no notice"
        ),
        pytest.param(spell(NOON + minutes(1)), verdict(Kind.ACT), NEW, id="a clock set back begins anew"),
        pytest.param(spell(NOON + minutes(1)), verdict(Kind.UNKNOWN), ENDED, id="a clock set back ends it"),
        pytest.param(
            spell(),
            verdict(Kind.EXEMPT, held_by="keep_alive", beneath=Kind.ACT),
            KEPT,
            id="a keep-alive holds it back and answers the warning",
        ),
        pytest.param(
            spell(kept_since=NOON - HOUR),
            verdict(Kind.EXEMPT, held_by="keep_alive", beneath=Kind.WARN),
            KEPT,
            id="a keep-alive that is touched again counts from its first time",
        ),
        pytest.param(
            None, verdict(Kind.EXEMPT, held_by="keep_alive", beneath=Kind.ACT), NEW_KEPT, id="a keep-alive opens one"
        ),
        pytest.param(
            spell(NOON - timedelta(hours=2), kept_since=NOON - timedelta(hours=30)),
            verdict(Kind.EXEMPT, held_by="keep_alive", beneath=Kind.ACT),
            NEW_KEPT,
            id="a keep-alive of an idleness that is not proven to be the same one counts anew",
        ),
        pytest.param(
            spell(),
            verdict(Kind.EXEMPT, held_by="keep_alive", beneath=Kind.CLEAR),
            ENDED,
            id="work under a keep-alive ends it",
        ),
        pytest.param(
            spell(),
            verdict(Kind.EXEMPT, held_by="keep_alive", beneath=Kind.UNKNOWN),
            UNTOUCHED,
            id="a keep-alive while data is missing leaves it",
        ),
        pytest.param(
            spell(),
            verdict(Kind.EXEMPT, held_by="name", beneath=Kind.ACT),
            UNTOUCHED,
            id="a name that a user can change at will leaves it",
        ),
        pytest.param(
            spell(),
            verdict(Kind.EXEMPT, held_by="exempted", beneath=Kind.ACT),
            ENDED,
            id="an admin's exemption ends it",
        ),
        pytest.param(
            spell(),
            verdict(Kind.EXEMPT, held_by="infrastructure", beneath=Kind.ACT),
            ENDED,
            id="infrastructure ends it",
        ),
        pytest.param(
            None,
            verdict(Kind.ACT, started_at=None, windows=()),
            NEW,
            id="a container that never started can have one",
        ),
        pytest.param(
            spell(started_at=None),
            verdict(Kind.ACT, started_at=None, windows=()),
            GOES_ON,
            id="never started is a life of its own",
        ),
        pytest.param(
            spell(started_at=None), verdict(Kind.ACT), NEW, id="a container that was started at last begins anew"
        ),
    ],
)
def test_one_more_tick(before: Spell | None, found: Verdict, expected: str) -> None:
    """Each kind of verdict opens, continues, leaves or ends the spell."""
    after = progress(before, found, NOON)
    if expected == ENDED:
        assert after is None
        return
    assert after is not None
    life = found.container.started_at
    if expected == UNTOUCHED:
        assert after is before
    elif expected in (NEW, NEW_KEPT):
        kept_since = NOON if expected == NEW_KEPT else None
        assert after == Spell("c" * 64, life, "idle-gpu", NOON, NOON, kept_since=kept_since)
    else:
        assert before is not None
        assert (after.since, after.seen, after.started_at) == (before.since, NOON, life)
        if expected == KEPT:
            assert after.kept_since == (before.kept_since or NOON)
            assert (after.warned_at, after.warned_mode, after.delivered) == (None, None, False)
            assert after.promised_at is None
        else:
            assert (after.warned_at, after.warned_mode, after.delivered) == (before.warned_at, Mode.ENFORCE, True)
            assert after.promised_at == before.promised_at is not None
            assert after.kept_since == before.kept_since


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        pytest.param(NOON, True, id="the same instant"),
        pytest.param(NOON - HOUR, True, id="the edge of the window"),
        pytest.param(NOON - HOUR - timedelta(microseconds=1), False, id="just outside the window"),
    ],
)
def test_plan_can_ask_whether_a_warning_still_counts(seen: datetime, expected: bool) -> None:  # noqa: FBT001  a table column
    """The same question that the ledger answers decides which warning counts for an act."""
    before = spell(seen)
    assert (continued(before, verdict(Kind.ACT), NOON) is before) is expected


@pytest.mark.parametrize(
    ("windows", "goes_on"),
    [((), True), ((minutes(48), HOUR), False)],
    ids=["a rule over clocks, which counts through restarts", "a rule over signals, which were measured in one life"],
)
def test_a_restart_ends_what_was_measured_and_no_runtime(windows: tuple[timedelta, ...], *, goes_on: bool) -> None:
    """The run began with the life that was warned; another life of it is due now."""
    before = spell()
    found = verdict(Kind.ACT, started_at=NOON - minutes(4), windows=windows)
    found = replace(found, container=replace(found.container, running_since=STARTED))
    assert (continued(before, found, NOON) is before) is goes_on
    after = progress(before, found, NOON)
    assert after is not None
    assert (after.warned_at is not None) is goes_on


KINDS = st.sampled_from(list(Kind))
VERDICTS = st.builds(
    verdict,
    KINDS,
    held_by=st.sampled_from([None, "keep_alive", "exempted", "name"]),
    beneath=st.none() | KINDS,
    started_at=st.sampled_from([None, STARTED, STARTED + HOUR, STARTED + 2 * HOUR]),
    windows=st.sampled_from([(), (HOUR,), (minutes(48), HOUR)]),
)


@given(st.lists(st.tuples(VERDICTS, st.integers(-30, 3000)), min_size=1, max_size=20))
def test_no_sequence_of_ticks_carries_a_spell_over_to_another_life(steps: list[tuple[Verdict, int]]) -> None:
    """Whatever comes, a spell belongs to the life it began in, lies in the past, and proof of work ends it."""
    current: Spell | None = None
    at = NOON
    for found, step in steps:
        before, at = current, at + minutes(step)
        current = progress(before, found, at)
        if current is None:
            continue
        assert current.started_at in (found.container.started_at, found.container.running_since)
        if found.kind in (Kind.ACT, Kind.WARN):
            assert current.started_at == life_of(found)
        assert current.since <= current.seen <= at
        assert current.kept_since is None or current.since <= current.kept_since <= current.seen
        assert found.kind not in (Kind.CLEAR, Kind.OFF)
        if before is not None and current.since == before.since and current is not before:
            assert current.seen - before.seen <= max(HOUR, FORGOTTEN)

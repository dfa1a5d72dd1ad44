"""What is asked of Prometheus: only hex enters a query, and one query asks for all windows."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds01_policy.observe.envelope import BadQuery
from ds01_policy.observe.promql import MOST_IDS, counter_query, gauge_query, subjects
from ds01_policy.signals import Query
from ds01_policy.units import parse_duration

TRAIN, OTHER = "a1" * 32, "b2" * 32
HOUR, MINUTES = timedelta(hours=1), timedelta(minutes=5)


@pytest.mark.parametrize(
    ("uuids", "pattern"),
    [
        (["GPU-b", "GPU-a", "GPU-b"], "GPU-a|GPU-b"),
        (["GPU-4c0c7a0e-1a2b-3c4d-5e6f-7a8b9c0d1e2f"], "GPU-4c0c7a0e-1a2b-3c4d-5e6f-7a8b9c0d1e2f"),
        (['GPU-a"} or vector(0) #', "GPU-.*", "GPU-a\n", "GPU-", "gpu-a", ""], "none"),
        ([], "none"),
    ],
    ids=["sorted, once each", "a real one", "what is no UUID stays out", "none at all matches nothing"],
)
def test_uuids_are_an_alternation_of_what_is_surely_one(uuids: list[str], pattern: str) -> None:
    """An empty pattern would match every series that lacks the label."""
    assert subjects(uuids, []).uuids == pattern


PATHS: dict[str, tuple[str, bool]] = {
    "cgroupfs": (f"/docker/{TRAIN}", True),
    "systemd": (f"/system.slice/docker-{TRAIN}.scope", True),
    "a slice of one's own": (f"/lab.slice/docker-{TRAIN}.scope", True),
    "a parent of one's own": (f"/students/{TRAIN}", True),
    "a daemon inside a container": (f"/docker/{OTHER}/docker/{TRAIN}", True),
    "a rootless daemon": (f"/user.slice/user-1000.slice/user@1000.service/user.slice/docker-{TRAIN}.scope", True),
    "the id alone": (TRAIN, True),
    "another container": (f"/docker/{OTHER}", False),
    "a service inside it": (f"/docker/{TRAIN}/system.slice/ssh.service", False),
    "a roll-up": ("/docker", False),
    "an id that only contains it": (f"/docker/ff{TRAIN}", False),
}


@pytest.mark.parametrize(("path", "matches"), PATHS.values(), ids=PATHS)
def test_ids_match_wherever_docker_puts_a_cgroup(path: str, *, matches: bool) -> None:
    """A container is found under any cgroup driver and parent, and its own cgroup only."""
    assert (re.fullmatch(subjects([], [TRAIN]).ids, path) is not None) is matches


@pytest.mark.parametrize(("path", "matches"), PATHS.values(), ids=PATHS)
def test_of_many_containers_none_is_named(path: str, *, matches: bool) -> None:
    """Beyond a few hundred, every container on the server is asked for, and told apart afterwards."""
    crowd = [f"{number:012x}".ljust(64, "0") for number in range(MOST_IDS)]
    pattern = subjects([], [TRAIN, *crowd]).ids
    assert len(pattern) < 50
    if matches:
        assert re.fullmatch(pattern, path)


@given(st.lists(st.text()), st.lists(st.text()))
@settings(deadline=None)
def test_nothing_but_hex_enters_a_query(uuids: list[str], ids: list[str]) -> None:
    """Names that users write can't close the string, the selector or the regular expression."""
    about = subjects([f"GPU-{text}" for text in uuids] + uuids, ids)
    assert re.fullmatch(r"[A-Za-z0-9|-]+", about.uuids)
    assert about.ids == "none"


def test_a_gauge_is_asked_for_its_longest_window_and_a_margin() -> None:
    """One range covers all windows; the margin shows whether the first sample inside was late."""
    query = Query('util{UUID=~"{{ uuids }}"}[{{ range }}]')
    assert gauge_query(query, subjects(["GPU-a"], []), {MINUTES, HOUR}) == 'util{UUID=~"GPU-a"}[3900s]'


def test_a_counter_is_asked_for_each_instant_in_one_query() -> None:
    """Values and their sample times, marked with how long ago and which is which."""
    query = Query("cpu {{ offset }}", time="timestamp(cpu {{ offset }})")
    terms = counter_query(query, subjects([], [TRAIN]), {timedelta(seconds=3)}, MINUTES).split(" or ")
    assert terms == [
        f'label_replace(label_replace({what}, "ds01_ago", "{ago}", "", ""), "ds01_part", "{part}", "", "")'
        for what, ago, part in [
            ("cpu", "0", "value"),
            ("timestamp(cpu )", "0", "time"),
            ("cpu offset 1500ms", "1.5", "value"),
            ("timestamp(cpu offset 1500ms)", "1.5", "time"),
            ("cpu offset 3s", "3", "value"),
            ("timestamp(cpu offset 3s)", "3", "time"),
        ]
    ]


@pytest.mark.parametrize(
    ("windows", "instants"),
    [
        ("60m", "0 58.5m 60m"),
        ("60m 5m", "0 3.5m 5m 58.5m 60m"),
        ("60m 48m 5m", "0 3.5m 5m 46.5m 48m 60m"),
        ("2m", "0 1m 2m"),
    ],
    ids=["just inside", "each window", "one may serve two", "never more than half a window inside"],
)
def test_each_window_is_looked_at_from_both_sides_of_its_start(windows: str, instants: str) -> None:
    """What it grew since before the start bounds it from above, what it grew since just after from below."""
    spans = {parse_duration(window) for window in windows.split()}
    promql = counter_query(Query("x", time="t"), subjects([], []), spans, timedelta(seconds=90))
    asked = sorted({float(ago) for ago in re.findall(r'"ds01_ago", "([^"]+)"', promql)})
    assert asked == [0 if one == "0" else parse_duration(one).total_seconds() for one in instants.split()]


@pytest.mark.parametrize("expr", ["x{{ window }}", "x{{", "x{{ ''.__class__.__mro__ }}"])
def test_a_template_that_cannot_be_rendered_is_a_bad_query(expr: str) -> None:
    """Not an empty word in a query that would select everything, and no way out of the sandbox."""
    with pytest.raises(BadQuery, match="can't be rendered"):
        gauge_query(Query(expr), subjects([], []), {HOUR})

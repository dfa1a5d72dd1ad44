"""init --from-limits: an older limits file becomes policy files, and each of its keys is accounted for."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from cli_host import files_below, run
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ds01_policy.cli import bringing, configuring
from ds01_policy.config.bring.bring import Brought, bring, settle
from ds01_policy.config.bring.layers import LIMITS, exact
from ds01_policy.config.load import load
from ds01_policy.config.problems import PolicyError
from ds01_policy.model import Container, State
from ds01_policy.policy import Policy
from ds01_policy.units import parse_duration

FIXTURES = Path(__file__).parent / "fixtures"
NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)

# Both generations at once: names in the file and beside it, both spellings, comments-only sections, sections of others.
OLD = """\
# Limits of this server
defaults:
  max_mig_instances: 3              # per user
  allow_full_gpu: false
  memory: 32g
  max_runtime: 24h
  idle_timeout: 0.5h
  gpu_hold_after_stop: 0.25h
  container_hold_after_stop_h: 0.5

default_group: student

groups:
  student:
    # members: groups/student.members
  researcher:
    members: [bob, carol@uni.example]
    idle_timeout_h: 4
    max_runtime: null
    priority: 50
    aggregate: {cpu_quota: "9600%"}
    policies: {gpu_idle_threshold: 5}

user_overrides:
  dave:
    max_runtime_h: 96

policies:
  high_demand_threshold: 0.8
  high_demand_idle_reduction: 0.3
  cpu_idle_threshold: 2.0
  sigterm_grace_seconds: 45
  keepalive_max_duration: 12h

container_types:
  devcontainer:
    idle_timeout: null
    max_runtime: 168h
    sigterm_grace_seconds: 30
    default_mig_count: {student: 1, admin: null}

gpu_allocation:
  mig_gpus: {0: {enable: false}}
wizard:
  error: |
    \N{WARNING SIGN}\N{VARIATION SELECTOR-16} ask for less
"""
EXEMPTIONS = """\
exemptions:
  - username: "dave"
    category: waiver
    exempt_from: [idle_timeout_h, max_runtime_h]
    reason: "training: all year"
    approved_by: prof
    expires_on: null
  - {user: alice, exempt_from: [idle_timeout], reason: demo, approved_by: prof, expires: 2026-12-31}
  - {container: old, exempt_from: [max_runtime], reason: demo, approved_by: prof, expires: 2025-12-31}
"""


def site(folder: Path, old: str = OLD, beside: Mapping[str, str] = MappingProxyType({})) -> Path:
    """Write an old site: its limits, and further files by their path beside them."""
    for name, text in {"resource-limits.yaml": old, **beside}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder / "resource-limits.yaml"


def brought(folder: Path, old: str = OLD, beside: Mapping[str, str] = MappingProxyType({})) -> Brought:
    """Read an old site and put it in place as `folder/new`."""
    return settle(bring(site(folder / "old", old, beside), NOW), folder / "new", NOW, lambda _: None)


def policy(folder: Path) -> Policy:
    return load(folder / "new", unix_group=lambda _: None)


def refused(folder: Path, old: str, beside: Mapping[str, str] = MappingProxyType({})) -> list[str]:
    """Say what is refused, as `line:column: message`; of files beside, with their name."""
    file = site(folder, old, beside)
    with pytest.raises(PolicyError) as raised:
        bring(file, NOW)
    return [str(finding).removeprefix(str(file) + ":") for finding in raised.value.findings]


def said(found: Brought) -> dict[str, str]:
    """Give what became of each key."""
    return {told.key: told.became for told in found.told if told.key}


# ── what is taken ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_old_site_becomes_a_policy(tmp_path: Path) -> None:
    """Every layer, both spellings, null as never, members from both places; and `check` has nothing to say about it."""
    members = {"groups/student.members": "alice  # a comment\n\n", "lifecycle-exemptions.yaml": EXEMPTIONS}
    assert brought(tmp_path, OLD, members).advice == []
    made = policy(tmp_path)
    limits = made.limits
    assert limits.defaults == {
        "max_runtime": 24 * HOUR,
        "idle_timeout": 30 * MINUTE,
        "gpu_hold_after_stop": 15 * MINUTE,
        "container_hold_after_stop": 30 * MINUTE,
        "stop_grace": timedelta(seconds=45),
    }
    assert (limits.default_group, list(limits.groups)) == ("student", ["student", "researcher"])
    assert limits.groups["researcher"].limits == {"idle_timeout": 4 * HOUR, "max_runtime": None}
    assert limits.groups["researcher"].members == {"bob", "carol@uni.example"}
    assert limits.groups["student"].members == {"alice"}
    assert limits.groups["student"].limits == {}
    assert limits.users == {"dave": {"max_runtime": 96 * HOUR}}
    dev = {"idle_timeout": None, "max_runtime": 168 * HOUR, "stop_grace": timedelta(seconds=30)}
    assert limits.container_types == {"devcontainer": dev, "native": {}, "compose": {}, "docker": {}, "unknown": {}}
    assert limits.unknown_owner == {"idle_timeout": 30 * MINUTE, "max_runtime": 24 * HOUR}, "as shipped"
    high = made.settings.high_demand
    assert (high.above, high.idle_timeout, made.settings.keep_alive.max) == (0.8, 0.3, 12 * HOUR)
    assert made.settings.mode == "observe", "nothing is done before somebody says so"


def test_exemptions_come_along_and_each_ends(tmp_path: Path) -> None:
    """One without an end is given thirty days; one that is over is left out; both are told loudly."""
    found = brought(tmp_path, OLD, {"lifecycle-exemptions.yaml": EXEMPTIONS})
    dave, alice = policy(tmp_path).exemptions
    assert (dave.rules, dave.reason, dave.approved_by) == (("idle-gpu", "max-runtime"), "training: all year", "prof")
    assert dave.expires == datetime(2026, 4, 2, tzinfo=UTC), "the end of the thirtieth day"
    assert (alice.rules, alice.expires) == (("idle-gpu",), datetime(2027, 1, 1, tzinfo=UTC))
    at = NOW + timedelta(days=20)
    container = Container("a" * 64, "x", "img", State.RUNNING, NOW, owner="dave")
    assert dave.covers(container, "idle-gpu", at, "gpu01")
    assert not dave.covers(container, "idle-gpu", at + timedelta(days=20), "gpu01")
    loud = {told.key: told.became for told in found.told if told.loud}
    assert loud["exemptions[0].expires_on"].endswith("ends on 2026-04-01, in 30 days; renew it in exemptions.yaml")
    keys = ("container", "exempt_from", "reason", "approved_by", "expires")
    assert {loud[f"exemptions[2].{key}"] for key in keys} == {"not used: it has expired"}


@pytest.mark.parametrize(
    ("entry", "loud"),
    [
        pytest.param(
            "{user: bob, exempt_from: [idle_timeout], reason: r, approved_by: a}", "has no expires_on", id="end"
        ),
        pytest.param(
            "{user: bob, exempt_from: [idle_timeout], approved_by: a, expires: 2030-01-01}",
            "has no reason",
            id="reason",
        ),
        pytest.param(
            "{user: bob, exempt_from: [max_runtime], reason: r, approved_by: null, expires: 2030-01-01}",
            "taken as `approved_by: not said in the old file`",
            id="approval",
        ),
        pytest.param(
            "{user: bob, exempt_from: [idle_timeout], reason: r, approved_by: a, expires: '2030-06-30T23:59:59'}",
            "without a zone it is read as UTC",
            id="zone",
        ),
        pytest.param(
            "{user: bob, exempt_from: [idle_timeout, quota], reason: r, approved_by: a, expires: 2030-01-01}",
            "quota is no limit that a rule here asks about",
            id="a limit nobody knows",
        ),
    ],
)
def test_what_an_exemption_lacks_is_filled_in_loudly(entry: str, loud: str, tmp_path: Path) -> None:
    """Nobody loses an exemption over it, and somebody reads of it."""
    found = brought(tmp_path, OLD, {"lifecycle-exemptions.yaml": f"exemptions:\n  - {entry}\n"})
    assert len(policy(tmp_path).exemptions) == 1
    assert [told for told in found.told if told.loud and loud in told.became]


@pytest.mark.parametrize(
    "entry",
    [
        pytest.param("{exempt_from: [idle_timeout], reason: r, approved_by: a, expires: 2030-01-01}", id="nobody"),
        pytest.param("{user: bob, exempt_from: [quota], reason: r, approved_by: a, expires: 2030-01-01}", id="nothing"),
        pytest.param("{user: bob, reason: r, approved_by: a, expires: 2030-01-01}", id="not said from what"),
    ],
)
def test_an_exemption_of_nobody_or_nothing_is_left_out_loudly(entry: str, tmp_path: Path) -> None:
    """Each of its keys says why."""
    found = brought(tmp_path, OLD, {"lifecycle-exemptions.yaml": f"exemptions:\n  - {entry}\n"})
    assert policy(tmp_path).exemptions == ()
    told = [told for told in found.told if told.key.startswith("exemptions[0].")]
    assert told
    assert all(one.loud and one.became.startswith("not used: ") for one in told)


def test_overrides_may_stand_in_a_file_of_their_own(tmp_path: Path) -> None:
    """The younger generation keeps them beside; whoever stands in both files is refused."""
    beside = {"user-overrides.yaml": "erin@uni.example:\n  idle_timeout_h: null\n  max_runtime_h: 48\n"}
    brought(tmp_path, OLD, beside)
    assert policy(tmp_path).limits.users["erin@uni.example"] == {"idle_timeout": None, "max_runtime": 48 * HOUR}
    twice = {"user-overrides.yaml": "dave: {max_runtime_h: 48}\n"}
    assert "dave stands in both files" in refused(tmp_path / "twice", OLD, twice)[0]


def test_a_user_has_one_group(tmp_path: Path) -> None:
    """The first group that names somebody keeps them, as it was; the other place is told."""
    found = brought(tmp_path, OLD, {"groups/student.members": "alice\nbob\n", "groups/archived.members": "zoe\n"})
    limits = policy(tmp_path).limits
    assert limits.group_of("bob") == "student"
    assert limits.groups["researcher"].members == {"carol@uni.example"}
    loud = [str(told) for told in found.told if told.loud]
    assert [line for line in loud if "bob is in group student already" in line]
    assert [line for line in loud if "archived.members: not used: the limits file has no group archived" in line]
    assert said(found)["groups.researcher.members"] == "1 name taken as groups/researcher.members"


@pytest.mark.parametrize(
    ("old", "group", "told"),
    [
        pytest.param("groups: {student: {}, staff: {}}", "student", "default_group is not there", id="the usual one"),
        pytest.param("groups: {staff: {}}", "everybody", "default_group is not there", id="one of their own"),
        pytest.param("default_group: new\ngroups: {staff: {}}", "new", "no such group was there", id="a group without"),
        pytest.param("defaults:\n  # nothing yet", "everybody", "default_group is not there", id="no groups at all"),
    ],
)
def test_who_is_in_no_group_is_in_the_default_one(old: str, group: str, told: str, tmp_path: Path) -> None:
    """One is always there, and said where the old file did not."""
    found = brought(tmp_path, old + "\n")
    assert policy(tmp_path).limits.group_of("anybody") == group
    assert [one for one in found.told if one.loud and told in one.became]


def test_limits_that_the_old_file_lacks_are_the_shipped_ones_and_told(tmp_path: Path) -> None:
    """A rule must find its limit; what was not set is not what anybody chose."""
    found = brought(tmp_path, "defaults: {idle_timeout: 1h}\ndefault_group: a\n")
    assert policy(tmp_path).limits.defaults["max_runtime"] == 24 * HOUR
    loud = [told.became for told in found.told if told.loud]
    assert "defaults.max_runtime is not there: `max_runtime: 24h`, as shipped" in loud


# ── units ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        pytest.param("idle_timeout: 0.5h", 30 * MINUTE, id="0.5h is thirty minutes"),
        pytest.param("idle_timeout_h: 0.5", 30 * MINUTE, id="0.5 under _h is thirty minutes"),
        pytest.param("idle_timeout_h: 48", 48 * HOUR, id="48 under _h is 48 hours"),
        pytest.param("idle_timeout_h: 30m", 30 * MINUTE, id="a unit counts, also under _h"),
        pytest.param("idle_timeout: 24h", 24 * HOUR, id="24h is a limit"),
        pytest.param("idle_timeout: '48h'", 48 * HOUR, id="quoted"),
        pytest.param("idle_timeout: 1d12h", 36 * HOUR, id="two units"),
        pytest.param("idle_timeout: null", None, id="null is never"),
        pytest.param("idle_timeout_h: ~", None, id="and so is a tilde"),
        pytest.param("idle_timeout:", None, id="and nothing at all, which YAML reads as null"),
    ],
)
def test_durations_mean_what_they_meant(written: str, expected: timedelta | None, tmp_path: Path) -> None:
    """Both spellings, to the same value as before."""
    brought(tmp_path, f"defaults:\n  {written}\ndefault_group: a\n")
    assert policy(tmp_path).limits.defaults["idle_timeout"] == expected


@pytest.mark.parametrize(
    ("old", "expected"),
    [
        pytest.param("defaults:\n  max_runtime: 48", "2:16: defaults.max_runtime: 48 has no unit: write 48h", id="48"),
        pytest.param("defaults:\n  max_runtime: '48'", "2:16: defaults.max_runtime: '48' has no unit", id="'48'"),
        pytest.param("defaults:\n  max_runtime: 0", "0 has no unit", id="0"),
        pytest.param("defaults:\n  idle_timeout: 0h", "no time at all would end everything at once", id="0h"),
        pytest.param("defaults:\n  idle_timeout_h: -1", "-1 hours cannot be meant", id="-1 hours"),
        pytest.param("defaults:\n  idle_timeout_h: .inf", "no number that can be used", id="infinitely many hours"),
        pytest.param("defaults:\n  idle_timeout: never", "'never' is not a duration", id="a word"),
        pytest.param("defaults:\n  idle_timeout: yes", "is not a duration", id="a yes"),
        pytest.param("defaults:\n  idle_timeout: [1h]", "is no duration", id="a list"),
        pytest.param(
            "defaults:\n  idle_timeout: 1h\n  idle_timeout_h: 2",
            "3:19: defaults.idle_timeout_h: idle_timeout stands here twice",
            id="two spellings, two values",
        ),
        pytest.param("defaults:\n  idle_timeout: 1h\n  idle_timeout: 2h", "stands here twice", id="one key twice"),
        pytest.param("defaults: 3", "defaults: must hold keys with values", id="a number for a section"),
        pytest.param("groups:\n  a: {members: bob}", "groups.a.members: must be a list of", id="a name for a list"),
        pytest.param("groups:\n  a: {members: ['b b']}", "groups.a.members[0]: is not a name", id="no name"),
        pytest.param("groups:\n  'a b': {}", "'a b' is not a name", id="no group's name"),
        pytest.param("policies: {high_demand_threshold: 80}", "must be a number from 0 to 1", id="80 for 0.8"),
        pytest.param("policies: {sigterm_grace_seconds: 3600}", "seconds, at most 600", id="an hour's grace"),
        pytest.param("user_overrides:\n  bob: {max_runtime: 9}", "bob.max_runtime: 9 has no unit", id="a user's"),
        pytest.param("container_types:\n  docker: {max_runtime: 9}", "2:25: container_types.docker.", id="a type's"),
        pytest.param("a: [", "not YAML", id="no YAML"),
        pytest.param("- a", "must hold keys with values", id="a list"),
        pytest.param("default_group: [a]", "must be one line of text", id="a list for a name"),
        pytest.param("groups: {a: {members: [b\u200bc]}}", "characters that nobody sees", id="an unseen character"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_its_line(old: str, expected: str, tmp_path: Path) -> None:
    """Never guessed at, and never dropped."""
    assert any(expected in line for line in refused(tmp_path, old + "\n")), refused(tmp_path, old + "\n")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("groups/researcher.members", "ok\nno good\n", "groups/researcher.members:2:1: 'no good' is not a name"),
        ("lifecycle-exemptions.yaml", "exemptions: 3\n", "lifecycle-exemptions.yaml:1:13: exemptions: must be a list"),
        (
            "lifecycle-exemptions.yaml",
            "exemptions:\n  - {user: a, exempt_from: idle_timeout, reason: r, approved_by: b, expires: soon}\n",
            "exemptions[0].expires: 'soon' is not a date",
        ),
    ],
)
def test_files_beside_are_read_as_strictly(name: str, text: str, expected: str, tmp_path: Path) -> None:
    """With their own name and line."""
    assert any(expected in line for line in refused(tmp_path, OLD, {name: text}))


@given(st.timedeltas(timedelta(0), timedelta(days=3650)))
def test_a_duration_is_written_so_that_it_is_read_back(value: timedelta) -> None:
    """To the microsecond."""
    assert parse_duration(exact(value)) == value


# ── nothing is dropped silently ──────────────────────────────────────────────────────────────────────────────────────

NAMES = st.text("abcdefgh0123456789_.@", min_size=1, max_size=8).filter(
    lambda name: name not in ("members", "policies")
)
HOURS = st.floats(0.01, 9000).map(lambda hours: round(hours, 3))
DURATIONS = st.none() | st.integers(1, 5000).map("{}m".format) | HOURS.map("{:.3f}h".format)
LEAF = st.none() | st.booleans() | st.integers(-9, 9) | st.text("xyz", max_size=3)
OTHER = st.recursive(
    LEAF | st.lists(LEAF, max_size=2), lambda inner: st.dictionaries(NAMES, inner, max_size=3), max_leaves=4
)


def layers() -> st.SearchStrategy[dict[str, Any]]:
    """Draw a section of limits: some in one spelling, some in the other, and keys of other programs."""
    known = dict.fromkeys(LIMITS, DURATIONS) | {f"{name}_h": st.none() | HOURS for name in LIMITS}
    limits = st.fixed_dictionaries({}, optional=known).map(_one_spelling)
    others = st.dictionaries(NAMES | st.sampled_from(("memory", "priority", "aggregate")), OTHER, max_size=2)
    return st.tuples(others, limits).map(lambda both: both[0] | both[1])


def _one_spelling(layer: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in layer.items() if f"{key}_h" not in layer}


OLDS = st.fixed_dictionaries(
    {},
    optional={
        "defaults": layers(),
        "groups": st.dictionaries(NAMES, layers(), max_size=3),
        "user_overrides": st.dictionaries(NAMES, layers(), max_size=3),
        "container_types": st.dictionaries(NAMES, layers(), max_size=2),
        "policies": st.dictionaries(st.sampled_from(("gpu_idle_threshold", "grace_period", "odd")), LEAF, max_size=2),
        "wizard": OTHER,
    },
)


def keys(value: Any, path: str = "") -> list[str]:
    """List every key that holds no further keys, dotted."""
    if isinstance(value, dict) and value:
        return [one for key, inner in value.items() for one in keys(inner, f"{path}.{key}" if path else key)]
    return [path]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(OLDS.filter(bool))
def test_every_key_is_said_exactly_once_and_every_limit_is_the_same(old: dict[str, Any]) -> None:
    """Whatever an old file holds: no key is missing from the account, none is there twice, and no value changes."""
    with tempfile.TemporaryDirectory() as folder:
        found = brought(Path(folder), json.dumps(old))
        told = [one.key for one in found.told if one.key]
        assert sorted(told) == sorted(keys(old))
        limits = policy(Path(folder)).limits
        groups = {name: group.limits for name, group in limits.groups.items()}
        for table, made in (
            ("groups", groups),
            ("user_overrides", limits.users),
            ("container_types", limits.container_types),
        ):
            for name, layer in old.get(table, {}).items():
                assert made[name] == wanted(layer), (table, name)
        assert wanted(old.get("defaults", {})).items() <= limits.defaults.items()


def wanted(layer: dict[str, Any]) -> dict[str, timedelta | None]:
    """Read the limits of a section by themselves."""
    found: dict[str, timedelta | None] = {}
    for name in LIMITS:
        if name in layer:
            found[name] = None if layer[name] is None else parse_duration(layer[name])
        if f"{name}_h" in layer:
            hours = layer[f"{name}_h"]
            found[name] = None if hours is None else timedelta(hours=hours)
    return found


def test_a_slip_in_a_key_is_loud(tmp_path: Path) -> None:
    """A limit that nobody ever read is not what its author thinks."""
    found = brought(tmp_path, "defaults: {idle_timout: 1h}\ndefault_group: a\n")
    (told,) = [one for one in found.told if one.key == "defaults.idle_timout"]
    assert told.loud
    assert told.became == "not used: nothing is called so; is idle_timeout meant?"


# ── the command ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def at_noon(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (bringing, configuring):
        monkeypatch.setattr(module, "now", lambda: NOW)


@pytest.mark.usefixtures("at_noon")
def test_the_account_in_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an admin reads it: each key with its line, what to look at marked."""
    beside = {"groups/student.members": "alice\n", "lifecycle-exemptions.yaml": EXEMPTIONS}
    site(tmp_path, OLD, beside)
    monkeypatch.chdir(tmp_path)
    ran = run("init", "new", "--from-limits", "resource-limits.yaml")
    assert (ran.code, ran.stderr) == (0, "")
    assert ran.stdout == (FIXTURES / "bring_account.txt").read_text(encoding="utf-8")
    assert run("--config", "new", "check").stdout == "0 findings\n"


@pytest.mark.usefixtures("at_noon")
def test_nothing_is_written_when_a_value_cannot_be_taken(tmp_path: Path) -> None:
    """Exit 2, every such value with its line, and no trace of the directory."""
    site(tmp_path, "defaults:\n  max_runtime: 48\n  idle_timeout: soon\n")
    before = files_below(tmp_path)
    ran = run("init", tmp_path / "new", "--from-limits", tmp_path / "resource-limits.yaml")
    assert (ran.code, ran.stdout) == (2, "")
    first, second, last = ran.stderr.splitlines()
    assert first.endswith("resource-limits.yaml:2:16: defaults.max_runtime: 48 has no unit: write 48h, 48m or 48s; "
                          "null switches it off")  # fmt: skip
    assert "resource-limits.yaml:3:17: defaults.idle_timeout: 'soon' is not a duration" in second
    assert last == "2 values cannot be taken: nothing was written"
    assert files_below(tmp_path) == before


def test_only_a_new_or_empty_directory_will_do(tmp_path: Path) -> None:
    """What is there already is named; an empty one is filled, with the rights of any other directory."""
    file = site(tmp_path / "old")
    (tmp_path / "there").mkdir()
    assert run("init", tmp_path / "there", "--from-limits", file).code == 0
    (tmp_path / "plain").mkdir()
    assert (tmp_path / "there").stat().st_mode == (tmp_path / "plain").stat().st_mode
    before = files_below(tmp_path)
    again = run("init", tmp_path / "there", "--from-limits", file)
    assert (again.code, again.stdout) == (2, "")
    assert f"{tmp_path}/there/limits.yaml: is there already" in again.stderr
    assert files_below(tmp_path) == before


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """Exit 1, with its path."""
    ran = run("init", tmp_path / "new", "--from-limits", tmp_path / "none.yaml")
    assert (ran.code, ran.stderr) == (1, f"{tmp_path}/none.yaml: No such file or directory\n")


def test_what_the_loader_refuses_is_not_left_there(tmp_path: Path) -> None:
    """The last word has the loader: its findings name the file where it would have been."""
    made = bring(site(tmp_path / "old"), NOW)
    made.files["limits.yaml"] = "version: 1\ndefaults: {idle_timeout: 48}\n"
    with pytest.raises(PolicyError) as raised:
        settle(made, tmp_path / "new", NOW, lambda _: None)
    assert str(raised.value).startswith(f"{tmp_path}/new/limits.yaml:2:")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["old"]

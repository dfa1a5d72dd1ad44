"""From files to a Policy: what ships, what people may write, and where files are looked for."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePath
from typing import Any

import pytest
from config_fixtures import RULE, loaded, written

from ds01_policy.config.files import VARIABLE, find_directory, shipped
from ds01_policy.config.load import PolicyError, load
from ds01_policy.config.shipped import AlreadyThere, copy_out
from ds01_policy.identity import OwnerMatcher, TypeMatcher
from ds01_policy.limits import limit_for
from ds01_policy.model import Action, Container, Mode, State
from ds01_policy.policy import Breaker, NotifySettings, Policy, Settings
from ds01_policy.rules import AllOf, AnyOf, Clause, Except, For, NotOf, Selector, Warn
from ds01_policy.signals import Witness
from ds01_policy.span import own_signals
from ds01_policy.units import parse_duration

# The blocks of the documentation, as an admin would paste them.
DOCUMENTED = {
    "settings.yaml": """\
version: 1
mode: observe                     # observe: record what would be done · warn: also warn people · enforce: also act
docker: {url: unix:///var/run/docker.sock, timeout: 10s}
prometheus:                       # or: prometheus: never
  url: http://localhost:9090
  timeout: 10s
  scrape_interval: 30s
  basic_auth: {username: x, password_file: /path}   # or bearer_token_file; ca_file; headers: {}
gpu: {nvml: auto, nvidia_smi: nvidia-smi}            # nvml: auto | never (then only the command is used)
rules: rules                      # a directory or list of them, relative to the config directory
state_dir: /var/lib/ds01-policy   # ledger.db, audit.jsonl, lock
metrics_file: never               # or a path: Prometheus text file for node_exporter's textfile collector
awake: 5m
budget: {per_run: 5, share: 25%}  # destructive decisions per run; share of running GPU containers (never less than one)
high_demand: {above: 80%, idle_timeout: 50%}
keep_alive: {path: /workspace/.keep-alive, max: 24h}
local_samples: {interval: 5m, retain: 48h}
notify: {channels: [tty]}
epilog: {kill: true, reset: when_safe, timeout: 20s} # reset: never | when_safe
""",
    "limits.yaml": """\
version: 1
defaults: {idle_timeout: 60m, max_runtime: 24h, gpu_hold_after_stop: 15m, container_hold_after_stop: 30m, stop_grace: 60s}
default_group: student
groups:
  student: {limits: {}}
  researcher: {members: [bob, carol], members_file: groups/researcher.members, unix_group: never, limits: {max_runtime: 48h}}
users:
  dave: {max_runtime: 96h}
container_types:
  devcontainer: {idle_timeout: never, max_runtime: 168h}
  unknown: {idle_timeout: 30m, max_runtime: 24h}
unknown_owner: {idle_timeout: 30m, max_runtime: 24h}     # caps whatever the other layers say
""",  # noqa: E501  as the documentation has it
    "exemptions.yaml": """\
version: 1
exemptions:
  - {user: prof, rules: [idle-gpu], reason: demonstration week, approved_by: admin, expires: 2026-12-01}
""",
    "identity.yaml": """\
infrastructure:
  labels: [ds01.monitoring=true, ds01.protected=true]
  trusted: {owners: [root], images: ['*/dcgm-exporter', '*/cadvisor', 'prom/*', 'grafana/*'], names: []}
""",
    "rules/idle-gpu.yaml": """\
version: 1
rules:
  - id: idle-gpu
    summary: Holds a GPU and has used neither it nor the CPU nor the network for its owner's idle timeout.
    match: {state: running, gpu: true, type: {not: devcontainer}}
    except:                                  # each entry has a name of its own in explain and metrics
      - infrastructure
      - exempted
      - keep_alive
      - {younger_than: 30m}
    when:
      all:                                   # all / any / not, nested as you like
        - {signal: gpu_utilization, below: 5%}
        - {signal: cpu_usage, below: 1%}
        - {signal: network_io, below: 10KiB/s}
    for: {limit: idle_timeout}               # or a plain duration: for: 60m
    warn: {at: 80%, notice: 10m}
    then: [stop, remove, epilog]
    mode: enforce                            # optional, may only weaken settings.mode
""",
}


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load(None, unix_group=lambda _: None)


def container(**facts: Any) -> Container:
    created = datetime(2030, 1, 1, tzinfo=UTC)
    plain = Container("0" * 64, "train", "cuda", State.RUNNING, created, owner="alice", group="student")
    return replace(plain, **facts)


# ── what ships ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_shipped_settings_are_the_defaults_and_only_observe(policy: Policy) -> None:
    """What the file spells out is what holds without it, so deleting a line changes nothing."""
    assert policy.settings == Settings()
    assert policy.settings.mode is Mode.OBSERVE


@pytest.mark.parametrize(
    ("who", "idle_timeout", "max_runtime"),
    [
        pytest.param({"type": "native"}, "60m", "24h", id="a student's native container"),
        pytest.param({"type": "native", "group": "researcher"}, "60m", "48h", id="a researcher's native container"),
        pytest.param({"type": "native", "group": "faculty"}, "2h", "72h", id="a professor's native container"),
        pytest.param({"type": "devcontainer", "group": "faculty"}, "never", "168h", id="a devcontainer, whoever's"),
        pytest.param({"type": "compose"}, "60m", "72h", id="compose"),
        pytest.param({"type": "docker"}, "60m", "48h", id="plain docker"),
        pytest.param({"type": "docker", "group": "faculty"}, "2h", "48h", id="plain docker of a professor"),
        pytest.param({"type": "unknown"}, "30m", "24h", id="an unknown type"),
        pytest.param({"type": "devcontainer", "owner": "unknown"}, "30m", "24h", id="nobody's devcontainer"),
    ],
)
def test_the_shipped_limits(policy: Policy, who: dict[str, str], idle_timeout: str, max_runtime: str) -> None:
    """User over type over group over defaults, with the numbers the site agreed on."""
    for key, expected in (("idle_timeout", idle_timeout), ("max_runtime", max_runtime)):
        found = limit_for(policy.limits, container(**who), key).value
        assert found == (None if expected == "never" else parse_duration(expected))


def test_the_shipped_holds(policy: Policy) -> None:
    """How long things stay after a stop."""
    held = {key: limit_for(policy.limits, container(), key).value for key in policy.limits.defaults}
    assert held["gpu_hold_after_stop"] == timedelta(minutes=15)
    assert held["container_hold_after_stop"] == timedelta(minutes=30)
    assert held["stop_grace"] == timedelta(seconds=60)


def test_the_shipped_rules(policy: Policy) -> None:
    """Four rules; those that end something running warn first, the others touch nothing that runs."""
    rules = {rule.id: rule for rule in policy.rules}
    assert list(rules) == ["created-never-started", "idle-gpu", "max-runtime", "stopped-retention"]
    assert {name: rule.warn for name, rule in rules.items()} == {
        "created-never-started": None,
        "idle-gpu": Warn(0.8, timedelta(minutes=10)),
        "max-runtime": Warn(0.9, timedelta(minutes=30)),
        "stopped-retention": None,
    }
    assert all(Selector("gpu", ("true",)) in rule.match.selectors for rule in policy.rules)
    assert all(rule.mode is None and rule.summary for rule in policy.rules)
    assert rules["created-never-started"].then == (Action.REMOVE,)
    assert rules["idle-gpu"].place == "rules/idle-gpu.yaml:4"


def test_the_shipped_signals(policy: Policy) -> None:
    """Each signal in its unit; a GPU's from two metrics, whole GPUs and instances; a network's not on shared stacks."""
    gpu, cpu, network = (policy.signals[name] for name in ("gpu_utilization", "cpu_usage", "network_io"))
    assert (gpu.kind, gpu.join, gpu.ceiling) == ("gauge", "gpu", 1.0)
    assert [signal.fallback for signal in (gpu, cpu, network)] == ["gpu", "cpu", "network"]
    assert [(query.devices, query.scale, query.maximum) for query in gpu.queries] == [
        ("whole", 0.01, 100.0),
        ("instance", 7.0, 1.5),
    ]
    assert (cpu.kind, cpu.join, cpu.ceiling, cpu.lag_s) == ("counter", "container", None, 90.0)
    assert network.label == "network"
    assert network.not_on_network == {"none", "host", "container"}
    assert all(query.time for signal in (cpu, network) for query in signal.queries)


def test_the_shipped_witnesses(policy: Policy) -> None:
    """Two metrics speak against idleness, in the same unit and in watts; neither is asked for its own sake."""
    gpu, engine, power = (policy.signals[name] for name in ("gpu_utilization", "gpu_engine", "gpu_power"))
    assert gpu.witnesses == (Witness("gpu_engine"), Witness("gpu_power", above=200.0, explained_by=0.05))
    assert (engine.unit, engine.kind, engine.fallback, [query.devices for query in engine.queries]) == (
        gpu.unit, gpu.kind, None, ["whole"],
    )  # fmt: skip
    assert (power.kind, [(query.devices, query.scale) for query in power.queries]) == ("counter", [("parent", 0.001)])
    assert gpu.frozen is not None
    assert (gpu.frozen.after, gpu.frozen.counter, gpu.frozen.uuid_label) == (
        timedelta(minutes=15), "gpu_power", "UUID",
    )  # fmt: skip
    assert own_signals(policy) == ["gpu_utilization", "cpu_usage", "network_io"]


def test_every_type_the_shipped_identity_gives_has_limits(policy: Policy) -> None:
    """And the last matcher takes what is left."""
    assert {matcher.type for matcher in policy.identity.types} | {"unknown"} == set(policy.limits.container_types)
    assert policy.identity.types[-1] == TypeMatcher("docker")
    assert [matcher.via for matcher in policy.identity.owners] == [
        "label", "label", "label", "label_home", "name", "mounts", "process",
    ]  # fmt: skip


# ── what people write ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("names", [[name] for name in DOCUMENTED] + [list(DOCUMENTED)], ids=" ".join)
def test_the_documented_blocks_load(tmp_path: Path, names: list[str]) -> None:
    """Each block by itself over the shipped files, and all of them together."""
    assert loaded(tmp_path, {name: DOCUMENTED[name] for name in names}).rules


def test_the_documented_files_say_what_they_seem_to(tmp_path: Path) -> None:
    """Spot checks through every file."""
    policy = loaded(tmp_path, DOCUMENTED)
    assert policy.settings.prometheus is not None
    assert policy.settings.prometheus.password_file == PurePath("/path")
    assert policy.limits.groups["researcher"].members == {"bob", "carol"}
    assert policy.limits.users["dave"] == {"max_runtime": timedelta(hours=96)}
    assert policy.limits.container_types["devcontainer"]["idle_timeout"] is None
    [exemption] = policy.exemptions
    assert exemption.expires == datetime(2026, 12, 2, tzinfo=UTC), "a date means its end"
    assert exemption.selectors == (Selector("owner", ("prof",)),)
    assert policy.identity.trusted.images == ("*/dcgm-exporter", "*/cadvisor", "prom/*", "grafana/*")
    [rule] = policy.rules
    assert rule.mode is Mode.ENFORCE
    assert rule.for_ == For(limit="idle_timeout")
    assert rule.excepts[3] == Except("younger_than", younger_than=timedelta(minutes=30))
    assert rule.when == AllOf(
        (
            Clause("gpu_utilization", "below", 0.05),
            Clause("cpu_usage", "below", 0.01),
            Clause("network_io", "below", 10240.0),
        )
    )


def test_everything_optional_in_settings(tmp_path: Path) -> None:
    """What the short example leaves out."""
    settings = loaded(
        tmp_path,
        {
            "settings.yaml": """\
mode: warn
prometheus: {bearer_token_file: secrets/token, ca_file: /ca.pem, headers: {X-Scope-OrgID: lab}}
gpu: {nvml: never, timeout: 5s}
breaker: {at_least: 5, hold: 1h}
notify: {channels: [tty, wall, 'mailto://a:b@c'], timeout: 3s, unreached_notice: 3}
metrics_file: /var/lib/node_exporter/ds01.prom
metrics_listen: '[::1]:9465'
"""
        },
    ).settings
    assert settings.mode is Mode.WARN
    assert settings.prometheus is not None
    assert settings.prometheus.bearer_token_file == tmp_path / "secrets/token", "relative to the directory"
    assert settings.prometheus.ca_file == PurePath("/ca.pem")
    assert settings.prometheus.headers == {"X-Scope-OrgID": "lab"}
    assert settings.gpu.timeout == timedelta(seconds=5)
    assert settings.breaker == Breaker(5, timedelta(hours=1))
    assert settings.notify == NotifySettings(("tty", "wall", "mailto://a:b@c"), timedelta(seconds=3), 3.0)
    assert settings.metrics_file == PurePath("/var/lib/node_exporter/ds01.prom")
    assert settings.metrics_listen == ("::1", 9465)


@pytest.mark.parametrize(
    ("written", "address"),
    [
        ("never", None),
        ("127.0.0.1:9465", ("127.0.0.1", 9465)),
        ("localhost:1", ("localhost", 1)),
        ("0.0.0.0:65535", ("0.0.0.0", 65535)),  # noqa: S104  it may be written, and says who can read it
        ("'[::]:9465'", ("::", 9465)),
        ("gpu-01.lab:9465", ("gpu-01.lab", 9465)),
    ],
)
def test_where_metrics_are_served(tmp_path: Path, written: str, address: tuple[str, int] | None) -> None:
    """A host and a port, or nowhere."""
    settings = loaded(tmp_path, {"settings.yaml": f"metrics_listen: {written}\n"}).settings
    assert settings.metrics_listen == address


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("# mode: enforce\n", id="a file of comments"),
        pytest.param("budget:\n  # per_run: 1\nmode: observe\n", id="a section of comments"),
        pytest.param("prometheus:\n  # url: http://x\n", id="a section of comments that could also be never"),
        pytest.param("version: 1\n", id="only a version"),
        pytest.param("docker: {}\nprometheus: {}\nnotify: {}\n", id="empty sections"),
    ],
)
def test_what_is_commented_out_keeps_its_default(tmp_path: Path, text: str) -> None:
    """Comments are no values: neither null nor never nor nothing."""
    assert loaded(tmp_path, {"settings.yaml": text}).settings == Settings()


def test_prometheus_never(tmp_path: Path) -> None:
    """Switched off in so many words."""
    assert loaded(tmp_path, {"settings.yaml": "prometheus: never\n"}).settings.prometheus is None


@pytest.mark.parametrize(
    ("written_as", "selector"),
    [
        pytest.param("state: running", Selector("state", ("running",)), id="a value"),
        pytest.param("state: [exited, dead]", Selector("state", ("exited", "dead")), id="a list"),
        pytest.param("state: {not: running}", Selector("state", ("running",), negated=True), id="not a value"),
        pytest.param("state: {not: [exited, d*]}", Selector("state", ("exited", "d*"), negated=True), id="not a list"),
    ],
)
def test_selectors_have_four_shapes(tmp_path: Path, written_as: str, selector: Selector) -> None:
    """A value, a list, and not either."""
    policy = loaded(tmp_path, {"rules/mine.yaml": RULE.replace("state: running", written_as)})
    assert policy.rules[0].match.selectors[0] == selector


def test_selectors_of_every_kind(tmp_path: Path) -> None:
    """All nine can be named, a flag as a boolean."""
    match = (
        "{state: running, type: docker, gpu: false, owner: a, group: student, name: n, image: i, label: k=v*, host: h}"
    )
    policy = loaded(tmp_path, {"rules/mine.yaml": RULE.replace("{state: running, gpu: true}", match)})
    assert {one.name: one.values for one in policy.rules[0].match.selectors} == {
        "state": ("running",), "type": ("docker",), "gpu": ("false",), "owner": ("a",), "group": ("student",),
        "name": ("n",), "image": ("i",), "label": ("k=v*",), "host": ("h",),
    }  # fmt: skip


def test_conditions_nest(tmp_path: Path) -> None:
    """All, any and not, with every comparator and unit."""
    when = """\
    when:
      any:
        - {signal: gpu_utilization, at_most: 5%}
        - not: {signal: cpu_usage, at_least: 2 cores}
        - all: [{signal: network_io, above: 1MB/s}, {signal: cpu_usage, is: 0%}]
    for"""
    policy = loaded(tmp_path, {"rules/mine.yaml": RULE.replace("    for", when)})
    assert policy.rules[0].when == AnyOf(
        (
            Clause("gpu_utilization", "at_most", 0.05),
            NotOf(Clause("cpu_usage", "at_least", 2.0)),
            AllOf((Clause("network_io", "above", 1e6), Clause("cpu_usage", "is", 0.0))),
        )
    )


@pytest.mark.parametrize(
    ("written_as", "expires"),
    [
        pytest.param("2030-01-31", datetime(2030, 2, 1, tzinfo=UTC), id="a date means its end"),
        pytest.param("'2030-01-31'", datetime(2030, 2, 1, tzinfo=UTC), id="quoted or not"),
        pytest.param("2030-01-31T18:00:00Z", datetime(2030, 1, 31, 18, tzinfo=UTC), id="a time"),
        pytest.param("2030-01-31 18:00+02:00", datetime(2030, 1, 31, 16, tzinfo=UTC), id="a time elsewhere"),
        pytest.param("2028-02-29", datetime(2028, 3, 1, tzinfo=UTC), id="a leap day"),
    ],
)
def test_expiry(tmp_path: Path, written_as: str, expires: datetime) -> None:
    """When an exemption ends, to the second."""
    text = f"exemptions: [{{user: a, rules: '*', reason: r, approved_by: b, expires: {written_as}}}]\n"
    [exemption] = loaded(tmp_path, {"exemptions.yaml": text}).exemptions
    assert (exemption.expires, exemption.rules) == (expires, ("*",))


def test_an_exempted_container_may_be_named_by_its_short_id(tmp_path: Path) -> None:
    """The 12 hex of `docker ps` mean that container; a name is taken as it is."""
    text = (
        "exemptions: [{container: [0123456789ab, train], rules: '*', reason: r, approved_by: b, expires: 2030-01-31}]\n"
    )
    [exemption] = loaded(tmp_path, {"exemptions.yaml": text}).exemptions
    at = datetime(2030, 1, 1, tzinfo=UTC)
    assert exemption.covers(container(id="0123456789ab" + "0" * 52, name="x"), "idle-gpu", at, "gpu01")
    assert exemption.covers(container(name="train"), "idle-gpu", at, "gpu01")
    assert not exemption.covers(container(name="train2"), "idle-gpu", at, "gpu01")


def test_members_come_from_three_places(tmp_path: Path) -> None:
    """Names in the file, a members file and a Unix group, put together; limits and counts from the group."""
    limits = """\
defaults: {idle_timeout: 1h, max_runtime: 1d, container_hold_after_stop: 1h, max_gpus: 1}
default_group: a
groups:
  a: {}
  b: {members: [bob], members_file: lists/b, unix_group: gpu-users, limits: {max_gpus: never}}
  c: {unix_group: nobody-in-it, limits: {max_gpus: 4}}
"""
    found = loaded(tmp_path, {"limits.yaml": limits, "lists/b": "carol # on leave\n\n # dave\nab123456@lab.example\n"})
    assert found.limits.groups["b"].members == {"bob", "carol", "ab123456@lab.example", "erin", "frank"}
    assert {name: group.max_gpus for name, group in found.limits.groups.items()} == {"a": 1, "b": None, "c": 4}
    assert found.limits.group_of("erin") == "b"
    assert found.limits.group_of("zoe") == "a"


def test_limits_without_groups_hold_for_everybody(tmp_path: Path) -> None:
    """The shortest limits file there is; what the engine itself needs has a value."""
    text = "defaults: {idle_timeout: 1h, max_runtime: 1d, container_hold_after_stop: 1h}\n"
    limits = loaded(tmp_path, {"limits.yaml": text}).limits
    assert limits.group_of("anybody") == "everybody"
    assert (limits.defaults["stop_grace"], limits.defaults["gpu_hold_after_stop"]) == (
        timedelta(seconds=60),
        timedelta(minutes=15),
    )


def test_a_rule_may_ask_for_a_limit_of_its_own(tmp_path: Path) -> None:
    """A limit exists because a rule names it."""
    limits = DOCUMENTED["limits.yaml"].replace("stop_grace: 60s", "nap: 3h").replace("dave: {", "dave: {nap: never, ")
    policy = loaded(tmp_path, {"limits.yaml": limits, "rules/mine.yaml": RULE.replace("60m", "{limit: nap}")})
    assert policy.rules[0].for_ == For(limit="nap")
    assert policy.limits.users["dave"]["nap"] is None


def test_identity_of_another_lab(tmp_path: Path) -> None:
    """Other labels, other homes, no code."""
    text = """\
types:
  - {type: notebook, match: {image: ['*/jupyter*', lab/*], label: {not: batch}}}
owners:
  - {via: label, label: lab.user, guarded: true}
  - {via: label_home, label: lab.home, homes: [/home, /data/home]}
  - {via: name, pattern: '^(?P<user>[a-z]+)-'}
"""
    identity = loaded(tmp_path, {"identity.yaml": text}).identity
    assert identity.types == (
        TypeMatcher(
            "notebook", (Selector("image", ("*/jupyter*", "lab/*")), Selector("label", ("batch",), negated=True))
        ),
    )
    assert identity.owners == (
        OwnerMatcher("label", label="lab.user", guarded=True),
        OwnerMatcher("label_home", label="lab.home", homes=("/home", "/data/home")),
        OwnerMatcher("name", pattern="^(?P<user>[a-z]+)-"),
    )


# ── where files are ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_file_that_is_there_replaces_the_shipped_one_whole(tmp_path: Path, policy: Policy) -> None:
    """And one that is not there means the shipped one."""
    mine = loaded(tmp_path, {"exemptions.yaml": DOCUMENTED["exemptions.yaml"]})
    assert len(mine.exemptions) == 1
    assert (mine.limits, mine.identity, mine.signals, mine.rules) == (
        policy.limits, policy.identity, policy.signals, policy.rules,
    )  # fmt: skip
    assert mine.directory == str(tmp_path)


def test_rules_come_from_the_folders_the_settings_name(tmp_path: Path) -> None:
    """In the order of folders and names; a folder of one's own replaces the shipped one."""
    files = {
        f"{folder}/{name}.yaml": RULE.replace("mine", name) for folder, name in (("b", "z"), ("b", "y"), ("a", "x"))
    }
    policy = loaded(tmp_path, {**files, "settings.yaml": "rules: [b, a]\n"})
    assert [rule.id for rule in policy.rules] == ["y", "z", "x"]


def test_an_absolute_rules_folder(tmp_path: Path) -> None:
    """Rules may live elsewhere."""
    written(tmp_path, {"elsewhere/mine.yaml": RULE})
    policy = loaded(tmp_path / "config", {"settings.yaml": f"rules: {tmp_path}/elsewhere\n"})
    assert [rule.place for rule in policy.rules] == [f"{tmp_path}/elsewhere/mine.yaml:3"]


def test_copying_out_and_loading_gives_the_shipped_policy(tmp_path: Path, policy: Policy) -> None:
    """Init changes nothing but the place."""
    paths = copy_out(tmp_path / "site")
    copied = load(tmp_path / "site", unix_group=lambda _: None)
    assert replace(copied, directory="") == replace(policy, directory="")
    assert {path.name for path in paths} >= {"settings.yaml", "warning.j2", "student.members", "idle-gpu.yaml"}
    assert (tmp_path / "site" / "rules" / "idle-gpu.yaml").is_file()
    assert (tmp_path / "site" / "settings.yaml").read_bytes() == (shipped()[0] / "settings.yaml").read_bytes()


def test_copying_out_overwrites_nothing(tmp_path: Path) -> None:
    """One file in the way and nothing is written; the message names each."""
    written(tmp_path, {"limits.yaml": "mine", "rules/idle-gpu.yaml": "mine too"})
    with pytest.raises(AlreadyThere) as caught:
        copy_out(tmp_path)
    assert caught.value.paths == (tmp_path / "limits.yaml", tmp_path / "rules" / "idle-gpu.yaml")
    assert str(tmp_path / "limits.yaml") in str(caught.value)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["idle-gpu.yaml", "limits.yaml"]


@pytest.mark.parametrize(
    ("option", "variable", "site", "found"),
    [
        pytest.param("one", "two", True, "one", id="the option before all"),
        pytest.param(None, "two", True, "two", id="then the environment"),
        pytest.param(None, "", True, "site", id="an empty variable is none"),
        pytest.param(None, None, True, "site", id="then the site's own"),
        pytest.param(None, None, False, None, id="then what ships"),
    ],
)
def test_which_directory_holds(
    tmp_path: Path, option: str | None, variable: str | None, *, site: bool, found: str | None
) -> None:
    """The first that is given, in the documented order."""
    for name in ("one", "two", *(["site"] if site else [])):
        (tmp_path / name).mkdir()
    environ = {} if variable is None else {VARIABLE: str(tmp_path / variable) if variable else ""}
    chosen = find_directory(str(tmp_path / option) if option else None, environ, tmp_path / "site")
    assert chosen == (tmp_path / found if found else None)


@pytest.mark.parametrize(
    ("option", "environ"),
    [
        pytest.param("/no/such", {}, id="by the option"),
        pytest.param(Path("/no/such"), {}, id="by the option, as a path"),
        pytest.param("", {}, id="by an option that an unset variable left empty"),
        pytest.param(None, {VARIABLE: "/no/such"}, id="by the environment"),
    ],
)
def test_a_directory_that_was_named_must_be_there(option: str | None, environ: dict[str, str], tmp_path: Path) -> None:
    """A typing error never means another policy."""
    with pytest.raises(PolicyError, match="no such directory"):
        find_directory(option, environ, tmp_path)


def test_the_digest_names_the_content_of_every_file(tmp_path: Path) -> None:
    """One byte in any file that was read gives another digest; the same files elsewhere give the same."""
    copy_out(tmp_path / "one")
    copy_out(tmp_path / "two")
    (tmp_path / "two" / "notes.txt").write_text("not read")
    one, two = (load(tmp_path / name, unix_group=lambda _: None).digest for name in ("one", "two"))
    assert one == two
    assert one.startswith("sha256:")
    seen = {one}
    files = [path for path in sorted((tmp_path / "one").rglob("*.*")) if path.parent.name not in ("schema", "tests")]
    for path in files:
        comment = "{# x #}" if path.suffix == ".j2" else "# x\n"
        path.write_text(path.read_text() + comment)
        seen.add(load(tmp_path / "one", unix_group=lambda _: None).digest)
    assert len(seen) == 1 + len(files)
    for path in {*(tmp_path / "one").rglob("*.*")} - {*files}:  # nothing is decided by them
        path.write_text(path.read_text() + " ")
        assert load(tmp_path / "one", unix_group=lambda _: None).digest in seen


def test_sections_left_out_of_identity_are_the_shipped_ones(tmp_path: Path) -> None:
    """Who changes what counts as infrastructure does not lose how types and owners are found."""
    (tmp_path / "identity.yaml").write_text(
        "infrastructure: {labels: [site.infra=yes], trusted: {names: [exporter]}}\n"
    )
    shipped, own = load(None, unix_group=lambda _: None).identity, load(tmp_path, unix_group=lambda _: None).identity
    assert (own.types, own.owners) == (shipped.types, shipped.owners)
    assert own.infrastructure_labels == ("site.infra=yes",)
    (tmp_path / "identity.yaml").write_text("owners: []\n")
    emptied = load(tmp_path, unix_group=lambda _: None).identity
    assert emptied.owners == ()
    assert emptied.trusted == shipped.trusted


def test_a_signal_is_added_to_the_shipped_ones_or_takes_the_place_of_one(tmp_path: Path) -> None:
    """Adding a signal does not take away those that the shipped rules ask."""
    query = "{devices: whole, expr: 'P[{{ range }}]'}"
    power = f"{{unit: watts, kind: gauge, ceiling: 700W, join: gpu, label: power, queries: [{query}]}}"
    (tmp_path / "signals.yaml").write_text(f"signals:\n  power: {power}\n")
    shipped, own = load(None, unix_group=lambda _: None), load(tmp_path, unix_group=lambda _: None)
    assert set(own.signals) == {*shipped.signals, "power"}
    assert own.signals["cpu_usage"] == shipped.signals["cpu_usage"]
    assert own.digest != shipped.digest


def test_a_site_that_names_no_witnesses_has_none(tmp_path: Path) -> None:
    """Its own signal takes the shipped one's place whole: nothing is heard against it, and nobody told to be frozen."""
    query = "{devices: whole, expr: 'U[{{ range }}]'}"
    gpu = f"{{unit: ratio, kind: gauge, ceiling: 100%, join: gpu, label: gpu, queries: [{query}]}}"
    (tmp_path / "signals.yaml").write_text(f"signals:\n  gpu_utilization: {gpu}\n")
    own = load(tmp_path, unix_group=lambda _: None)
    assert (own.signals["gpu_utilization"].witnesses, own.signals["gpu_utilization"].frozen) == ((), None)
    assert "gpu_power" in own_signals(own), "which nothing names any more"


def test_only_comments_below_witnesses_are_none(tmp_path: Path) -> None:
    """Commenting them all out switches them off."""
    query = "{devices: whole, expr: 'U[{{ range }}]'}"
    text = "signals:\n  mine:\n    label: mine\n    unit: ratio\n    kind: gauge\n    join: gpu\n    ceiling: 100%\n"
    text += f"    witnesses:\n      # - signal: gpu_engine\n    queries: [{query}]\n"
    (tmp_path / "signals.yaml").write_text(text)
    assert load(tmp_path, unix_group=lambda _: None).signals["mine"].witnesses == ()

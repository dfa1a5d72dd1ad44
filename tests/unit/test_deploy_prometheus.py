"""Rules, alerts and dashboard hold together: each alert is tested, says what to do, and asks for what there is."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import typer.main
from cli_host import REPOSITORY
from exposition_reader import Read, read
from whole_host import AT, DIGITS, GPUS, MINUTE, A, B, C, inspect
from whole_host import Host as WholeHost

from ds01_policy.cli.app import app
from ds01_policy.config import yaml_strict
from ds01_policy.config.load import load
from ds01_policy.metrics import families, text
from ds01_policy.metrics.watching import Watching, watch_families
from ds01_policy.model import Action, History, Mode, Outcome, Status, Totals, Unfit
from ds01_policy.observe.ports import Counters, Json, SourceError
from ds01_policy.policy import Policy
from ds01_policy.tick import Report, look

PROMETHEUS = REPOSITORY / "deploy" / "prometheus"
DASHBOARD = REPOSITORY / "deploy" / "grafana" / "ds01-policy.json"
FILES = sorted(PROMETHEUS.rglob("*.yaml"))
NOWHERE = "Ds01PolicyAbsent"  # the one alert that is about no host
PEOPLES = {"up", "ALERTS"}  # what Prometheus tells of itself

# What stands in an expression besides names of metrics: text, ranges, label lists and matchers, functions, words.
_NO_NAMES = re.compile(
    r'"(?:[^"\\]|\\.)*"|\[[^]]*\]|\{[^}]*\}|\b(?:by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)'
)
_NAME = re.compile(r"(?<![\w:.])[a-zA-Z_:][\w:]*(?![\w:])(?!\s*\()")
_WORDS = {"and", "or", "unless", "by", "without", "on", "offset", "bool", "inf", "nan"}
_MATCHERS = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\{([^}]*)\}")
_LABEL = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)")
_COMMAND = re.compile(r"`ds01-policy ([^`]*)`")


def read_yaml(path: Path) -> Any:
    document = yaml_strict.parse(path.read_bytes(), path.name)
    assert not document.findings
    return document.value


def rules(name: str) -> list[dict[str, Any]]:
    return [rule for group in read_yaml(PROMETHEUS / name)["groups"] for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules("alerts.yaml")}
RECORDS = {rule["record"]: rule for rule in rules("recording.yaml")}
TESTS = [test for path in sorted((PROMETHEUS / "tests").iterdir()) for test in read_yaml(path)["tests"]]
SCRAPE = read_yaml(PROMETHEUS / "scrape.yaml")
BOARD = json.loads(DASHBOARD.read_text())
PANELS = [panel for panel in BOARD["panels"] if panel["type"] != "row"]


def metrics_in(promql: str) -> set[str]:
    """List the metrics that an expression asks for."""
    return {name for name in _NAME.findall(_NO_NAMES.sub(" ", promql)) if name.lower() not in _WORDS}


def asked() -> Iterator[tuple[str, str]]:
    """Give every expression of rules, alerts and dashboard, with where it stands."""
    yield from ((name, rule["expr"]) for name, rule in (*ALERTS.items(), *RECORDS.items()))
    yield from ((panel["title"], target["expr"]) for panel in PANELS for target in panel["targets"])
    yield from (("annotation", each["expr"]) for each in BOARD["annotations"]["list"])
    yield from (("variable", each["query"]["query"]) for each in BOARD["templating"]["list"] if each["type"] == "query")


ASKED = list(asked())


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load(None, unix_group=lambda _: None)


def told(policy: Policy, report: Report | None, mode: Mode = Mode.OBSERVE) -> Read:
    """Read what a tick and `watch` tell, as Prometheus does."""
    watching = Watching(following=True, last_event=AT, waiting=0, epilogs={})
    ids = [rule.id for rule in policy.rules]
    began = AT - timedelta(seconds=2)
    return read(text({**families(report, mode, began, AT, AT.timestamp(), ids), **watch_families(watching)}))


@dataclass(frozen=True)
class Own:
    """What a host measures itself: each of its containers has used so many cores for hours."""

    cores: float

    @property
    def history(self) -> History:
        """Tell of looks every five minutes for four hours."""
        times = [AT.timestamp() - 300 * ago for ago in range(48, 0, -1)]
        cpu = {container: tuple((time, self._used(time)) for time in times) for container in (A, B, *DIGITS)}
        return History(last_tick_at=AT - 5 * MINUTE, samples={"cpu": cpu})

    def counters(self, pids: Mapping[str, int]) -> Counters:
        """Count once more."""
        return Counters(AT.timestamp(), dict.fromkeys(pids, self._used(AT.timestamp())))

    def _used(self, time: float) -> float:
        return 1e6 + self.cores * (time - AT.timestamp())


def looked(policy: Policy, host: WholeHost, *, prometheus: bool = True) -> Report:
    """Look at a host as a tick does. What is idle in Prometheus is idle in its own samples, else everybody works."""
    own = Own(0.0 if prometheus else 1.0)
    sources = replace(host.sources, prometheus=host if prometheus else None, local=own)
    return replace(look(policy, sources, AT, own.history), totals=Totals())


@pytest.fixture(scope="module")
def everything(policy: Policy) -> Read:
    """Read the metrics of a tick in which there is something to tell of everything."""
    host = WholeHost({A: inspect(A, "train"), B: inspect(B, "lab", 1)}, busy={1: AT - timedelta(hours=4)})
    report = looked(policy, host)
    history = replace(report.history, unfit={GPUS[0].uuid: Unfit(AT, "it hangs")})
    return told(policy, replace(report, history=history, outcomes=(Outcome("d", Action.STOP, Status.FAILED),)))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_the_files_are_plain_yaml(path: Path) -> None:
    """No key twice, no anchors, nothing that YAML could read two ways."""
    assert read_yaml(path)


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_what_where_and_what_to_do(name: str) -> None:
    """Severity, a summary, one sentence with the host's name and what to do there, and where more is written."""
    alert = ALERTS[name]
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    assert set(alert["annotations"]) == {"summary", "description", "runbook"}
    assert alert["annotations"]["runbook"] == f"deploy/README.md#{name.lower()}"
    for words in (alert["annotations"]["summary"], alert["annotations"]["description"]):
        assert ("{{ $labels.instance }}" in words) == (name != NOWHERE)
    description = alert["annotations"]["description"]
    assert description.endswith(".")
    assert ". " not in description, "one sentence"
    assert ": " in description, "what is the matter: what to do"
    assert "`" in description
    assert alert["for"]


@pytest.mark.parametrize("name", ALERTS)
def test_the_commands_that_an_alert_names_exist(name: str) -> None:
    """At three in the morning nobody wants to learn that there is no such option."""
    commands = typer.main.get_command(app)
    for line in _COMMAND.findall(ALERTS[name]["annotations"]["description"]):
        word, *rest = line.split()
        command = commands.commands[word]  # type: ignore[attr-defined]  # a group's, which typer types as any command
        options = {option for parameter in command.params for option in parameter.opts}
        assert {each for each in rest if each.startswith("--")} <= options, line


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_fires_and_stays_silent_in_the_same_test(name: str) -> None:
    """Each has a test of promtool's in which it fires at one time, and not yet, or no more, at another."""
    fires: set[int] = set()
    silent: set[int] = set()
    for number, test in enumerate(TESTS):
        for case in test.get("alert_rule_test", ()):
            if case["alertname"] == name:
                (fires if case.get("exp_alerts") else silent).add(number)
    assert fires & silent


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_names_one_of_several_hosts(name: str) -> None:
    """Where it fires there is another host, that it does not fire for."""
    if name == NOWHERE:
        return
    for test in TESTS:
        hosts = {found for each in test["input_series"] for found in re.findall(r'instance="(\w+)', each["series"])}
        for case in test.get("alert_rule_test", ()):
            if case["alertname"] == name and case.get("exp_alerts"):
                named = {alert["exp_labels"]["instance"] for alert in case["exp_alerts"]}
                if named < hosts:
                    return
    pytest.fail("no test tells one host from another")


def test_tests_are_of_alerts_that_there_are() -> None:
    """To promtool an alert that nobody knows is one that is silent."""
    assert {case["alertname"] for test in TESTS for case in test.get("alert_rule_test", ())} == set(ALERTS)


@pytest.mark.parametrize("record", RECORDS)
def test_every_recording_is_asked_for_in_a_test(record: str) -> None:
    """Its values, not only what is made of them."""
    cases = [case for test in TESTS for case in test.get("promql_expr_test", ())]
    assert any(record in metrics_in(case["expr"]) and case.get("exp_samples") for case in cases)


@pytest.mark.parametrize(
    ("promql", "names"),
    [
        ('max by (instance) (up{job="a"}) == 0', {"up"}),
        ("sum(rate(a_total[5m])) / on (x) group_left (y) b:c offset 5m", {"a_total", "b:c"}),
        ('label_replace(a and b, "c", "$1", "d", "(e)") or f unless 0 * g > 1e3', {"a", "b", "f", "g"}),
        ("label_values(a:b, instance)", {"a:b", "instance"}),
    ],
)
def test_names_are_found_in_expressions(promql: str, names: set[str]) -> None:
    """What is no metric is left out."""
    assert metrics_in(promql) == names


@pytest.mark.parametrize(
    ("where", "promql"), ASKED, ids=[f"{number} {where}" for number, (where, _) in enumerate(ASKED)]
)
def test_whatever_is_asked_for_exists(where: str, promql: str, everything: Read, policy: Policy) -> None:
    """Every metric is the program's, one of those that signals.yaml asks for, Prometheus' own, or recorded."""
    exporters = {
        name for signal in policy.signals.values() for query in signal.queries for name in _exported(query.expr)
    }
    known = set(everything) | exporters | set(RECORDS) | PEOPLES
    names = metrics_in(promql) - ({"instance"} if where == "variable" else set())
    assert names
    assert names <= known


def _exported(template: str) -> set[str]:
    return set(re.findall(r"\b(?:DCGM|container)_\w+", template))


def labels_in(promql: str) -> Iterator[tuple[str, str]]:
    """Give (metric, label) for every label that a matcher names."""
    for name, matchers in _MATCHERS.findall(promql):
        yield from ((name, label) for label in _LABEL.findall(re.sub(r'"(?:[^"\\]|\\.)*"', '""', matchers)))


def test_labels_are_those_that_the_program_gives(everything: Read) -> None:
    """In rules, in the dashboard, and in the series that tests are made of: a test of made-up labels proves nothing."""
    given = {name: {label for labels in samples for label, _ in labels} for name, samples in everything.items()}
    # What is empty is no label to Prometheus: that of a whole GPU, of a decision that nothing holds back, and so on.
    given["ds01_policy_container_gpu_info"].add("gpu_instance")
    given["ds01_policy_readings"] |= {"source", "missing"}
    given["ds01_policy_decisions"].add("held_by")
    series = [each["series"] for test in TESTS for each in test["input_series"]]
    found = {
        (name, label)
        for promql in (*(promql for _, promql in ASKED), *series)
        for name, label in labels_in(promql)
        if name in given
    }
    assert len(found) > 50
    assert {(name, label) for name, label in found if label not in given[name] | {"job", "instance"}} == set()
    assert {name for name, _ in found} >= {name for name in given if name in "".join(series)}


def test_scraping_keeps_what_is_asked_for(policy: Policy) -> None:
    """No metric that a signal asks for is dropped, and no label that a join needs or that tells two rows apart."""
    needed = {"UUID", "GPU_I_ID", "hpc_job", "gpu", "id", "cpu", "interface", "job", "instance"}
    names = {name for signal in policy.signals.values() for query in signal.queries for name in _exported(query.expr)}
    steps = [
        (job["job_name"], step) for job in SCRAPE["scrape_configs"] for step in job.get("metric_relabel_configs", ())
    ]
    assert {step["action"] for _, step in steps} == {"keep", "labeldrop"}
    for job, step in steps:
        if step["action"] == "labeldrop":
            assert not [label for label in needed if re.fullmatch(step["regex"], label)]
        else:
            assert (job, step["source_labels"]) == ("cadvisor", ["__name__"])
            asked_for = {name for name in names if name.startswith("container_")}
            assert asked_for == {name for name in asked_for if re.fullmatch(step["regex"], name)} != set()


def test_alerts_know_the_jobs_by_name() -> None:
    """Who ought to run is told by the targets of one job: under another name nobody would be missed."""
    named = {name for alert in ALERTS.values() for name in re.findall(r'job="([^"]+)"', alert["expr"])}
    assert named == {"ds01-policy"} < {job["job_name"] for job in SCRAPE["scrape_configs"]}


@pytest.mark.parametrize(
    ("address", "host"),
    [("gpu01:9100", "gpu01"), ("gpu01", "gpu01"), ("10.0.0.7:9465", "10.0.0.7"), ("[fe80::1]:9100", "[fe80::1]")],
)
def test_a_host_is_its_address_without_the_port(address: str, host: str) -> None:
    """In every job, and in what is recorded of those who scrape otherwise."""
    for job in SCRAPE["scrape_configs"]:
        (step,) = job["relabel_configs"]
        assert (step["source_labels"], step["target_label"]) == (["__address__"], "instance")
        assert _first_group(step["regex"], address) == host
    patterns = re.findall(
        r'"instance",\s*"\$1",\s*"instance",\s*"([^"]+)"', str([rule["expr"] for rule in RECORDS.values()])
    )
    assert [_first_group(pattern, address) for pattern in patterns] == [host] * 2


def _first_group(pattern: str, text: str) -> str:
    found = re.fullmatch(pattern, text)  # anchored at both ends, as Prometheus does
    assert found
    return found[1]


def test_the_dashboard_is_one_for_any_prometheus() -> None:
    """Its source is a variable; every panel has its place, says what it shows, and names no unknown variable."""
    assert {each["name"] for each in BOARD["templating"]["list"]} == {"datasource", "instance"}
    sources = [each["datasource"] for panel in PANELS for each in (panel, *panel["targets"])]
    sources += [each["datasource"] for each in BOARD["annotations"]["list"]]
    assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources)
    assert {name for _, promql in ASKED for name in re.findall(r"\$\{?\w+", promql)} <= {"$instance", "$__range", "$1"}
    assert all(panel["title"] and panel["description"].endswith(".") for panel in PANELS)
    ids = [panel["id"] for panel in BOARD["panels"]]
    assert len(set(ids)) == len(ids)
    cells = [
        (x, y)
        for place in (panel["gridPos"] for panel in BOARD["panels"])
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]
    assert len(set(cells)) == len(cells), "panels overlap"
    assert max(x for x, _ in cells) < 24


def healthy() -> WholeHost:
    """Make a host in order: one works, one is new, one has ended, and many idle that nobody stops in observe."""
    inspects: dict[str, Json | SourceError | None] = {
        A: inspect(A, "train"),
        B: inspect(B, "lab", 1, up=10 * MINUTE),
        C: inspect(C, "done", 2, status="exited"),
    }
    inspects |= {digit: inspect(digit, f"idle{digit[0]}", 3 + number % 5) for number, digit in enumerate(DIGITS)}
    return WholeHost(inspects, busy={0: AT - timedelta(hours=4)})


@pytest.mark.parametrize("prometheus", [True, False], ids=["with Prometheus", "with `prometheus: never`"])
def test_a_host_in_order_raises_no_alert(policy: Policy, tmp_path: Path, *, prometheus: bool) -> None:
    """What the program itself tells of such a host in observe, tick after tick for hours, is no alert at all."""
    found = told(policy, looked(policy, healthy(), prometheus=prometheus))
    assert len(found["ds01_policy_container_gpu_info"]) == 12
    ticks = 60  # five hours of them
    series = [
        {
            "series": _series(name, dict(labels) | {"job": "node", "instance": "gpu01"}),
            "values": f"0+300x{ticks}" if name.endswith("timestamp_seconds") else f"{value!r}x{ticks}",
        }
        for name, samples in found.items()
        for labels, value in samples.items()
    ]
    unit = {
        "rule_files": [str(PROMETHEUS / name) for name in ("recording.yaml", "alerts.yaml")],
        "tests": [
            {
                "interval": "5m",
                "input_series": series,
                "alert_rule_test": [
                    {"alertname": name, "eval_time": at} for name in ALERTS for at in ("20m", "1h", "5h")
                ],
            }
        ],
    }
    path = tmp_path / "healthy.json"  # which is YAML too
    path.write_text(json.dumps(unit))
    ran = promtool("test", "rules", str(path))
    assert ran.returncode == 0, ran.stdout + ran.stderr


def _series(name: str, labels: Mapping[str, str]) -> str:
    return f"{name}{{{', '.join(f'{label}={json.dumps(value)}' for label, value in labels.items())}}}"


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run promtool; where it is not installed the test is skipped, or fails where it must not be."""
    program = shutil.which("promtool")
    if program is None:
        (pytest.fail if os.environ.get("DS01_POLICY_REQUIRE_LIVE") == "1" else pytest.skip)("promtool is not installed")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120, check=False)

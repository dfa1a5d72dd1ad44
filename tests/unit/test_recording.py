"""Recordings: no secret is written, the same host gives the same bytes, a replay answers only what was asked."""

from __future__ import annotations

import inspect as inspect_module
import json
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01_policy.config.load import load
from ds01_policy.model import (
    Container,
    Demand,
    Evaluation,
    Gpu,
    GpuRef,
    History,
    KeepAlive,
    Kind,
    Life,
    MigDevice,
    Mode,
    Partition,
    Plan,
    Problem,
    Snapshot,
    SourceState,
    Spell,
    Unfit,
)
from ds01_policy.observe import asking, measure, snapshot
from ds01_policy.observe.envelope import BadQuery, SourceDown
from ds01_policy.observe.gpus import NoGpuStack
from ds01_policy.observe.inspected import container_of
from ds01_policy.observe.ports import Counters, FileStat, Inventory, Json, QueryResult, SourceError, Sources
from ds01_policy.observe.recorded_values import (
    counters_json,
    history_json,
    history_of,
    inventory_json,
    inventory_of,
    stat_json,
    stat_of,
)
from ds01_policy.observe.recording import Recorder, RecordingError, Replay, replay
from ds01_policy.report.document import document, dumps
from ds01_policy.tick import look

AT = datetime(2026, 3, 2, 3, 31, 0, 250000, tzinfo=UTC)
ONE, TWO, GONE, BROKEN = "1" * 64, "2" * 64, "3" * 64, "4" * 64
KEEP = "/workspace/.keep-alive"
GPU_QUERY = 'max by (UUID) (DCGM_FI_DEV_GPU_UTIL{UUID=~"GPU-1"}[3700s])'
CPU_QUERY = 'label_replace(container_cpu_usage_seconds_total{id=~".*1111.*"} offset 3600s, "w", "0", "", "")'
SECRETS = ("hunter2", "nvapi-", "--token", "https://user:pass", "checked-secret", "splunk-secret", "cifs-secret")


def inspect(container_id: str, name: str) -> Json:
    """Answer like the engine does, with a secret wherever people keep them."""
    return {
        "Id": container_id,
        "Created": "2026-03-01T22:31:00.123456789Z",
        "Path": "python",
        "Args": ["train.py", "--token", "hunter2"],
        "State": {
            "Status": "running",
            "Running": True,
            "Pid": 4711,
            "StartedAt": "2026-03-01T23:31:00.5Z",
            "FinishedAt": "0001-01-01T00:00:00Z",
            "Health": {"Status": "healthy", "Log": [{"Output": "checked-secret"}]},
        },
        "Image": "sha256:feed",
        "Name": f"/{name}",
        "RestartCount": 0,
        "ExecIDs": None,
        "HostConfig": {
            "DeviceRequests": [
                {"Driver": "", "Count": -1, "DeviceIDs": None, "Capabilities": [["gpu"]], "Options": {}}
            ],
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
            "NetworkMode": "default",
            "LogConfig": {"Type": "splunk", "Config": {"splunk-token": "splunk-secret"}},
            "Mounts": [{"VolumeOptions": {"DriverConfig": {"Options": {"o": "password=cifs-secret"}}}}],
        },
        "Mounts": [{"Type": "bind", "Source": "/data/alice", "Destination": "/workspace"}],
        "Config": {
            "Env": [
                "WANDB_API_KEY=hunter2",
                "NVIDIA_API_KEY=nvapi-123",
                "NVIDIA_VISIBLE_DEVICES=all",
                "NVIDIA_REQUIRE_CUDA=cuda>=12",
                "CUDA_VERSION=12.4",
                "CUDA_VERSION_SECRET=hunter2",
            ],
            "Cmd": ["train.py", "--token", "hunter2"],
            "Entrypoint": ["/run", "https://user:pass@host"],
            "Healthcheck": {"Test": ["CMD", "curl", "https://user:pass@host"]},
            "Image": "pytorch:2.3",
            "Labels": {"ds01.user": "alice", "note": "\x1b[2J\x7f名前"},
        },
        "NetworkSettings": {"Networks": {}},
    }


@dataclass
class FakeDocker:
    """An engine with one readable container, one that is gone, one that cannot be read, and one more."""

    down: str = ""
    asked: list[str] = field(default_factory=list)

    def containers(self) -> list[Json]:
        if self.down:
            raise SourceError(self.down)
        ids = (ONE, TWO, GONE, BROKEN)
        return [
            {"Id": each, "Names": [f"/{each[0]}"], "Command": "run --token hunter2", "State": "running"} for each in ids
        ]

    def inspect(self, container_id: str) -> Json | None:
        self.asked.append(container_id)
        if container_id == BROKEN:
            raise SourceError("HTTP 500: stuck")
        return None if container_id == GONE else inspect(container_id, f"c{container_id[0]}")

    def stat(self, container_id: str, path: str) -> FileStat | None:
        if container_id == TWO:
            raise SourceError("timed out after 10 s")
        return FileStat(AT - timedelta(hours=1), path.rpartition("/")[2]) if container_id == ONE else None


class FakePrometheus:
    """A Prometheus that knows one metric and chokes on the other."""

    def query(self, promql: str, at: datetime) -> QueryResult:
        if promql != GPU_QUERY:
            raise SourceError("HTTP 503: overloaded")
        now = at.timestamp()
        series: Json = {"metric": {"UUID": "GPU-1"}, "values": [[now - 30, "0"], [now, "NaN"]]}
        return QueryResult("matrix", [series])


@dataclass
class FakeGpus:
    """A driver with one GPU cut in two, or with nothing to say."""

    down: str = ""
    kind: type[SourceError] = SourceError

    def inventory(self) -> Inventory:
        if self.down:
            raise self.kind(self.down)
        devices = (MigDevice("MIG-a", 0, 7, 0), MigDevice("MIG-b", 1, 8, 0))
        gpus = (Gpu("GPU-1", 0, "00000000:09:00.0", 0, "A100", mig_enabled=True, mig_devices=devices), Gpu("GPU-2", 1))
        return Inventory(gpus, "nvml", ("tried nothing else",), {"GPU-2": 0.25}, {"GPU-1/gi7": "it does not say"})


class FakeHost:
    """A host that knows one process and one user."""

    def name(self) -> str:
        return "gpu01"

    def uid_of_process(self, pid: int) -> int | None:
        return 1000 if pid == 4711 else None

    def user_of_uid(self, uid: int) -> str | None:
        return "alice" if uid == 1000 else None


@dataclass
class FakeLocal:
    """A host that counts every container, or none."""

    down: str = ""

    def counters(self, pids: Mapping[str, int]) -> Counters:
        if self.down:
            raise SourceError(self.down)
        return Counters(AT.timestamp() + 0.25, dict.fromkeys(pids, 12.5), dict.fromkeys(pids, 4096.0), ("a note",))


def sources(docker_down: str = "", gpu_down: str = "", local_down: str = "") -> Sources:
    """Make one host's sources."""
    local = FakeLocal(local_down)
    return Sources(FakeDocker(docker_down), FakePrometheus(), FakeGpus(gpu_down), FakeHost(), local)


def survey(of: Sources, at: datetime) -> str:
    """Ask a host everything a tick asks, and print what came of it as the document programs read."""
    problems: list[Problem] = []
    containers: list[Container] = []
    states: dict[str, SourceState] = {}
    try:
        listed = [str(entry["Id"]) for entry in of.docker.containers()]
        states["docker"] = SourceState(up=True)
    except SourceError as error:
        listed = []
        states["docker"] = SourceState(up=False, detail=str(error))
    for container_id in listed:
        try:
            raw = of.docker.inspect(container_id)
            if raw is None:
                continue
            container = container_of(raw)
            found = of.docker.stat(container_id, KEEP)
            problems.append(Problem("kept", repr(KeepAlive(found.modified_at) if found else None)))
            problems.append(Problem("owner", repr(of.host.user_of_uid(of.host.uid_of_process(container.pid) or 0))))
            problems.append(Problem("raw", json.dumps([raw["HostConfig"]["DeviceRequests"], raw["Mounts"]])))
            containers.append(container)
        except SourceError as error:
            problems.append(Problem("container", f"{container_id[:12]}: {error}"))
    problems += measured(of, at, containers)
    gpus: tuple[Gpu, ...] = ()
    try:
        gpus = of.gpu.inventory().gpus
    except SourceError as error:
        problems.append(Problem("gpu", str(error)))
    snapshot = Snapshot(at, of.host.name(), tuple(containers), gpus, sources=states, problems=tuple(problems))
    evaluation = Evaluation((), Demand(len(gpus), 0, high=False))
    return dumps(document("preview", "", Mode.OBSERVE, snapshot, evaluation, Plan(), all_=True))


def measured(of: Sources, at: datetime, containers: list[Container]) -> list[Problem]:
    """Ask both sources of measurements, and tell what they answered."""
    problems: list[Problem] = []
    for promql in (GPU_QUERY, CPU_QUERY):
        try:
            if of.prometheus is not None:
                problems.append(Problem("answer", repr(of.prometheus.query(promql, at))))
        except SourceError as error:
            problems.append(Problem("answer", str(error)))
    try:
        if of.local is not None:
            problems.append(Problem("counted", repr(of.local.counters({each.id: each.pid for each in containers}))))
    except SourceError as error:
        problems.append(Problem("local", str(error)))
    return problems


SPELL = Spell(
    ONE,
    AT - timedelta(hours=4),
    "idle-gpu",
    AT - timedelta(hours=1),
    AT,
    AT,
    Mode.ENFORCE,
    delivered=True,
    promised_at=AT + timedelta(hours=1),
)
HISTORY = History(
    spells={(ONE, "idle-gpu"): SPELL, (TWO, "idle-gpu"): Spell(TWO, None, "idle-gpu", AT, AT, kept_since=AT)},
    last_kinds={(ONE, "idle-gpu"): Kind.WARN, (TWO, "idle-gpu"): Kind.EXEMPT},
    last_tick_at=AT - timedelta(minutes=5),
    lives={ONE: Life(ONE, AT - timedelta(hours=4), AT - timedelta(days=2), AT, None, "alice", (GpuRef("GPU-2", 7),))},
    last_running=2,
    breaker_since=AT - timedelta(minutes=5),
    samples={
        "cpu": {ONE: ((AT.timestamp() - 300.5, 17.25), (AT.timestamp(), 18.0))},
        "gpu": {"GPU-2": ((AT.timestamp(), 0.5),)},
    },
    partitions={
        GpuRef("GPU-1"): Partition(("0:MIG-a", "1:MIG-b"), AT - timedelta(minutes=5)),
        GpuRef("GPU-1", 7): Partition(("MIG-a",), AT - timedelta(minutes=5)),
        GpuRef("GPU-2"): Partition((), None),
    },
    unfit={"GPU-2": Unfit(AT - timedelta(days=1), "it fell off the bus")},
    resets={"GPU-2": AT - timedelta(minutes=20)},
    writable=False,
    unwritable_why="disk full",
)
VERSIONS = {"python": "3.11", "ds01-policy": "0.1.0"}


def recorded(directory: Path, of: Sources | None = None) -> tuple[str, Replay]:
    """Survey a host while recording it; give what the survey printed, and the replay."""
    recorder = Recorder(of or sources(), directory)
    printed = survey(recorder.sources, AT)
    recorder.finish(AT, HISTORY, VERSIONS)
    return printed, replay(directory)


def contents(directory: Path) -> dict[str, str]:
    """Read every file of a recording."""
    return {path.relative_to(directory).as_posix(): path.read_text() for path in sorted(directory.rglob("*.json"))}


@pytest.mark.parametrize(
    "of",
    [
        pytest.param(sources(), id="all sources up"),
        pytest.param(sources(docker_down="connection refused; is Docker running?"), id="Docker down"),
        pytest.param(sources(gpu_down="no driver"), id="driver down"),
        pytest.param(sources(local_down="no /proc"), id="nothing can be counted"),
        pytest.param(Sources(FakeDocker(), None, FakeGpus(), FakeHost()), id="Prometheus switched off"),
    ],
)
def test_a_replay_gives_the_same_document_byte_for_byte(of: Sources, tmp_path: Path) -> None:
    """What was decided on the host is decided again from its recording: answers, absences and errors alike."""
    printed, again = recorded(tmp_path / "host", of)
    assert survey(again.sources, again.at) == printed
    assert (again.at, again.host, again.history) == (AT, "gpu01", HISTORY)
    assert again.mismatches == []
    assert again.unused() == []


class Whole(FakePrometheus):
    """A Prometheus that answers every gauge with an hour of zeros and refuses every counter."""

    def query(self, promql: str, at: datetime) -> QueryResult:
        if "container_" in promql:
            raise BadQuery("refuses the query (HTTP 422, many-to-many)")
        ticks = [[at.timestamp() - 30 * back, "0"] for back in reversed(range(130))]
        return QueryResult("matrix", [{"metric": {"UUID": "GPU-2"}, "values": ticks}])


class Dead(FakePrometheus):
    """A Prometheus that nobody answers for: the engine gives up after the first question."""

    def query(self, promql: str, at: datetime) -> QueryResult:  # noqa: ARG002  the seam's shape
        raise SourceDown("gave no whole answer in time")


@pytest.mark.parametrize("prometheus", [Whole(), Dead(), None], ids=["answering", "down", "switched off"])
@pytest.mark.parametrize(
    "gpus", [FakeGpus(), FakeGpus("no answer"), FakeGpus("no driver", NoGpuStack)], ids=["up", "silent", "not there"]
)
def test_a_whole_tick_is_decided_again_byte_for_byte(
    prometheus: FakePrometheus | None, gpus: FakeGpus, tmp_path: Path
) -> None:
    """The engine itself, on the shipped policy, asks a replay exactly what it asked the host, and finds the same."""
    policy = load(None, unix_group=lambda _: None)
    history = replace(HISTORY, writable=True)

    def decided(of: Sources, at: datetime, remembered: History) -> str:
        report = look(policy, of, at, remembered)
        found = document("preview", "", Mode.OBSERVE, report.snapshot, report.evaluation, report.plan, all_=True)
        return dumps(found) + repr(report)

    recorder = Recorder(Sources(FakeDocker(), prometheus, gpus, FakeHost(), FakeLocal()), tmp_path / "host")
    printed = decided(recorder.sources, AT, history)
    recorder.finish(AT, history, VERSIONS)
    again = replay(tmp_path / "host")
    assert decided(again.sources, again.at, again.history) == printed
    assert again.mismatches == []
    assert again.unused() == []


def test_every_kind_of_error_that_the_engine_tells_apart_comes_back(tmp_path: Path) -> None:
    """A class of SourceError that observe catches by name must be raised again, or a replay would take another way."""
    told_apart = {
        name
        for module in (snapshot, measure, asking)
        for names in re.findall(r"(?:except |isinstance\(\w+, )\(?([\w, ]+)", inspect_module.getsource(module))
        for name in names.replace(" as error", "").split(", ")
        if isinstance(each := getattr(module, name, None), type) and issubclass(each, SourceError)
    } - {"SourceError", "Malformed"}  # Malformed is the engine's own finding about an answer
    assert {"SourceDown", "BadQuery", "NoGpuStack"} <= told_apart
    for name in told_apart:
        kind = getattr(snapshot, name, None) or getattr(asking, name)
        recorder = Recorder(Sources(FakeDocker(), None, FakeGpus("words", kind), FakeHost()), tmp_path / name)
        with pytest.raises(kind, match="words"):
            recorder.sources.gpu.inventory()
        recorder.finish(AT, History(), {})
        with pytest.raises(kind, match="words"):
            replay(tmp_path / name).sources.gpu.inventory()


def test_recording_passes_through_what_the_host_says(tmp_path: Path) -> None:
    """Being recorded changes nothing of what a tick sees, and costs no further request."""
    host = sources()
    assert recorded(tmp_path / "host", host)[0] == survey(sources(), AT)
    assert isinstance(host.docker, FakeDocker)
    assert host.docker.asked == [ONE, TWO, GONE, BROKEN]


def test_recording_the_same_host_twice_gives_the_same_files(tmp_path: Path) -> None:
    """Names, order and bytes do not depend on when or in which order was asked: two recordings can be diffed."""
    recorded(tmp_path / "a")
    backwards = Recorder(sources(), tmp_path / "b")
    for container_id in (TWO, ONE):
        backwards.sources.docker.inspect(container_id)
    backwards.sources.gpu.inventory()
    assert backwards.sources.prometheus is not None
    backwards.sources.prometheus.query(GPU_QUERY, AT)
    survey(backwards.sources, AT)
    backwards.finish(AT, HISTORY, VERSIONS)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert list(contents(tmp_path / "a")) == [
        "docker/containers.json",
        "docker/inspect/111111111111.json",
        "docker/inspect/222222222222.json",
        "docker/inspect/333333333333.json",
        "docker/inspect/444444444444.json",
        "docker/stat.json",
        "gpu.json",
        "history.json",
        "host.json",
        "local.json",
        "meta.json",
        "prometheus/01-container_cpu_usage_seconds_total.json",
        "prometheus/02-dcgm_fi_dev_gpu_util.json",
    ]


def test_files_read_well(tmp_path: Path) -> None:
    """One sample a line, errors in their own words, times in UTC."""
    recorded(tmp_path / "host")
    files = contents(tmp_path / "host")
    assert (
        files["prometheus/02-dcgm_fi_dev_gpu_util.json"]
        == """\
{
  "query": "max by (UUID) (DCGM_FI_DEV_GPU_UTIL{UUID=~\\"GPU-1\\"}[3700s])",
  "at": "2026-03-02T03:31:00.250000Z",
  "result_type": "matrix",
  "result": [
    {
      "metric": {
        "UUID": "GPU-1"
      },
      "values": [
        [1772422230.25, "0"],
        [1772422260.25, "NaN"]
      ]
    }
  ]
}
"""
    )
    assert json.loads(files["prometheus/01-container_cpu_usage_seconds_total.json"])["error"] == "HTTP 503: overloaded"
    assert json.loads(files["docker/inspect/333333333333.json"]) == {"Id": GONE, "gone": True}
    assert json.loads(files["docker/inspect/444444444444.json"]) == {"Id": BROKEN, "error": "HTTP 500: stuck"}
    assert json.loads(files["host.json"]) == {"uid_of_process": {"4711": 1000}, "user_of_uid": {"1000": "alice"}}
    assert json.loads(files["meta.json"])["versions"] == VERSIONS


def test_no_secret_is_written(tmp_path: Path) -> None:
    """Environment, commands, health logs, log and volume options stay out; what the engine reads stays in."""
    recorded(tmp_path / "host")
    files = contents(tmp_path / "host")
    assert [(name, secret) for name, text in files.items() for secret in SECRETS if secret in text] == []
    kept = json.loads(files["docker/inspect/111111111111.json"])
    assert kept["Config"] == {
        "Env": ["NVIDIA_VISIBLE_DEVICES=all", "NVIDIA_REQUIRE_CUDA=cuda>=12", "CUDA_VERSION=12.4"],
        "Image": "pytorch:2.3",
        "Labels": {"ds01.user": "alice", "note": "\x1b[2J\x7f名前"},
    }
    assert kept["HostConfig"]["DeviceRequests"][0]["Count"] == -1
    assert set(kept) == {
        "Id", "Created", "State", "Image", "Name", "RestartCount", "ExecIDs", "HostConfig", "Mounts", "Config",
    }  # fmt: skip


def test_files_are_printable_ascii(tmp_path: Path) -> None:
    """A label with escape sequences can be looked at with cat."""
    recorded(tmp_path / "host")
    text = "".join(contents(tmp_path / "host").values())
    assert all(" " <= each <= "~" or each == "\n" for each in text)


@pytest.mark.parametrize(
    "config",
    [
        pytest.param({"Config": None}, id="no Config"),
        pytest.param({"Config": {"Env": None}}, id="no Env"),
        pytest.param({"Config": {"Env": [7, None]}}, id="an Env that is no text"),
        pytest.param({"Config": "odd", "State": [], "HostConfig": 3}, id="nothing as documented"),
    ],
)
def test_an_odd_inspect_is_recorded_and_stays_odd(config: Json, tmp_path: Path) -> None:
    """What the engine would call unreadable is still unreadable in the replay."""

    class Odd(FakeDocker):
        def inspect(self, container_id: str) -> Json | None:
            return {**inspect(container_id, "odd"), **config}

    _, again = recorded(tmp_path / "host", Sources(Odd(), None, FakeGpus(), FakeHost()))
    raw = again.sources.docker.inspect(ONE)
    assert raw is not None
    assert type(raw["Config"]) is type(config["Config"])
    assert raw["State"] == config.get("State", raw["State"])


def test_a_question_asked_twice_keeps_its_first_answer(tmp_path: Path) -> None:
    """The snapshot was made of the first one."""

    class Changing(FakeDocker):
        def inspect(self, container_id: str) -> Json | None:
            self.asked.append(container_id)
            return inspect(container_id, f"look-{len(self.asked)}")

    recorder = Recorder(Sources(Changing(), None, FakeGpus(), FakeHost()), tmp_path / "host")
    for _ in range(2):
        recorder.sources.docker.inspect(ONE)
    recorder.finish(AT, History(), {})
    again = replay(tmp_path / "host").sources.docker.inspect(ONE)
    assert again is not None
    assert again["Name"] == "/look-1"


# ── strict both ways ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        pytest.param(lambda of: of.docker.inspect("9" * 64), "an inspect of 999999999999", id="an inspect"),
        pytest.param(lambda of: of.docker.stat(ONE, "/else"), "a stat of /else in 111111111111", id="a stat"),
        pytest.param(lambda of: of.prometheus.query("up", AT), "the query up at 2026-03-02T03:31:00.25", id="a query"),
        pytest.param(
            lambda of: of.prometheus.query(GPU_QUERY, AT + timedelta(seconds=1)),
            "at 2026-03-02T03:31:01.25",
            id="the same query at another time",
        ),
        pytest.param(lambda of: of.prometheus.query("\x1b[2J", AT), r"the query \x1b[2J at", id="a hostile query"),
    ],
)
def test_what_was_not_recorded_is_an_error_in_words(ask: Any, words: str, tmp_path: Path) -> None:
    """A replay never guesses: it says what it lacks and why, and remembers it once."""
    again = recorded(tmp_path / "host")[1]
    for _ in range(2):
        with pytest.raises(
            SourceError, match="the rules or signals ask something else than when it was recorded"
        ) as raised:
            ask(again.sources)
        assert words in str(raised.value)
    assert len(again.mismatches) == 1
    assert words in again.mismatches[0]


def test_the_host_never_fails_but_its_gaps_are_noted(tmp_path: Path) -> None:
    """An unknown process has no owner, as on a live host; that it was never asked is a mismatch."""
    again = recorded(tmp_path / "host")[1]
    assert again.sources.host.uid_of_process(1) is None
    assert again.sources.host.user_of_uid(0) is None
    assert len(again.mismatches) == 2


def test_answers_that_nobody_asks_for_are_listed(tmp_path: Path) -> None:
    """By file, each entry of a shared file by itself, so that a stale recording is seen."""
    again = recorded(tmp_path / "host")[1]
    again.sources.docker.containers()
    again.sources.docker.inspect(ONE)
    again.sources.host.uid_of_process(4711)
    assert again.unused() == [
        "docker/inspect/222222222222.json",
        "docker/inspect/333333333333.json",
        "docker/inspect/444444444444.json",
        f"docker/stat.json (111111111111 {KEEP})",
        f"docker/stat.json (222222222222 {KEEP})",
        "gpu.json",
        "host.json (uid 1000)",
        "local.json",
        "prometheus/01-container_cpu_usage_seconds_total.json",
        "prometheus/02-dcgm_fi_dev_gpu_util.json",
    ]


# ── the directory ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_nobody_else_can_read_a_recording(tmp_path: Path) -> None:
    """The directory is closed to others, one that was there and open too."""
    (tmp_path / "there").mkdir(mode=0o755)
    for name in ("new", "there"):
        recorded(tmp_path / name)
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        pytest.param(lambda where: (where.mkdir(), (where / "x").touch()), "is not empty", id="something in it"),
        pytest.param(lambda where: where.touch(), "cannot be used: File exists", id="a file"),
    ],
)
def test_only_a_new_or_empty_directory_will_do(prepare: Any, words: str, tmp_path: Path) -> None:
    """Nothing is mixed into what is there already, and the error comes before anything is asked."""
    prepare(tmp_path / "host")
    with pytest.raises(RecordingError, match=words):
        Recorder(sources(), tmp_path / "host")


def test_somebody_else_s_directory_will_not_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its owner could read what is recorded, whatever its mode."""
    (tmp_path / "host").mkdir()
    monkeypatch.setattr("os.geteuid", lambda: 4711)
    with pytest.raises(RecordingError, match="belongs to somebody else"):
        Recorder(sources(), tmp_path / "host")


def test_a_missing_parent_is_named(tmp_path: Path) -> None:
    """No directories are made above the one that was named."""
    with pytest.raises(RecordingError, match="cannot be used: No such file"):
        Recorder(sources(), tmp_path / "no" / "host")


def test_a_full_disk_is_an_error_in_words(tmp_path: Path) -> None:
    """A file that cannot be written ends the recording with its path."""
    recorder = Recorder(sources(), tmp_path / "host")
    (tmp_path / "host" / "meta.json").mkdir()
    with pytest.raises(RecordingError, match=r"meta\.json cannot be written"):
        recorder.finish(AT, HISTORY, VERSIONS)


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        pytest.param("meta.json", None, "is not a recording: it has no meta.json", id="no meta"),
        pytest.param("meta.json", "{", "is not what `record` writes", id="half a file"),
        pytest.param("meta.json", '{"schema": 2}', "its schema is 2, this version reads 1", id="another version"),
        pytest.param("meta.json", '{"schema": 1}', "lacks 'at'", id="a key is missing"),
        pytest.param("history.json", None, "history.json: No such file", id="no history"),
        pytest.param("history.json", "[]", "is not what `record` writes", id="a list for an object"),
        pytest.param(
            "gpu.json", '{"via": "", "notes": [], "gpus": [{"uid": 1}]}', "lacks", id="a GPU without its keys"
        ),
        pytest.param("docker/containers.json", "3", "neither a list nor an error", id="a number for a list"),
        pytest.param("docker/stat.json", '[{"container": "1"}]', "lacks 'path'", id="a stat without its path"),
        pytest.param(
            "docker/stat.json",
            '[{"container": "1", "path": "/", "stat": {"modified_at": "2026-03-02", "name": "", "link_target": ""}}]',
            "has no time zone",
            id="a time without a zone",
        ),
    ],
)
def test_a_damaged_recording_is_named_with_its_file(name: str, text: str | None, words: str, tmp_path: Path) -> None:
    """Nothing is replayed from a recording that cannot be read whole."""
    recorded(tmp_path / "host")
    path = tmp_path / "host" / name
    if text is None:
        path.unlink()
    else:
        path.write_text(text)
    with pytest.raises(RecordingError, match=words.replace("(", r"\(")):
        replay(tmp_path / "host")


# ── values ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("value", "written"),
    [
        pytest.param(HISTORY, history_json(HISTORY), id="History"),
        pytest.param(SPELL, history_json(HISTORY)["spells"][0], id="Spell"),
        pytest.param(
            Partition(), history_json(HISTORY)["partitions"][0].keys() - {"uuid", "gpu_instance"}, id="Partition"
        ),
        pytest.param(FakeGpus().inventory(), inventory_json(FakeGpus().inventory()), id="Inventory"),
        pytest.param(Gpu("GPU-1", 0), inventory_json(FakeGpus().inventory())["gpus"][0], id="Gpu"),
        pytest.param(
            MigDevice("", 0, 0, 0), inventory_json(FakeGpus().inventory())["gpus"][0]["mig_devices"][0], id="MigDevice"
        ),
        pytest.param(FileStat(AT), stat_json(FileStat(AT)), id="FileStat"),
        pytest.param(Counters(1.0), counters_json(Counters(1.0)), id="Counters"),
    ],
)
def test_every_field_is_written(value: Any, written: Mapping[str, Any]) -> None:
    """A field that the model gains must be recorded too, or a replay would silently decide without it."""
    assert {each.name for each in fields(value)} == set(written)


def test_values_come_back_as_they_were() -> None:
    """Through JSON text and back, to the microsecond."""
    inventory = FakeGpus().inventory()
    assert history_of(json.loads(json.dumps(history_json(HISTORY)))) == HISTORY
    assert history_of(json.loads(json.dumps(history_json(History())))) == History()
    later = ("unfit", "resets", "samples", "failed")
    older = {key: value for key, value in history_json(HISTORY).items() if key not in later}
    assert history_of(older) == replace(HISTORY, unfit={}, resets={}, samples={}, failed={})
    assert inventory_of(json.loads(json.dumps(inventory_json(inventory)))) == inventory
    assert stat_of(json.loads(json.dumps(stat_json(FileStat(AT, "a", "b"))))) == FileStat(AT, "a", "b")
    assert stat_of(stat_json(None)) is None


def test_a_recording_of_an_earlier_version_still_loads(tmp_path: Path) -> None:
    """Made before samples, partitions and reasons were recorded: those are then not known."""
    recorded(tmp_path / "host")
    history, gpu = (tmp_path / "host" / name for name in ("history.json", "gpu.json"))
    for path, later in ((history, ("samples", "partitions", "failed")), (gpu, ("utilization", "unmeasured"))):
        known = json.loads(path.read_text())
        path.write_text(json.dumps({name: value for name, value in known.items() if name not in later}))
    again = replay(tmp_path / "host")
    assert again.history == replace(HISTORY, samples={}, partitions={}, failed={})
    assert again.sources.gpu.inventory() == replace(FakeGpus().inventory(), utilization={}, unmeasured={})


@given(st.text())
def test_any_query_names_a_file(promql: str) -> None:
    """Whatever a signal asks, the file's name is short and plain."""
    from ds01_policy.observe.recorded import Kept, Recording, files_of

    question = ("query", promql, "2026-03-02T03:31:00Z")
    files = files_of(Recording(AT, "gpu01", has_prometheus=True, kept={question: Kept(error="down")}))
    name = next(each for each in files if each.startswith("prometheus/"))
    assert re.fullmatch(r"prometheus/01-[a-z0-9_]{1,48}\.json", name)

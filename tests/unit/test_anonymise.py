"""record --anonymise: no name is left anywhere, and what is decided does not change."""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cli_host import DEMO, DEMO_CONFIG
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ds01_policy.anonymise import anonymous, skeleton
from ds01_policy.anonymise.names import Names, Words
from ds01_policy.anonymise.recorded import LEFT_OUT
from ds01_policy.config.kept import FOLDER
from ds01_policy.config.load import load, load_whole
from ds01_policy.model import GpuProcess, GpuStatus, GpuStatuses, History, HostTask, Partition, Unfit
from ds01_policy.observe.ports import Counters, FileStat, OnGpus, QueryResult
from ds01_policy.observe.recorded import Kept, Recording, RecordingError, metric_of, recording_of
from ds01_policy.observe.recording import Recorder
from ds01_policy.observe.replay import replay, replay_of
from ds01_policy.tick import Report, look

NAMES = (
    "alice", "bob", "carol", "dave", "erin", "prof", "gpu01", "thesis-3f2a", "cooling-down", "course-demo",
    "finished", "four-gpus", "just-started", "kept-alive", "llm-finetune", "long-run", "my-monitoring",
    "mystery", "no-metrics", "prepared", "slice-busy", "slice-idle", "thesis-vscode", "train", "woke-up",
)  # fmt: skip
# Everything a site may hide a name in, beyond what the demo has.
IDENTITY = """\
version: 1
types:
  - {type: devcontainer, match: {image: 'vsc-*'}}
  - {type: compose, match: {name: ['thesis-*', 'kept-*']}}
  - {type: docker}
owners:
  - {via: name, pattern: '^(?P<user>[a-z]+)_job'}
  - {via: name, pattern: '\\._\\.(?P<uid>\\d+)$'}
  - {via: label, label: ds01.user}
  - {via: label_home, label: devcontainer.local_folder, homes: [/home]}
  - {via: mounts, homes: [/home, /export/people]}
  - {via: process}
infrastructure:
  labels: [ds01.monitoring=true, team=vision-lab]
  trusted: {owners: [root, 'car*'], images: ['*/dcgm-exporter'], names: ['my-mon*']}
"""
EXEMPTIONS = """\
version: 1
# ask carol
exemptions:
  - {user: [prof, 'ali*'], rules: [alice-first, idle-gpu], reason: for prof, approved_by: dave, expires: 2030-01-01}
  - container: ['train', 'four-*', 'deadbeefcafe']
    rules: ['*']
    reason: bob asked
    approved_by: dean
    expires: 2020-01-01
  - label: [ds01.user=b*, team=vision-lab]
    group: 'stud*'
    rules: [max-runtime]
    reason: x
    approved_by: x
    expires: 2020-01-01
"""
RULES = """\
version: 1
rules:
  - id: alice-first
    summary: What alice and the people of gpu01 asked for.
    match: {state: running, gpu: true, owner: {not: [alice, 'e*']}, host: 'gpu0*', image: {not: 'secret/*'}}
    except: [{name: 'cooling-*'}, {label: ds01.user=carol}, {younger_than: 10m}]
    for: 1h
    warn: {at: 50%, notice: 10m}
    then: [stop]
  - id: by-image
    summary: One image with every tag.
    match: {state: running, image: bb}
    for: 1h
    then: [stop]
"""
SIGNALS = """\
version: 1
signals:
  watts:
    label: watts
    unit: watts
    kind: gauge
    join: gpu
    ceiling: 700W
    queries: [{expr: 'POWER{UUID=~"{{ uuids }}", node="gpu01.uni.example"}[{{ range }}]', devices: whole}]
"""


def site(folder: Path, replaced: Mapping[str, str] | None = None) -> tuple[Recording, Path]:
    """Write a host and its policy where names are hidden wherever they can be; `replaced` gives its names others."""
    config, host = folder / "config", folder / "host"
    shutil.copytree(DEMO_CONFIG, config)
    shutil.copytree(DEMO, host, ignore=shutil.ignore_patterns("policy*", "expected.json"))
    (config / "rules").mkdir()
    for path in (DEMO / FOLDER / "rules").iterdir():
        shutil.copy(path, config / "rules")
    (config / "settings.yaml").write_text(
        "version: 1\nmode: enforce\nprometheus: {url: 'http://gpu01.uni.example:9090', headers: {X: carol}}\n"
        "state_dir: /srv/alice/state\nnotify: {channels: ['mailto://bob@uni.example']}\n"
    )
    for name, text in {
        "identity": IDENTITY,
        "exemptions": EXEMPTIONS,
        "signals": SIGNALS,
        "rules/alice": RULES,
    }.items():
        (config / f"{name}.yaml").write_text(text)
    for path in [*config.rglob("*"), *host.rglob("*.json")]:
        if path.is_file():
            path.write_text(renamed(path.read_text(), replaced or {}))
    recording = with_more(recording_of(host), (replaced or {}).get("carol", "carol"))
    return recorded_again(recording, config, folder / "tape"), config


def renamed(text: str, replaced: Mapping[str, str]) -> str:
    """Give the demo's names others, as whole words."""
    if not replaced:
        return text
    words = "|".join(re.escape(word) for word in sorted(replaced, key=len, reverse=True))
    return re.sub(rf"(?<![A-Za-z0-9]){f'({words})'}(?![A-Za-z0-9])", lambda found: replaced[found[1]], text)


def with_more(recording: Recording, user: str) -> Recording:
    """Add what the demo lacks: names that say who, mounts, links, errors and notes in words."""
    kept = dict(recording.kept)
    inspects = [question for question in kept if question[0] == "inspect"]
    inspects.sort(key=lambda question: str(kept[question].answer["Created"]))  # ids are others in each recording
    for number, question in enumerate(inspects):
        raw = json.loads(json.dumps(kept[question].answer))
        if number == 1:
            raw["Name"] = f"/{user}_job._.1003"
        if number == 4:
            raw["Name"] = "/nightly._.1003"  # says by its number whose it is
        if number == 2:
            raw["HostConfig"]["NetworkMode"] = f"{user}-net"
            raw["Config"]["Labels"] |= {"team": "vision-lab", "note": f"by {user}"}
            raw["Mounts"] = [
                {"Type": "bind", "Source": f"/export/people/{user}/secret-study", "Destination": f"/workspace/{user}"},
                {"Type": "volume", "Name": f"{user}-data", "Source": "/var/lib/docker/x", "Destination": "/data"},
            ]
        if number == 3:
            raw["Config"]["Image"] = f"registry.uni.example/{user}/secret-study:v1@sha256:{'ab' * 32}"
        kept[question] = Kept(raw)
    for question in [question for question in kept if question[0] == "stat"][:1]:
        kept[question] = Kept(FileStat(recording.at, ".keep-alive", f"/home/{user}/elsewhere"))
    kept["user", "1003"] = Kept(user)
    kept["counters",] = Kept(Counters(recording.at.timestamp(), notes=(f"{user}: denied",)))
    kept["tasks",] = Kept(on_gpus(recording, user))
    broken = inspects[5]
    kept[broken] = Kept(error=f"HTTP 500: {user}'s container at http://gpu01.uni.example is stuck")
    return Recording(
        recording.at, recording.host, recording.has_prometheus, kept, remembering(recording, user), {}, has_local=True
    )


def remembering(recording: Recording, user: str) -> History:
    """Add samples of this host's own, partitions, and a GPU that was found bad."""
    gpus = recording.kept["inventory",].answer.gpus
    split = next(gpu for gpu in gpus if gpu.mig_enabled)
    at = recording.at.timestamp() - 300
    return replace(
        recording.history,
        partitions={ref: Partition(devices, recording.at) for ref, devices in split.made_of.items()},
        samples={"gpu": {str(ref): ((at, 0.0),) for gpu in gpus for ref in gpu.refs}},
        lives={key: replace(life, owner=user, gpus=gpus[0].refs) for key, life in recording.history.lives.items()},
        unfit={gpus[3].uuid: Unfit(recording.at, f"Xid 79 after {user}'s container")},
        resets={gpus[3].uuid: recording.at - timedelta(minutes=20)},
    )


def on_gpus(recording: Recording, user: str) -> OnGpus:
    """Put somebody on a GPU, past the engine."""
    uuid = recording.kept["inventory",].answer.gpus[0].uuid
    processes = (GpuProcess(4242, "C", f"{user}-secret", 2**30), GpuProcess(4243, "C", "", None))
    cgroup = f"0::/user.slice/user-1003.slice/user@1003.service/app.slice/{user}-secret.service\n"
    task = HostTask(4242, 1003, user, f"{user}-secret", 99, recording.at, cgroup)
    return OnGpus(GpuStatuses({uuid: GpuStatus(uuid, processes=processes)}, (f"{user}: lost",), "nvml"), {4242: task})


@dataclass(frozen=True)
class Willing:
    """A Prometheus that answers a question about a metric as it answered another one."""

    recording: Recording

    def query(self, promql: str, at: datetime) -> QueryResult:
        del at
        for question, kept in self.recording.kept.items():
            if question[0] == "query" and metric_of(question[1]) == metric_of(promql):
                found: QueryResult = kept.answer
                return found
        return QueryResult("matrix", ())


def recorded_again(recording: Recording, config: Path, folder: Path) -> Recording:
    """Record what this policy asks of the host: not quite what the demo's own did."""
    sources = replace(replay_of(recording).sources, prometheus=Willing(recording))
    recorder = Recorder(sources, folder)
    look(load(config, unix_group=lambda _: None), recorder.sources, recording.at, recording.history)
    return recorder.recording(recording.at, recording.history, {})


def hidden(recording: Recording, config: Path, into: Path) -> tuple[Report, Report, Names]:
    """Anonymise a host; give what is found on both."""
    original = replay_of(recording)
    report = look(load(config, unix_group=lambda _: None), original.sources, original.at, original.history)
    assert original.mismatches == []
    files, names = anonymous(recording, load_whole(config, unix_group=lambda _: None), report)
    for name, text in files.items():
        (into / name).parent.mkdir(parents=True, exist_ok=True)
        (into / name).write_text(text)
    again = replay(into)
    policy = load(into / FOLDER, unix_group=lambda _: None)
    found = look(policy, again.sources, again.at, again.history)
    assert again.mismatches == []
    return report, found, names


def test_what_the_host_remembers_is_carried(both: tuple[Report, Report, Names, Path]) -> None:
    """Of GPUs by their new names, the same everywhere; in nobody's words."""
    before, after, names, folder = both
    split = next(gpu for gpu in after.snapshot.gpus if gpu.mig_enabled)
    assert {ref: one.devices for ref, one in after.history.partitions.items()} == split.made_of
    assert set(after.history.samples["gpu"]) == {str(ref) for gpu in after.snapshot.gpus for ref in gpu.refs}
    assert set(after.history.unfit) == {names.marks(uuid) for uuid in before.history.unfit}
    assert {one.why for one in after.history.unfit.values()} == {LEFT_OUT}
    assert after.history.resets == {names.marks(uuid): at for uuid, at in before.history.resets.items()}
    assert len(after.history.resets) == 1
    assert {one.owner for one in after.history.lives.values()} == {names.user("carol")}
    assert {one.gpus for one in after.history.lives.values()} == {after.snapshot.gpus[0].refs}
    first, second = after.snapshot.host_processes
    assert (first.gpu, first.user) == (after.snapshot.gpus[0].uuid, names.user("carol"))
    assert re.fullmatch(r"folder-x\d+\.service", first.place)
    assert re.fullmatch(r"value-x\d+", first.command)
    assert (first.memory_bytes, second.command) == (2**30, "")
    assert "secret" not in (folder / "tasks.json").read_text()


def everything(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield every file of a folder, its own name with it."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.name, f"{path.relative_to(folder)}\n{path.read_text()}"


# ── nothing is left, nothing changes ─────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, Report, Names, Path]:
    """Hide a host with names in every corner; give it before and after."""
    folder = tmp_path_factory.mktemp("site")
    recording, config = site(folder)
    return *hidden(recording, config, folder / "hidden"), folder / "hidden"


def test_the_same_is_decided(both: tuple[Report, Report, Names, Path]) -> None:
    """Each verdict, reading and decision of each container, in the same order."""
    before, after, names, _ = both
    bones = skeleton(before.evaluation, before.plan, names)
    assert bones == skeleton(after.evaluation, after.plan)
    assert len(bones[1]) > 30
    assert bones[2], "something is due"
    assert {str(one.held_by) for one in before.evaluation.verdicts} >= {"infrastructure", "exempted", "name", "label"}


def test_names_sort_as_before(both: tuple[Report, Report, Names, Path]) -> None:
    """Pages and documents list the same containers in the same order."""
    before, after, names, _ = both
    order = [
        [one.id for one in sorted(report.snapshot.containers, key=lambda one: (one.name, one.id))]
        for report in (before, after)
    ]
    assert [names.marks(one) for one in order[0]] == order[1]


def test_who_belongs_together_still_does(both: tuple[Report, Report, Names, Path]) -> None:
    """Two containers of one user have one owner afterwards too, found by the same way; so with types and groups."""
    before, after, names, _ = both
    found = {one.id: one for one in after.snapshot.containers}
    owners: dict[str, str] = {}
    for one in before.snapshot.containers:
        other = found[names.marks(one.id)]
        assert owners.setdefault(one.owner, other.owner) == other.owner
        assert (one.type, one.owner_proven, one.infrastructure) == (
            other.type,
            other.owner_proven,
            other.infrastructure,
        )
        assert one.owner_via.split()[:1] == other.owner_via.split()[:1]
    assert len(set(owners.values())) == len(owners)


def test_no_name_is_left_anywhere(both: tuple[Report, Report, Names, Path]) -> None:
    """Not in a value, a key, a query, a file's name, a text or a pattern."""
    *_, names, folder = both
    people = [name for name in NAMES if name != "prof"]  # a metric is called so
    secrets = [
        *people,
        "secret",
        "nightly",
        "vision",
        "lab",
        "people/",
        "uni.example",
        "dean",
        "1003_",
        "student",
        "researcher",
    ]
    every = {name for name in (*secrets, *names.ids, *names.uuids, *(one[:12] for one in names.ids)) if name}
    for file, text in everything(folder):
        words = set(re.split(r"[^A-Za-z0-9.]+", text))
        left = [name for name in every if (name in text if len(name) > 5 else name in words)]
        assert left == [], file


WORD = st.text("abcdefghijklmnopqrstuvwxyz", min_size=4, max_size=7).map("zq{}".format)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(WORD, min_size=len(NAMES), max_size=len(NAMES), unique=True))
def test_whatever_things_are_called_no_name_is_left(words: list[str]) -> None:
    """People, containers and the host with any names: none of them, no id and no UUID is found in any byte."""
    replaced = dict(zip(NAMES, words, strict=True))
    with tempfile.TemporaryDirectory() as folder:
        recording, config = site(Path(folder), replaced)
        before, after, names = hidden(recording, config, Path(folder) / "hidden")
        assert skeleton(before.evaluation, before.plan, names) == skeleton(after.evaluation, after.plan)
        text = "\n".join(text for _, text in everything(Path(folder) / "hidden"))
        assert [word for word in (*words, *names.ids, *names.uuids) if word in text] == []


def test_a_name_that_would_stay_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a field is forgotten, nothing is shown to others."""
    recording, config = site(tmp_path)
    monkeypatch.setattr(Names, "network", lambda _, mode: mode)
    monkeypatch.setattr(Names, "known", lambda _: {"carol-net"})
    with pytest.raises(RecordingError, match="'carol-net' would still stand in docker/inspect/"):
        hidden(recording, config, tmp_path / "hidden")


# ── what stands there instead ────────────────────────────────────────────────────────────────────────────────────────


def test_ids_and_uuids_keep_their_shape_and_order() -> None:
    """So do their beginnings, whatever their case."""
    ids = ["0" * 64, "0" * 63 + "1", "f" * 64]
    uuids = [
        "GPU-aaaa",
        "GPU-aaab",
        "MIG-7a3b9c00-0000-5000-8000-000000000001",
        "GPU-5F2C0D1E-0000-4000-8000-000000000000",
    ]
    names = Names("gpu01")
    names.learn_marks([" ".join(ids), json.dumps(uuids)])
    new = [names.marks(one) for one in ids]
    assert new == sorted(new)
    assert all(re.fullmatch("[0-9a-f]{64}", one) for one in new)
    assert not set(new) & set(ids)
    assert names.marks(f"docker-{ids[2]}.scope") == f"docker-{new[2]}.scope"
    assert names.marks("f" * 12) == new[2][:12]
    for uuid in uuids:
        assert re.sub("[0-9a-f]", "x", names.marks(uuid).lower()) == re.sub("[0-9a-f]", "x", uuid.lower())
        assert names.marks(uuid) != uuid
    assert names.marks("GPU-aaaa") < names.marks("GPU-aaab")
    assert names.marks("mig-7a3b9c00") == "mig-7a3b9c00", "not a UUID as anybody writes it"
    assert names.marks("1772422230250123") == "1772422230250123", "a number is no id"


@given(st.lists(st.text("ab0-", min_size=1, max_size=4), unique=True, max_size=30))
def test_words_are_numbered_in_their_order(words: list[str]) -> None:
    """What stands for them sorts as they did, and no two share one."""
    known = Words("user")
    known.learn(words)
    assert [known.of(word) for word in sorted(words)] == sorted(known.known.values())
    assert len(set(known.known.values())) == len(words)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/home/alice", "/home/user-1"),
        ("/home/alice/", "/home/user-1"),
        ("/home/alice/thesis/data", "/home/user-1/folder-x1/data"),
        ("/home/../home/alice", "/home/user-1"),
        ("/workspace/.keep-alive", "/workspace/.keep-alive"),
        ("/data/alice", "/data/user-1"),
        ("/", "/"),
        ("relative", "folder-x1"),
        ("", ""),
    ],
)
def test_paths(path: str, expected: str) -> None:
    """The home's owner is a user, what says nothing stays, every other folder is a number."""
    names = Names("gpu01")
    names.users.learn(["alice"])
    assert names.path(path, ("/home",)) == expected


@pytest.mark.parametrize(
    ("name", "kind"),
    [("root", "root"), ("unknown", "unknown"), ("", ""), ("alice", "user-"), ("1001", "no name-"), ("a b", "no name-")],
)
def test_users(name: str, kind: str) -> None:
    """Who is nobody in particular stays; what cannot be a user's name does not become one."""
    assert Names("gpu01").user(name).startswith(kind)

"""GPU processes of no container through a whole tick: asked once, shown everywhere, acted on nowhere."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from whole_host import AT, GPUS, HOUR, A, B, Host, inspect

from ds01_policy.config.load import load
from ds01_policy.doctor.look import look_around
from ds01_policy.metrics import GPU_LIMIT, families, text
from ds01_policy.model import GpuProcess, GpuStatus, GpuStatuses, History, HostProcess, HostTask, Mode
from ds01_policy.observe.gpus import NoGpuStack
from ds01_policy.observe.ports import OnGpus, SourceError, Sources, SourceSlow
from ds01_policy.observe.recording import Recorder, RecordingError, replay
from ds01_policy.observe.snapshot import DockerDown, observe
from ds01_policy.policy import Policy
from ds01_policy.report.document import document, dumps
from ds01_policy.report.gpu_processes import LIMIT
from ds01_policy.report.layout import Clock, Page, columns
from ds01_policy.report.tables import Tick, table
from ds01_policy.tick import Report, look

GIB = 2**30
ZERO, ONE = GPUS[0].uuid, GPUS[1].uuid
SESSION = "0::/user.slice/user-1007.slice/session-3.scope\n"


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load(None, unix_group=lambda _: None)


@dataclass
class Tasks:
    """Who is on the GPUs, or why nobody can say."""

    answer: OnGpus | SourceError
    asked: list[str] = field(default_factory=list)

    def look(self) -> OnGpus:
        self.asked.append("look")
        if isinstance(self.answer, SourceError):
            raise self.answer
        return self.answer


def task(pid: int, cgroup: str | None = SESSION, command: str = "jupyter-lab", user: str | None = "alice") -> HostTask:
    return HostTask(pid, 1007, user, command, 500, AT - 3 * HOUR, cgroup)


def on_gpus(*tasks: HostTask, memory: int | None = 14 * GIB, gpu: str = ZERO) -> OnGpus:
    """Put these processes on one GPU; nobody is on another."""
    processes = tuple(GpuProcess(each.pid, "C", "", memory) for each in tasks)
    statuses = {gpu: GpuStatus(gpu, processes=processes), ONE: GpuStatus(ONE, processes=())}
    return OnGpus(GpuStatuses(statuses, via="nvml"), {each.pid: each for each in tasks})


def host() -> Host:
    return Host({A: inspect(A, "train", 0), B: SourceError("HTTP 500: stuck")})


def sources(answer: OnGpus | SourceError | None, of: Host | None = None) -> Sources:
    return replace((of or host()).sources, tasks=None if answer is None else Tasks(answer))


def seen(policy: Policy, answer: OnGpus | SourceError | None, of: Host | None = None) -> Report:
    return look(policy, sources(answer, of), AT, History())


def told(report: Report, code: str = "gpu_processes_unknown") -> list[str]:
    return [problem.detail for problem in report.snapshot.problems if problem.code == code]


def page(report: Report, width: int = 80) -> str:
    tick = Tick("preview", Mode.OBSERVE, report.snapshot, report.evaluation, report.plan)
    return table(tick, Page(width), Clock(AT))


def section(report: Report, width: int = 80) -> list[str]:
    parts = page(report, width).split("\n\n")
    return next((part.rstrip("\n").split("\n") for part in parts if part.startswith("GPU processes of no")), [])


def printed(report: Report) -> dict[str, Any]:
    text = dumps(document("preview", "", Mode.OBSERVE, report.snapshot, report.evaluation, report.plan))
    found: dict[str, Any] = json.loads(text)
    return found


def metrics(report: Report) -> list[str]:
    lines = text(families(report, Mode.OBSERVE, AT, AT, None)).splitlines()
    return [line for line in lines if line.startswith("ds01_policy_host_process")]


# ── what a tick sees ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_bare_metal_notebook_is_seen_and_changes_nothing_else(policy: Policy) -> None:
    """What is decided is what would be decided without it."""
    without, report = seen(policy, None), seen(policy, on_gpus(task(7)))
    assert report.snapshot.host_processes == (
        HostProcess(ZERO, 7, "jupyter-lab", "alice", "session-3.scope", 14 * GIB, None, AT - 3 * HOUR, 1007),
    )
    assert (report.evaluation, report.plan) == (without.evaluation, without.plan)
    assert replace(report.snapshot, host_processes=()) == without.snapshot


@pytest.mark.parametrize(
    ("cgroup", "place"),
    [
        pytest.param(f"0::/system.slice/docker-{A}.scope\n", None, id="a container's process is its owner's"),
        pytest.param(f"0::/docker/{B}\n", None, id="and so is one of a container that Docker lists and cannot inspect"),
        pytest.param(f"0::/docker/{'7' * 64}\n", f"container {'7' * 12} of docker", id="a container not listed"),
        pytest.param(None, "whose is not known: it cannot be read", id="an unreadable cgroup is shown, not hidden"),
    ],
)
def test_whose_a_process_is_goes_by_the_containers_that_docker_lists(
    policy: Policy, cgroup: str | None, place: str | None
) -> None:
    """All of them, whether or not they have a GPU or can be looked at."""
    found = seen(policy, on_gpus(task(7, cgroup))).snapshot.host_processes
    assert [one.place for one in found] == ([] if place is None else [place])


@pytest.mark.parametrize(("gpu", "told"), [(None, True), (0, False)], ids=["asked for none", "asked for one"])
def test_a_container_on_a_gpu_that_it_did_not_ask_for_is_told_of(
    policy: Policy, gpu: int | None, *, told: bool
) -> None:
    """A device node made by hand is in no inspect; the process on the GPU is on the driver's list."""
    there = Host({A: inspect(A, "quiet", gpu)})
    mine = task(7, f"0::/system.slice/docker-{A}.scope\n")
    report = seen(policy, on_gpus(mine, task(8)), there)
    problems = [one.detail for one in report.snapshot.problems if one.code == "gpu_unclaimed"]
    words = (
        f"quiet (aaaaaaaaaaaa) is on {ZERO}, and nothing in its `docker inspect` asks for a GPU in a way that is known"
    )
    assert [one[: len(words)] for one in problems] == ([words] if told else [])
    assert [one.pid for one in report.snapshot.host_processes] == [8]


def test_a_container_that_has_just_been_started_is_no_stranger(policy: Policy) -> None:
    """Docker was asked before it was there."""
    new = replace(task(7, f"0::/docker/{'7' * 64}\n"), started_at=AT + timedelta(seconds=1))
    assert seen(policy, on_gpus(new)).snapshot.host_processes == ()


@pytest.mark.parametrize(
    ("error", "words"),
    [
        pytest.param(SourceError("NVML: no; nvidia-smi: no"), "NVML: no; nvidia-smi: no", id="the driver fails"),
        pytest.param(SourceSlow("no answer within 10s"), "no answer within 10s", id="the driver hangs"),
    ],
)
def test_a_failure_costs_one_problem_and_never_the_tick(policy: Policy, error: SourceError, words: str) -> None:
    """Everything else is decided as ever."""
    without, report = seen(policy, None), seen(policy, error)
    assert told(report) == [f"who is on the GPUs cannot be listed: {words}"]
    assert report.snapshot.host_processes == ()
    assert (report.evaluation.verdicts, report.plan) == (without.evaluation.verdicts, without.plan)


@pytest.mark.parametrize(
    ("inventory", "codes"),
    [
        pytest.param(NoGpuStack("no driver"), ["no_gpu_stack"], id="no GPU stack: said once"),
        pytest.param(SourceError("it hangs"), ["gpu_down", "gpu_processes_unknown"], id="a driver that fails twice"),
    ],
)
def test_where_there_is_no_gpu_stack_nothing_more_is_said(
    policy: Policy, inventory: SourceError, codes: list[str]
) -> None:
    """The inventory has said it."""
    of = host()
    of.gpus = inventory
    report = seen(policy, SourceError("nobody answers"), of)
    assert [one.code for one in report.snapshot.problems if one.code.startswith(("gpu_", "no_gpu"))] == codes


def test_gpus_whose_processes_are_not_listed_are_told_in_one_problem(policy: Policy) -> None:
    """What the others show is shown."""
    statuses = {
        ZERO: GpuStatus(ZERO, processes=(GpuProcess(7, "C", "", GIB),)),
        ONE: GpuStatus(ONE, processes=None),
    }
    answer = OnGpus(GpuStatuses(statuses, ("GPU 2 cannot be read",)), {7: task(7)})
    report = seen(policy, answer)
    (detail,) = told(report)
    assert detail == f"the driver does not list who is on 2 of 3 GPUs: {ONE}; GPU 2 cannot be read"
    assert len(report.snapshot.host_processes) == 1


def test_the_second_look_before_acting_asks_nobody(policy: Policy) -> None:
    """It is about containers that are due, and in a hurry."""
    tasks = Tasks(on_gpus(task(7)))
    of = replace(host().sources, tasks=tasks)
    first = observe(policy, of, AT, History())
    again = observe(policy, of, AT, History(), only=[A], demand=first.demand)
    assert tasks.asked == ["look"]
    assert (len(first.snapshot.host_processes), again.snapshot.host_processes) == (1, ())


def test_the_doctor_does_not_ask(policy: Policy) -> None:
    """What it examines is what ticks depend on."""
    tasks = Tasks(on_gpus(task(7)))
    look_around(policy, replace(host().sources, tasks=tasks), AT)
    assert tasks.asked == []


def test_without_docker_nothing_is_shown(policy: Policy) -> None:
    """Whose a process is would not be known."""
    with pytest.raises(DockerDown):
        seen(policy, on_gpus(task(7)), Host(down=SourceError("connection refused")))


# ── the page ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_page_lists_them() -> None:
    """As an admin reads it."""
    answer = on_gpus(task(7), task(4711, "0::/system.slice/xorg.service\n", "Xorg", "root"))
    assert section(seen(load(None, unix_group=lambda _: None), answer)) == [
        "GPU processes of no container",
        "  USER   COMMAND      PID   GPU  MEMORY  SINCE",
        "  alice  jupyter-lab  7     0    14 GiB  3h ago, " + f"{Clock(AT).absolute(AT - 3 * HOUR)}; session-3.scope",
        "  root   Xorg         4711  0    14 GiB  3h ago, " + f"{Clock(AT).absolute(AT - 3 * HOUR)}; xorg.service",
    ]


def test_where_there_are_none_the_page_has_no_word_of_it(policy: Policy) -> None:
    """It is as it was."""
    assert page(seen(policy, on_gpus())) == page(seen(policy, None))
    assert "GPU processes" not in page(seen(policy, None))


def test_what_is_not_known_is_a_question_mark(policy: Policy) -> None:
    """A hidden process on an instance of a GPU that the inventory does not know."""
    uuid = "GPU-ffffffff-0000-4000-8000-000000000000"
    process = GpuProcess(7, "C", "", None, gpu_instance=3)
    report = seen(policy, OnGpus(GpuStatuses({uuid: GpuStatus(uuid, processes=(process,))})))
    lines = section(report)
    assert lines[2].split()[:6] == ["?", "?", "7", "GPU-fff…:gi3", "?", "?;"]
    assert "whose is not known: it cannot be read" in " ".join(" ".join(lines).split())
    (entry,) = printed(report)["host_processes"]
    assert entry == {
        "pid": 7,
        "user": None,
        "uid": None,
        "command": None,
        "gpu": uuid,
        "gpu_instance": 3,
        "memory_bytes": None,
        "started_at": None,
        "place": "whose is not known: it cannot be read",
    }


HOSTILE = '\x1b[2J\n\u202e名前"}x'


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_hostile_names_stay_text_and_within_the_page(policy: Policy, width: int) -> None:
    """Commands, users and units are written by users."""
    hostile = task(7, f"0::/system.slice/{HOSTILE.replace(chr(10), '')}.service\n", HOSTILE, HOSTILE)
    report = seen(policy, on_gpus(hostile))
    lines = section(report, width)
    assert lines
    assert all(character.isprintable() for line in lines for character in line)
    assert all(columns(line) <= max(width, 60) for line in lines)
    assert "\\x1b" in lines[2]
    written = "".join(metrics(report))
    assert HOSTILE[:4] not in written
    assert "x1b" not in written


def test_a_host_full_of_them_does_not_fill_the_page(policy: Policy) -> None:
    """The largest are listed, the rest counted; the JSON has all."""
    report = seen(policy, on_gpus(*(task(pid) for pid in range(1, LIMIT + 6))))
    lines = section(report)
    assert len(lines) == 2 + LIMIT + 1
    assert lines[-1].strip().startswith("5 more hold less")
    assert len(printed(report)["host_processes"]) == LIMIT + 5


# ── programs ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_document_has_one_entry_a_process(policy: Policy) -> None:
    """The key is there where there are none, too."""
    assert printed(seen(policy, None))["host_processes"] == []
    assert printed(seen(policy, on_gpus(task(7))))["host_processes"] == [
        {
            "pid": 7,
            "user": "alice",
            "uid": 1007,
            "command": "jupyter-lab",
            "gpu": ZERO,
            "gpu_instance": None,
            "memory_bytes": 14 * GIB,
            "started_at": "2026-03-02T09:00:00Z",
            "place": "session-3.scope",
        }
    ]


def test_a_process_that_stands_nowhere_has_no_place(policy: Policy) -> None:
    """In the root of all cgroups."""
    report = seen(policy, on_gpus(task(7, "0::/\n")))
    assert [one["place"] for one in printed(report)["host_processes"]] == [None]
    assert section(report)[2].rstrip().endswith(Clock(AT).absolute(AT - 3 * HOUR))


def test_metrics_count_them_by_gpu(policy: Policy) -> None:
    """Number and memory; no name of a user or command is a label."""
    assert metrics(seen(policy, on_gpus(task(7), task(8), memory=GIB))) == [
        f'ds01_policy_host_processes{{gpu="{ZERO}"}} 2.0',
        f'ds01_policy_host_process_memory_bytes{{gpu="{ZERO}"}} {2.0 * GIB!r}',
    ]
    assert metrics(seen(policy, on_gpus())) == []


def test_metrics_tell_of_no_more_gpus_than_a_host_can_have(policy: Policy) -> None:
    """Whatever a forged list says."""
    processes = (GpuProcess(7, "C", "", None),)
    many = {f"GPU-{number}": GpuStatus(f"GPU-{number}", processes=processes) for number in range(GPU_LIMIT + 50)}
    assert len(metrics(seen(policy, OnGpus(GpuStatuses(many), {7: task(7)})))) == 2 * GPU_LIMIT


# ── recordings ───────────────────────────────────────────────────────────────────────────────────────────────────────

ODD = OnGpus(
    GpuStatuses(
        {
            ZERO: GpuStatus(
                ZERO,
                processes=(GpuProcess(7, "C", "python", 14 * GIB, 3, 0), GpuProcess(8, "", "", None)),
            ),
            ONE: GpuStatus(ONE, processes=None),
        },
        ("GPU 2 cannot be read",),
        "nvidia-smi",
        ("NVML is not installed; asked nvidia-smi instead",),
    ),
    {7: replace(task(7, None, HOSTILE, None), state="Z")},
)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(on_gpus(task(7)), id="one is there"),
        pytest.param(on_gpus(), id="nobody is there"),
        pytest.param(ODD, id="all that can be odd"),
        pytest.param(SourceSlow("no answer within 10s"), id="nobody answers"),
        pytest.param(None, id="it was not asked"),
    ],
)
def test_a_recording_replays_what_was_seen(policy: Policy, tmp_path: Path, answer: OnGpus | SourceError | None) -> None:
    """The same snapshot, the same document, and no question that it has no answer to."""
    recorder = Recorder(sources(answer), tmp_path / "host")
    first = look(policy, recorder.sources, AT, History())
    recorder.finish(AT, History(), {})
    assert (tmp_path / "host" / "tasks.json").exists() is (answer is not None)
    again = replay(tmp_path / "host")
    second = look(policy, again.sources, again.at, again.history)
    assert (again.mismatches, again.unused()) == ([], [])
    assert second.snapshot == first.snapshot
    assert printed(second) == printed(first)
    if isinstance(answer, OnGpus):
        assert again.sources.tasks is not None
        assert again.sources.tasks.look() == answer


def test_a_recording_without_them_asks_nobody(policy: Policy, tmp_path: Path) -> None:
    """As those of older versions are."""
    recorder = Recorder(sources(on_gpus(task(7))), tmp_path / "host")
    look(policy, recorder.sources, AT, History())
    recorder.finish(AT, History(), {})
    (tmp_path / "host" / "tasks.json").unlink()
    again = replay(tmp_path / "host")
    assert again.sources.tasks is None
    report = look(policy, again.sources, again.at, again.history)
    assert (again.mismatches, report.snapshot.host_processes, told(report)) == ([], (), [])


@pytest.mark.parametrize(
    "content",
    [
        pytest.param("[]", id="a list"),
        pytest.param('{"gpus": {}}', id="keys are missing"),
        pytest.param(
            '{"via": "", "notes": [], "unreadable": [], "gpus": {"G": [{"pid": "x"}]}, "tasks": []}', id="pid"
        ),
        pytest.param('{"via": "", "notes": [], "unreadable": [], "gpus": {}, "tasks": [{"pid": 1}]}', id="a task"),
    ],
)
def test_a_file_that_record_did_not_write_is_named(policy: Policy, tmp_path: Path, content: str) -> None:
    """By its path."""
    recorder = Recorder(sources(on_gpus(task(7))), tmp_path / "host")
    look(policy, recorder.sources, AT, History())
    recorder.finish(AT, History(), {})
    (tmp_path / "host" / "tasks.json").write_text(content)
    with pytest.raises(RecordingError, match=r"tasks\.json"):
        replay(tmp_path / "host")

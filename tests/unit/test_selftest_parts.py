"""The parts of a selftest: which GPU it takes, what changed beside it, what Docker is asked for, and what is shown."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from report_host import CLOCK
from selftest_world import ALICE, NONCE, OWN, SelftestHost, mine, shipped
from whole_host import AT, GPUS, A, B, C, D, inspect

from ds01_policy.gpu_claim import claim
from ds01_policy.identity import Identity, OwnerMatcher, identify
from ds01_policy.model import Gpu, GpuProcess, GpuRef, GpuStatus, GpuStatuses, MigDevice, Unfit
from ds01_policy.observe.inspected import container_of
from ds01_policy.observe.ports import SourceError, Sources
from ds01_policy.report.layout import Page, columns
from ds01_policy.selftest.neighbours import Neighbours, asked_for, changes, free_one, look_around
from ds01_policy.selftest.order import Order, body, owned
from ds01_policy.selftest.step import Course, Refused, Status, Step, document, line, summary, title

TWO = GPUS[:2]
PARTED = replace(
    GPUS[0],
    mig_enabled=True,
    mig_devices=(MigDevice("MIG-a", 0, 7, 0), MigDevice("MIG-b", 1, 8, 0), MigDevice("MIG-c", 2, 8, 1)),
)


def around(host: SelftestHost, *gpus: Gpu) -> tuple[Neighbours, Sources]:
    host.gpus = gpus or TWO
    sources = Sources(host, host, host, host, tasks=host)
    return look_around(shipped(), sources, AT), sources


# ── a free GPU ───────────────────────────────────────────────────────────────────────────────────────────────────────

EXPORTER: dict[str, Any] = {"image": "nvcr.io/nvidia/k8s/dcgm-exporter:4"}


def holds_all(raw: Any) -> Any:
    raw["HostConfig"]["DeviceRequests"][0] |= {"Count": -1, "DeviceIDs": None}
    return raw


def privileged(raw: Any) -> Any:
    raw["HostConfig"] |= {"DeviceRequests": [], "Privileged": True}
    return raw


def vague(raw: Any) -> Any:
    raw["HostConfig"]["DeviceRequests"][0] |= {"DeviceIDs": ["MIG-unheard-of"]}
    return raw


def on_first(*instances: int | None) -> GpuStatuses:
    """Put processes on the first GPU, by the GPU instance they are on."""
    there = tuple(GpuProcess(number, "C", "", None, one) for number, one in enumerate(instances))
    return GpuStatuses({TWO[0].uuid: GpuStatus(TWO[0].uuid, processes=there)})


@pytest.mark.parametrize(
    ("host", "gpus", "taken"),
    [
        pytest.param({}, TWO, TWO[0].uuid, id="an empty host"),
        pytest.param({"inspects": {A: inspect(A, "a", 0)}}, TWO, TWO[1].uuid, id="one is held by who runs"),
        pytest.param(
            {"inspects": {A: inspect(A, "a", 0, status="exited")}}, TWO, TWO[1].uuid, id="one is held by who ended"
        ),
        pytest.param(
            {"inspects": {A: inspect(A, "a", 0, status="created")}}, TWO, TWO[1].uuid, id="one by who never started"
        ),
        pytest.param({"processes": {0: 1}}, TWO, TWO[1].uuid, id="a process of the bare host is on one"),
        pytest.param({"inspects": {A: holds_all(inspect(A, "a"))}}, TWO, "", id="somebody holds all"),
        pytest.param(
            {"inspects": {A: holds_all(inspect(A, "a", **EXPORTER))}}, TWO, TWO[0].uuid, id="an exporter holds all"
        ),
        pytest.param(
            {"inspects": {A: privileged(inspect(A, "a"))}}, TWO, TWO[0].uuid, id="a privileged one asked for none"
        ),
        pytest.param({"inspects": {A: vague(inspect(A, "a"))}}, TWO, "", id="it is not known which somebody holds"),
        pytest.param({"inspects": {A: SourceError("odd")}}, TWO, "", id="one container cannot be looked at"),
        pytest.param({"statuses": SourceError("hangs")}, TWO, "", id="the driver does not list processes"),
        pytest.param(
            {"statuses": GpuStatuses({TWO[0].uuid: GpuStatus(TWO[0].uuid)})}, TWO, "", id="nor those of any GPU"
        ),
        pytest.param({}, (), "", id="there is none"),
        pytest.param({}, SourceError("no driver"), "", id="the GPUs cannot be listed"),
        pytest.param({"statuses": on_first()}, (PARTED,), "MIG-a", id="a MIG device where MIG is on"),
        pytest.param({"statuses": on_first(7)}, (PARTED,), "MIG-b", id="the next one where somebody is on the first"),
        pytest.param({"statuses": on_first(None)}, (PARTED,), "", id="none where nobody knows on which somebody is"),
        pytest.param({}, (replace(GPUS[0], mig_enabled=True),), "", id="MIG is on and nothing is divided"),
    ],
)
def test_a_gpu_is_taken_by_itself_only_if_it_is_free_for_sure(host: dict[str, Any], gpus: Any, taken: str) -> None:
    """Where none is, there are reasons."""
    fake = SelftestHost(**host)
    fake.gpus = gpus
    sources = Sources(fake, fake, fake, fake, tasks=fake)
    found = free_one(look_around(shipped(), sources, AT), sources, {})
    assert found.name == taken
    assert bool(found.why) is not bool(taken)


def test_an_unfit_gpu_is_not_taken_and_every_reason_is_given() -> None:
    """The admin reads which GPU is kept by what."""
    seen, sources = around(SelftestHost({A: inspect(A, "train\x1b[2J", 1)}))
    found = free_one(seen, sources, {TWO[0].uuid: Unfit(AT, "off the bus")})
    assert found.why == "GPU 0: unfit, off the bus; GPU 1: held by train\\x1b[2J (running)"


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("1", TWO[1].uuid),
        (TWO[1].uuid, TWO[1].uuid),
        (TWO[1].uuid.upper(), TWO[1].uuid),
        (f" {TWO[1].uuid} ", TWO[1].uuid),
    ],
)
def test_a_person_may_name_any_gpu(text: str, taken: str) -> None:
    """Also one that somebody holds: it is only looked at. Docker is asked by UUID."""
    seen, _ = around(SelftestHost({A: inspect(A, "train", 1)}))
    found = asked_for(text, seen)
    assert (found.name, found.ref) == (taken, GpuRef(taken))


@pytest.mark.parametrize(
    ("text", "name"), [("MIG-a", "MIG-a"), ("0:2", "MIG-b"), ("MIG-c", "MIG-c"), ("mig-c", "MIG-c")]
)
def test_a_person_may_name_a_mig_device(text: str, name: str) -> None:
    """Two compute instances of one GPU instance are one thing that can be held."""
    seen, _ = around(SelftestHost(), PARTED)
    assert asked_for(text, seen).name == name


@pytest.mark.parametrize(
    ("text", "gpus", "said"),
    [
        ("7", TWO, "names '7', which is not among this host's GPUs"),
        ("GPU-nope", TWO, "not among this host's GPUs"),
        ("all", TWO, "means 2 devices: name one of them"),
        ("0", (PARTED,), "means 2 devices: name one of them (MIG-a, MIG-b, MIG-c)"),
        ("0\x1b[2J", TWO, "no way to name a GPU"),
        ("0", SourceError("no driver"), "--no-gpu does without one"),
    ],
)
def test_a_gpu_that_is_not_one_is_refused(text: str, gpus: Any, said: str) -> None:
    """In words, before anything is done."""
    host = SelftestHost(gpus=gpus)
    seen = look_around(shipped(), host.sources, AT)
    with pytest.raises(Refused, match=r".") as refused:
        asked_for(text, seen)
    assert said in str(refused.value)
    assert "\x1b" not in str(refused.value)


# ── what became of the others ────────────────────────────────────────────────────────────────────────────────────────


def test_what_changed_beside_it_is_told() -> None:
    """A life, a state and a name each; who came meanwhile, and our own, is no change."""
    host = SelftestHost({OWN: mine(), **{each: inspect(each, each[0], None) for each in (A, B, C, D)}})
    before, _ = around(host)
    assert changes(before, before, "") == []
    host.inspects[A]["State"] |= {"Status": "exited", "FinishedAt": "2026-03-02T11:59:00Z"}  # type: ignore[index]
    host.inspects[B]["State"] |= {"StartedAt": "2026-03-02T11:59:00Z"}  # type: ignore[index]
    host.inspects[C]["Name"] = "/x\x1b[2J"  # type: ignore[index]
    del host.inspects[D], host.inspects[OWN]
    host.inspects["f" * 64] = inspect("f" * 64, "new")
    after, _ = around(host)
    assert changes(before, after, OWN) == [
        "a (aaaaaaaaaaaa) was running, is exited",
        "b (bbbbbbbbbbbb) was started anew",
        "c (cccccccccccc) is called x\\x1b[2J now",
        "d (dddddddddddd) is gone",
    ]
    host.inspects[C] = SourceError("odd")
    unseen, _ = around(host)
    assert "c (cccccccccccc) is gone, or could not be looked at" in changes(before, unseen, OWN)


def test_other_peoples_doings_are_no_failure() -> None:
    """A busy host changes by itself: that is said, as theirs."""
    host = SelftestHost({A: inspect(A, "train", 7)})
    host.on["wait 3"] = lambda: host.inspects.pop(A) and True
    course = host.run()
    assert course.failed == ()
    told = next(step for step in course.steps if step.name == "others")
    assert told.status is Status.NOTE
    assert told.what.endswith("by other hands meanwhile: train (aaaaaaaaaaaa) is gone")


# ── what Docker is asked for ─────────────────────────────────────────────────────────────────────────────────────────


def order(**changes: Any) -> Order:
    return replace(Order(NONCE, ALICE, AT, 180, (("ds01.user", "alice"),)), **changes)


def seen_as(wanted: Any, **more: Any) -> Any:
    """Build the inspect of what was asked for, as an engine would show it."""
    raw = inspect(OWN, order().name, None)
    raw["Config"] = {key: wanted[key] for key in ("Image", "Labels", "Env")}
    raw["HostConfig"] |= {"Runtime": more.get("runtime", "runc"), **wanted["HostConfig"]}
    return raw


def test_it_can_do_nothing() -> None:
    """No network, nothing to write to, no mounts, no capabilities, no health check, no restart, bounded."""
    wanted = body(order(), "sha256:1", ("/selftest",))
    host = wanted["HostConfig"]
    assert (host["NetworkMode"], wanted["NetworkDisabled"]) == ("none", True)
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["SecurityOpt"]) == (True, ["ALL"], ["no-new-privileges"])
    assert {"Binds", "Mounts", "Devices", "VolumesFrom", "Privileged", "PidMode"} & host.keys() == set()
    assert (host["RestartPolicy"], host["AutoRemove"]) == ({"Name": "no"}, False)
    assert 0 < host["Memory"] <= 2**26
    assert 0 < host["PidsLimit"] <= 64
    assert wanted["Healthcheck"] == {"Test": ["NONE"]}
    assert (wanted["Entrypoint"], wanted["Cmd"], wanted["User"]) == (["/selftest"], [], "1001:1002")
    assert wanted["Labels"]["ds01-policy.selftest"] == NONCE
    assert "alice" in wanted["Labels"]["ds01-policy.selftest.about"]
    assert "180 s" in wanted["Labels"]["ds01-policy.selftest.about"]


@pytest.mark.parametrize("route", ["request", "runtime"])
def test_it_gets_the_gpu_it_was_ordered_with(route: Any) -> None:
    """By either route, seen as a tick sees it; also where the image says otherwise."""
    wanted = body(order(gpu=TWO[1].uuid), "sha256:1", ("/selftest",), route)
    found = claim(seen_as(wanted), TWO)
    assert (found.refs, found.unclear, found.holds) == ((GpuRef(TWO[1].uuid),), "", True)


def test_without_a_gpu_it_gets_none_from_its_image_either() -> None:
    """Images bake NVIDIA_VISIBLE_DEVICES=all in, and a host may have the nvidia runtime for its default."""
    wanted = body(order(), "sha256:1", ("/selftest",))
    baked = {**seen_as(wanted, runtime="nvidia"), "Mounts": []}
    baked["Config"]["Env"] = ["NVIDIA_VISIBLE_DEVICES=all", *wanted["Env"]]
    assert not claim(baked, TWO).wants


LABEL = OwnerMatcher("label", label="ds01.user")
HOME = OwnerMatcher("label_home", label="devcontainer.local_folder", homes=("/home/",))
OTHERS = (OwnerMatcher("mounts"), OwnerMatcher("process"))


@pytest.mark.parametrize(
    ("matchers", "labels"),
    [
        pytest.param((LABEL, HOME), {"ds01.user": "alice"}, id="by a label"),
        pytest.param(
            (HOME, LABEL), {"devcontainer.local_folder": "/home/alice"}, id="by a home, where that comes first"
        ),
        pytest.param(OTHERS, {}, id="only its process tells"),
        pytest.param((), {}, id="nobody would know"),
    ],
)
def test_it_belongs_to_who_asked(matchers: tuple[OwnerMatcher, ...], labels: dict[str, str]) -> None:
    """By the first label that this host's identity.yaml reads; what it is identified as is the proof."""
    identity = Identity(owners=matchers)
    assert dict(owned(identity, "alice")) == labels
    wanted = body(order(labels=owned(identity, "alice")), "sha256:1", ("/selftest",))
    uid = int(wanted["User"].partition(":")[0])
    names = {1001: "alice"}.get
    facts = container_of(seen_as(wanted))
    found = identify(identity, facts, process_uid=uid, user_of_uid=names)
    assert found.owner == ("alice" if matchers else "unknown")


def test_names_of_two_selftests_never_meet() -> None:
    """The nonce is in the name and in the tag."""
    assert order().name != order(nonce="ffffffffffff").name
    assert order().tag != order(nonce="ffffffffffff").tag


# ── what is shown ────────────────────────────────────────────────────────────────────────────────────────────────────

STEPS = (
    Step("image", Status.OK, "imported", after_s=0.25),
    Step("warn", Status.NOTE, "it went out, and provably reached nobody: " + "x " * 60, "log in", 3.0),
    Step("stop", Status.OK, "exit code 137", after_s=7.0),
    Step("remove", Status.OK, "done", after_s=7.0),
    Step("epilog", Status.SKIPPED, "no GPU\x1b[2J", after_s=8.04),
)
COURSE = Course("gpu01", AT, STEPS, OWN, "x", "")


def test_each_step_fits_the_page_and_is_harmless() -> None:
    """Wrapped below itself; what comes from outside is escaped; colour only where it is wanted."""
    page = Page(80)
    text = title("gpu01", page, CLOCK) + "".join(line(step, page) for step in STEPS) + summary(COURSE, page)
    assert all(columns(each) <= 80 for each in text.splitlines())
    assert "\x1b" not in text
    assert "skip    epilog    no GPU\\x1b[2J\n" in text
    assert "                  do: log in\n" in text
    assert text.endswith("\nproven in 8s: warn, stop, remove; not proven here: epilog\n")
    assert line(STEPS[0], Page(80, colour=True)) == "\x1b[32mok      \x1b[0mimage     imported\n"


def test_a_failure_is_what_stays_on_the_screen() -> None:
    """The last line names the steps that failed."""
    failed = replace(COURSE, steps=(*STEPS, Step("others", Status.FAILED, "gone", "look", 9.0)))
    assert summary(failed, Page(80)) == "\nFAILED (others), after 9s\n"
    assert line(failed.steps[-1], Page(80)).startswith("FAILED  others    gone\n")


def test_programs_read_the_same() -> None:
    """One document: whether all was proven, and each step."""
    told = json.loads(json.dumps(document(COURSE)))
    assert {key: told[key] for key in ("schema", "command", "at", "host", "gpu", "ok", "seconds")} == {
        "schema": 1, "command": "selftest", "at": "2026-03-02T12:00:00Z", "host": "gpu01", "gpu": None, "ok": True,
        "seconds": 8.0,
    }  # fmt: skip
    assert told["container"] == {"id": OWN, "name": "x"}
    assert told["steps"][0] == {"step": "image", "status": "ok", "what": "imported", "do": None, "after_s": 0.2}
    assert document(replace(COURSE, container="", gpu="GPU-a"))["container"] is None

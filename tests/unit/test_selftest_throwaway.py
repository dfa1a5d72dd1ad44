"""The throwaway on an engine that misbehaves as told: made, started, and taken away with nothing else."""

from __future__ import annotations

import gc
import io
import json
import tarfile
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from engine_server import served
from selftest_world import ALICE, NAME, NONCE, OWN
from whole_host import AT, A, B

from ds01_policy.selftest.order import LABEL, Order
from ds01_policy.selftest.step import Failed, Refused
from ds01_policy.selftest.throwaway import Throwaway

TAG = f"ds01-policy-selftest:{NONCE}"
IMAGE = "sha256:" + "1" * 64
OTHER = "sha256:" + "2" * 64
GPU = "GPU-aaaa"
Answer = tuple[int, Any]  # a status of 0: the connection is closed instead
Step = Callable[["FakeEngine"], Answer | None]  # None: then do what an engine does


class FakeEngine:
    """Docker's answers; `script` holds, by call, what happens first at its next occurrences."""

    def __init__(self, socket: Path) -> None:
        self.url = f"unix://{socket}"
        self.arch = "amd64"
        self.runtimes = ["runc"]
        self.images: dict[str, dict[str, Any]] = {}
        self.containers: dict[str, dict[str, Any]] = {}
        self.script: dict[str, list[Step]] = defaultdict(list)
        self.calls: list[str] = []  # those that change something
        self.bodies: list[Any] = []  # of creates
        self.imported = b""
        self.released = threading.Event()

    def holds(self, container: str, name: str, image: str = IMAGE, label: str = NONCE) -> None:
        self.containers[container] = {
            "Id": container,
            "Names": [f"/{name}"],
            "ImageID": image,
            "Labels": {LABEL: label},
        }

    def answer(self, method: str, url: str, body: bytes) -> Answer:  # noqa: PLR0911  one return a request
        path = urlsplit(url)
        query = {key: values[-1] for key, values in parse_qs(path.query).items()}
        parts = [part for part in path.path.split("/") if part and not part.startswith("v1.")]
        match method, parts:
            case "GET", ["version"]:
                return 200, {"ApiVersion": "1.41", "Arch": self.arch}
            case "GET", ["info"]:
                return 200, {"Runtimes": {name: {} for name in self.runtimes}}
            case "GET", ["images", *reference, "json"]:
                found = self.images.get("/".join(reference))
                return (200, found) if found else (404, {"message": "No such image: x"})
            case "GET", ["containers", "json"]:
                assert query["all"] == "1"
                return self.scripted("list") or (200, list(self.containers.values()))
        self.calls.append(f"{method} {'/'.join(parts)}")
        match method, parts:
            case "POST", ["images", "create"]:
                assert (query["fromSrc"], query["repo"], query["tag"]) == ("-", "ds01-policy-selftest", NONCE)
                return self.scripted("import") or self.imports(body, query["changes"])
            case "POST", ["containers", "create"]:
                self.bodies.append(json.loads(body))
                return self.scripted("create") or self.creates(query["name"])
            case "POST", ["containers", _, "start"]:
                return self.scripted("start") or (204, None)
            case "DELETE", ["containers", container]:
                return self.scripted("remove") or self.removes(container, query)
            case "DELETE", ["images", *reference]:
                return self.scripted("untag") or self.untags("/".join(reference), query)
        return 501, {"message": f"unexpected {method} {url}"}

    def scripted(self, call: str) -> Answer | None:
        return self.script[call].pop(0)(self) if self.script[call] else None

    def imports(self, body: bytes, change: str) -> Answer:
        self.imported = body
        key, _, value = change.removeprefix("LABEL ").partition("=")
        self.images[TAG] = {"Id": IMAGE, "Config": {"Labels": {key: value}}}
        return 200, {"status": IMAGE}

    def creates(self, name: str) -> Answer:
        if any(f"/{name}" in one["Names"] for one in self.containers.values()):
            return 409, {"message": f"Conflict. The container name {name} is already in use"}
        self.holds(OWN, name, self.bodies[-1]["Image"], self.bodies[-1]["Labels"][LABEL])
        return 201, {"Id": OWN, "Warnings": []}

    def removes(self, container: str, query: dict[str, str]) -> Answer:
        assert (query["force"], query["v"]) == ("True", "True")
        return (204, None) if self.containers.pop(container, None) else (404, {"message": "No such container: x"})

    def untags(self, reference: str, query: dict[str, str]) -> Answer:
        assert (query["force"], query["noprune"]) == ("False", "True")
        return (200, []) if self.images.pop(reference, None) else (404, {"message": "No such image"})


# ── steps of a script ────────────────────────────────────────────────────────────────────────────────────────────────


def fails(status: int, message: str = "boom\x1b[2J\u202e") -> Step:
    return lambda _: (status, {"message": message})


def hangs(engine: FakeEngine) -> None:
    """Answer only when the test is over."""
    engine.released.wait(20)


def done_and_cut(engine: FakeEngine) -> Answer:
    """Create it, and close the connection instead of an answer."""
    engine.creates(NAME)
    return 0, None


def later(engine: FakeEngine) -> Answer:
    """Close the connection, and create it a moment later."""
    engine.script["list"] += [lambda _: (200, []), lambda _: (200, []), lambda each: each.creates(NAME) and None]
    return 0, None


def somebody_elses(engine: FakeEngine) -> Answer:
    """Refuse the name: somebody has read it off the image and taken it."""
    engine.holds(A, NAME)
    return 409, {"message": "Conflict"}


def gone(engine: FakeEngine) -> Answer:
    """Have it removed by somebody else at this moment."""
    engine.containers.pop(OWN, None)
    return 409, {"message": "removal of container is already in progress"}


@pytest.fixture
def engine() -> Iterator[FakeEngine]:
    with served(FakeEngine) as fake:
        yield fake


def throwaway(engine: FakeEngine, image: str | None = None, gpu: str | None = None) -> Throwaway:
    return Throwaway(engine.url, 0.6, Order(NONCE, ALICE, AT, 180, gpu=gpu), image)


def made_and_started(ours: Throwaway) -> None:
    ours.make()
    ours.start()


# ── making it ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_it_is_made_and_taken_away_again(engine: FakeEngine) -> None:
    """An image of one program, a container of that very image, and nothing left of either."""
    ours = throwaway(engine)
    assert TAG in ours.make()
    with tarfile.open(fileobj=io.BytesIO(engine.imported)) as tar:
        assert "selftest" in tar.getnames()
    assert ours.start() == ""
    assert ours.id == OWN
    assert (engine.bodies[0]["Image"], engine.bodies[0]["Entrypoint"]) == (IMAGE, ["/selftest"])
    assert ours.clear() == "container removed, image removed"
    assert (engine.containers, engine.images) == ({}, {})
    assert engine.calls == [
        "POST images/create",
        "POST containers/create",
        f"POST containers/{OWN}/start",
        f"DELETE containers/{OWN}",
        f"DELETE images/{TAG}",
    ]


def test_an_image_of_the_host_is_used_and_stays(engine: FakeEngine) -> None:
    """It is named by its id from then on: a tag may come to mean another one."""
    engine.images["busybox"] = {"Id": OTHER, "Config": {"Labels": None}}
    ours = throwaway(engine, "busybox")
    ours.make()
    ours.start()
    assert (engine.bodies[0]["Image"], engine.bodies[0]["Entrypoint"]) == (OTHER, ["sleep", "180"])
    assert ours.clear() == "container removed"
    assert "busybox" in engine.images
    assert not [call for call in engine.calls if "images" in call]


@pytest.mark.parametrize(
    ("image", "config", "said"),
    [
        ("nix", {}, "no such image, and none is pulled"),
        ("busybox", {"Volumes": {"/data": {}}}, "declares volumes"),
    ],
)
def test_an_image_that_would_leave_something_or_is_not_there_is_refused(
    engine: FakeEngine, image: str, config: dict[str, Any], said: str
) -> None:
    """Before anything is done."""
    engine.images["busybox"] = {"Id": OTHER, "Config": config}
    ours = throwaway(engine, image)
    with pytest.raises(Refused, match=said):
        ours.make()
    assert ours.clear() == ""
    assert engine.calls == []


def test_a_machine_for_which_there_is_no_program_needs_an_image(engine: FakeEngine) -> None:
    """The engine's machine counts: it may be another one than ours."""
    engine.arch = "riscv64"
    with pytest.raises(Refused, match="riscv64: name an image with --image"):
        throwaway(engine).make()
    assert engine.calls == []


GPU_REFUSED = fails(500, 'could not select device driver "" with capabilities: [[gpu utility]]')


@pytest.mark.parametrize(
    ("runtimes", "gpu", "works"),
    [
        pytest.param(["runc", "nvidia"], GPU, True, id="a host that has the nvidia runtime"),
        pytest.param(["runc"], GPU, False, id="a host that has not"),
        pytest.param(["runc", "nvidia"], None, False, id="no GPU was wanted"),
    ],
)
def test_where_docker_knows_no_gpus_the_nvidia_runtime_may(
    engine: FakeEngine,
    runtimes: list[str],
    gpu: str | None,
    works: bool,  # noqa: FBT001  a table's column
) -> None:
    """The container that did not start is gone before the next one is made under its name."""
    engine.runtimes = runtimes
    engine.script["start"] = [GPU_REFUSED]
    ours = throwaway(engine, gpu=gpu)
    ours.make()
    if works:
        assert "nvidia runtime" in ours.start()
        assert (engine.bodies[1]["HostConfig"]["Runtime"], "DeviceRequests" in engine.bodies[1]["HostConfig"]) == (
            "nvidia", False,
        )  # fmt: skip
        assert f"NVIDIA_VISIBLE_DEVICES={GPU}" in engine.bodies[1]["Env"]
    else:
        with pytest.raises(Failed, match="could not select device driver"):
            ours.start()
    assert ours.clear() == "container removed, image removed"
    assert engine.containers == {}


# ── what fails ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("call", "step", "said"),
    [
        ("import", fails(403, "authz: denied"), "Docker answered 403: authz: denied"),
        ("import", lambda _: (200, {"error": "no space left", "errorDetail": {}}), "no space left"),
        ("import", hangs, "did not answer"),
        ("import", lambda _: (0, None), "did not answer"),
        ("create", fails(403, "authz: denied\x1b[2J"), r"Docker answered 403: authz: denied\\x1b\[2J"),
        ("create", hangs, "did not answer"),
        ("start", fails(500, "exec format error"), "exec format error"),
        ("start", hangs, "did not answer"),
    ],
)
def test_whatever_fails_on_the_way_is_said_in_words_and_cleared_up(
    engine: FakeEngine, call: str, step: Step, said: str
) -> None:
    """In a bounded time; nothing is left, and nothing escapes to the terminal."""
    engine.script[call] = [step]
    ours = throwaway(engine)
    with pytest.raises(Failed, match=said) as failed:
        made_and_started(ours)
    assert "\x1b" not in str(failed.value)
    engine.released.set()
    ours.clear()
    assert (engine.containers, engine.images) == ({}, {})


@pytest.mark.parametrize("step", [done_and_cut, later], ids=["it is there at once", "it comes a moment later"])
def test_a_container_whose_id_never_came_is_found(engine: FakeEngine, step: Step) -> None:
    """By its name, its nonce and its image together; a neighbour that has two of them stays."""
    engine.holds(B, NAME + "x")
    engine.holds(A, "other", IMAGE)
    engine.script["create"] = [step]
    ours = throwaway(engine)
    ours.make()
    with pytest.raises(Failed, match="did not answer"):
        ours.start()
    assert ours.clear() == "container removed, image removed"
    assert set(engine.containers) == {A, B}


@pytest.mark.parametrize(
    ("name", "image", "label"),
    [
        pytest.param(NAME, OTHER, NONCE, id="of another image"),
        pytest.param(NAME, IMAGE, "ffffffffffff", id="with another label"),
        pytest.param(NAME + "x", IMAGE, NONCE, id="of another name"),
    ],
)
def test_what_only_resembles_ours_stays_where_its_id_never_came(
    engine: FakeEngine, name: str, image: str, label: str
) -> None:
    """Two of the three are not enough."""

    def taken(engine: FakeEngine) -> Answer:
        engine.holds(A, name, image, label)
        return 0, None

    ours = throwaway(engine)
    ours.make()
    engine.script["create"] = [taken]
    with pytest.raises(Failed, match="did not answer"):
        ours.start()
    assert ours.clear() == "no container left, image removed"
    assert set(engine.containers) == {A}


@pytest.mark.parametrize("image", [IMAGE, OTHER])
def test_somebody_who_took_the_name_is_left_alone(engine: FakeEngine, image: str) -> None:
    """Docker's refusal is an answer: nothing of ours was made."""
    engine.script["create"] = [somebody_elses]
    ours = throwaway(engine)
    ours.make()
    with pytest.raises(Failed, match="Conflict"):
        ours.start()
    engine.containers[A]["ImageID"] = image
    ours.clear()
    assert set(engine.containers) == {A}


def test_a_container_that_is_called_like_ours_by_id_stays(engine: FakeEngine) -> None:
    """Docker looks ids up as names too: once ours is gone, its id may be somebody's name."""
    ours = throwaway(engine)
    ours.make()
    ours.start()
    del engine.containers[OWN]
    engine.holds(A, OWN)
    assert ours.clear() == "no container left, image removed"
    assert set(engine.containers) == {A}


@pytest.mark.parametrize(
    ("step", "said"),
    [
        pytest.param(gone, "", id="somebody else removes it at this moment"),
        pytest.param(fails(500, "device busy"), "device busy; do: docker rm -f " + NAME, id="Docker cannot"),
        pytest.param(hangs, "did not answer", id="Docker hangs"),
    ],
)
def test_what_cannot_be_removed_is_said_with_what_to_do(engine: FakeEngine, step: Step, said: str) -> None:
    """The image goes its own way."""
    ours = throwaway(engine)
    ours.make()
    ours.start()
    engine.script["remove"] = [step]
    if said:
        with pytest.raises(Failed, match="the container is still there") as failed:
            ours.clear()
        assert said in str(failed.value)
    else:
        assert ours.clear() == "container removed, image removed"
    assert engine.images == {}


@pytest.mark.parametrize(
    ("change", "left", "said"),
    [
        pytest.param({"Id": OTHER}, True, "is another image by now", id="the tag is another image's"),
        pytest.param({"Config": {"Labels": None}}, True, "is another image by now", id="an image without our label"),
        pytest.param(None, False, "", id="it was removed by somebody else"),
    ],
)
def test_an_image_that_is_not_ours_stays(
    engine: FakeEngine,
    change: dict[str, Any] | None,
    left: bool,  # noqa: FBT001  a table's column
    said: str,
) -> None:
    """A tag is only a name."""
    ours = throwaway(engine)
    ours.make()
    if change is None:
        engine.images.clear()
    else:
        engine.images[TAG] |= change
    if said:
        with pytest.raises(Failed, match=said):
            ours.clear()
    else:
        ours.clear()
    assert (TAG in engine.images) is left


def test_an_image_that_somebody_uses_stays(engine: FakeEngine) -> None:
    """Never by force."""
    ours = throwaway(engine)
    ours.make()
    engine.script["untag"] = [fails(409, "image is being used by running container")]
    with pytest.raises(Failed, match="being used") as failed:
        ours.clear()
    assert f"docker rmi {TAG}" in str(failed.value)


@pytest.mark.filterwarnings("ignore:unclosed <socket")  # the SDK's, when it cannot connect
def test_without_an_engine_it_is_said() -> None:
    """No socket, no traceback."""
    with pytest.raises(Failed, match="could not make the image"):
        Throwaway("unix:///nonexistent/docker.sock", 0.5, Order(NONCE, ALICE, AT, 180)).make()
    gc.collect()

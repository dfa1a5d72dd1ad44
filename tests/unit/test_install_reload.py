"""Whether loading units anew would take GPUs away: from what Docker and systemd say, whatever they say."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cli_host import silent_engine
from fault_prometheus import respond, serving

from ds01_policy.install.asking import reload_facts
from ds01_policy.install.reload import Danger, ReloadFacts, Scope, judge, named, stale
from ds01_policy.install.systemd import Systemd, SystemdError
from ds01_policy.install.units_up import refusal
from ds01_policy.policy import DockerSettings

BUILT_IN = ("/dev/char/1:3 rwm", "/dev/char/5:0 rwm", "char-pts rwm")
HOOK = Scope("train", known=True, policy="strict", allowed=BUILT_IN)
CDI = Scope("cdi", known=True, policy="strict", allowed=(*BUILT_IN, "/dev/char/195:0 rw", "/dev/char/195:255 rw"))
NODES = Scope("nodes", known=True, policy="strict", allowed=("/dev/nvidia0 rwm", "/dev/nvidiactl rwm"))
CLASS = Scope("class", known=True, policy="strict", allowed=("char-nvidia rw",))
ONE_NODE = Scope("one-node", known=True, policy="strict", allowed=("/dev/nvidia0 rwm",))
CONTROL = Scope("control", known=True, policy="strict", allowed=("/dev/char/195:255 rw", "/dev/char/195:254 rw"))
PRIVILEGED = Scope("privileged", known=True, policy="auto")
ELSEWHERE = Scope("elsewhere")


@pytest.mark.parametrize(
    ("facts", "danger", "containers"),
    [
        (ReloadFacts("systemd"), Danger.NONE, ()),
        (ReloadFacts("cgroupfs", [HOOK]), Danger.NONE, ()),
        (ReloadFacts("systemd", [HOOK]), Danger.WOULD, ("train",)),
        (ReloadFacts("", [HOOK]), Danger.WOULD, ("train",)),
        (ReloadFacts("systemd", [CDI, NODES, CLASS, PRIVILEGED]), Danger.NONE, ()),
        (ReloadFacts("systemd", [ONE_NODE]), Danger.WOULD, ("one-node",)),
        (ReloadFacts("systemd", [CONTROL]), Danger.WOULD, ("control",)),
        (ReloadFacts("systemd", [CDI, ELSEWHERE]), Danger.MIGHT, ("elsewhere",)),
        (ReloadFacts("systemd", [ELSEWHERE, HOOK, CDI]), Danger.WOULD, ("elsewhere", "train")),
        (ReloadFacts("systemd", [HOOK], error="Docker does not answer"), Danger.MIGHT, ()),
        (ReloadFacts(error="x"), Danger.MIGHT, ()),
    ],
    ids=[
        "no GPU container runs", "Docker manages cgroups itself", "systemd does not know the hook's devices",
        "a driver that Docker does not name", "every way in which systemd knows them", "the control node is missing",
        "only nodes that are nobody's", "no scope under the usual name", "some of each", "Docker stopped answering",
        "Docker does not answer",
    ],
)  # fmt: skip
def test_what_a_reload_would_do(facts: ReloadFacts, danger: Danger, containers: tuple[str, ...]) -> None:
    """Only what is shown to be harmless is; those it is about are named."""
    judgement = judge(facts)
    assert (judgement.danger, judgement.containers) == (danger, containers)


def test_hostile_and_many_names() -> None:
    """Users write container names; a line stays a line."""
    scopes = [Scope(f"c{number:02}\x1b[2J\n", known=True, policy="strict") for number in range(12)]
    line = named(judge(ReloadFacts("systemd", scopes)))
    assert line.startswith("c00\\x1b[2J\\n, c01")
    assert line.endswith(" and 2 more")
    assert "\n" not in line


def test_the_refusal_says_whom_and_what_to_do() -> None:
    """Names, the reason, and both ways on."""
    text = "\n".join(refusal(["ds01-policy.service"], judge(ReloadFacts("systemd", [HOOK]))))
    assert "takes GPUs away from containers that run: train" in text
    assert "sudo ds01-policy install --reload" in text
    assert "next boot" in text
    assert "might take GPUs away" in "\n".join(refusal(["x"], judge(ReloadFacts(error="down"))))


def test_whose_file_has_changed() -> None:
    """As systemd says it, and where it has loaded other drop-ins than stand there."""
    assert stale({"a": {"NeedDaemonReload": "yes"}, "b": {"NeedDaemonReload": "no"}, "c": {}}, {}) == ["a"]
    one, other = (f"/etc/systemd/system/a.service.d/{name}.conf" for name in ("50-settings", "override"))
    knows = {"a.service": {"NeedDaemonReload": "no", "DropInPaths": f"/usr/lib/systemd/system/service.d/x.conf {one}"}}
    assert stale(knows, {"a.service": frozenset({one})}) == []
    assert stale(knows, {"a.service": frozenset({one, other})}) == ["a.service"]
    assert stale(knows, {}) == ["a.service"]
    assert stale({"a.service": {"DropInPaths": ""}}, {"a.service": frozenset({one})}) == ["a.service"]
    assert stale({"a.service": {"DropInPaths": ""}}, {}) == []


# ── asking ───────────────────────────────────────────────────────────────────────────────────────────────────────────

GPU = {"DeviceRequests": [{"Driver": "", "Count": -1, "DeviceIDs": None, "Capabilities": [["gpu"]]}], "Runtime": "runc"}


@dataclass(frozen=True)
class Knows(Systemd):
    """A systemd that runs these scopes, knows the devices of one, and fails for another."""

    runs: frozenset[str] = frozenset()

    def active(self, pattern: str) -> frozenset[str]:
        assert pattern == "docker-*.scope"
        return self.runs

    def devices(self, scope: str) -> tuple[str, tuple[str, ...]] | None:
        if "ff" in scope:
            raise SystemdError("`systemctl show` did not answer within 15s and was killed")
        return ("strict", BUILT_IN) if scope == f"docker-{'aa' * 32}.scope" else None


def container(one: str, host: dict[str, Any], env: list[str] | None = None) -> dict[str, Any]:
    return {"Id": one * 32, "Name": f"/c-{one}", "HostConfig": host, "Config": {"Env": env or []}}


def answers(*containers: tuple[dict[str, Any], str], driver: str = "systemd", runtime: str = "runc") -> list[Any]:
    """Answer /info, /version, the list of these containers in their states, and an inspect of each that may run."""
    listed = [{"Id": raw["Id"], "State": state} for raw, state in containers]
    inspects = [respond(raw) for raw, state in containers if state in ("running", "paused", "restarting")]
    info = {"CgroupDriver": driver, "DefaultRuntime": runtime}
    return [respond(info), respond({"ApiVersion": "1.47", "MinAPIVersion": "1.24"}), respond(listed), *inspects]


def asked(*scripted: Any, runs: Iterable[str] = ()) -> ReloadFacts:
    systemd = Knows(frozenset(f"docker-{one * 32}.scope" for one in runs))
    with serving(*scripted) as server:
        return reload_facts(DockerSettings(server.url.replace("http://", "tcp://"), timedelta(seconds=5)), systemd)


def test_who_runs_with_gpus_and_what_systemd_knows() -> None:
    """Those that run, in any state that is not over; each with its scope's devices."""
    facts = asked(
        *answers(
            (container("aa", GPU), "running"),
            (container("bb", GPU), "paused"),
            (container("cc", {"Runtime": "runc"}), "running"),
            (container("dd", GPU), "exited"),
        )
    )
    assert facts == ReloadFacts("systemd", [Scope("c-aa", True, "strict", BUILT_IN), Scope("c-bb")])  # noqa: FBT003
    assert judge(facts).containers == ("c-aa", "c-bb")


def test_the_default_runtime_hands_gpus_over() -> None:
    """Where it is NVIDIA's, an environment variable of the image is enough."""
    wanting = container("aa", {}, ["NVIDIA_VISIBLE_DEVICES=all"])
    assert [one.container for one in asked(*answers((wanting, "running"), runtime="nvidia")).scopes] == ["c-aa"]
    assert asked(*answers((wanting, "running"))).scopes == []


def test_a_docker_that_is_not_the_one_whose_containers_run() -> None:
    """An empty list, of a second daemon say, is no proof that no GPU container runs."""
    facts = asked(*answers(), runs=["aa"])
    assert f"systemd runs container {'aa' * 6}, which the Docker at tcp://" in facts.error
    assert judge(facts).danger is Danger.MIGHT
    assert judge(asked(*answers((container("bb", GPU), "running")), runs=["aa"])).danger is Danger.MIGHT


def test_scopes_of_what_this_docker_lists() -> None:
    """In whatever state: one may end in between."""
    plain_one, over = (container("bb", {"Runtime": "runc"}), "running"), (container("cc", GPU), "exited")
    assert judge(asked(*answers(), runs=[])).danger is Danger.NONE
    assert judge(asked(*answers(plain_one, over), runs=["bb", "cc"])).danger is Danger.NONE


@pytest.mark.parametrize(
    ("scripted", "words"),
    [
        ([respond({"message": "busy"}, 500)], "500"),
        ([respond("<html>")], ""),
        ([*answers()[:2], respond({"message": "?"}, 500)], "500"),
        ([*answers((container("aa", GPU), "running"))[:3], respond("no json")], ""),
        (answers((container("ff", GPU), "running")), "`systemctl show` did not answer"),
    ],
    ids=["no info", "no JSON", "no list", "an inspect that fails", "systemd that hangs"],
)
def test_whoever_does_not_answer_makes_it_a_danger(scripted: list[Any], words: str) -> None:
    """Nothing is taken for harmless because nobody said otherwise."""
    facts = asked(*scripted)
    assert facts.error
    assert words in facts.error
    assert judge(facts).danger is Danger.MIGHT


def test_an_engine_that_hangs(tmp_path: Path) -> None:
    """It costs its timeout, and counts as a danger."""
    with silent_engine(tmp_path):
        facts = reload_facts(DockerSettings(f"unix://{tmp_path}/docker.sock", timedelta(seconds=0.3)), Knows())
    assert judge(facts).danger is Danger.MIGHT
    assert "within" in facts.error

"""GPUs that were handed over: each looked at anew, reset only if that shows why, its request gone whatever becomes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from epilog_fakes import NOON, Place
from epilog_world import MINE, OTHER, A, B, FakeDriver, FakeEngine, FakeTasks, FakeTime, gpu, raw
from hypothesis import given, settings
from hypothesis import strategies as st

from ds01_policy import reset_requests
from ds01_policy.act.epilog import Epilog
from ds01_policy.audit import AuditError
from ds01_policy.handed_over import AHEAD, OLDEST, HandedOver, Seen
from ds01_policy.ledger import LedgerError
from ds01_policy.lock import RunLock
from ds01_policy.model import GpuStatus
from ds01_policy.once import LOCK
from ds01_policy.policy import EpilogSettings
from ds01_policy.reset_requests import FOLDER, Request, ask, listed

HANDED = "the driver asks for `reset`; handed to ds01-policy-reset.service"
BAD, WELL = gpu(recovery_action="reset"), gpu()
REQUEST = Request(A, MINE, NOON - timedelta(seconds=5), "the driver asks for `reset`", "watch")
MINUTE = timedelta(minutes=1)


@dataclass
class Gpus(FakeDriver):
    """A driver whose GPUs are as `after` says once one was reset."""

    after: GpuStatus | None = WELL
    meanwhile: Callable[[], object] = lambda: None  # called as it is reset

    def reset(self, uuid: str, within: timedelta) -> None:
        self.meanwhile()
        super().reset(uuid, within)
        if self.after is not None:
            self.looks = [[self.after]]

    @property
    def changes(self) -> list[str]:
        return [call for call in self.calls if call != "look"]


@dataclass
class Host:
    """A state directory with one GPU handed over, and everything behind the unit that resets."""

    place: Place
    driver: Gpus = field(default_factory=lambda: Gpus([[BAD]]))
    engine: FakeEngine = field(default_factory=FakeEngine)
    tasks: FakeTasks = field(default_factory=FakeTasks)
    unwanted: str = ""
    patience: timedelta = timedelta(seconds=5)

    @property
    def folder(self) -> Path:
        return self.place.folder / FOLDER

    def handed(self, request: Request = REQUEST) -> Host:
        """Hand a GPU over as an epilog does."""
        ask(self.folder, request)
        self.place.ledger.mark_unfit(request.gpu, HANDED, NOON - MINUTE)
        return self

    def handed_over(self) -> HandedOver:
        epilog = Epilog(self.driver, self.engine, self.tasks, EpilogSettings(), hands=True, clock=FakeTime().clock())
        its = None if self.unwanted else epilog
        return HandedOver(self.place.folder, self.place.files, lambda: NOON, self.patience, its, self.unwanted)

    def see_to(self, name: str = A) -> Seen | None:
        return self.handed_over().see_to(name)

    @property
    def unfit(self) -> str | None:
        """Why it is unfit; None: it is not."""
        found = self.place.ledger.unfit().get(A)
        return None if found is None else found.why

    def outcomes(self) -> list[tuple[str, str, bool]]:
        return [(line["by"], line["status"], line["hands"]) for line in self.place.lines() if line["kind"] == "outcome"]


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with closing(Place(tmp_path)) as place:
        yield Host(place)


# ── the usual course ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_gpu_that_needs_it_is_reset_and_fit_again(host: Host) -> None:
    """Looked at, every gate asked, reset, looked at again; written down as every epilog is, and forgotten."""
    seen = host.handed().see_to()
    assert seen is not None
    assert seen.words == ("ok: the driver asks for `reset`: reset it, or reboot; was reset; now: nobody on it")
    assert (seen.name, seen.failed) == (A, False)
    assert host.driver.calls == ["look", "look", "look", "look", "reset GPU-a", "look"]
    assert (host.unfit, listed(host.folder)) == (None, {})
    intent, outcome = host.place.lines()
    about = {"action": "epilog", "by": "reset-gpus", "hands": True, "container": MINE, "gpus": [A]}
    assert intent.items() >= {"kind": "intent", **about}.items()
    assert outcome.items() >= {"kind": "outcome", "status": "done", **about}.items()
    assert outcome["findings"][0]["health"] == "ok"
    assert host.see_to() is None


def test_persistence_mode_is_as_it_was(host: Host) -> None:
    """The epilog's own reset, with all that belongs to it."""
    host.driver = Gpus([[replace(BAD, persistence_mode=True)]])
    host.handed().see_to()
    assert host.driver.changes == ["persist off GPU-a", "reset GPU-a", "persist on GPU-a"]


def test_nobody_s_process_is_ended(host: Host) -> None:
    """Whatever the request says of a container: ending what that left was the business of its own epilog."""
    host.driver = Gpus([[gpu(A, 7, recovery_action="reset")]])
    host.tasks = FakeTasks({7: os.getpid()}, {7: {"cgroup": f"0::/system.slice/docker-{MINE}.scope\n"}})
    seen = host.handed().see_to()
    assert seen is not None
    assert (host.driver.changes, seen.failed) == ([], True)
    assert "1 on it by the driver's list" in seen.words
    assert [line.get("ended") for line in host.place.lines()] == [None, []]


# ── what is not reset ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("driver", "unfit", "failed"),
    [
        pytest.param(Gpus([[WELL]]), None, False, id="it is well by now"),
        pytest.param(
            Gpus([[BAD]], after=BAD), "was reset; now: the driver asks for `reset`", True, id="it is as bad after it"
        ),
        pytest.param(
            Gpus([[BAD]], refuses={"reset": "In use by another client"}), "In use by another", True, id="fails"
        ),
        pytest.param(Gpus([[gpu(recovery_action="reboot")]]), "reboot this host", True, id="a reset cures it no more"),
        pytest.param(Gpus([[gpu(A, 7)]]), f"{HANDED}; in use (1 process)", False, id="somebody is on it"),
        pytest.param(Gpus(["it hangs"]), f"{HANDED}; the GPU could not be looked at: it hangs", True, id="no driver"),
        pytest.param(Gpus([[gpu(B)]]), f"{HANDED}; the driver does not tell of it", True, id="it is not told of"),
        pytest.param(Gpus([[gpu(B)]], unreadable=("GPU 0",)), "lost: GPU 0", True, id="it fell off the bus"),
        pytest.param(
            Gpus([[BAD], [BAD], [BAD], [gpu(A, 7)]]), "1 on it by the driver's list", True, id="somebody comes at last"
        ),
    ],
)
def test_how_it_is_now_is_what_counts(host: Host, driver: Gpus, unfit: str | None, *, failed: bool) -> None:
    """The request said that it needs a reset; what is found decides, and is what the GPU is unfit for from then on."""
    host.driver = replace(driver, looks=list(driver.looks), calls=[])
    seen = host.handed().see_to()
    assert seen is not None
    assert seen.failed is failed
    assert host.unfit is unfit if unfit is None else unfit in (host.unfit or "")
    assert listed(host.folder) == {}
    assert host.see_to() is None  # and it is not tried again
    assert host.driver.changes.count("reset GPU-a") == ("was reset" in str(unfit) or "In use" in str(unfit))


@pytest.mark.parametrize(
    ("asked", "words"),
    [(NOON - OLDEST - MINUTE, "10:59 UTC, too long ago"), (NOON + AHEAD + MINUTE, "12:06 UTC, which is still to come")],
    ids=["of long ago", "of a time to come"],
)
def test_a_request_of_another_time_counts_for_nothing(host: Host, asked: datetime, words: str) -> None:
    """Nothing is even looked at; the GPU stays unfit and says why it was not reset."""
    seen = host.handed(replace(REQUEST, asked_at=asked)).see_to()
    assert seen == Seen(A, f"not reset: asked for at 2026-03-02 {words}", failed=True)
    assert (host.driver.calls, listed(host.folder)) == ([], {})
    assert host.unfit == f"{HANDED}; {seen.words}"


@pytest.mark.parametrize("asked", [NOON - OLDEST, NOON + AHEAD])
def test_one_of_just_now_counts(host: Host, asked: datetime) -> None:
    """An hour, and what clocks differ by."""
    host.handed(replace(REQUEST, asked_at=asked)).see_to()
    assert host.driver.changes == ["reset GPU-a"]


@pytest.mark.parametrize("unwanted", ["mode is observe in settings.yaml", "epilog.reset is `never` in settings.yaml"])
def test_what_nobody_wants_any_more_is_not_done(host: Host, unwanted: str) -> None:
    """The policy of now decides. That is as it was ordered, and no failure."""
    host.unwanted = unwanted
    assert host.handed().see_to() == Seen(A, f"not reset: {unwanted}", failed=False)
    assert (host.driver.calls, listed(host.folder)) == ([], {})
    assert host.unfit == f"{HANDED}; not reset: {unwanted}"
    assert host.outcomes() == [("reset-gpus", "noop", False)]


def test_a_gpu_that_is_fit_again_is_left_alone(host: Host) -> None:
    """Another epilog found it well meanwhile, or an admin has seen to it: it is neither looked at nor marked."""
    host.handed()
    host.place.ledger.mark_fit(A, "cleared by an admin", NOON)
    assert host.see_to() == Seen(A, "not reset: it is no longer unfit", failed=False)
    assert (host.driver.calls, host.unfit, listed(host.folder)) == ([], None, {})


@pytest.mark.parametrize(
    "content",
    [b"", b"{", json.dumps({"gpu": A, "force": True}).encode(), b"\0" * 20_000],
    ids=["nothing", "half of one", "other fields", "too much"],
)
def test_what_is_no_request_is_taken_away_with_a_word(host: Host, content: bytes) -> None:
    """Nobody of ours wrote it: that is a failure, and the GPU says why it was not reset."""
    host.handed()
    (host.folder / A).write_bytes(content)
    seen = host.see_to()
    assert seen is not None
    assert seen.failed
    assert seen.words.startswith("not reset: its request counts for nothing: ")
    assert (host.driver.calls, listed(host.folder)) == ([], {})
    assert "not reset: its request counts for nothing" in (host.unfit or "")


def test_what_is_no_request_is_called_so_whether_its_gpu_is_unfit_or_not(host: Host) -> None:
    """Somebody must read that a file of nobody's lay there; a GPU that is fit is not marked for it."""
    host.folder.mkdir()
    (host.folder / A).write_text("junk")
    seen = host.see_to()
    assert seen is not None
    assert (seen.failed, host.unfit, listed(host.folder)) == (True, None, {})
    assert seen.words.startswith("not reset: its request counts for nothing: ")


def test_a_request_for_another_gpu_resets_neither(host: Host) -> None:
    """Its name says one GPU, its text another, which is as bad."""
    host.driver = Gpus([[BAD, gpu(B, recovery_action="reset")]])
    host.handed().handed(replace(REQUEST, gpu=B))
    (host.folder / B).rename(host.folder / A)
    seen = host.see_to()
    assert seen is not None
    assert f"its GPU is {B}, which is not its name" in seen.words
    assert host.driver.calls == []
    assert host.place.ledger.unfit()[B].why == HANDED


@pytest.mark.parametrize("name", ["junk", "all", "GPU-", ".hidden", "0"])
def test_what_is_called_after_no_gpu_is_taken_away(host: Host, name: str) -> None:
    """With a word, and without asking anybody's turn."""
    host.handed()
    (host.folder / name).write_text("x")
    with RunLock(host.place.folder / LOCK):
        seen = host.see_to(name)
    assert seen == Seen(name, "is no GPU's UUID: no request is called so", failed=True)
    assert list(listed(host.folder)) == [A]
    assert (host.driver.calls, host.unfit, host.place.lines()) == ([], HANDED, [])


# ── turns, and what cannot be written down ───────────────────────────────────────────────────────────────────────────


def test_another_epilog_s_turn_is_waited_for_and_not_for_ever(host: Host) -> None:
    """One that hangs in the driver must not have this one started again and again."""
    host.patience = timedelta(seconds=0.2)
    with RunLock(host.place.folder / LOCK):
        seen = host.handed().see_to()
    assert seen is not None
    assert seen.failed
    assert f"another run holds {host.place.folder / LOCK}" in seen.words
    assert (host.driver.calls, listed(host.folder)) == ([], {})
    assert host.unfit is not None
    assert host.unfit.startswith(f"{HANDED}; not reset: not done")


@pytest.mark.parametrize(
    ("after", "unfit"),
    [(WELL, None), (BAD, "was reset; now: the driver asks for `reset`")],
    ids=["which cures it", "which does not"],
)
def test_of_two_that_see_to_it_at_once_one_resets(host: Host, after: GpuStatus, unfit: str | None) -> None:
    """By hand, while the unit is at it: whoever comes second finds the request gone once it is its turn."""
    host.driver = Gpus([[BAD]], after=after)
    second = host.handed().handed_over()
    first_seen: list[Seen | None] = []
    read = reset_requests.read

    def both(folder: Path, name: str) -> Request | None:
        found = read(folder, name)
        if not first_seen:
            first_seen.append(None)
            first_seen.append(host.see_to())
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reset_requests, "read", both)
        assert second.see_to(A) is None
    assert first_seen[1] is not None
    assert host.driver.changes == ["reset GPU-a"]
    assert host.unfit is unfit if unfit is None else (host.unfit or "").endswith("reset it, or reboot")
    assert unfit is None or unfit in (host.unfit or "")


@pytest.mark.parametrize("broken", ["ledger", "audit"])
def test_what_cannot_be_written_down_is_not_done(host: Host, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    """And not asked for again: the next epilog of this GPU does that."""
    host.handed()
    if broken == "ledger":
        host.place.ledger_error = LedgerError("ledger_full", "no space left")
    else:
        monkeypatch.setattr(host.place.audit, "note", _full)
    seen = host.see_to()
    assert seen is not None
    assert seen.failed
    assert "as it could not be written down" in seen.words
    assert (host.driver.calls, listed(host.folder)) == ([], {})


def _full(*_: object) -> None:
    raise AuditError("log full")


@pytest.mark.parametrize("name", [A, "junk"])
def test_what_cannot_be_taken_away_is_not_reset(host: Host, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """It would be reset again and again; the admin reads which file it is."""
    host.handed()
    monkeypatch.setattr(reset_requests, "take_away", _read_only)
    seen = host.see_to(name)
    assert seen is not None
    assert seen.failed
    assert f"it cannot be removed (Read-only file system): remove {host.folder / name}" in seen.words
    assert host.driver.calls == []


def _read_only(*_: object) -> bool:
    raise OSError(30, "Read-only file system")


# ── killed ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class KilledError(BaseException):
    """The process ends here."""


def _kill(*_: object, **__: object) -> Any:
    raise KilledError


def _after(real: Callable[..., Any]) -> Callable[..., Any]:
    def killed_after(*args: Any) -> Any:
        real(*args)
        raise KilledError

    return killed_after


@pytest.mark.parametrize(
    ("where", "resets", "left"),
    [
        pytest.param(
            lambda host, patch: patch.setattr(host.place.audit, "note", _kill), 1, None, id="before the intent"
        ),
        pytest.param(
            lambda _, patch: patch.setattr(reset_requests, "take_away", _kill), 1, None, id="before it is taken away"
        ),
        pytest.param(
            lambda _, patch: patch.setattr(reset_requests, "take_away", _after(reset_requests.take_away)),
            0,
            HANDED,
            id="once it is taken away",
        ),
        pytest.param(
            lambda host, patch: patch.setattr(host.place.ledger, "mark_unfit", _kill), 0, HANDED, id="before the ledger"
        ),
        pytest.param(
            lambda host, patch: patch.setattr(host.driver, "meanwhile", _kill),
            0,
            f"{HANDED}; its reset was begun at 2026-03-02 12:00 UTC",
            id="as it is reset",
        ),
        pytest.param(
            lambda host, patch: patch.setattr(host.driver, "reset", _after(host.driver.reset)),
            1,
            f"{HANDED}; its reset was begun at 2026-03-02 12:00 UTC",
            id="after it was reset",
        ),
        pytest.param(
            lambda host, patch: patch.setattr(host.place.ledger, "mark_fit", _kill),
            1,
            f"{HANDED}; its reset was begun at 2026-03-02 12:00 UTC",
            id="before it is fit again",
        ),
    ],
)
def test_killed_at_any_point_it_is_reset_at_most_once(
    host: Host, where: Callable[[Host, pytest.MonkeyPatch], None], resets: int, left: str | None
) -> None:
    """Started again, as systemd does while a request lies there, it goes on or leaves it; it says how far it got."""
    host.handed()
    with pytest.MonkeyPatch.context() as patch:
        where(host, patch)
        with pytest.raises(KilledError):
            host.see_to()
    for name in listed(host.folder):
        host.see_to(name)
    assert host.driver.changes.count("reset GPU-a") == resets
    assert listed(host.folder) == {}
    assert host.unfit == left


# ── the promise ──────────────────────────────────────────────────────────────────────────────────────────────────────

# Each alone speaks against a reset.
CLOSED: list[Callable[[Host], object]] = [
    lambda host: setattr(host, "driver", Gpus([[replace(BAD, mig_current=True)]])),
    lambda host: setattr(host, "driver", Gpus([[replace(BAD, mig_pending=None)]])),
    lambda host: setattr(host, "driver", Gpus([[replace(BAD, display_active=True)]])),
    lambda host: setattr(host, "driver", Gpus([[replace(BAD, nvlink="active")]])),
    lambda host: setattr(host, "driver", Gpus([[replace(BAD, minor=None)]])),
    lambda host: setattr(host, "driver", Gpus([[gpu(A, 7, recovery_action="reset")]])),
    lambda host: setattr(host, "driver", Gpus([[BAD]], via="nvidia-smi")),
    lambda host: setattr(host, "driver", Gpus([[BAD]], refuses={"gpus": "silent"})),
    lambda host: setattr(host, "engine", FakeEngine(broken="silent")),
    lambda host: setattr(host, "engine", FakeEngine({OTHER: raw(OTHER, Privileged=True)})),
    lambda host: setattr(host, "engine", FakeEngine({OTHER: raw(OTHER, "exited", Privileged=True)})),
    lambda host: setattr(host, "tasks", FakeTasks(holders_hidden="no root")),
    lambda host: setattr(host, "tasks", FakeTasks({7: 1}, {7: {"command": "Xorg"}}, open_by={0: (7,)})),
    lambda host: setattr(host, "unwanted", "mode is observe"),
    lambda host: host.place.ledger.mark_fit(A, "well", NOON),
]  # fmt: skip
TIMES = st.sampled_from([NOON - timedelta(days=1), NOON, NOON + timedelta(days=1)]).map(lambda at: at.isoformat())
TEXTS = st.text(max_size=60)
FORCED = st.sampled_from(["force", "safe", "gates", "health", "unfit", "mode", "reset"])
FIELDS = st.fixed_dictionaries(
    {
        "gpu": st.sampled_from([A, A, A, B]) | TEXTS,
        "container": st.sampled_from([MINE, OTHER, ""]) | TEXTS,
        "asked_at": TIMES | TEXTS,
        "why": TEXTS,
        "by": st.sampled_from(["watch", "evaluate", "root", "admin"]) | TEXTS,
    }
)
CONTENT = (
    FIELDS.map(lambda fields: json.dumps(fields).encode())
    | st.tuples(FIELDS, st.dictionaries(FORCED, st.booleans() | TEXTS)).map(
        lambda both: json.dumps({**both[0], **both[1]}).encode()
    )
    | st.binary(max_size=200)
)


@settings(max_examples=60, deadline=None)
@given(content=CONTENT, closed=st.sampled_from(CLOSED))
def test_no_request_resets_a_gpu_for_which_a_gate_speaks_against(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, closed: Callable[[Host], object]
) -> None:
    """Whatever it says, whatever it is called after: nothing is changed on any GPU, and it does not stay."""
    with closing(Place(tmp_path_factory.mktemp("state"))) as place:
        host = Host(place).handed()
        closed(host)
        (host.folder / A).write_bytes(content)
        host.see_to()
        assert host.driver.changes == []
        assert listed(host.folder) == {}


@settings(max_examples=60, deadline=None)
@given(content=CONTENT)
def test_no_request_resets_another_gpu_than_the_one_it_is_called_after(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    """Both need it, and both are unfit; one at most is reset, and only that one is judged."""
    with closing(Place(tmp_path_factory.mktemp("state"))) as place:
        host = Host(place, Gpus([[BAD, gpu(B, recovery_action="reset")]])).handed()
        place.ledger.mark_unfit(B, HANDED, NOON)
        (host.folder / A).write_bytes(content)
        host.see_to()
        assert host.driver.changes in ([], ["reset GPU-a"])
        assert place.ledger.unfit()[B].why == HANDED


def test_the_promises_are_not_kept_by_doing_nothing(host: Host) -> None:
    """Of the contents that are tried, the usual one does reset where no gate is closed."""
    host.handed()
    (host.folder / A).write_text(
        json.dumps({"gpu": A, "container": MINE, "asked_at": NOON.isoformat(), "why": "", "by": "root"})
    )
    host.see_to()
    assert host.driver.changes == ["reset GPU-a"]

"""One inspect into one Container: every state, every time, every field that may be missing or wrong."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds01_policy.model import Mount, State
from ds01_policy.observe.inspected import Malformed, container_of, parse_time, shows_dockers_mounts
from ds01_policy.observe.ports import SourceError
from ds01_policy.observe.redacted import redact_inspect

ID = "0123456789abcdef" * 4
VOLUME = "fe" * 32
ZERO = "0001-01-01T00:00:00Z"
CREATED = "2026-03-02T03:30:59.488012787Z"
STARTED = "2026-03-02T03:31:00.5Z"
FINISHED = "2026-03-02T04:00:00Z"


def raw(**state: object) -> dict[str, Any]:
    return {
        "Id": ID,
        "Name": "/train",
        "Created": CREATED,
        "State": {"Status": "running", "Pid": 4711, "StartedAt": STARTED, "FinishedAt": ZERO, **state},
        "RestartCount": 0,
        "Config": {"Image": "pytorch/pytorch:2.6", "Labels": {"ds01.user": "alice"}, "Env": None},
        "HostConfig": {
            "RestartPolicy": {"Name": "no", "MaximumRetryCount": 0},
            "AutoRemove": False,
            "NetworkMode": "default",
        },
        "Mounts": [],
    }


def put(value: object, *path: str) -> dict[str, Any]:
    """Return an inspect with one field changed; `...` removes it."""
    inspect = raw()
    inner: Any = inspect
    for key in path[:-1]:
        inner = inner[key]
    if value is ...:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return inspect


def test_a_running_container_has_all_of_dockers_facts() -> None:
    """The name loses its slash, nine digits of a second are cut to six, and times are UTC."""
    container = container_of(raw())
    assert (container.id, container.name, container.short) == (ID, "train", ID[:12])
    assert container.image == "pytorch/pytorch:2.6"
    assert container.state is State.RUNNING
    assert container.created_at == datetime(2026, 3, 2, 3, 30, 59, 488012, tzinfo=UTC)
    assert container.started_at == datetime(2026, 3, 2, 3, 31, 0, 500000, tzinfo=UTC)
    assert container.finished_at is None
    assert container.labels == {"ds01.user": "alice"}
    assert (container.restart_policy, container.auto_remove) == ("no", False)
    assert (container.network_mode, container.pid, container.mounts) == ("bridge", 4711, ())


LIVES = [
    pytest.param("created", ZERO, ZERO, None, None, id="created: never started"),
    pytest.param("created", STARTED, FINISHED, None, None, id="created, whatever else is written: never started"),
    pytest.param("running", STARTED, ZERO, STARTED, None, id="running for the first time"),
    pytest.param(
        "running", STARTED, "2026-03-01T00:00:00Z", STARTED, "2026-03-01T00:00:00Z", id="running after a restart"
    ),
    pytest.param("paused", STARTED, ZERO, STARTED, None, id="paused"),
    pytest.param("restarting", STARTED, FINISHED, STARTED, FINISHED, id="restarting"),
    pytest.param("removing", STARTED, FINISHED, STARTED, FINISHED, id="removing"),
    pytest.param("exited", STARTED, FINISHED, STARTED, FINISHED, id="exited"),
    pytest.param("exited", ZERO, ZERO, None, None, id="exited without a life"),
    pytest.param("dead", STARTED, FINISHED, STARTED, FINISHED, id="dead"),
]


@pytest.mark.parametrize(("status", "started", "finished", "started_at", "finished_at"), LIVES)
def test_each_state_has_the_times_of_its_life(
    status: str, started: str, finished: str, started_at: str | None, finished_at: str | None
) -> None:
    """The zero date is no date: a container that never started has no start, not one two thousand years ago."""
    container = container_of(raw(Status=status, StartedAt=started, FinishedAt=finished))
    assert container.state == status
    assert container.started_at == (parse_time(started_at) if started_at else None)
    assert container.finished_at == (parse_time(finished_at) if finished_at else None)


def test_the_table_of_lives_has_every_state() -> None:
    """A state that Docker has and the table has not would go untested."""
    assert {str(row.values[0]) for row in LIVES} == set(State)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(
            "2026-03-02T03:31:00.123456789Z", datetime(2026, 3, 2, 3, 31, 0, 123456, tzinfo=UTC), id="nine digits"
        ),
        pytest.param("2026-03-02T03:31:00.1Z", datetime(2026, 3, 2, 3, 31, 0, 100000, tzinfo=UTC), id="one digit"),
        pytest.param(
            "2026-03-02T03:31:00.12345Z", datetime(2026, 3, 2, 3, 31, 0, 123450, tzinfo=UTC), id="five digits"
        ),
        pytest.param("2026-03-02T03:31:00Z", datetime(2026, 3, 2, 3, 31, tzinfo=UTC), id="no fraction"),
        pytest.param("2026-03-02T04:31:00+01:00", datetime(2026, 3, 2, 3, 31, tzinfo=UTC), id="Berlin in winter"),
        pytest.param(
            "2026-07-02T00:31:00.000000001+02:00", datetime(2026, 7, 1, 22, 31, tzinfo=UTC), id="Berlin in summer"
        ),
        pytest.param(ZERO, None, id="the zero date"),
        pytest.param("0001-01-01T00:00:00+00:53", None, id="the zero date in a zone"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_times_are_read_as_utc(text: str, expected: datetime | None) -> None:
    """Whatever zone the daemon lives in, what leaves is UTC."""
    assert parse_time(text) == expected


@pytest.mark.parametrize(
    "text", ["yesterday", "2026-03-02T03:31:00", "2026-13-01T00:00:00Z", "9999-12-31T23:59:59-10:00"]
)
def test_a_time_that_cannot_be_believed_is_an_error(text: str) -> None:
    """A time without a zone would be read in the zone of whoever reads it."""
    with pytest.raises(ValueError, match=r".+"):
        parse_time(text)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        pytest.param("default", "bridge", id="the daemon's word for its own bridge"),
        pytest.param("", "bridge", id="nothing"),
        pytest.param("bridge", "bridge", id="bridge"),
        pytest.param("host", "host", id="host"),
        pytest.param("none", "none", id="none"),
        pytest.param("lab_net", "lab_net", id="a network of their own"),
        pytest.param(f"container:{ID}", f"container:{ID}", id="another container's"),
    ],
)
def test_network_modes_keep_their_names(mode: str, expected: str) -> None:
    """Signals ask the mode whether a container has network counters of its own."""
    assert container_of(put(mode, "HostConfig", "NetworkMode")).network_mode == expected


@pytest.mark.parametrize(
    ("networks", "expected"),
    [
        pytest.param({"none": {}}, "none", id="still on none"),
        pytest.param({}, "none", id="on none at all"),
        pytest.param(None, "none", id="not said"),
        pytest.param({"lab": {"IPAddress": "10.0.0.2"}}, "bridge", id="connected to another since"),
        pytest.param({"container": {}}, "bridge", id="whatever that is called"),
    ],
)
@pytest.mark.parametrize("recorded", [False, True], ids=["live", "recorded"])
def test_who_was_made_on_no_network_may_be_on_one_by_now(networks: Any, expected: str, *, recorded: bool) -> None:
    """`docker network connect` leaves the mode as it was; a recording remembers that, and no name."""
    raw = put("none", "HostConfig", "NetworkMode") | {"NetworkSettings": {"Networks": networks}}
    kept = redact_inspect(raw) if recorded else raw
    assert container_of(kept).network_mode == expected
    assert not recorded or "10.0.0.2" not in json.dumps(kept)


def test_mounts_say_where_data_survives() -> None:
    """A volume is known by its name, and one that nobody named by its 64 hex digits."""
    mounts = [
        {"Type": "bind", "Source": "/home/alice/work", "Destination": "/workspace", "Mode": "", "RW": True},
        {"Type": "volume", "Name": "data", "Source": "/var/lib/docker/volumes/data/_data", "Destination": "/data"},
        {"Type": "volume", "Name": VOLUME, "Source": f"/var/lib/docker/volumes/{VOLUME}/_data", "Destination": "/anon"},
        {"Type": "tmpfs", "Source": "", "Destination": "/scratch"},
    ]
    assert container_of(put(mounts, "Mounts")).mounts == (
        Mount("/home/alice/work", "/workspace", "bind"),
        Mount("data", "/data", "volume"),
        Mount(VOLUME, "/anon", "volume", anonymous=True),
        Mount("", "/scratch", "tmpfs"),
    )


@pytest.mark.parametrize(
    ("inspect", "attribute", "expected"),
    [
        pytest.param(put(None, "Config", "Labels"), "labels", {}, id="no labels"),
        pytest.param(put(..., "Config", "Labels"), "labels", {}, id="labels left out"),
        pytest.param(put(..., "Config", "Image"), "image", "", id="an image without a name"),
        pytest.param(put(None, "Mounts"), "mounts", (), id="no mounts"),
        pytest.param(
            put({"Name": ""}, "HostConfig", "RestartPolicy"), "restart_policy", "no", id="an empty restart policy"
        ),
        pytest.param(put(..., "HostConfig", "RestartPolicy"), "restart_policy", "no", id="restart policy left out"),
        pytest.param(put({"Name": "always"}, "HostConfig", "RestartPolicy"), "restart_policy", "always", id="always"),
        pytest.param({**raw(), "HostConfig": {"AutoRemove": True}}, "auto_remove", True, id="--rm"),
        pytest.param(put(..., "HostConfig", "AutoRemove"), "auto_remove", False, id="--rm left out"),
        pytest.param(put(..., "HostConfig", "NetworkMode"), "network_mode", "bridge", id="network mode left out"),
        pytest.param(put(..., "State", "Pid"), "pid", 0, id="no process"),
        pytest.param(put(..., "State", "FinishedAt"), "finished_at", None, id="no end"),
        pytest.param(put("train", "Name"), "name", "train", id="a name without its slash"),
        pytest.param(put("later", "NewField"), "name", "train", id="a field of a later API"),
    ],
)
def test_what_may_be_left_out_has_dockers_default(inspect: dict[str, Any], attribute: str, expected: object) -> None:
    """Absent and null are the same to Go's JSON."""
    assert getattr(container_of(inspect), attribute) == expected


@pytest.mark.parametrize(
    ("inspect", "words"),
    [
        pytest.param(put(..., "Id"), "Id is None", id="no id"),
        pytest.param(put("train", "Id"), "Id is 'train', not 64 hex", id="an id that is a name"),
        pytest.param(put(..., "Name"), "Name is missing", id="no name"),
        pytest.param(put("/", "Name"), "no Name", id="an empty name"),
        pytest.param(put(["/a"], "Name"), "Name is .*not text", id="a list of names"),
        pytest.param(put(..., "State"), "no State", id="no state"),
        pytest.param(put("running", "State"), "State is 'running', not an object", id="a state that is a word"),
        pytest.param(
            put("hibernating", "State", "Status"), "State.Status is 'hibernating'; known are created", id="new state"
        ),
        pytest.param(put(..., "State", "Status"), "State.Status is missing", id="no status"),
        pytest.param(put(ZERO, "State", "StartedAt"), "running but has no State.StartedAt", id="runs without a start"),
        pytest.param(
            put("soon", "State", "StartedAt"), "State.StartedAt is 'soon', not a time", id="a start that is a word"
        ),
        pytest.param(put("2026-03-02T03:31:00", "State", "StartedAt"), "not a time", id="a start without a zone"),
        pytest.param(put(5, "State", "FinishedAt"), "State.FinishedAt is 5, not text", id="an end that is a number"),
        pytest.param(put(..., "Created"), "Created is missing", id="no creation"),
        pytest.param(put(ZERO, "Created"), "no Created time", id="the zero date as creation"),
        pytest.param(put("4711", "State", "Pid"), "State.Pid is '4711', not a number", id="a pid that is text"),
        pytest.param(put(-1, "State", "Pid"), "State.Pid is -1", id="a negative pid"),
        pytest.param(raw(Pid=True), "State.Pid is True", id="a pid that is true"),
        pytest.param(put(..., "Config"), "no Config", id="no configuration"),
        pytest.param(put(None, "HostConfig"), "no HostConfig", id="no host configuration"),
        pytest.param(put(["a=b"], "Config", "Labels"), "Config.Labels is", id="labels in a list"),
        pytest.param(put({"a": 1}, "Config", "Labels"), "not an object of texts", id="a label that is a number"),
        pytest.param(put("yes", "HostConfig", "AutoRemove"), "not true or false", id="a flag that is a word"),
        pytest.param(put(["/a:/b"], "Mounts"), "Mounts is '/a:/b'", id="mounts that are texts"),
        pytest.param(put({}, "Mounts"), "Mounts is {}, not a list", id="mounts that are no list"),
        pytest.param(put([{"Source": 5}], "Mounts"), "Source is 5", id="a mount from a number"),
        pytest.param([], "Id is None", id="no object"),
    ],
)
def test_what_is_not_as_documented_is_an_error_of_that_container(inspect: Any, words: str) -> None:
    """The error names container and field; it is a SourceError, so that one bad container never hides the others."""
    with pytest.raises(Malformed, match=words) as caught:
        container_of(inspect)
    assert isinstance(caught.value, SourceError)
    assert caught.value.container_id == ("" if "Id is" in words else ID)
    assert caught.value.what in str(caught.value)


def test_what_users_wrote_is_quoted_and_cut_in_errors() -> None:
    """A label may hold escape sequences, and kilobytes of them."""
    with pytest.raises(Malformed) as caught:
        container_of(put("\x1b[2J" * 1000, "State", "Status"))
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value)) < 400


LAYER = {"GraphDriver": {"Data": {"MergedDir": "/data/docker/overlay2/ab/merged"}, "Name": "overlay2"}}


@pytest.mark.parametrize(
    ("source", "more", "expected"),
    [
        pytest.param("/", {}, True, id="the host's root"),
        pytest.param("/data", {}, True, id="a folder above Docker's"),
        pytest.param("/data/docker", {}, True, id="Docker's own folder"),
        pytest.param("/data/docker/overlay2", {}, True, id="a folder below it"),
        pytest.param("/var/lib", {}, True, id="where Docker's folder usually is"),
        pytest.param("/run", {"Propagation": "rslave"}, True, id="mounts that follow the host's"),
        pytest.param("/run", {"Propagation": "rprivate"}, False, id="mounts that do not"),
        pytest.param("/home/alice", {"Propagation": ""}, False, id="somebody's home"),
        pytest.param("/data/dockerfiles", {}, False, id="a name that only begins alike"),
        pytest.param("/data/docker/volumes/x/_data", {"Type": "volume"}, False, id="a volume"),
    ],
)
def test_a_container_that_sees_dockers_mounts_is_told(source: str, more: dict[str, str], *, expected: bool) -> None:
    """Looking at its files through an old engine would multiply its mounts."""
    mount = {"Type": "bind", "Source": source, "Destination": "/x", **more}
    assert shows_dockers_mounts({**raw(), **LAYER, "Mounts": [mount]}) is expected


def test_dockers_folder_is_also_known_by_the_containers_own_files() -> None:
    """Not every storage driver tells its folder."""
    inspect = {**raw(), "HostnamePath": f"/mnt/d/containers/{ID}/hostname", "Mounts": [{"Source": "/mnt"}]}
    assert shows_dockers_mounts(inspect)


ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([ZERO, ID, "running"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [
    (*outer, key)
    for outer, keys in (
        ((), ["Id", "Name", "Created", "State", "Config", "HostConfig", "Mounts", "GraphDriver", "HostnamePath"]),
        (("State",), ["Status", "Pid", "StartedAt", "FinishedAt"]),
        (("Config",), ["Image", "Labels"]),
        (("HostConfig",), ["RestartPolicy", "AutoRemove", "NetworkMode"]),
    )
    for key in keys
]


@settings(deadline=None)
@given(field=st.sampled_from(FIELDS), value=ANYTHING)
def test_whatever_a_field_holds_the_answer_is_a_container_or_malformed(field: tuple[str, ...], value: object) -> None:
    """No inspect, however mangled, ends the tick."""
    inspect = put(value, *field) if len(field) > 1 else {**raw(), field[0]: value}
    before = copy.deepcopy(inspect)
    try:
        container = container_of(inspect)
    except Malformed:
        pass
    else:
        assert container.started_at is None or container.started_at.utcoffset() is not None
    assert shows_dockers_mounts(inspect) in (True, False)
    assert repr(inspect) == repr(before)

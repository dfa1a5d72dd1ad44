"""Who and what a container is: types, owners from every sign, claims that evidence contradicts, and trust."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds01_policy.identity import Identified, Identity, OwnerMatcher, Trust, TypeMatcher, identify
from ds01_policy.model import Container, GpuClaim, Mount, State
from ds01_policy.rules import Selector

ID = "ab" * 32
USERS = {0: "root", 1001: "alice", 1002: "bob", 1500: "UNI\\carol"}

DS01 = OwnerMatcher("label", label="ds01.user")
AIME = OwnerMatcher("label", label="aime.mlc.USER")
FOLDER = OwnerMatcher("label_home", label="devcontainer.local_folder", homes=("/home", "/raid/home/"))
NAME = OwnerMatcher("name", pattern=r"\._\.(?P<uid>\d+)$")
PREFIX = OwnerMatcher("name", pattern=r"^u-(?P<user>[^-]+)-")
MOUNTS = OwnerMatcher("mounts", homes=("/home", "/raid/home/"))
PROCESS = OwnerMatcher("process")
OWNERS = (DS01, AIME, FOLDER, NAME, PREFIX, MOUNTS, PROCESS)
GUARDED = (replace(DS01, guarded=True), *OWNERS[1:])
TRUST = Trust(
    owners=("root", "admin*"), images=("*/dcgm-exporter", "*/cadvisor", "prom/*", "grafana/*"), names=("monitoring-*",)
)
CLAIM = {"ds01.monitoring": "true"}


def container(
    labels: Mapping[str, str] | None = None,
    *,
    name: str = "train",
    image: str = "pytorch/pytorch:2.6",
    homes: tuple[str, ...] = (),
    gpu: bool = False,
) -> Container:
    return Container(
        id=ID,
        name=name,
        image=image,
        state=State.RUNNING,
        created_at=datetime(2026, 3, 2, tzinfo=UTC),
        labels=dict(labels or {}),
        mounts=tuple(Mount(home, "/x", "bind") for home in homes),
        gpus=GpuClaim(wants=gpu),
    )


def found(it: Container, uid: int | None = None, *, owners: tuple[OwnerMatcher, ...] = OWNERS) -> Identified:
    labels = ("ds01.monitoring=true", "ds01.protected")
    identity = Identity(owners=owners, infrastructure_labels=labels, trusted=TRUST)
    return identify(identity, it, process_uid=uid, user_of_uid=USERS.get)


# ── types ────────────────────────────────────────────────────────────────────────────────────────────────────────────

TYPES = (
    TypeMatcher("native", (Selector("label", ("ds01.managed=true",)),)),
    TypeMatcher("devcontainer", (Selector("label", ("devcontainer.local_folder", "devcontainer.metadata")),)),
    TypeMatcher("devcontainer", (Selector("image", ("vsc-*",)), Selector("gpu", ("true",)))),
    TypeMatcher(
        "guest",
        (Selector("host", ("gpu0*",)), Selector("name", ("*-guest",), negated=True), Selector("image", ("g/*",))),
    ),
    TypeMatcher("docker"),
)


@pytest.mark.parametrize(
    ("it", "type_", "via"),
    [
        pytest.param(container({"ds01.managed": "true"}), "native", "label ds01.managed=true", id="a label's value"),
        pytest.param(container({"ds01.managed": "no"}), "docker", "", id="another value"),
        pytest.param(
            container({"devcontainer.metadata": "[]"}),
            "devcontainer",
            "label devcontainer.local_folder|devcontainer.metadata",
            id="one of two labels",
        ),
        pytest.param(
            container(image="vsc-app-1", gpu=True), "devcontainer", "image vsc-*, gpu true", id="all selectors"
        ),
        pytest.param(container(image="vsc-app-1"), "docker", "", id="not all selectors"),
        pytest.param(
            container(image="g/x"), "guest", "host gpu0*, name not *-guest, image g/*", id="host and negation"
        ),
        pytest.param(
            container({"ds01.managed": "true", "devcontainer.metadata": "[]"}),
            "native",
            "label ds01.managed=true",
            id="the first that holds",
        ),
    ],
)
def test_the_first_type_whose_selectors_all_hold_is_it(it: Container, type_: str, via: str) -> None:
    """A matcher without selectors at the end is the site's default."""
    who = identify(Identity(types=TYPES), it, process_uid=None, user_of_uid=USERS.get, host="gpu01")
    assert (who.type, who.type_via) == (type_, via)


def test_a_container_that_no_type_fits_is_unknown() -> None:
    """Unknown is a type that limits.yaml can be strict about, not an error."""
    assert found(container()).type == "unknown"


# ── owners ───────────────────────────────────────────────────────────────────────────────────────────────────────────

FOUND = [
    pytest.param(container({"ds01.user": "alice"}), None, "alice", "label ds01.user", False, id="a label"),
    pytest.param(container({"aime.mlc.USER": "bob"}), None, "bob", "label aime.mlc.USER", False, id="another label"),
    pytest.param(
        container({"ds01.user": "alice", "aime.mlc.USER": "bob"}),
        None,
        "alice",
        "label ds01.user",
        False,
        id="first label",
    ),
    pytest.param(
        container({"ds01.user": "alice@uni.example"}), None, "alice@uni.example", "label ds01.user", False, id="mail"
    ),
    pytest.param(
        container({"devcontainer.local_folder": "/home/alice/src/app"}),
        None,
        "alice",
        "label devcontainer.local_folder",
        False,
        id="a devcontainer's folder",
    ),
    pytest.param(
        container({"devcontainer.local_folder": "//raid//home/./bob"}),
        None,
        "bob",
        "label devcontainer.local_folder",
        False,
        id="a folder under the other home, written crookedly",
    ),
    pytest.param(container(name="pt._.1001"), None, "alice", "name", False, id="a UID in the name"),
    pytest.param(container(name="u-bob-7"), None, "bob", "name", False, id="a user in the name"),
    pytest.param(container(homes=("/home/alice",)), None, "alice", "mount /home/alice", True, id="a home"),
    pytest.param(
        container(homes=("/home/alice/b", "/data", "/home/alice/a")),
        None,
        "alice",
        "mount /home/alice",
        True,
        id="twice",
    ),
    pytest.param(
        container(homes=("/raid/home/bob/x",)), None, "bob", "mount /raid/home/bob", True, id="the other home"
    ),
    pytest.param(container(), 1002, "bob", "process uid 1002", False, id="the UID of its process"),
    pytest.param(container(), 1500, "UNI\\carol", "process uid 1500", False, id="a user of a domain"),
    pytest.param(
        container(homes=("/home/alice",)), 1002, "alice", "mount /home/alice", True, id="mounts before the process"
    ),
    pytest.param(
        container({"ds01.user": "alice"}),
        1001,
        "alice",
        "label ds01.user",
        False,
        id="a label its process agrees with, which proves nothing",
    ),
    pytest.param(
        container({"ds01.user": "alice"}, homes=("/home/alice",)),
        1002,
        "alice",
        "label ds01.user",
        True,
        id="a mount backs",
    ),
    pytest.param(container({"ds01.user": "alice"}), 0, "alice", "label ds01.user", False, id="root backs nobody"),
    pytest.param(
        container({"ds01.user": "alice"}, homes=("/home/bob", "/home/carol")),
        0,
        "alice",
        "label ds01.user",
        False,
        id="two homes speak for nobody",
    ),
    # nobody
    pytest.param(container(), None, "unknown", "", False, id="no sign at all"),
    pytest.param(container(), 0, "unknown", "", False, id="root runs most images"),
    pytest.param(container(), 4711, "unknown", "process uid 4711 has no user name", False, id="a UID without a name"),
    pytest.param(container({"ds01.user": ""}), None, "unknown", "", False, id="an empty label"),
    pytest.param(
        container({"ds01.user": "unknown"}), 1001, "alice", "process uid 1001", False, id="a label that says unknown"
    ),
    pytest.param(
        container(name="pt._.4711"), 1001, "alice", "process uid 1001", False, id="a UID in the name nobody has"
    ),
    pytest.param(
        container(name="pt._." + "9" * 5000), 1001, "alice", "process uid 1001", False, id="a UID of 5000 digits"
    ),
    pytest.param(container(homes=("/home/alice", "/home/bob")), None, "unknown", "", False, id="homes of two users"),
    pytest.param(container(homes=("/home",)), None, "unknown", "", False, id="all homes at once"),
    pytest.param(container(homes=("/homes/alice", "/srv/home/alice")), None, "unknown", "", False, id="other folders"),
    pytest.param(
        container({"devcontainer.local_folder": "/home/../etc/alice"}),
        None,
        "unknown",
        "",
        False,
        id="a way out of home",
    ),
    pytest.param(
        container({"devcontainer.local_folder": "home/alice"}), None, "unknown", "", False, id="a relative folder"
    ),
    pytest.param(
        container({"devcontainer.local_folder": r"\\wsl$\Ubuntu\home\alice"}), None, "unknown", "", False, id="Windows"
    ),
]


@pytest.mark.parametrize(("it", "uid", "owner", "via", "proven"), FOUND)
def test_the_first_sign_that_names_a_user_names_the_owner(
    it: Container, uid: int | None, owner: str, via: str, *, proven: bool
) -> None:
    """Signs are asked in the order of identity.yaml; what names nobody is passed over without a word."""
    who = found(it, uid)
    assert (who.owner, who.owner_via, who.proven, who.problems) == (owner, via, proven, ())


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("1001", id="a number"),
        pytest.param("alice bob", id="two words"),
        pytest.param("../alice", id="a path"),
        pytest.param("-rf", id="an option"),
        pytest.param("alice\n", id="a trailing newline"),
        pytest.param("\x1b[31malice", id="an escape sequence"),
        pytest.param("ali\u202ece", id="a bidi mark"),
        pytest.param('alice"} or up{', id="a query"),
        pytest.param("{{ owner }}", id="a template"),
        pytest.param("x" * 5000, id="five thousand letters"),
    ],
)
def test_a_label_that_is_no_user_name_is_passed_over_and_reported(value: str) -> None:
    """Anybody can write anything there; the next sign decides, and the report quotes what was written."""
    who = found(container({"ds01.user": value}), 1001)
    assert (who.owner, who.owner_via) == ("alice", "process uid 1001")
    (problem,) = who.problems
    assert problem.code == "owner_ignored"
    assert "'train' (abababababab)" in problem.detail
    assert problem.detail.isprintable()
    assert len(problem.detail) < 250


CONFLICTS = [
    pytest.param(
        container({"ds01.user": "prof"}, homes=("/home/bob",)),
        0,
        "bob",
        "mount /home/bob; label ds01.user=prof contradicted",
        id="the home it mounts",
    ),
    pytest.param(
        container({"ds01.user": "prof"}, homes=("/home/bob/x",)),
        1001,
        "bob",
        "mount /home/bob; label ds01.user=prof contradicted",
        id="both, which disagree: the first in the file",
    ),
]


@pytest.mark.parametrize(
    ("it", "owner"),
    [
        pytest.param(container({"ds01.user": "prof"}), "prof", id="a label"),
        pytest.param(container({"devcontainer.local_folder": "/home/prof/app"}), "prof", id="a folder"),
        pytest.param(container(name="u-prof-1"), "prof", id="a name"),
    ],
)
def test_the_process_contradicts_nobody(it: Container, owner: str) -> None:
    """Many images run as 1000, whoever that is here: it must not take a container from its owner."""
    who = found(it, 1002)
    assert (who.owner, who.proven, who.problems) == (owner, False, ())


@pytest.mark.parametrize(("it", "uid", "owner", "via"), CONFLICTS)
def test_a_claim_gives_way_to_evidence_that_nothing_contradicts(
    it: Container, uid: int | None, owner: str, via: str
) -> None:
    """`--label ds01.user=prof` does not make it the professor's container."""
    who = found(it, uid)
    assert (who.owner, who.owner_via, who.proven) == (owner, via, True)
    (problem,) = who.problems
    assert problem.code == "owner_conflict"
    assert "'train'" in problem.detail or "'u-prof-1'" in problem.detail
    assert "prof" in problem.detail
    assert owner in problem.detail


def test_a_guarded_label_is_proof() -> None:
    """A site whose wrapper or authorization plugin sets the label says so, and evidence does not matter then."""
    who = found(container({"ds01.user": "prof"}, homes=("/home/bob",)), 1002, owners=GUARDED)
    assert (who.owner, who.owner_via, who.proven, who.problems) == ("prof", "label ds01.user", True, ())


def test_a_guarded_label_backs_or_contradicts_a_claim_before_it() -> None:
    """The order in the file says who is asked first, not who is believed."""
    owners = (AIME, replace(DS01, guarded=True))
    assert found(container({"aime.mlc.USER": "prof", "ds01.user": "bob"}), owners=owners).owner == "bob"
    assert found(container({"aime.mlc.USER": "bob", "ds01.user": "bob"}), owners=owners).proven


def test_only_signs_that_the_site_lists_are_evidence() -> None:
    """Where containers run in user namespaces, UIDs mean nothing, and the site leaves that matcher out."""
    who = found(container({"ds01.user": "prof"}), 1002, owners=(DS01,))
    assert (who.owner, who.proven, who.problems) == ("prof", False, ())


def test_volumes_are_no_homes() -> None:
    """Only bind mounts show the host's folders; a volume's name is free text."""
    it = replace(container(), mounts=(Mount("/home/alice", "/x", "volume"),))
    assert found(it).owner == "unknown"


# ── infrastructure ───────────────────────────────────────────────────────────────────────────────────────────────────

IMAGES = [
    pytest.param("nvcr.io/nvidia/k8s/dcgm-exporter:4.5", True, id="DCGM exporter from NVIDIA's registry"),
    pytest.param("nvidia/dcgm-exporter", True, id="DCGM exporter from Docker Hub"),
    pytest.param(f"gcr.io/cadvisor/cadvisor@sha256:{'0' * 64}", True, id="cAdvisor by digest"),
    pytest.param(f"localhost:5000/lab/cadvisor:v1@sha256:{'0' * 64}", True, id="cAdvisor from a registry with a port"),
    pytest.param("prom/prometheus:v3", True, id="Prometheus"),
    pytest.param("docker.io/prom/prometheus", True, id="Prometheus with Docker Hub spelled out"),
    pytest.param("index.docker.io/grafana/grafana:12", True, id="Grafana with Docker Hub's other name"),
    pytest.param("evil.example/prom/prometheus", False, id="somebody else's prom/prometheus"),
    pytest.param("localhost/prom/prometheus", False, id="a local registry's prom/prometheus"),
    pytest.param("docker.io.evil.example/prom/prometheus", False, id="a registry that begins like Docker Hub"),
    pytest.param("docker.io/docker.io/prom/prometheus", False, id="a folder that is called like Docker Hub"),
    pytest.param("notprom/prometheus", False, id="a name that ends alike"),
    pytest.param("alice/train:prom/x", False, id="a tag that looks like a name"),
    pytest.param("alice/not-dcgm-exporter", False, id="an image that ends alike"),
    pytest.param("dcgm-exporter-fake", False, id="an image that begins alike"),
    pytest.param(f"sha256:{'0' * 64}", False, id="an image without a name"),
    pytest.param("", False, id="no image"),
]


@pytest.mark.parametrize(("image", "trusted"), IMAGES)
def test_a_trusted_image_is_infrastructure_with_or_without_the_label(image: str, *, trusted: bool) -> None:
    """A site's own exporter is never stopped because somebody forgot a label."""
    assert found(container(image=image)).infrastructure is trusted
    labelled = found(container(CLAIM, image=image))
    assert labelled.infrastructure is trusted
    assert [problem.code for problem in labelled.problems] == ([] if trusted else ["untrusted_claim"])


@pytest.mark.parametrize(
    ("image", "pattern", "fits"),
    [
        pytest.param("prom/prometheus:v3", "docker.io/prom/*", True, id="Docker Hub spelled out in the pattern"),
        pytest.param("redis:7", "docker.io/library/*", True, id="an official image"),
        pytest.param("docker.io/library/redis", "redis", True, id="an official image written in full"),
        pytest.param("quay.io/prom/prometheus", "docker.io/*", False, id="another registry is not Docker Hub"),
        pytest.param("localhost:5000/x", "docker.io/*", False, id="a local registry is not Docker Hub"),
        pytest.param("prom/prometheus:v3.1", "prom/prometheus:v3*", True, id="a pattern with a tag"),
        pytest.param("prom/prometheus:v2", "prom/prometheus:v3*", False, id="another tag"),
        pytest.param(
            "prom/prometheus:v3@sha256:aa", "prom/prometheus@sha256:*", False, id="a pattern with a digest, tag between"
        ),
        pytest.param("lab/x@sha256:aa", "lab/x@sha256:aa", True, id="a pinned digest"),
        pytest.param("lab/x@sha256:ab", "lab/x@sha256:aa", False, id="another digest"),
        pytest.param("Prom/x", "prom/*", False, id="case matters"),
    ],
)
def test_image_patterns_see_tag_and_digest_only_where_they_name_them(image: str, pattern: str, *, fits: bool) -> None:
    """`docker.io/` is dropped on both sides, any other registry on neither."""
    identity = Identity(trusted=Trust(images=(pattern,)))
    assert identify(identity, container(image=image), process_uid=None, user_of_uid=USERS.get).infrastructure is fits


ADMIN = {"ds01.user": "admin1"}
CLAIMS = [
    pytest.param(container(CLAIM, name="monitoring-db"), OWNERS, True, id="label and a trusted name"),
    pytest.param(
        container({"ds01.protected": "anything"}, name="monitoring-db"), OWNERS, True, id="a label without a value"
    ),
    pytest.param(container(CLAIM | ADMIN), GUARDED, True, id="label and a trusted owner by a guarded label"),
    pytest.param(
        container(CLAIM | ADMIN, homes=("/home/admin1",)), OWNERS, False, id="label and a home that anybody can mount"
    ),
    pytest.param(container(CLAIM, homes=("/home/admin1",)), OWNERS, False, id="label and nothing but such a home"),
    pytest.param(container(CLAIM), OWNERS, False, id="label alone"),
    pytest.param(container(CLAIM | ADMIN), OWNERS, False, id="label and an owner by a label that anybody can set"),
    pytest.param(
        container(CLAIM | {"ds01.user": "root"}), OWNERS, False, id="label and root by a label that anybody can set"
    ),
    pytest.param(container(CLAIM, name="pt._.0"), OWNERS, False, id="label and root by a name that anybody can choose"),
    pytest.param(container(CLAIM | {"ds01.user": "bob"}), GUARDED, False, id="label and an owner who is not trusted"),
]


@pytest.mark.parametrize(("it", "owners", "trusted"), CLAIMS)
def test_a_label_is_believed_only_together_with_something_trusted(
    it: Container, owners: tuple[OwnerMatcher, ...], *, trusted: bool
) -> None:
    """Whoever creates a container chooses its labels and its name."""
    who = found(it, owners=owners)
    assert who.infrastructure is trusted
    assert [problem.code for problem in who.problems] == ([] if trusted else ["untrusted_claim"])


@pytest.mark.parametrize(
    ("it", "owners"),
    [
        pytest.param(container(name="monitoring-db"), OWNERS, id="a trusted name"),
        pytest.param(container(ADMIN), GUARDED, id="a trusted owner"),
        pytest.param(
            container({"ds01.monitoring": "TRUE"}, name="monitoring-db"), OWNERS, id="another value of the label"
        ),
    ],
)
def test_without_the_label_only_an_image_makes_infrastructure(it: Container, owners: tuple[OwnerMatcher, ...]) -> None:
    """An admin's own training run is no infrastructure, and nobody claimed it was."""
    who = found(it, owners=owners)
    assert (who.infrastructure, who.problems) == (False, ())


def test_an_untrusted_claim_says_whose_it_is_and_what_would_help() -> None:
    """The admin reads it once and knows which file to change."""
    it = container(CLAIM | {"ds01.user": "alice"}, image="alice/\x1b[2Jtrain")
    (problem,) = found(it).problems
    assert problem.detail.isprintable()
    for words in (
        "'train' (abababababab)",
        "ds01.monitoring=true",
        "alice/\\x1b[2Jtrain",
        "'alice'",
        "unproven",
        "identity.yaml",
    ):
        assert words in problem.detail


TEXT = st.text(max_size=20) | st.sampled_from(["alice", "/home/alice/x", "pt._.1001", "prom/x", "root", "true", "1001"])


@settings(deadline=None)
@given(
    labels=st.dictionaries(
        st.sampled_from(["ds01.user", "aime.mlc.USER", "devcontainer.local_folder", "ds01.monitoring"]),
        TEXT,
        max_size=4,
    ),
    name=TEXT,
    image=TEXT,
    homes=st.lists(TEXT, max_size=3),
    uid=st.none() | st.sampled_from([0, 1001, 1002, 4711]),
)
def test_whatever_users_write_identify_answers_and_nothing_raw_gets_out(
    labels: dict[str, str], name: str, image: str, homes: list[str], uid: int | None
) -> None:
    """An owner is a plain user name; problems are printable; labels alone never prove anything."""
    it = container(labels, name=name, image=image, homes=tuple(homes))
    who = found(it, uid)
    assert who.owner.isascii()
    assert who.owner.isprintable()
    assert who.owner_via.isprintable()
    assert all(problem.detail.isprintable() for problem in who.problems)
    if not homes and not uid:
        assert not who.proven

"""The policy inside a recording: read there as it was, whatever lay outside of it, shipped with it or stood in /etc."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ds01_policy.cli.recording import policy_files
from ds01_policy.config import files as config_files
from ds01_policy.config.kept import FOLDER, INDEX, as_yaml, kept_of, place, redacted
from ds01_policy.config.load import load, load_whole
from ds01_policy.config.problems import PolicyError
from ds01_policy.config.yaml_strict import parse
from ds01_policy.policy import Policy

POWER = """\
version: 1
signals:
  power:
    label: power
    unit: watts
    kind: gauge
    join: gpu
    ceiling: 700W
    queries: [{expr: 'X{UUID=~"{{ uuids }}"}[{{ range }}]', devices: whole}]
"""
RULE = "version: 1\nrules:\n  - {id: %s, match: {state: created, gpu: true}, for: 1h, then: [remove]}\n"


def no_group(_: str) -> frozenset[str] | None:
    """Answer for a host that has no Unix group, as the one does where a recording is replayed."""
    return None


def site(folder: Path, files: Mapping[str, str]) -> Path:
    """Write a configuration directory."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def kept(
    config: Path, recording: Path, groups: Mapping[str, frozenset[str] | None] | None = None
) -> tuple[Policy, Policy]:
    """Load a policy on its host, keep it, and load it from where it is kept."""
    asked: dict[str, frozenset[str] | None] = {}

    def noted(name: str) -> frozenset[str] | None:
        asked[name] = (groups or {}).get(name)
        return asked[name]

    loaded = load_whole(config, unix_group=noted)
    site(recording, policy_files(loaded, asked))
    return loaded.policy, load(recording / FOLDER, unix_group=no_group)


def comparable(policy: Policy) -> list[object]:
    """Give what is decided by; places and paths may differ."""
    rules = [(rule.id, rule.match, rule.for_, rule.then, rule.when, rule.excepts) for rule in policy.rules]
    return [policy.signals, policy.limits, policy.identity, rules, policy.exemptions, policy.templates, policy.digest]


@pytest.mark.parametrize(
    "files",
    [
        pytest.param({"settings.yaml": "version: 1\nmode: warn\n"}, id="all but the settings as shipped"),
        pytest.param({"settings.yaml": "# nothing yet\n"}, id="comments only"),
        pytest.param({"rules/mine.yaml": RULE % "mine"}, id="rules of its own"),
        pytest.param({"rules/notes.txt": "none yet"}, id="a folder of rules without any"),
        pytest.param(
            {"settings.yaml": "rules: [rules, more/of/them]\n", "more/of/them/a.yaml": RULE % "a"}, id="several folders"
        ),
        pytest.param({"identity.yaml": "version: 1\ntypes: [{type: docker}]\n"}, id="identity filled from what ships"),
        pytest.param(
            {"signals.yaml": POWER},
            id="signals filled from what ships",
        ),
        pytest.param(
            {
                "limits.yaml": "default_group: a\ngroups: {a: {members_file: in/here, members: [bob]}}\n"
                               "defaults: {idle_timeout: 1h, max_runtime: 1h, container_hold_after_stop: 1h}\n",
                "in/here": "alice # a comment\n",
            },
            id="a members file",
        ),
        pytest.param({"templates/warning.j2": "{{ container.name }}: stop!\n"}, id="a text of its own"),
    ],
)  # fmt: skip
def test_a_policy_is_the_same_where_it_is_kept(files: dict[str, str], tmp_path: Path) -> None:
    """Every value, and the digest that says so."""
    there, here = kept(site(tmp_path / "config", {"x.txt": "", **files}), tmp_path / "recording")
    assert comparable(here) == comparable(there)


def test_what_lay_outside_is_inside(tmp_path: Path) -> None:
    """Rules and members named by absolute paths or through `..` are read from the recording, not from this machine."""
    site(tmp_path / "common", {"rules/b.yaml": RULE % "b", "staff": "erin\n"})
    limits = "defaults: {idle_timeout: 1h, max_runtime: 1h, container_hold_after_stop: 1h}\ndefault_group: a\n"
    config = site(
        tmp_path / "config",
        {
            "settings.yaml": f"rules: [{tmp_path}/common/rules, rules]\n",
            "rules/a.yaml": RULE % "a",
            "limits.yaml": f"{limits}groups: {{a: {{}}, staff: {{members_file: ../common/staff}}}}\n",
        },
    )
    there, here = kept(config, tmp_path / "recording")
    assert comparable(here) == comparable(there)
    for path in (tmp_path / "common").rglob("*"):
        if path.is_file():
            path.unlink()
    again = load(tmp_path / "recording" / FOLDER, unix_group=no_group)
    assert [rule.id for rule in again.rules] == ["b", "a"]
    assert again.limits.groups["staff"].members == {"erin"}


def test_unix_groups_are_those_of_then(tmp_path: Path) -> None:
    """Who was in a group of the host is kept; the groups of this machine are not asked."""
    limits = "defaults: {idle_timeout: 1h, max_runtime: 1h, container_hold_after_stop: 1h}\ndefault_group: a\n"
    config = site(tmp_path / "config", {"limits.yaml": f"{limits}groups: {{a: {{}}, b: {{unix_group: staff}}}}\n"})
    there, here = kept(config, tmp_path / "recording", {"staff": frozenset({"alice", "bob"})})
    assert here.limits == there.limits
    assert here.limits.groups["b"].members == {"alice", "bob"}


def test_a_later_version_ships_something_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came from the shipped files is kept too: those of a newer version change nothing."""
    config = site(tmp_path / "config", {"identity.yaml": "version: 1\ntypes: [{type: docker}]\n"})
    there, _ = kept(config, tmp_path / "recording")
    newer = site(
        tmp_path / "newer",
        {
            "config/settings.yaml": "mode: enforce\n",
            "config/identity.yaml": "version: 1\nowners: []\n",
            "config/limits.yaml": "defaults: {idle_timeout: 1m}\n",
            "rules/new.yaml": RULE % "new",
        },
    )
    monkeypatch.setattr(config_files, "shipped", lambda: (newer / "config", newer / "rules"))
    again = load(tmp_path / "recording" / FOLDER, unix_group=no_group)
    assert comparable(again) == comparable(there)


def test_an_edited_policy_has_a_digest_of_its_own(tmp_path: Path) -> None:
    """Whoever changes what is kept does not decide under the old name."""
    there, here = kept(site(tmp_path / "config", {"rules/a.yaml": RULE % "a"}), tmp_path / "recording")
    assert here.digest == there.digest
    (tmp_path / "recording" / FOLDER / "rules" / "a.yaml").write_text(RULE % "a" + "# changed\n")
    assert load(tmp_path / "recording" / FOLDER, unix_group=no_group).digest != there.digest


def test_no_secret_of_the_settings_is_kept(tmp_path: Path) -> None:
    """Headers, names to log in with, addresses of channels, credentials in any URL, and what comments hold."""
    config = site(
        tmp_path / "config",
        {
            "settings.yaml": (
                "# old: mailto://root:hunter2@mail\n"
                "prometheus: {headers: {X-Token: hunter2}, basic_auth: {username: hunter2, password_file: /p}}\n"
                "docker: {url: 'tcp://hunter2:hunter2@docker:2375'}\n"
                "notify: {channels: [tty, 'slack://hunter2/hunter2', 'mailtos://a:hunter2@uni.example']}\n"
            ),
            "rules/a.yaml": RULE % "a" + "# see https://bob:hunter2@wiki.example/rules\n",
        },
    )
    there, here = kept(config, tmp_path / "recording")
    texts = {path.name: path.read_text() for path in (tmp_path / "recording").rglob("*") if path.is_file()}
    assert [name for name, text in texts.items() if "hunter2" in text] == []
    assert here.settings.notify.channels == ("tty", "slack://redacted", "mailtos://redacted")
    assert here.settings.prometheus is not None
    assert here.settings.prometheus.headers == {"X-Token": "redacted"}
    assert (here.settings.docker.url, here.digest) == ("tcp://redacted@docker:2375", there.digest)


@pytest.mark.parametrize(
    ("name", "inside"),
    [
        ("limits.yaml", "limits.yaml"),
        ("more/rules/a.yaml", "more/rules/a.yaml"),
        ("/srv/rules/a.yaml", "outside/srv/rules/a.yaml"),
        ("../rules/a.yaml", "outside/__/rules/a.yaml"),
        ("/a/../../b", "outside/a/__/__/b"),
    ],
)
def test_where_a_file_is_kept(name: str, inside: str) -> None:
    """Below the recording's own directory, whatever its name was."""
    assert place(name) == inside


@given(st.text("ab./", min_size=1, max_size=9))
def test_no_file_is_kept_outside(name: str) -> None:
    """No name leads out of the recording."""
    assert ".." not in Path(place(name)).parts
    assert not Path(place(name)).is_absolute()


def test_a_directory_called_policy_is_not_a_recording_s(tmp_path: Path) -> None:
    """What counts is the index beside it, and one that is damaged is an error."""
    config = site(tmp_path / "policy", {"settings.yaml": "mode: warn\n"})
    assert kept_of(config) is None
    (tmp_path / INDEX).write_text("{")
    with pytest.raises(PolicyError, match=r"policy\.json: is not what `record` writes"):
        load(config, unix_group=no_group)


VALUES = st.recursive(
    st.booleans() | st.integers(-(10**9), 10**9) | st.text(st.characters(codec="utf-8", exclude_categories=["C"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc: #", min_size=1), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), VALUES, max_size=4))
def test_what_is_written_is_read_back(value: dict[str, object]) -> None:
    """Through the strict loader, whatever the texts hold."""
    document = parse(as_yaml(value).encode(), "x.yaml")
    assert document.findings == []
    assert document.value == value


def test_sections_of_comments_only_are_left_out() -> None:
    """They are null to the reader, which the strict loader refuses."""
    assert json.loads(as_yaml({"budget": None, "notify": {"channels": None}})) == {"notify": {}}
    assert redacted({"prometheus": None, "notify": "odd"}) == {"prometheus": None, "notify": "odd"}

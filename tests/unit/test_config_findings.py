"""What `check` says about a policy that loads."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from config_fixtures import RULE, UNIX_GROUPS, written

from ds01_policy.config.load import PolicyError, findings

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)
LIMITS = "defaults: {idle_timeout: 60m, max_runtime: 24h, container_hold_after_stop: 30m}\n"
NEVER_TRUE = "{not: {any: [{signal: gpu_utilization, below: 500%}]}}"
TYPES = "container_types: {native: {}, devcontainer: {}, compose: {}, docker: {}}\n"


def doubts(directory: Path, files: dict[str, str], at: datetime = NOW) -> list[str]:
    found = findings(written(directory, files), at, unix_group=UNIX_GROUPS.get)
    assert all(one.severity == ("note" if one.slug == "untested_rule" else "warning") for one in found)
    return [
        f"{Path(one.file).relative_to(directory)}:{one.line}:{one.col} {one.slug}"
        for one in found
        if one.slug != "untested_rule"  # none of these rules is
    ]


def test_what_ships_leaves_no_doubt() -> None:
    """The defaults pass their own check."""
    assert findings(None, NOW, unix_group=UNIX_GROUPS.get) == ()


def test_what_does_not_load_is_an_error_not_a_doubt(tmp_path: Path) -> None:
    """Errors come as they do from load."""
    with pytest.raises(PolicyError):
        findings(written(tmp_path, {"settings.yaml": "mode: x"}), NOW, unix_group=UNIX_GROUPS.get)


@pytest.mark.parametrize(
    ("files", "found"),
    [
        pytest.param(
            {"limits.yaml": LIMITS + TYPES.replace("compose: {}, ", "")},
            ["limits.yaml:2:1 unlisted_type"],
            id="a type without limits",
        ),
        pytest.param(
            {"settings.yaml": "local_samples: {interval: 10m}"},
            ["settings.yaml:1:17 sampled_rarely"],
            id="samples further apart than the time within which somebody wakes",
        ),
        pytest.param({"settings.yaml": "{awake: 10m, local_samples: {interval: 10m}}"}, [], id="or just as far"),
        pytest.param(
            {"settings.yaml": "local_samples: {retain: 1h}"},
            ["settings.yaml:1:17 retained_briefly"],
            id="samples that go before a rule is through with them",
        ),
        pytest.param(
            {"limits.yaml": LIMITS},
            ["limits.yaml:1:1 unlisted_type"],
            id="no types at all, said once a place",
        ),
        pytest.param(
            {
                "limits.yaml": LIMITS + "container_types: {docker: {}}\n",
                "identity.yaml": "types: [{type: docker, match: {name: x}}]",
                "rules/mine.yaml": RULE,
            },
            ["limits.yaml:2:1 unlisted_type"],
            id="an unknown type can come up where no matcher takes what is left",
        ),
        pytest.param(
            {"limits.yaml": LIMITS + TYPES.replace("devcontainer: {}", "devcontainer: {}, devcontaner: {}")},
            ["limits.yaml:2:49 unknown_type"],
            id="limits for a type that never comes up",
        ),
        pytest.param(
            {"rules/mine.yaml": RULE.replace("gpu: true", "type: {not: devcontaner}")},
            ["rules/mine.yaml:4:29 unknown_type"],
            id="a rule about a type that never comes up",
        ),
        pytest.param(
            {"rules/mine.yaml": RULE.replace("    warn: {at: 80%, notice: 10m}\n", "")},
            ["rules/mine.yaml:6:5 no_warning"],
            id="ending what runs without a warning",
        ),
        pytest.param(
            {"rules/mine.yaml": RULE.replace("running", "'*'").replace("    warn: {at: 80%, notice: 10m}\n", "")},
            ["rules/mine.yaml:6:5 no_warning"],
            id="ending what may run, by a pattern, without a warning",
        ),
        pytest.param(
            {"rules/mine.yaml": RULE.replace("running", "exited").replace("    warn: {at: 80%, notice: 10m}\n", "")},
            [],
            id="nothing runs, so nobody needs a warning",
        ),
        pytest.param(
            {"rules/mine.yaml": RULE.replace("[stop]", "[epilog]").replace("    warn: {at: 80%, notice: 10m}\n", "")},
            [],
            id="nothing is ended, so nobody needs a warning",
        ),
        pytest.param(
            {"rules/mine.yaml": RULE.replace("    for", f"    when: {NEVER_TRUE}\n    for")},
            ["rules/mine.yaml:5:50 out_of_reach"],
            id="a threshold that no reading reaches",
        ),
        pytest.param({"rules/mine.yaml": "rules: []"}, ["settings.yaml:1:1 no_rules"], id="no rule at all"),
        pytest.param(
            {"limits.yaml": LIMITS + TYPES + "default_group: a\ngroups: {a: {members_file: groups/faculty.members}}\n"},
            ["limits.yaml:4:14 missing_file"],
            id="a members file only the shipped policy has",
        ),
        pytest.param(
            {"limits.yaml": LIMITS + TYPES + "users: {dave: {max_gpus: 4}}\n"},
            ["limits.yaml:3:16 not_used"],
            id="a count where nobody reads it",
        ),
    ],
)  # fmt: skip
def test_what_is_most_likely_not_meant(tmp_path: Path, files: dict[str, str], found: list[str]) -> None:
    """Each doubt has its place and its name, and only where it applies."""
    files.setdefault("settings.yaml", "mode: observe\n")
    assert sorted(set(doubts(tmp_path, files))) == found


@pytest.mark.parametrize(
    ("at", "expired"),
    [
        pytest.param(datetime(2030, 1, 31, 23, 59, 59, tzinfo=UTC), False, id="on its last day"),
        pytest.param(datetime(2030, 2, 1, tzinfo=UTC), True, id="the day after"),
    ],
)
def test_an_expired_exemption_is_pointed_out(tmp_path: Path, at: datetime, *, expired: bool) -> None:
    """It holds nothing back any more, and somebody may still rely on it."""
    text = "exemptions:\n  - {user: a, rules: '*', reason: r, approved_by: b, expires: 2030-01-31}\n"
    found = doubts(tmp_path, {"exemptions.yaml": text}, at)
    assert found == (["exemptions.yaml:2:54 expired"] if expired else [])


def test_what_is_suggested_is_enough(tmp_path: Path) -> None:
    """Kept as long as the limit is too short by two looks: the suggestion counts them."""
    limits = LIMITS.replace("idle_timeout: 60m", "idle_timeout: 48h") + TYPES
    given = findings(written(tmp_path, {"limits.yaml": limits}), NOW, unix_group=UNIX_GROUPS.get)
    (brief,) = [one for one in given if one.slug == "retained_briefly"]
    assert brief.suggestion == "at least 49h"
    assert doubts(tmp_path, {"limits.yaml": limits, "settings.yaml": "local_samples: {retain: 49h}"}) == []

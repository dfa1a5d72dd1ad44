"""Each finding of `check`, by a file that has it and one that does not."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from config_fixtures import UNIX_GROUPS, written

from ds01_policy.config.load import findings
from ds01_policy.config.why import WHY

NOW = datetime(2030, 1, 1, 12, tzinfo=UTC)

HEAD = "version: 1\nrules:\n"
TYPES = "container_types: {native: {}, devcontainer: {}, compose: {}, docker: {}}\n"
LIMITS = (
    "version: 1\n"
    "defaults: {idle_timeout: 60m, max_runtime: 24h, container_hold_after_stop: 30m}\n"
    "default_group: student\n"
    "groups: {student: {}, faculty: {members: [prof]}}\n"
) + TYPES
EXPIRES = "version: 1\nexemptions:\n  - {user: prof, rules: '*', reason: r, approved_by: a, expires: %s}\n"


def rule(id_: str = "mine", **parts: str) -> str:
    """Write one rule, a line for each part; one that is given as "" is left out."""
    usual = {"match": "{state: running, gpu: true}", "except": "", "when": "", "for": "60m"}
    ending = {"warn": "{at: 80%, notice: 10m}", "then": "[stop]", "mode": ""}
    whole = usual | ending | {key.rstrip("_"): value for key, value in parts.items()}
    return "\n".join([f"  - id: {id_}", *(f"    {key}: {value}" for key, value in whole.items() if value)]) + "\n"


def rules(*texts: str) -> dict[str, str]:
    return {"rules/mine.yaml": HEAD + "".join(texts)}


def below(threshold: str, signal: str = "gpu_utilization", comparator: str = "below") -> str:
    return f"{{signal: {signal}, {comparator}: {threshold}}}"


def all_(*clauses: str) -> str:
    return f"{{all: [{', '.join(clauses)}]}}"


def any_(*clauses: str) -> str:
    return f"{{any: [{', '.join(clauses)}]}}"


TEST = "version: 1\ncases: [{case: it acts, containers: {train: {up: 3h}}, expect: {train: {mine: %s}}}]\n"
GIVEN_RULE = (TEST % "act").replace(
    "{case:", "{given: {rules: [{id: mine, match: {state: running}, for: 1h, then: [epilog]}]}, case:"
)
TESTED = rules(rule()) | {"rules/tests/mine.yaml": TEST % "act"}

LOCAL = "version: 1\nprometheus: never\nlocal_samples: {interval: 5m, retain: 2h}\n"


IDENTITY = {
    "identity.yaml": "version: 1\ntypes: [{type: docker}]\n",
    "limits.yaml": LIMITS.replace(TYPES, "") + "container_types: {docker: {}}\n",
}

# slug, where, the files that have it, the files that do not
ROWS = [
    ("untested_rule", "rules/mine.yaml:3:5", rules(rule()), TESTED, "no test names it"),
    (
        "untested_rule",
        "rules/mine.yaml:3:5",
        TESTED | {"rules/tests/mine.yaml": TEST % "no match"},
        TESTED,
        "a test says that it is not about something",
    ),
    (
        "untested_rule",
        "rules/mine.yaml:3:5",
        rules(rule()) | {"rules/tests/mine.txt": TEST % "act"},
        rules(rule()) | {"rules/mine.test.yaml": TEST % "act"},
        "a file that nobody reads, and one beside the rule",
    ),
    ("no_warning", "rules/mine.yaml:6:5", rules(rule(warn="")), rules(rule()), "stops and warns nobody"),
    (
        "no_warning",
        "rules/mine.yaml:6:5",
        rules(rule(warn="", match="{state: '*'}")),
        rules(rule(warn="", match="{state: [exited, dead]}")),
        "nothing runs, so nobody needs a warning",
    ),
    (
        "no_rules",
        "settings.yaml:1:1",
        {"settings.yaml": "version: 1\n", "rules/none.yaml": "version: 1\nrules: []\n"},
        rules(rule()),
        "no rule at all",
    ),
    (
        "unlisted_type",
        "limits.yaml:5:1",
        {"limits.yaml": LIMITS.replace("compose: {}, ", "")},
        {"limits.yaml": LIMITS},
        "a type without limits",
    ),
    (
        "unknown_type",
        "limits.yaml:5:49",
        {"limits.yaml": LIMITS.replace("compose", "composed: {}, compose")},
        {"limits.yaml": LIMITS},
        "limits for a type that never comes up",
    ),
    (
        "unknown_type",
        "rules/mine.yaml:4:29",
        rules(rule(match="{state: running, type: dokcer}")),
        rules(rule(match="{state: running, type: docker}")),
        "a rule about a type that never comes up",
    ),
    (
        "expired",
        "exemptions.yaml:3:57",
        {"exemptions.yaml": EXPIRES % "2029-12-31"},
        {"exemptions.yaml": EXPIRES % "2030-01-01"},
        "an exemption that is over, and one on its last day",
    ),
    (
        "missing_file",
        "limits.yaml:4:33",
        {"limits.yaml": LIMITS.replace("members: [prof]", "members_file: groups/faculty.members")},
        {
            "limits.yaml": LIMITS.replace("members: [prof]", "members_file: groups/faculty.members"),
            "groups/faculty.members": "prof\n",
        },
        "a members file that only ships",
    ),
    (
        "not_used",
        "limits.yaml:6:16",
        {"limits.yaml": LIMITS + "users: {dave: {max_gpus: 4}}\n"},
        {"limits.yaml": LIMITS.replace("60m,", "60m, max_gpus: 4,")},
        "a count where nobody reads it",
    ),
    (
        "empty_group",
        "limits.yaml:4:23",
        {"limits.yaml": LIMITS.replace("members: [prof]", "members: []")},
        {"limits.yaml": LIMITS},
        "a group that nobody is in",
    ),
    (
        "empty_group",
        "limits.yaml:4:23",
        {"limits.yaml": LIMITS.replace("members: [prof]", "unix_group: nobody-in-it")},
        {"limits.yaml": LIMITS.replace("members: [prof]", "unix_group: gpu-users")},
        "a Unix group that nobody is in",
    ),
    (
        "out_of_reach",
        "rules/mine.yaml:5:37",
        rules(rule(when=below("500%"))),
        rules(rule(when=below("50%"))),
        "above the ceiling",
    ),
    (
        "out_of_reach",
        "rules/mine.yaml:5:37",
        rules(rule(when=below("0%"))),
        rules(rule(when=below("1%"))),
        "below nothing",
    ),
    (
        "out_of_reach",
        "rules/mine.yaml:5:37",
        rules(rule(when=below("0%", comparator="at_least"))),
        rules(rule(when=below("1%", comparator="at_least"))),
        "at least nothing",
    ),
    (
        "out_of_reach",
        "rules/mine.yaml:5:37",
        rules(rule(when=below("100%", comparator="above"))),
        rules(rule(when=below("99%", comparator="above"))),
        "above all that there is",
    ),
    (
        "out_of_reach",
        "rules/mine.yaml:5:37",
        rules(rule(when=below("100%", comparator="at_most"))),
        rules(rule(when=below("99%", comparator="at_most"))),
        "at most all that there is",
    ),
    (
        "out_of_reach",
        "rules/mine.yaml:5:37",
        rules(rule(when=below("101%", comparator="is"))),
        rules(rule(when=below("100%", comparator="is"))),
        "exactly what never is",
    ),
    (
        "threshold_in_noise",
        "rules/mine.yaml:5:37",
        rules(rule(when=below("0.4%"))),
        rules(rule(when=below("0.5%"))),
        "a driver that is polled",
    ),
    (
        "threshold_in_noise",
        "rules/mine.yaml:5:31",
        rules(rule(when=below("0.05%", "cpu_usage"))),
        rules(rule(when=below("0.1%", "cpu_usage"))),
        "heartbeats",
    ),
    (
        "threshold_in_noise",
        "rules/mine.yaml:5:38",
        rules(rule(when="{not: " + below("50B/s", "network_io", "above") + "}")),
        rules(rule(when="{not: " + below("100B/s", "network_io", "above") + "}")),
        "address resolution, under not",
    ),
    (
        "window_too_short",
        "rules/mine.yaml:6:5",
        rules(rule(when=below("5%"), for_="119s")),
        rules(rule(when=below("5%"), for_="2m")),
        "three samples and a half",
    ),
    (
        "window_too_short",
        "limits.yaml:2:12",
        rules(rule(when=below("5%"), for_="{limit: idle_timeout}")) | {"limits.yaml": LIMITS.replace("60m", "1m")},
        rules(rule(for_="{limit: idle_timeout}")) | {"limits.yaml": LIMITS.replace("60m", "1m")},
        "a limit, and a rule over clocks that needs no sample",
    ),
    (
        "window_too_short",
        "rules/mine.yaml:6:5",
        rules(rule(when=below("5%"), for_="19m")) | {"settings.yaml": LOCAL},
        rules(rule(when=below("5%"), for_="20m")) | {"settings.yaml": LOCAL},
        "looks of its own, five minutes apart",
    ),
    (
        "window_too_short",
        "settings.yaml:2:1",
        {"settings.yaml": "version: 1\nawake: 119s\n"},
        {"settings.yaml": "version: 1\nawake: 2m\n"},
        "the last minutes",
    ),
    (
        "window_beyond_retention",
        "rules/mine.yaml:6:5",
        rules(rule(when=below("5%"), for_="121m")) | {"settings.yaml": LOCAL},
        rules(rule(when=below("5%"), for_="2h")) | {"settings.yaml": LOCAL},
        "samples are gone by then",
    ),
    (
        "window_beyond_retention",
        "limits.yaml:6:16",
        rules(rule(when=below("5%"), for_="{limit: idle_timeout}"))
        | {"settings.yaml": LOCAL, "limits.yaml": LIMITS + "users: {dave: {idle_timeout: 3h}}\n"},
        rules(rule(when=below("5%"), for_="{limit: idle_timeout}"))
        | {"settings.yaml": "version: 1\n", "limits.yaml": LIMITS + "users: {dave: {idle_timeout: 3h}}\n"},
        "one user's limit; how long Prometheus keeps samples nobody knows",
    ),
    (
        "sampled_rarely",
        "settings.yaml:3:17",
        {"settings.yaml": LOCAL.replace("5m", "301s")},
        {"settings.yaml": LOCAL},
        "looks further apart than somebody needs to wake and sleep again",
    ),
    (
        "retained_briefly",
        "settings.yaml:3:31",
        rules(rule(when=below("5%"), for_="2h")) | {"settings.yaml": LOCAL},
        rules(rule(when=below("5%"), for_="110m")) | {"settings.yaml": LOCAL},
        "a window and the two looks around it",
    ),
    (
        "never_matches",
        "rules/mine.yaml:4:13",
        rules(rule(match="{state: {not: '*'}}")),
        rules(rule(match="{state: '*'}")),
        "no state is left",
    ),
    (
        "never_matches",
        "rules/mine.yaml:4:29",
        rules(rule(match="{state: running, gpu: {not: [true, false]}}")),
        rules(rule(match="{state: running, gpu: {not: false}}")),
        "neither with nor without a GPU",
    ),
    (
        "never_matches",
        "rules/mine.yaml:4:29",
        rules(rule(match="{state: running, owner: {not: '*'}}")),
        rules(rule(match="{state: running, owner: {not: 'a*'}}")),
        "nobody",
    ),
    (
        "never_matches",
        "rules/mine.yaml:4:29",
        rules(rule(match="{state: running, type: {not: [docker, unknown]}}")) | IDENTITY,
        rules(rule(match="{state: running, type: {not: [unknown]}}")) | IDENTITY,
        "no type is left",
    ),
    (
        "never_acts",
        "rules/mine.yaml:5:5",
        rules(rule(match="{state: exited, gpu: true}", when=below("5%"))),
        rules(rule(match="{state: [exited, paused], gpu: true}", when=below("5%"))),
        "signals of what does not run",
    ),
    (
        "never_acts",
        "rules/mine.yaml:5:5",
        rules(rule(match="{state: running, gpu: false}", when=below("5%"))),
        rules(rule(match="{state: running, gpu: false}", when=below("5%", "cpu_usage"))),
        "a GPU's signal without a GPU",
    ),
    (
        "never_acts",
        "rules/mine.yaml:5:5",
        rules(rule(match="{gpu: {not: true}}", when=any_(below("5%"), all_(below("5%"), below("5%", "cpu_usage"))))),
        rules(rule(match="{gpu: {not: true}}", when=any_(below("5%"), below("5%", "cpu_usage")))),
        "on every way it is needed, or on one of them",
    ),
    (
        "never_acts",
        "rules/mine.yaml:5:5",
        rules(rule(when=all_(below("5%"), below("5%", comparator="at_least")))),
        rules(rule(when=all_(below("6%"), below("5%", comparator="at_least")))),
        "under and over the same",
    ),
    (
        "never_acts",
        "rules/mine.yaml:5:5",
        rules(rule(when=all_(below("5%", comparator="at_most"), below("5%", comparator="above")))),
        rules(rule(when=all_(below("5%", comparator="at_most"), below("5%", comparator="at_least")))),
        "exactly the same is possible",
    ),
    (
        "never_acts",
        "rules/mine.yaml:5:5",
        rules(rule(when=all_(below("20%"), "{not: " + any_(below("30%"), below("1%", "cpu_usage")) + "}"))),
        rules(rule(when=all_(below("20%"), "{not: " + all_(below("30%"), below("1%", "cpu_usage")) + "}"))),
        "under not",
    ),
    (
        "never_acts",
        "rules/mine.yaml:5:5",
        rules(rule(when=all_(below("5%", "cpu_usage", "is"), below("6%", "cpu_usage", "is")))),
        rules(rule(when=all_(below("1KiB/s", "network_io"), below("1MiB/s", "network_io", "above"), below("5%")))),
        "where a clause may be left out nothing is certain",
    ),
    (
        "never_acts",
        "rules/mine.yaml:5:5",
        rules(rule(for_="{limit: idle_timeout}")) | {"limits.yaml": LIMITS.replace("60m", "never")},
        rules(rule(for_="{limit: idle_timeout}"))
        | {"limits.yaml": LIMITS.replace("60m", "never") + "users: {dave: {idle_timeout: 1h}}\n"},
        "a limit that is never for everybody, or for all but one",
    ),
    (
        "never_acts",
        "rules/mine.yaml:5:5",
        rules(rule(match="{state: running, type: devcontainer}", for_="{limit: idle_timeout}"))
        | {"limits.yaml": LIMITS.replace("devcontainer: {}", "devcontainer: {idle_timeout: never}")},
        rules(rule(match="{state: running, type: devcontainer}", for_="{limit: idle_timeout}"))
        | {
            "limits.yaml": LIMITS.replace("devcontainer: {}", "devcontainer: {idle_timeout: never}")
            + "unknown_owner: {idle_timeout: 30m}\n"
        },
        "never for the one type that it is about; but the unknown owner has a cap",
    ),
    (
        "never_acts",
        "rules/mine.yaml:5:14",
        rules(rule(match="{state: running, type: docker}", except_="[{type: [docker, compose]}]")),
        rules(rule(match="{state: running, type: [docker, native]}", except_="[{type: [docker, compose]}]")),
        "all that it matches is excepted",
    ),
    (
        "never_acts",
        "rules/mine.yaml:5:14",
        rules(rule(match="{state: running, label: [team=a, team=b]}", except_="[{label: team}]")),
        rules(rule(match="{state: running, label: team}", except_="[{label: [team=a, team=b]}]")),
        "labels",
    ),
    (
        "shadowed",
        "rules/mine.yaml:8:5",
        rules(rule("wide"), rule("mine")),
        rules(rule("wide", then="[epilog]"), rule("mine")),
        "the same, or one that does less",
    ),
    (
        "shadowed",
        "rules/mine.yaml:8:5",
        rules(rule("wide", match="{state: '*', gpu: true}"), rule("mine")),
        rules(rule("wide", match="{state: paused, gpu: true}"), rule("mine")),
        "more states, or others",
    ),
    (
        "shadowed",
        "rules/mine.yaml:3:5",
        rules(rule("mine", for_="2h"), rule("wide", for_="1h")),
        rules(rule("mine", for_="1h"), rule("wide", match="{state: running, gpu: true, owner: bob}", for_="1h")),
        "sooner, though it comes later; or of one owner alone",
    ),
    (
        "shadowed",
        "rules/mine.yaml:8:5",
        rules(rule("wide", match="{state: running, owner: 'b*'}"), rule("mine", match="{state: running, owner: bob}")),
        rules(rule("wide", match="{state: running, owner: 'b*'}"), rule("mine", match="{state: running, owner: '*b'}")),
        "a pattern over a name, and one over another pattern",
    ),
    (
        "shadowed",
        "rules/mine.yaml:8:5",
        rules(
            rule("wide", match="{state: running, owner: {not: bob}}"),
            rule("mine", match="{state: running, owner: {not: [bob, carol]}}"),
        ),
        rules(
            rule("wide", match="{state: running, owner: {not: [bob, carol]}}"),
            rule("mine", match="{state: running, owner: {not: bob}}"),
        ),
        "fewer left out",
    ),
    (
        "shadowed",
        "rules/mine.yaml:9:5",
        rules(rule("wide", when=below("5%")), rule("mine", when=all_(below("5%"), below("1%", "cpu_usage")))),
        rules(rule("wide", when=below("5%")), rule("mine", when=all_(below("6%"), below("1%", "cpu_usage")))),
        "asks less",
    ),
    (
        "shadowed",
        "rules/mine.yaml:8:5",
        rules(rule("wide"), rule("mine", when=below("5%"), for_="2h")),
        rules(rule("wide", when=below("5%")), rule("mine", when=below("5%"), for_="2h")),
        "a clock is sooner than any signal over longer; a mean over an hour is none over two",
    ),
    (
        "shadowed",
        "rules/mine.yaml:9:5",
        rules(
            rule("wide", when=below("5%", "cpu_usage")),
            rule("mine", when=all_(below("5%", "cpu_usage"), below("1KiB/s", "network_io"))),
        ),
        rules(
            rule("wide", when=below("1KiB/s", "network_io")),
            rule("mine", when=all_(below("5%", "cpu_usage"), below("1KiB/s", "network_io"))),
        ),
        "but without a network there is nothing left of it",
    ),
    (
        "shadowed",
        "rules/mine.yaml:9:5",
        rules(rule("wide", except_="[{younger_than: 10m}]"), rule("mine", except_="[keep_alive, {younger_than: 30m}]")),
        rules(rule("wide", except_="[keep_alive]"), rule("mine")),
        "excepts no more",
    ),
    (
        "shadowed",
        "rules/mine.yaml:8:5",
        rules(
            rule("wide", match="{state: running, gpu: true, image: 'lab/*'}"),
            rule("mine", match="{state: running, gpu: true, image: lab/train}"),
        ),
        rules(
            rule("wide", match="{state: running, gpu: true, image: {not: 'lab/train:old'}}"),
            rule("mine", match="{state: running, gpu: true, image: lab/train}"),
        ),
        "an image without a tag is meant with every tag, the excepted one too",
    ),
    (
        "shadowed",
        "rules/mine.yaml:9:5",
        rules(rule("wide", except_="[{owner: bob}]"), rule("mine", except_="[{owner: bob}]")),
        rules(rule("wide", except_="[{owner: bob}]"), rule("mine", except_="[{owner: carol}]")),
        "excepts the same",
    ),
    (
        "shadowed",
        "rules/mine.yaml:8:5",
        rules(rule("wide", for_="{limit: idle_timeout}"), rule("mine", for_="{limit: idle_timeout}")),
        rules(rule("wide", for_="{limit: max_runtime}"), rule("mine", for_="{limit: idle_timeout}")),
        "the same limit, or a longer one",
    ),
    (
        "shadowed",
        "rules/mine.yaml:8:5",
        rules(rule("wide", for_="30m"), rule("mine", for_="{limit: idle_timeout}")) | {"limits.yaml": LIMITS},
        rules(rule("wide", for_="31m"), rule("mine", for_="{limit: idle_timeout}")) | {"limits.yaml": LIMITS},
        "half the limit, which is what holds on a full host",
    ),
    (
        "shadowed",
        "rules/mine.yaml:8:5",
        rules(rule("wide", warn="{at: 70%, notice: 5m}"), rule("mine")),
        rules(rule("wide", warn="{at: 70%, notice: 11m}"), rule("mine")),
        "warns no later",
    ),
    (
        "shadowed",
        "rules/mine.yaml:8:5",
        rules(rule("wide"), rule("mine", mode="warn")),
        rules(rule("wide", mode="warn"), rule("mine")),
        "goes as far",
    ),
    (
        "shadowed",
        "rules/mine.yaml:8:5",
        rules(rule("wide"), rule("mine")) | {"exemptions.yaml": EXPIRES % "2030-02-01"},
        rules(rule("wide"), rule("mine")) | {"exemptions.yaml": (EXPIRES % "2030-02-01").replace("'*'", "[wide]")},
        "an exemption from it alone leaves the other something to do",
    ),
]


ROWS += [
    (
        "untested_rule",
        "rules/mine.yaml:3:5",
        TESTED | {"rules/tests/mine.yaml": GIVEN_RULE},
        TESTED,
        "a test of a rule that it gives itself",
    ),
    (
        "window_beyond_retention",
        "rules/mine.yaml:6:5",
        rules(rule(when=below("5%"), for_="121m")) | {"settings.yaml": LOCAL},
        rules(rule(when=below("5%"), for_="121m")) | {"settings.yaml": LOCAL.replace("prometheus: never\n", "")},
        "with Prometheus the samples of its own are not all that there is",
    ),
    (
        "shadowed",
        "rules/mine.yaml:8:5",
        rules(rule("wide", match="{state: running, owner: '*'}"), rule("mine", match="{state: running, owner: '?'}")),
        rules(rule("wide", match="{state: running, owner: '?'}"), rule("mine", match="{state: running, owner: '*'}")),
        "a pattern that another pattern happens to match",
    ),
    (
        "shadowed",
        "rules/mine.yaml:8:5",
        rules(
            rule("wide", match="{state: running, owner: {not: bob}}"),
            rule("mine", match="{state: running, owner: carol}"),
        ),
        rules(
            rule("wide", match="{state: running, name: {not: bob}}"),
            rule("mine", match="{state: running, name: carol}"),
        ),
        "a name is compared with the id as well",
    ),
    (
        "shadowed",
        "rules/mine.yaml:8:5",
        rules(rule("wide", warn="{at: 70%, notice: 10m}"), rule("mine")),
        rules(rule("wide", when=below("5%"), warn="{at: 70%, notice: 10m}"), rule("mine", when=below("5%"))),
        "a mean over 70 % of the window says nothing about 80 % of it",
    ),
    (
        "shadowed",
        "rules/mine.yaml:9:5",
        rules(rule("wide", except_="[{younger_than: 30m}]"), rule("mine", except_="[{younger_than: 30m}]")),
        rules(rule("wide", except_="[{younger_than: 30m}]"), rule("mine", except_="[{younger_than: 10m}]")),
        "a longer start-up grace",
    ),
]


def found(directory: Path, files: dict[str, str]) -> list[str]:
    given = findings(written(directory, {"settings.yaml": "version: 1\n"} | files), NOW, unix_group=UNIX_GROUPS.get)
    assert all(one.severity == ("note" if one.slug == "untested_rule" else "warning") for one in given)
    assert all(one.message for one in given)
    return [f"{Path(one.file).relative_to(directory)}:{one.line}:{one.col} {one.slug}" for one in given if one.line]


@pytest.mark.parametrize(
    ("slug", "place", "bad", "good"),
    [pytest.param(*row[:4], id=f"{row[0]}: {row[4]}") for row in ROWS],
)
def test_one_file_that_has_it_and_one_that_does_not(
    slug: str, place: str, bad: dict[str, str], good: dict[str, str], tmp_path: Path
) -> None:
    """Said at its place; and not said of what is nearly the same."""
    assert f"{place} {slug}" in found(tmp_path / "bad", bad)
    if slug == "shadowed":  # there the other one may be superfluous, which is no mistake of the table
        line = good["rules/mine.yaml"].partition("- id: mine\n")[0].count("\n") + 1
        slug = f"rules/mine.yaml:{line}:5 {slug}"
    assert not [each for each in found(tmp_path / "good", good) if each.endswith(slug)]


def test_of_two_that_are_alike_one_is_superfluous(tmp_path: Path) -> None:
    """Not both: then nothing would be left."""
    given = found(tmp_path, rules(rule("one"), rule("two"), rule("three")))
    assert [each for each in given if each.endswith("shadowed")] == [
        "rules/mine.yaml:8:5 shadowed",
        "rules/mine.yaml:13:5 shadowed",
    ]


def test_every_warning_has_a_row_and_a_reason() -> None:
    """A slug that nothing provokes is not one."""
    of_comments = {"bad_silence", "unknown_silence", "unreasoned_silence", "useless_silence"}  # test_silences.py
    assert {row[0] for row in ROWS} | of_comments == set(WHY)
    assert all(sentence.endswith(".") for sentence in WHY.values())

"""`record --anonymise`: a recording that may be shown to others, and that decides as the host did.

Owns the order: find every name, settle what stands for it, replace it in the recording and in its policy.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ds01_policy.anonymise import policy as policy_of
from ds01_policy.anonymise import recorded
from ds01_policy.anonymise.asked import Asked, Facts, shipped_literals
from ds01_policy.anonymise.names import Names
from ds01_policy.config.files import digest_of, shipped
from ds01_policy.config.kept import FOLDER, INDEX, as_yaml, index
from ds01_policy.identity import OwnerMatcher
from ds01_policy.limits import UNKNOWN
from ds01_policy.observe.recorded import RecordingError, files_of
from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from ds01_policy.config.advice import Loaded
    from ds01_policy.model import Evaluation, Plan
    from ds01_policy.observe.ports import OnGpus
    from ds01_policy.observe.recorded import Recording
    from ds01_policy.tick import Report

_TELLING = 6  # letters of a name that stands nowhere by chance

__all__ = ["anonymous", "skeleton"]


def anonymous(recording: Recording, loaded: Loaded, report: Report) -> tuple[dict[str, str], Names]:
    """Give the files of a recording and of its policy with every name replaced, and what was replaced by what.

    Raises:
        RecordingError: when a name is still there.

    """
    names = Names(recording.host)
    names.learn_marks(files_of(recording).values())
    asked = _asked(recording, loaded, names)
    _learn(recording, loaded, report, names, asked)
    files = files_of(recorded.renamed(recording, names, asked))
    written = {name: as_yaml(value) for name, value in policy_of.files(loaded, names, asked).items()}
    digest = digest_of({name: text.encode() for name, text in written.items()})
    kept = {f"{FOLDER}/{name}": text for name, text in {"rules/.kept": "", **written}.items()}
    every = {**files, **kept, INDEX: index(digest, digest, {})}
    _searched(every, names)
    return every, names


def _searched(files: Mapping[str, str], names: Names) -> None:
    """Refuse what still holds a name. Short ones, and words of this project, stand in many others."""
    ours = " ".join(path.read_text("utf-8") for folder in shipped() for path in folder.rglob("*.yaml"))
    ours += " containers inspect history prometheus policy expected " + " ".join(map(str, names.__slots__))
    for name in sorted(names.known()):
        where = [file for file, text in files.items() if name in text or name in file]
        if len(name) >= _TELLING and name not in ours and where:
            raise RecordingError(f"cannot be anonymised: {plain(name, 60)!r} would still stand in {where[0]}")


def _asked(recording: Recording, loaded: Loaded, names: Names) -> Asked:
    """Find what the policy asks about: which labels, below which homes."""
    policy = loaded.policy
    owners = policy.identity.owners
    selectors = [
        *(each for rule in policy.rules for each in rule.match.selectors),
        *(each.selector for rule in policy.rules for each in rule.excepts if each.selector is not None),
        *(each for matcher in policy.identity.types for each in matcher.selectors),
        *(each for exemption in policy.exemptions for each in exemption.selectors),
    ]
    labels = {value for each in selectors if each.name == "label" for value in each.values}
    labels |= set(policy.identity.infrastructure_labels)
    return Asked(
        names,
        tuple(
            _facts(kept.answer) for question, kept in recording.kept.items() if question[0] == "inspect" and kept.answer
        ),
        owner_labels=frozenset(each.label for each in owners if each.via == "label"),
        home_labels=frozenset(each.label for each in owners if each.via == "label_home"),
        other_labels=frozenset(label.partition("=")[0] for label in labels),
        literals=shipped_literals(),
        homes=tuple(dict.fromkeys(home for each in owners for home in each.homes)),
    )


def _facts(raw: Mapping[str, Any]) -> Facts:
    config = raw.get("Config")
    config = config if isinstance(config, dict) else {}
    labels, image = config.get("Labels"), config.get("Image")
    return Facts(
        str(raw.get("Id")),
        str(raw.get("Name", "")).removeprefix("/"),
        image if isinstance(image, str) else "",
        labels if isinstance(labels, dict) else {},
    )


def _learn(recording: Recording, loaded: Loaded, report: Report, names: Names, asked: Asked) -> None:
    """Take every name of each kind, all at once, so that they sort as before."""
    policy = loaded.policy
    limits, trust = policy.limits, policy.identity.trusted
    users = {container.owner for container in report.snapshot.containers}
    users |= {str(kept.answer) for question, kept in recording.kept.items() if question[0] == "user" and kept.answer}
    users |= {member for group in limits.groups.values() for member in group.members} | set(limits.users)
    users |= {exemption.approved_by for exemption in policy.exemptions}
    users |= {
        name for each in policy.exemptions for one in each.selectors if one.name == "owner" for name in one.values
    }
    users |= {
        name for rule in policy.rules for one in rule.match.selectors if one.name == "owner" for name in one.values
    }
    users |= set(trust.owners)
    users |= {str(one.labels[key]) for one in asked.facts for key in asked.owner_labels if key in one.labels}
    users |= {task.user for each in _on_gpus(recording) for task in each.tasks.values() if task.user}
    telling_apart = {name for name in users if not re.search(r"[*?\[]", name)} - {"", UNKNOWN, "root"}
    for name in sorted(telling_apart):
        names.user(name)
    names.users.learn(())
    names.strangers.learn(())
    names.groups.learn([*limits.groups, limits.default_group])
    names.images.learn(one.image for one in asked.facts if one.image)
    telling = {*telling_apart, names.host, *(one.name for one in asked.facts)}
    names.rules.learn(rule.id for rule in policy.rules if telling.intersection(re.split(r"[_-]", rule.id)))
    names.call({one.name: _ending(one.name, policy.identity.owners, names) for one in asked.facts})
    pids = {int(question[1]) for question in recording.kept if question[0] == "uid"}
    pids |= {pid for each in _on_gpus(recording) for pid in each.tasks}
    for pid in sorted(pids):
        names.pid(pid)


def _on_gpus(recording: Recording) -> list[OnGpus]:
    return [kept.answer for question, kept in recording.kept.items() if question[0] == "tasks" and kept.answer]


def _ending(name: str, matchers: tuple[OwnerMatcher, ...], names: Names) -> str:
    """Say at the end of a replaced name what the owners' patterns found in the name before."""
    ending = ""
    for number, matcher in enumerate(matchers):
        found = re.search(matcher.pattern, name) if matcher.via == "name" else None
        groups = found.groupdict() if found else {}
        if groups.get("user"):
            ending += f".o{number}.{names.user(groups['user'])}"
        elif groups.get("uid"):
            ending += f".u{number}.{groups['uid']}"
    return ending


def skeleton(evaluation: Evaluation, plan: Plan, names: Names | None = None) -> list[Any]:
    """Give what was decided, without a word: it must not change with the names. `names` None: replaced already."""
    mark, rule = (str, str) if names is None else (names.marks, lambda name: names.rules.known.get(name, name))
    verdicts = [
        [mark(one.container.id), rule(one.rule), one.kind, one.beneath, one.for_, one.due_at, one.evidence and [
            (piece.reading.signal, piece.reading.window, piece.reading.low, piece.reading.high, piece.truth,
             piece.reading.missing) for piece in one.evidence]]
        for one in evaluation.verdicts
    ]  # fmt: skip
    plans = [
        [
            mark(one.container.id),
            rule(one.verdict.rule),
            one.actions,
            one.mode,
            one.disposition,
            one.held_by,
            one.act_at,
        ]
        for one in plan.decisions
    ]
    return [evaluation.demand, verdicts, plans]

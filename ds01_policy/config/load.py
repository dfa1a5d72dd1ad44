"""Loads and checks every policy file: one Policy, or everything that is wrong with the files, all at once.

Owns the order of the steps. Reads no environment and no clock; asks about Unix groups through a function it is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ds01_policy.config import groups, names, templates
from ds01_policy.config.exemptions_file import ExemptionsFile, exemption
from ds01_policy.config.files import KINDS, Tree, find_directory, shipped
from ds01_policy.config.identity_file import IdentityFile
from ds01_policy.config.identity_file import convert as identity
from ds01_policy.config.kept import kept_of
from ds01_policy.config.limits_file import LimitsFile, missing_default_group, unknown_limits
from ds01_policy.config.limits_file import convert as limits
from ds01_policy.config.loaded import Loaded
from ds01_policy.config.problems import Finding, PolicyError, in_order
from ds01_policy.config.rules_file import RulesFile, rule
from ds01_policy.config.settings_file import SettingsFile, settings
from ds01_policy.config.shape import validate
from ds01_policy.config.signals_file import SignalsFile
from ds01_policy.config.signals_file import converted as signals_of
from ds01_policy.config.yaml_strict import Document, parse
from ds01_policy.policy import Policy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime
    from pathlib import Path

    from ds01_policy.config.groups import UnixGroup

__all__ = ["PolicyError", "find_directory", "findings", "load", "load_whole"]


def load(directory: Path | None, *, unix_group: UnixGroup) -> Policy:
    """Load the files of a directory, with the shipped ones for those it leaves out. None: only the shipped ones.

    `unix_group` gives the members of a Unix group by name, None if there is no such group.

    Raises:
        PolicyError: with every finding, in order of place.

    """
    return load_whole(directory, unix_group=unix_group).policy


def findings(
    directory: Path | None,
    at: datetime,
    *,
    unix_group: UnixGroup,
    live: Callable[[Loaded], Iterable[Finding]] | None = None,
) -> tuple[Finding, ...]:
    """Load the files and say what is allowed and most likely not meant, but for what a comment there silences.

    `at` says which exemptions have expired. Tests of rules are read too. `live` asks this host for more.

    Raises:
        PolicyError: as `load`.

    """
    from ds01_policy.config.advice import advice  # no other command than check looks for it
    from ds01_policy.config.silences import silenced

    loaded = load_whole(directory, unix_group=unix_group)
    found = [*advice(loaded, at), *(live(loaded) if live is not None else ())]
    return in_order(silenced(found, loaded.tree.texts, live=live is not None)[0])


def load_whole(directory: Path | None, *, unix_group: UnixGroup) -> Loaded:
    """Load the files as `load` does, and keep what they were read from.

    Raises:
        PolicyError: as `load`.

    """
    if directory is not None and not directory.is_dir():
        raise PolicyError([Finding("no_directory", str(directory), 0, 0, "no such directory")])
    kept = kept_of(directory)
    unix_group = unix_group if kept is None else kept.unix_group
    tree = Tree(directory, recorded=kept is not None)
    documents = {kind: _document(tree, f"{kind}.yaml") for kind in KINDS}
    _fill(tree, documents["identity"], "identity.yaml", ())
    _fill(tree, documents["signals"], "signals.yaml", ("signals",))
    folders = _folders(documents["settings"])
    files = list(tree.rule_files(folders))
    rules = tuple(parse(file.data, file.shown) for file in files)
    known = names.gather(documents, rules)

    settings_file = validate(documents["settings"], SettingsFile, known)
    signals_file = validate(documents["signals"], SignalsFile, known)
    limits_file = validate(documents["limits"], LimitsFile, known)
    identity_file = validate(documents["identity"], IdentityFile, known)
    exemptions_file = validate(documents["exemptions"], ExemptionsFile, known)
    rules_files = [validate(document, RulesFile, known) for document in rules]

    members = groups.members(documents["limits"], tree, unix_group)
    missing_default_group(documents["limits"])
    limits_asked = names.known_limits(rules)
    if limits_asked is not None:
        unknown_limits(documents["limits"], limits_asked)
    names.duplicate_rules(rules)
    texts, drafts = _templates(tree, documents["signals"])
    tree.misnamed()

    wrong = [*tree.findings]
    for document in (*documents.values(), *rules, *drafts):
        wrong.extend(document.findings)
    if wrong or not (settings_file and signals_file and limits_file and identity_file and exemptions_file):
        raise PolicyError(wrong)
    signals = signals_of(signals_file)
    policy = Policy(
        settings=settings(settings_file, tree.base),
        signals=signals,
        limits=limits(limits_file, members),
        identity=identity(identity_file),
        rules=tuple(
            rule(entry, signals, f"{read.name}:{document.at(('rules', index))[0]}")
            for read, document, file in zip(files, rules, rules_files, strict=True)
            for index, entry in enumerate(file.rules if file else ())
        ),
        exemptions=tuple(exemption(entry) for entry in exemptions_file.exemptions),
        templates=texts,
        digest=kept.digest if kept is not None and kept.kept_as == tree.digest() else tree.digest(),
        directory=str(tree.base),
    )
    return Loaded(policy, documents, rules, tree, tuple(tree.rules_folder(folder)[0] for folder in folders))


def _fill(tree: Tree, document: Document, name: str, within: tuple[str, ...]) -> None:
    """Take from the shipped file what a site's own leaves out: sections of identity.yaml, signals by name.

    Who changes what counts as infrastructure, or adds a signal, does not want to lose how owners are found, or the
    signals that the shipped rules ask.
    """
    own = document.get(*within)
    if name in tree.from_shipped or not isinstance(own, dict) or not own:
        return
    read = tree.fetch_shipped(name)
    other = parse(read.data, read.shown).get(*within) if read else {}
    taken = {key: value for key, value in other.items() if own.get(key) is None}
    own.update(taken)
    if not taken:
        tree.forget(f"shipped/{name}")


def _document(tree: Tree, name: str) -> Document:
    file = tree.fetch(name)
    return parse(file.data, file.shown) if file else Document(name, readable=False)


def _folders(document: Document) -> list[str]:
    """List the folders of rules that the settings name, as far as they can be read; errors are reported elsewhere."""
    named = document.get("rules")
    if isinstance(named, str):
        return [named]
    if isinstance(named, list):
        return [folder for folder in named if isinstance(folder, str)]
    return ["rules"]


def _templates(tree: Tree, signals: Document) -> tuple[dict[str, str], Iterable[Document]]:
    """Read the message templates, and check them and those of the signals."""
    templates.check_signals(signals)
    texts, drafts = {}, []
    for name in templates.MESSAGES:
        file = tree.fetch(f"templates/{name}")
        if file is None:
            continue
        draft = Document(file.shown)
        drafts.append(draft)
        try:
            texts[name] = file.data.decode()
        except UnicodeDecodeError:
            draft.report("encoding", (1, 1), "not UTF-8 text")
            continue
        if file.data != (shipped()[0] / file.name).read_bytes():  # those are tried in the tests; trying costs time
            templates.check_message(texts[name], draft)
    return texts, drafts

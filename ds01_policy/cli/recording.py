"""record: what is asked and told in one look, with the policy it was asked under, kept for a replay.

Owns what is printed, and that nothing is called recorded before a replay has said the same.
"""

from __future__ import annotations

import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from ds01_policy import __version__
from ds01_policy.cli.exits import Exit, fail
from ds01_policy.cli.wiring import live_sources, now, whole_policy_of
from ds01_policy.config.files import digest_of
from ds01_policy.config.kept import FOLDER, INDEX, files_of, folders_of, index, place
from ds01_policy.config.load import load
from ds01_policy.memory import remembered
from ds01_policy.observe.host import unix_group_members
from ds01_policy.observe.recorded import files_of as recorded_files
from ds01_policy.observe.recording import Recorder, RecordingError, replay
from ds01_policy.observe.snapshot import DockerDown
from ds01_policy.report.document import document, dumps
from ds01_policy.span import reach_of
from ds01_policy.tick import look

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ds01_policy.cli.options import Options
    from ds01_policy.config.advice import Loaded
    from ds01_policy.observe.recorded import Recording
    from ds01_policy.policy import Policy
    from ds01_policy.tick import Report

EXPECTED = "expected.json"


def record(options: Options, directory: Path, *, anonymise: bool) -> None:
    """Look once, writing down every answer."""
    unix_groups: dict[str, frozenset[str] | None] = {}

    def noted(name: str) -> frozenset[str] | None:
        unix_groups[name] = unix_group_members(name)
        return unix_groups[name]

    loaded = whole_policy_of(options, noted)
    policy = loaded.policy
    history = remembered(Path(policy.settings.state_dir), reach_of(policy))
    try:
        recorder = Recorder(live_sources(policy), directory)
        at = now()
        report = look(policy, recorder.sources, at, history)
        versions = {"ds01-policy": __version__, "python": platform.python_version()}
        recording = recorder.recording(at, history, versions)
        if anonymise:
            _anonymous(recorder, recording, loaded, report, directory)
        else:
            files = {**recorded_files(recording), **policy_files(loaded, unix_groups)}
            recorder.write({**files, EXPECTED: expected_of(policy, report)})
            if expected_of(*replayed(directory)) != expected_of(policy, report):
                why = f"{directory} is kept, but a replay of it does not say what was found here: see {EXPECTED}"
                fail(Exit.FAILED, [why])
    except RecordingError as error:
        fail(Exit.FAILED, [str(error)])
    except DockerDown as down:
        fail(Exit.NO_DOCKER, [f"Docker could not be observed: {down}", "nothing was recorded"])
    hidden = ", names replaced" if anonymise else ""
    sys.stdout.write(f"{len(report.snapshot.containers)} containers recorded in {directory}{hidden}\n")


def _anonymous(recorder: Recorder, recording: Recording, loaded: Loaded, report: Report, directory: Path) -> None:
    """Write a recording with every name replaced; one that would not decide alike is not left there."""
    from ds01_policy.anonymise import anonymous, skeleton

    files, names = anonymous(recording, loaded, report)
    recorder.write(files)
    policy, again = replayed(directory)
    if skeleton(report.evaluation, report.plan, names) != skeleton(again.evaluation, again.plan):
        for name in files:
            (directory / name).unlink()
        why = "without names something else would be decided here; nothing was recorded: record without --anonymise"
        raise RecordingError(why)
    recorder.write({EXPECTED: expected_of(policy, again)})


def policy_files(loaded: Loaded, unix_groups: Mapping[str, frozenset[str] | None]) -> dict[str, str]:
    """Lay out the policy as a recording keeps it, with what stands beside it."""
    folders = folders_of(loaded.documents["settings"].value)
    files = files_of(loaded.tree.read, folders)
    kept_as = digest_of({name: files[place(name)].encode() for name in loaded.tree.read})
    return {
        **{f"{FOLDER}/{name}": text for name, text in files.items()},
        INDEX: index(loaded.policy.digest, kept_as, unix_groups),
    }


def expected_of(policy: Policy, report: Report) -> str:
    """Write what `preview --json` says, to the byte."""
    found = document("preview", policy.digest, policy.settings.mode, report.snapshot, report.evaluation, report.plan)
    return dumps(found, indented=False)


def replayed(directory: Path) -> tuple[Policy, Report]:
    """Look at a recording under its own policy. Raises RecordingError and DockerDown."""
    policy, again = load(directory / FOLDER, unix_group=unix_group_members), replay(directory)
    return policy, look(policy, again.sources, again.at, again.history)

"""Makes a host agree with this version: a first install, an upgrade and a repair are the same steps.

Owns the order of the files: what is refused is refused before anything is touched. units_up.py follows, with systemd.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ds01_policy.config.files import shipped, shipped_deploy
from ds01_policy.config.load import PolicyError, load
from ds01_policy.config.shipped import SCHEMA_FOLDER, contents, copy_out
from ds01_policy.install.differences import AS_IT_SHOULD_BE, Do, Kind, Step, steps
from ds01_policy.install.layout import POLICY, UNITS, File, Shipped, Wanted, wanted
from ds01_policy.install.site import SCHEMA, differences
from ds01_policy.install.systemd import names
from ds01_policy.install.unit_text import Unwritable
from ds01_policy.observe.host import unix_group_members
from ds01_policy.policy import Settings
from ds01_policy.text import plain

if TYPE_CHECKING:
    from pathlib import Path, PurePath

    from ds01_policy.install.hands import Hands
    from ds01_policy.install.program import Program

# Says one thing that was done, kept or is to be known: a verb, and what it was done to.
Say = Callable[[str, str], None]


_OPENED = {
    "ProtectHome=read-only": "see /home and /root, read-only",
    "PrivateTmp=no": "share /tmp with everybody (better move what lies there)",
}


class Refused(Exception):
    """Nothing was done, and why. The lines are for the admin."""

    def __init__(self, lines: list[str]) -> None:
        """Take the lines."""
        super().__init__("\n".join(lines))
        self.lines = lines


@dataclass(frozen=True, slots=True)
class Agreed:
    """What came of the files."""

    settings: Settings | None  # None: the site's policy has errors
    errors: tuple[str, ...]
    touched: frozenset[str]  # units of which a file was written or removed


def shipped_host() -> Shipped:
    """Read the units and the log rotation that ship."""
    deploy = shipped_deploy()
    paths = [path for path in sorted((deploy / "systemd").iterdir()) if _is_unit(path)]
    units = {path.name: path.read_text(encoding="utf-8") for path in paths}
    return Shipped(units, (deploy / "logrotate" / "ds01-policy").read_text(encoding="utf-8"))


def _is_unit(path: Path) -> bool:
    return path.suffix in (".service", ".timer", ".path") and path.is_file()


def put_files(program: Program, hands: Hands, say: Say) -> Agreed:
    """Put every file, folder and link in its place.

    Raises:
        Refused: when something of somebody else's stands in the way, or no unit can name the program.
        OSError: when something cannot be read or written; running it again goes on from there.

    """
    site = hands.path(POLICY)
    first = _is_new(site)
    settings, errors = settings_of(None if first else site)
    try:
        laid = wanted(shipped_host(), program.script, program.code, settings)
    except Unwritable as error:
        raise Refused([str(error)]) from error
    todo = steps(laid, hands.look, owner=hands.owner)
    if refused := [f"{step.path}: {step.why}" for step in todo if step.do is Do.REFUSE]:
        raise Refused(refused)
    _policy(hands, site, say, first=first)
    for step in todo:
        hands.do(step)
        say(step.do.value, _line(step))
    for line in laid.notes:
        say("note", line)
    for line in unusual(laid):
        say("note", line)
    touched = {unit for step in todo if step.do in (Do.WRITE, Do.REMOVE) if (unit := unit_of(step.path))}
    return Agreed(settings, errors, frozenset(touched))


def unit_of(path: PurePath) -> str:
    """Name the unit that a file belongs to; empty: none."""
    if path.parent == UNITS:
        return path.name
    return path.parent.name.removesuffix(".d") if path.parent.parent == UNITS else ""


def settings_of(site: Path | None) -> tuple[Settings | None, tuple[str, ...]]:
    """Read the settings that hold for a policy folder (None: what ships), or every error in its files."""
    try:
        return load(site, unix_group=unix_group_members).settings, ()
    except PolicyError as error:
        return None, tuple(str(finding) for finding in error.findings)


def unusual(laid: Wanted) -> list[str]:
    """Say what the drop-ins open that the units close."""
    why = "as the program, or a path in settings.yaml, lies there"
    lines = []
    for setting, what in _OPENED.items():
        units = [unit_of(file.path) for file in laid.files if setting in file.content.decode().splitlines()]
        if units:
            lines.append(f"{names(units)}: {what}, {why}")
    return lines


def _is_new(site: Path) -> bool:
    """Whether there is no policy yet: no folder, or an empty one."""
    if site.is_symlink() and not site.exists():
        return False  # a mount that is missing; not ours to fill
    return not site.exists() or (site.is_dir() and not any(site.iterdir()))


def _policy(hands: Hands, site: Path, say: Say, *, first: bool) -> None:
    if first:
        if not site.is_symlink():
            hands.put_folder(POLICY, copy_out)
        elif not hands.says_would:
            copy_out(site)
        say("copy", f"the shipped policy, mode observe, to {POLICY}")
        return
    say("keep", f"{POLICY}: every policy file is the site's")
    ships, own = contents(), _own(site)
    config, rules = shipped()
    for difference in differences(ships, own):
        name = difference.name
        place = rules / name.removeprefix("rules/") if name.startswith("rules/") else config / name
        say("note", f"{POLICY / name}: {difference.what} ({place})")
    folder = POLICY / SCHEMA_FOLDER
    if hands.look(POLICY).kind is not Kind.FOLDER or hands.look(folder).kind not in (Kind.ABSENT, Kind.FOLDER):
        say("note", f"{folder} was not written: it, or {POLICY}, is a link")
        return
    for name, data in ships.items():
        if not name.startswith(SCHEMA):
            continue
        stands = hands.look(POLICY / name)
        if stands.kind is Kind.FILE and stands.content == data:
            continue
        if stands.kind not in (Kind.FILE, Kind.ABSENT):
            say("note", f"{POLICY / name} was not written: {stands.kind} is there")
            continue
        file = File(POLICY / name, data)
        hands.do(Step(Do.WRITE, file.path, "", file.content, file.mode))
        say("write", f"{file.path}, for editors")


def _own(site: Path) -> dict[str, bytes]:
    """Read the site's files, as far as they are of the kinds that ship."""
    found = {}
    for path in sorted(site.rglob("*")):
        if path.is_file() and path.suffix in (".yaml", ".j2", ".members", ".json"):
            found[path.relative_to(site).as_posix()] = path.read_bytes()
    return found


def _line(step: Step) -> str:
    why = "" if step.why == AS_IT_SHOULD_BE else f": {step.why}"
    return f"{plain(str(step.path), 300)}{why}"

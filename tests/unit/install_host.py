"""A host to install on: a folder for its root, and a `systemctl` that remembers, records, fails or hangs."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path

import pytest
from cli_host import Ran, run

from ds01_policy.cli import installing
from ds01_policy.config import shipped
from ds01_policy.config.schema import schema_text
from ds01_policy.install.hands import Hands, Idle
from ds01_policy.install.layout import SERVICE, UNITS
from ds01_policy.install.leave import take_away
from ds01_policy.install.program import Program
from ds01_policy.install.reload import Danger, Judgement

PROGRAM = Program(Path("/opt/ds01-policy/bin/ds01-policy"), (Path("/opt/ds01-policy"), Path("/usr/lib/python3.11")))

# Units are files in $STATE: UNIT.enabled, UNIT.active (its content is the state), UNIT.since, UNIT.loaded, UNIT.stale;
# what is to go wrong is a file fail-VERB or hang-VERB. A unit is stale, too, when its file is younger
# than its .loaded, which holds the drop-ins it was loaded with: as in systemd 252 one more of those is not noticed.
_SYSTEMCTL = """#!/bin/sh
units="$ROOT/etc/systemd/system"
words=; reload=yes
for word; do
  case "$word" in
    --no-reload) reload=no;;
    --*) ;;
    *) words="$words $word";;
  esac
done
set -- $words
verb="$1"; shift
echo "$verb$([ $reload = no ] && echo ' (no reload)')${*:+ }$*" >> "$STATE/calls"
[ -e "$STATE/fail-$verb" ] && { cat "$STATE/fail-$verb" >&2; exit 1; }
[ -e "$STATE/hang-$verb" ] && exec sleep 60
drop_ins() { for each in "$units/$1.d"/*.conf; do [ -e "$each" ] && printf '%s ' "/${each#"$ROOT"/}"; done; }
load() { [ -e "$STATE/$1.loaded" ] || drop_ins "$1" > "$STATE/$1.loaded"; }
stale() {
  [ -e "$STATE/$1.loaded" ] || return 1
  [ -e "$STATE/$1.stale" ] || [ "$units/$1" -nt "$STATE/$1.loaded" ]
}
case "$verb" in
  list-units) for one in "$STATE"/*.loaded; do
      [ -e "$one" ] && echo "$(basename "$one" .loaded) loaded active x"; done;;
  show) for one; do
      echo "Id=$one"; echo "LoadState=$([ -e "$units/$one" ] && echo loaded || echo not-found)"
      echo "UnitFileState=of long ago"
      echo "ActiveState=$([ -e "$STATE/$one.active" ] && cat "$STATE/$one.active" || echo inactive)"
      echo "NeedDaemonReload=$(stale "$one" && echo yes || echo no)"
      echo "DropInPaths=$([ -e "$STATE/$one.loaded" ] && cat "$STATE/$one.loaded" || drop_ins "$one")"
      echo "ExecMainStartTimestampMonotonic=$(cat "$STATE/$one.since" 2>/dev/null || echo 0)"; echo; done;;
  is-enabled) [ -e "$STATE/$1.enabled" ] && echo enabled || { echo disabled; exit 1; };;
  enable) for one; do [ -e "$units/$one" ] || exit 1; : > "$STATE/$one.enabled"; done;;
  disable) for one; do rm -f "$STATE/$one.enabled"; done;;
  start) for one; do [ -e "$units/$one" ] || exit 5; load "$one"; echo active > "$STATE/$one.active"; done;;
  stop) for one; do rm -f "$STATE/$one.active" "$STATE/$one.since"; done;;
  daemon-reload) rm -f "$STATE"/*.stale
      for one in "$STATE"/*.loaded; do [ -e "$one" ] && drop_ins "$(basename "$one" .loaded)" > "$one"; done;;
esac
exit 0
"""


@dataclass(frozen=True)
class InstallHost:
    """One host, booted with that systemd."""

    root: Path
    state: Path

    def install(self, *options: str) -> Ran:
        """Run `install` on it."""
        return run("install", *options)

    def uninstall(self, *options: str) -> Ran:
        """Run `uninstall` on it."""
        return run("uninstall", *options)

    def at(self, path: object) -> Path:
        """Give the real place of one of its paths."""
        return self.root / str(path).lstrip("/")

    def unit(self, name: str = SERVICE) -> Path:
        """Give the place of a unit."""
        return self.at(UNITS / name)

    def put(self, name: str, content: str = "") -> None:
        """Write a file of systemd's state: see above."""
        (self.state / name).write_text(content)

    def calls(self, *, asked: bool = False) -> list[str]:
        """List what systemd was told since the last time; `asked`: also what it was asked."""
        path = self.state / "calls"
        lines = path.read_text().splitlines() if path.exists() else []
        path.unlink(missing_ok=True)
        return [line for line in lines if asked or not line.startswith(("show", "is-enabled", "list-units"))]


_schema_text = cache(schema_text)  # takes a second, and is the same each time


def put_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InstallHost:
    """Let the commands see this host, as root, with nothing running that a reload would harm."""
    root, state, programs = tmp_path / "root", tmp_path / "systemd", tmp_path / "bin"
    for folder in (root, state, programs):
        folder.mkdir()
    (programs / "systemctl").write_text(_SYSTEMCTL)
    (programs / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("ROOT", str(root))
    monkeypatch.setenv("STATE", str(state))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(Hands, "owner", property(lambda _: os.getuid()))
    monkeypatch.setattr(installing.Asked, "hands", lambda asked: (Idle if asked.dry_run else Hands)(root))
    monkeypatch.setattr(installing, "booted", lambda: True)
    monkeypatch.setattr(installing, "open_to_others", lambda _: [])
    monkeypatch.setattr(installing, "_LOCK", tmp_path / "lock")
    monkeypatch.setattr(installing, "reload_facts", lambda *_: None)
    monkeypatch.setattr(installing, "take_away", partial(take_away, wait=lambda _: None))
    monkeypatch.setattr(installing, "running", lambda: PROGRAM)
    monkeypatch.setattr(shipped, "schema_text", _schema_text)
    harmless(monkeypatch)
    return InstallHost(root, state)


def harmless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a reload harm nobody."""
    monkeypatch.setattr(installing, "judge", lambda _: Judgement(Danger.NONE, "no GPU container runs"))


def harmful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a reload take the GPUs of two containers away."""
    judgement = Judgement(Danger.WOULD, "systemd does not know them", ("train", "mnist"))
    monkeypatch.setattr(installing, "judge", lambda _: judgement)

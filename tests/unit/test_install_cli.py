"""`install` and `uninstall` on a made-up host: first, again, interrupted, after an upgrade, and when systemd fails."""

from __future__ import annotations

import os
import stat
import time
from datetime import timedelta
from functools import partial
from pathlib import Path

import pytest
from cli_host import REPOSITORY, files_below, run
from install_host import InstallHost, harmful, put_up

from ds01_policy.cli import installing
from ds01_policy.config import shipped as shipped_files
from ds01_policy.install import agree, hands, leave, systemd
from ds01_policy.install.agree import shipped_host
from ds01_policy.install.layout import (
    DROP_IN,
    LINK,
    LOGROTATE,
    MARK,
    POLICY,
    SERVICE,
    STATE,
    TIMER,
    UNITS,
    WATCH,
    Shipped,
)
from ds01_policy.install.leave import take_away
from ds01_policy.lock import RunLock

UP = [name for name in (TIMER, WATCH, "ds01-policy-reset.path") if name in shipped_host().units]
ON = " ".join(UP)


class Killed(BaseException):
    """As by SIGKILL: nobody tidies up."""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> InstallHost:
    """Give a host on which nothing is installed."""
    return put_up(tmp_path, monkeypatch)


def times(folder: Path) -> dict[str, int]:
    """Tell when each thing was last changed: content, mode, owner or name."""
    return {str(path): path.lstat().st_ctime_ns for path in sorted(folder.rglob("*"))}


# ── first ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_first_install(host: InstallHost) -> None:
    """Files, policy in observe, private state, link; enabled and started without loading anything anew."""
    ran = host.install()
    assert (ran.code, ran.stderr) == (0, "")
    assert {path.name for path in host.at(UNITS).iterdir()} >= set(shipped_host().units)
    assert host.unit().read_bytes().startswith(MARK)
    assert host.at(LOGROTATE).read_bytes().startswith(MARK)
    assert stat.S_IMODE(host.at(STATE).stat().st_mode) == 0o700
    assert stat.S_IMODE(host.unit().stat().st_mode) == 0o644
    assert str(host.at(LINK).readlink()).endswith("/bin/ds01-policy")
    policy = host.at(POLICY)
    written = {path.relative_to(policy).as_posix(): path.read_bytes() for path in policy.rglob("*") if path.is_file()}
    assert written == shipped_files.contents()
    assert "\nmode: observe\n" in (policy / "settings.yaml").read_text()
    assert host.calls() == [f"enable (no reload) {ON}", f"start {ON}"]
    for words in ("copied", "prometheus.url", "doctor", "selftest", "preview"):
        assert words in ran.stdout
    assert not list(host.root.rglob("*~"))


def test_an_empty_policy_folder_is_filled(host: InstallHost) -> None:
    """As when it was made for a mount or by a package."""
    host.at(POLICY).mkdir(parents=True)
    assert host.install().code == 0
    assert (host.at(POLICY) / "rules" / "idle-gpu.yaml").is_file()


def test_again_changes_nothing(host: InstallHost) -> None:
    """Not one file, time or mode; and systemd is asked, never told."""
    host.install()
    before = times(host.root)
    host.calls()
    ran = host.install()
    assert (ran.code, ran.stderr) == (0, "")
    assert times(host.root) == before
    assert host.calls() == []
    assert f"kept      {', '.join(UP)}: enabled and running" in ran.stdout
    verbs = {line.split()[0] for line in ran.stdout.partition("\n\n")[0].splitlines()}
    assert verbs == {"kept"}


def test_what_is_missing_is_put_back(host: InstallHost) -> None:
    """A repair is an install."""
    host.install()
    host.unit().unlink()
    host.at(LINK).unlink()
    host.at(STATE).chmod(0o755)
    (host.state / f"{TIMER}.enabled").unlink()
    (host.state / f"{WATCH}.active").unlink()
    host.calls()
    assert host.install().code == 0
    assert host.unit().is_file()
    assert host.at(LINK).is_symlink()
    assert stat.S_IMODE(host.at(STATE).stat().st_mode) == 0o700
    assert host.calls() == [f"enable (no reload) {TIMER}", f"start {WATCH}"]


@pytest.mark.parametrize("steps_done", [0, 1, 2, 3, 5])
def test_interrupted_and_run_again(steps_done: int, host: InstallHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wherever it is killed, nothing half-written stands there, and the next run ends as one that was not."""
    left, really = [steps_done], Path.replace

    def replace(self: Path, target: Path) -> Path:
        if left[0] == 0:
            raise Killed
        left[0] -= 1
        return really(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", replace)
        patched.setattr(Path, "rename", replace)
        with pytest.raises(Killed):
            host.install()
    ships = {f"{POLICY}/{name}": data for name, data in shipped_files.contents().items()}
    for path in host.root.rglob("*"):
        name = f"/{path.relative_to(host.root).as_posix()}"
        if path.is_file() and "~" not in name and not path.is_symlink():
            assert path.read_bytes() == ships.get(name, path.read_bytes())
            assert name in ships or path.read_bytes().startswith(MARK)
    assert not host.at(POLICY).exists() or len(list(host.at(POLICY).rglob("*.yaml"))) > 5
    assert host.install().code == 0
    assert not list(host.root.rglob("*~"))
    assert host.install().stdout.count("wrote") == 0


@pytest.mark.parametrize("ending", [Killed(), OSError(28, "No space left on device")], ids=["killed", "full"])
def test_a_policy_is_there_whole_or_not_at_all(
    ending: BaseException, host: InstallHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of one would be a site's own to the next run, and the rules that lack would be lacking for ever."""

    def copy_out(folder: Path) -> None:
        (folder / "rules").mkdir()
        (folder / "rules" / "idle-gpu.yaml").write_text("version: 1\n")
        raise ending

    with monkeypatch.context() as patched:
        patched.setattr(agree, "copy_out", copy_out)
        if isinstance(ending, OSError):
            assert host.install().code == 1
            assert not list(host.root.rglob("*~"))
        else:
            with pytest.raises(Killed):
                host.install()
    assert not host.at(POLICY).exists()
    assert host.install().code == 0
    assert len(list((host.at(POLICY) / "rules").glob("*.yaml"))) > 1
    assert not list(host.root.rglob("*~"))


# ── a site's own files ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_sites_policy_stays_byte_by_byte(host: InstallHost) -> None:
    """Nothing is overwritten, no rule is added; what differs is told with the place of what ships."""
    site = host.at(POLICY)
    (site / "rules").mkdir(parents=True)
    (site / "settings.yaml").write_bytes(b"version: 1\nmode: enforce # ours\n")
    (site / "rules" / "idle-gpu.yaml").write_bytes((REPOSITORY / "rules" / "idle-gpu.yaml").read_bytes() + b"# ours\n")
    (site / "notes.txt").write_bytes(b"\xff\x00")
    before = files_below(site)
    ran = host.install()
    assert (ran.code, ran.stderr) == (0, "")
    after = files_below(site)
    assert {path: after[path] for path in before} == before
    assert {Path(path).parent.name for path in after.keys() - before.keys()} <= {"schema", site.name}
    told = {line.split()[1]: line for line in ran.stdout.splitlines() if line.startswith("note")}
    assert f"({REPOSITORY}/config/settings.yaml)" in told[f"{POLICY}/settings.yaml:"]
    assert "it was not added, and does not hold" in told[f"{POLICY}/rules/max-runtime.yaml:"]
    assert f"{POLICY}/rules/idle-gpu.yaml:" in told
    assert "prometheus.url" in ran.stdout


def test_schemas_are_refreshed(host: InstallHost) -> None:
    """The first line of the site's files names them."""
    host.install()
    schema = host.at(POLICY) / "schema" / "rules.json"
    schema.write_text("{}")
    assert "wrote     /etc/ds01-policy/schema/rules.json, for editors" in host.install().stdout
    assert schema.read_bytes() == shipped_files.contents()["schema/rules.json"]


@pytest.mark.parametrize(
    "linked", ["schema", "schema/rules.json", ""], ids=["the folder", "a file", "the policy itself"]
)
def test_nothing_is_written_through_a_link(linked: str, host: InstallHost, tmp_path: Path) -> None:
    """Whoever linked it elsewhere wants it so."""
    host.install()
    path, elsewhere = host.at(POLICY) / linked, tmp_path / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)
    for file in [elsewhere] if elsewhere.is_file() else sorted(elsewhere.rglob("*.json")):
        file.write_text("{}")
    before = files_below(elsewhere) if elsewhere.is_dir() else {"": elsewhere.read_bytes()}
    ran = host.install()
    assert ran.code == 0
    assert (files_below(elsewhere) if elsewhere.is_dir() else {"": elsewhere.read_bytes()}) == before
    assert "was not written" in ran.stdout


def test_a_policy_with_errors_starts_nothing(host: InstallHost) -> None:
    """Every error with its place, exit 1; what runs goes on, and its drop-ins and state stay as they are."""
    host.install()
    drop_in = host.unit(f"{SERVICE}.d/{DROP_IN}")
    drop_in.parent.mkdir()
    drop_in.write_bytes(MARK + b"\nkept\n")
    (host.at(POLICY) / "settings.yaml").write_text("version: 1\nmoed: enforce\n")
    (host.state / f"{TIMER}.active").unlink()
    host.calls()
    ran = host.install()
    assert ran.code == 1
    assert "settings.yaml:2:1" in ran.stderr
    assert "nothing was started, what runs goes on as it was" in ran.stderr
    assert host.calls() == []
    assert drop_in.read_bytes() == MARK + b"\nkept\n"
    assert host.at(LOGROTATE).exists()


def test_a_unit_of_somebody_else_is_refused_before_anything_is_touched(host: InstallHost) -> None:
    """An admin's own timer of that name: named, exit 1, and nothing at all is done."""
    host.at(UNITS).mkdir(parents=True)
    host.unit(TIMER).write_text("[Timer]\nOnCalendar=hourly\n")
    before = files_below(host.root)
    ran = host.install()
    assert (ran.code, ran.stdout) == (1, "")
    assert f"{UNITS / TIMER}: a file of somebody else's is there" in ran.stderr
    assert ran.stderr.splitlines()[-1] == "nothing was done"
    assert files_below(host.root) == before
    assert host.calls() == []


# ── settings that the units follow ───────────────────────────────────────────────────────────────────────────────────


def configure(host: InstallHost, text: str) -> None:
    (host.at(POLICY) / "settings.yaml").write_text(f"version: 1\n{text}\n")


def test_drop_ins_come_and_go_with_settings(host: InstallHost) -> None:
    """A metrics file elsewhere, another interval; and back. Each time systemd is told, as units that run changed."""
    host.install()
    service, timer = (host.unit(f"{name}.d/{DROP_IN}") for name in (SERVICE, TIMER))
    host.put(f"{SERVICE}.loaded")
    configure(host, "metrics_file: /srv/100% metrics/ds01.prom\nlocal_samples: {interval: 2m}")
    host.calls()
    ran = host.install()
    assert ran.code == 0
    assert 'ReadWritePaths="-/srv/100%% metrics"\n' in service.read_text()
    assert "OnCalendar=*-*-* *:00/2:00\n" in timer.read_text()
    assert host.calls() == ["daemon-reload"]
    assert f"as {SERVICE}, {TIMER} changed: no GPU container runs" in ran.stdout
    configure(host, "mode: observe")
    ran = host.install()
    assert not service.parent.exists()
    assert not timer.parent.exists()
    assert host.calls() == ["daemon-reload"]
    assert f"removed   {UNITS / SERVICE}.d/{DROP_IN}: settings.yaml no longer asks for it" in ran.stdout


def test_an_admins_own_drop_in_stays(host: InstallHost) -> None:
    """Beside ours, and when ours goes."""
    host.install()
    configure(host, "metrics_file: /srv/m/x.prom")
    host.install()
    own = host.unit(f"{SERVICE}.d/override.conf")
    own.write_text("[Service]\nNice=10\n")
    configure(host, "mode: observe")
    host.install()
    assert [path.name for path in own.parent.iterdir()] == ["override.conf"]


def test_resets_that_are_switched_off(host: InstallHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """The unit that waits for them is neither enabled nor running."""
    path = "ds01-policy-reset.path"
    units = {**shipped_host().units, path: "[Path]\nPathExists=/run/x\n"}
    both = Shipped(units, shipped_host().logrotate)
    for module in (installing, agree):
        monkeypatch.setattr(module, "shipped_host", lambda: both)
    host.install()
    assert (host.state / f"{path}.active").exists()
    configure(host, "epilog: {reset: never}")
    host.calls()
    assert host.install().code == 0
    assert host.calls() == [f"disable (no reload) {path}", f"stop {path}"]


# ── loading units anew ───────────────────────────────────────────────────────────────────────────────────────────────


def changed(host: InstallHost, name: str = WATCH) -> None:
    """Let an older version's unit stand there, and run."""
    host.install()
    old = host.unit(name)
    old.write_bytes(MARK + b"\n[Unit]\nDescription=older\n")
    host.put(f"{name}.stale")
    host.calls()


def test_an_upgrade_that_harms_nobody(host: InstallHost) -> None:
    """Units are loaded anew, and the watch that ran under the old one is restarted; the tick is left alone."""
    changed(host)
    host.put(f"{WATCH}.since", "1")
    ran = host.install()
    assert (ran.code, ran.stderr) == (0, "")
    assert host.calls() == ["daemon-reload", f"try-restart {WATCH}"]


def test_an_upgrade_that_would_cut_gpus_off(host: InstallHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not done: whom, why, and both ways on; the files are in place, and `--reload` does it."""
    changed(host)
    harmful(monkeypatch)
    ran = host.install()
    assert ran.code == 1
    assert "daemon-reload" not in host.calls()
    assert "train, mnist" in ran.stderr
    assert "sudo ds01-policy install --reload" in ran.stderr
    assert b"Description=older" not in host.unit(WATCH).read_bytes()
    assert host.install().code == 1, "until it was done, it is said each time"
    forced = host.install("--reload")
    assert forced.code == 0
    assert "daemon-reload" in host.calls()
    assert "these may have lost their GPUs, and must then be restarted: train, mnist" in forced.stdout


def test_what_does_not_run_yet_starts_all_the_same(host: InstallHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reload that must wait keeps no unit down that systemd has not read."""
    changed(host)
    (host.state / f"{TIMER}.active").unlink()
    harmful(monkeypatch)
    assert host.install().code == 1
    assert host.calls() == [f"start {TIMER}"]


def test_a_first_install_never_asks_for_a_reload(host: InstallHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where it would harm: there is nothing to load anew."""
    harmful(monkeypatch)
    ran = host.install()
    assert (ran.code, ran.stderr) == (0, "")


def test_a_new_drop_in_of_a_unit_that_runs(host: InstallHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some versions of systemd do not notice one whose folder is new: what it has loaded is compared, each time."""
    host.install()
    host.put(f"{SERVICE}.loaded")
    configure(host, "metrics_file: /srv/m/x.prom")
    harmful(monkeypatch)
    ran = host.install()
    assert ran.code == 1
    assert ran.stderr.startswith(f"{SERVICE} changed")
    assert host.install().code == 1
    assert host.install("--reload").code == 0
    assert "daemon-reload" in host.calls()
    assert host.install().code == 0


@pytest.mark.parametrize(("since", "restarts"), [("1", True), ("999999999999999", False)], ids=["older", "newer"])
def test_a_watch_is_restarted_when_the_program_is_newer(since: str, restarts: bool, host: InstallHost) -> None:  # noqa: FBT001
    """It runs what it has loaded; one that began after the upgrade stays."""
    host.install()
    host.calls()
    host.put(f"{WATCH}.since", since)
    host.install()
    assert (host.calls() == [f"try-restart {WATCH}"]) is restarts


# ── systemd fails ────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("verb", ["show", "is-enabled", "enable", "start", "daemon-reload", "try-restart"])
@pytest.mark.parametrize("how", ["fail", "hang"])
def test_systemd_that_does_not_do_it(verb: str, how: str, host: InstallHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """In its own words or after its timeout; exit 1, and the next run goes on from there."""
    for name in ("_ASK", "_ACT"):
        monkeypatch.setattr(systemd, name, timedelta(seconds=3))  # a busy machine takes half a second for an answer
    monkeypatch.setattr(installing, "written_at", time.time)  # files may be older than this machine's boot
    if verb in ("daemon-reload", "try-restart"):
        changed(host)
        host.put(f"{WATCH}.since", "1")
    host.put(f"{how}-{verb}", "Failed to connect to bus: \x1b[2J gone")
    ran = host.install()
    if (verb, how) == ("is-enabled", "fail"):  # as where the answer is no
        assert ran.code == 0
        return
    assert ran.code == 1
    words = "failed: Failed to connect to bus: \\x1b[2J gone" if how == "fail" else "did not answer within"
    assert words in ran.stderr
    assert verb in ran.stderr.splitlines()[0]
    (host.state / f"{how}-{verb}").unlink()
    assert host.install().code == 0


def test_no_systemd(host: InstallHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files only, and it says so."""
    monkeypatch.setattr(installing, "booted", lambda: False)
    ran = host.install()
    assert ran.code == 0
    assert "Nothing was enabled or started, as systemd does not run this host" in ran.stdout
    assert host.calls(asked=True) == []
    assert host.unit().is_file()


def test_no_start(host: InstallHost) -> None:
    """Files only: somebody else shall start it, or nobody for now."""
    ran = host.install("--no-start")
    assert ran.code == 0
    assert "as --no-start says" in ran.stdout
    assert host.calls(asked=True) == []


# ── only looking ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_dry_run_does_nothing(host: InstallHost) -> None:
    """On a bare host, and on one with an older version: what would be done, and systemd is only asked."""
    before = files_below(host.root)
    ran = host.install("--dry-run")
    assert (ran.code, ran.stderr) == (0, "")
    assert files_below(host.root) == before
    for words in (f"would write   {UNITS / SERVICE}: new", f"would enable  {', '.join(UP)}", "Nothing was done."):
        assert words in ran.stdout
    assert host.calls() == []
    changed(host)
    before = files_below(host.root)
    assert "would reload" in host.install("--dry-run").stdout
    assert files_below(host.root) == before
    assert host.calls() == []
    assert "would stop" in host.uninstall("--dry-run").stdout
    assert files_below(host.root) == before
    assert host.calls() == []


# ── who may, and what is refused ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("command", ["install", "uninstall"])
def test_only_root(command: str, host: InstallHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clear word before anything is touched."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    ran = run(command)
    assert (ran.code, ran.stdout) == (1, "")
    assert f"{command} must run as root: `sudo " in ran.stderr
    assert files_below(host.root) == {}


@pytest.mark.parametrize("option", ["--config", "--replay"])
def test_neither_another_policy_nor_a_recording(option: str, host: InstallHost, tmp_path: Path) -> None:
    """The units run under /etc/ds01-policy."""
    ran = run(option, tmp_path, "install")
    assert (ran.code, ran.stdout) == (2, "")
    assert files_below(host.root) == {}


def test_a_program_that_others_may_change(host: InstallHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root would run it: refused, with what is open and what to do."""
    monkeypatch.setattr(installing, "open_to_others", lambda _: ["/home/a/venv belongs to user 1000"])
    ran = host.install()
    assert (ran.code, ran.stdout) == (1, "")
    assert "/home/a/venv belongs to user 1000" in ran.stderr
    assert "sudo make install" in ran.stderr
    assert files_below(host.root) == {}


def test_one_at_a_time(host: InstallHost, tmp_path: Path) -> None:
    """Exit 5, as for a tick."""
    with RunLock(tmp_path / "lock"):
        assert host.install().code == 5
        assert host.uninstall().code == 5
        assert host.install("--dry-run").code == 0
    assert files_below(host.root) == {}


def test_a_file_system_that_is_full(host: InstallHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """In words, exit 1; what stood there stands."""
    changed(host)
    before = host.unit(WATCH).read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device", str(host.unit(WATCH)))

    monkeypatch.setattr(hands, "_written", full)
    ran = host.install()
    assert ran.code == 1
    assert "No space left on device" in ran.stderr
    assert host.unit(WATCH).read_bytes() == before


# ── staging ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_staging_changes_where_and_never_what(tmp_path: Path) -> None:
    """As DESTDIR: below a folder, by anybody, with paths that mean the host."""
    staged = tmp_path / "pkg"
    ran = run("install", "--root", staged)
    assert (ran.code, ran.stderr) == (0, "")
    assert "Staged below" in ran.stdout
    for path in staged.rglob("*"):
        if path.is_file():
            assert str(tmp_path).encode() not in path.read_bytes()
    assert not str((staged / "usr/local/bin/ds01-policy").readlink()).startswith(str(tmp_path))
    before = times(staged)
    assert run("install", "--root", staged).code == 0
    assert times(staged) == before
    assert run("uninstall", "--root", staged).code == 0
    left = {path.relative_to(staged).as_posix() for path in staged.rglob("*") if not path.is_dir()}
    assert all(name.startswith("etc/ds01-policy/") for name in left)


# ── taking it away ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_uninstall(host: InstallHost) -> None:
    """Stopped, disabled, removed; policy and state stay, and nothing is loaded anew for it."""
    host.install()
    configure(host, "metrics_file: /srv/m/x.prom")
    host.install()
    policy = files_below(host.at(POLICY))
    (host.at(STATE) / "ledger.db").write_text("x")
    host.calls()
    ran = host.uninstall()
    assert (ran.code, ran.stderr) == (0, "")
    starters = " ".join(sorted(name for name in shipped_host().units if not name.endswith(".service")))
    calls = host.calls()
    assert calls[:3] == [f"stop {starters}", f"stop {WATCH}", f"disable (no reload) {ON}"]
    assert "daemon-reload" not in calls
    assert list(host.at(UNITS).iterdir()) == []
    assert not host.at(LOGROTATE).exists()
    assert not host.at(LINK).is_symlink()
    assert files_below(host.at(POLICY)) == policy
    assert (host.at(STATE) / "ledger.db").exists()
    assert f"{POLICY} (the policy) and {STATE} (ledger and audit log) stay" in ran.stdout
    again = host.uninstall()
    assert again.code == 0
    assert host.calls(asked=True) == []


def test_uninstall_removes_only_what_it_wrote(host: InstallHost) -> None:
    """Units, drop-ins and files of somebody else's of those names stay, and are named."""
    host.install()
    mine = {
        host.unit("ds01-policy-mine.timer"): "[Timer]\n",
        host.at(LOGROTATE): "/var/log/x {}\n",
        host.unit(f"{SERVICE}.d/override.conf"): "[Service]\n",
    }
    for path, text in mine.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    ran = host.uninstall()
    assert ran.code == 0
    assert {path: path.read_text() for path in mine} == mine
    assert "ds01-policy-mine.timer: a file that `ds01-policy install` did not write" in ran.stdout
    assert "ds01-policy-mine.timer" not in " ".join(host.calls())


def test_uninstall_lets_a_tick_end(host: InstallHost, monkeypatch: pytest.MonkeyPatch) -> None:
    """It waits, stops nothing that is at work, and gives up in words; nothing is removed then."""
    host.install()
    monkeypatch.setattr(leave, "_PATIENCE_S", 2.0)
    host.put(f"{SERVICE}.active", "activating")
    host.calls()
    ran = host.uninstall()
    assert ran.code == 1
    assert f"{SERVICE} is still at work" in ran.stderr
    assert f"stop {SERVICE}" not in " ".join(host.calls())
    assert host.unit().exists()
    waited: list[float] = []

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 3:
            (host.state / f"{SERVICE}.active").unlink()

    monkeypatch.setattr(installing, "take_away", partial(take_away, wait=wait))
    assert host.uninstall().code == 0
    assert len(waited) == 3
    assert not host.unit().exists()


@pytest.mark.parametrize("verb", ["stop", "disable"])
def test_uninstall_when_systemd_fails(verb: str, host: InstallHost) -> None:
    """Nothing is removed under a unit that may still run."""
    host.install()
    host.put(f"fail-{verb}", "Failed to connect to bus")
    ran = host.uninstall()
    assert ran.code == 1
    assert "nothing was removed" in ran.stderr
    assert host.unit().exists()

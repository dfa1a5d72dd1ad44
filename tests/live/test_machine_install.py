"""`install` and `uninstall` on a booted machine: what systemd makes of the files, and when it is told of them."""

from __future__ import annotations

import json

from rig.age_proxy import AgeProxy
from rig.engine import Engine
from rig.machine import PROGRAM, SHARED, Machine

SETTINGS = "/etc/ds01-policy/settings.yaml"
DROP_INS = "/etc/systemd/system/ds01-policy.service.d/50-settings.conf"
METRICS = '/srv/100% "my" metrics'

STRANGE = f"docker-{'ab' * 32}.scope"


def shown(machine: Machine, unit: str, name: str) -> str:
    """Ask systemd for one property of a unit."""
    return machine.do("systemctl", "show", unit, f"--property={name}", "--value")


def reloads(machine: Machine) -> int:
    """Count how often systemd has loaded its units anew since boot."""
    return machine.do("journalctl --sync && journalctl --no-pager --output=cat _PID=1").count("Reloading")


def changed(machine: Machine) -> str:
    """Tell when anything of the installation was last changed."""
    folders = "/etc/systemd/system /etc/ds01-policy /etc/logrotate.d /usr/local/bin"
    return machine.do(f"find {folders} -printf '%p %C@ %m %u\\n' | sort")


def found(machine: Machine) -> dict[str, str]:
    """Run the doctor: status by slug."""
    return {
        one["slug"]: one["status"] for one in json.loads(machine("ds01-policy", "doctor", "--json").out)["findings"]
    }


def test_from_a_bare_machine_and_back(machine: Machine) -> None:
    """Installed, again, and taken away: it runs, nothing changes twice, and systemd never loads its units anew."""
    before = reloads(machine)
    machine.do(PROGRAM, "install")
    for unit in ("ds01-policy.timer", "ds01-policy-watch.service"):
        assert (shown(machine, unit, "ActiveState"), shown(machine, unit, "UnitFileState")) == ("active", "enabled")
        assert shown(machine, unit, "NeedDaemonReload") == "no"
    assert "OnCalendar=*-*-* *:00/5:00" in shown(machine, "ds01-policy.timer", "TimersCalendar")
    told = found(machine)
    assert {told[slug] for slug in ("units", "watch", "timer", "state_dir")} == {"ok"}
    assert "mode: observe" in machine.read(SETTINGS)
    once, began = changed(machine), shown(machine, "ds01-policy-watch.service", "MainPID")
    machine.do("ds01-policy", "install")
    assert changed(machine) == once
    assert shown(machine, "ds01-policy-watch.service", "MainPID") == began
    machine.do("touch /opt/ds01-policy/lib/python3*/site-packages/ds01_policy/__init__.py")
    assert "restarted ds01-policy-watch.service" in machine.do("ds01-policy", "install")
    assert shown(machine, "ds01-policy-watch.service", "MainPID") != began
    machine.do("ds01-policy", "uninstall")
    assert machine.do("systemctl list-units --all --no-legend --plain 'ds01-policy*' | grep -v not-found || true") == ""
    assert machine.do("find /etc/systemd /etc/logrotate.d /usr/local/bin -name '*ds01*'") == ""
    assert machine.do("ls /etc/ds01-policy/settings.yaml; ls -d /var/lib/ds01-policy")
    assert reloads(machine) == before


def test_settings_that_units_follow(machine: Machine) -> None:
    """Hostile paths are read back as they are; units that run are loaded anew only when somebody insists.

    No Docker answers here: GPU containers might run.
    """
    machine.do(PROGRAM, "install")
    text = machine.read(SETTINGS).replace("interval: 5m", "interval: 2m")
    text = text.replace("metrics_file: never", f"metrics_file: {json.dumps(METRICS + '/x.prom')}")
    machine.write(SETTINGS, text.replace("state_dir: /var/lib/ds01-policy", "state_dir: /srv/my state"))
    machine.do("mkdir", "-p", METRICS)
    for _ in range(2):  # said each time, until it was done
        ran = machine("ds01-policy", "install")
        assert ran.rc == 1
        assert "ds01-policy.service" in ran.err.splitlines()[0]
        assert "might take GPUs away" in ran.err
    assert "/srv" not in shown(machine, "ds01-policy.service", "ReadWritePaths")
    assert found(machine)["daemon_reload"] == "bad"
    before = reloads(machine)
    machine.do("ds01-policy", "install", "--reload")
    assert reloads(machine) > before
    as_shown = METRICS.replace('"', r"\"")
    written = shown(machine, "ds01-policy.service", "ReadWritePaths")
    assert written.endswith(f'"-/srv/my state" "-{as_shown}"'), written
    assert "OnCalendar=*-*-* *:00/2:00" in shown(machine, "ds01-policy.timer", "TimersCalendar")
    told = found(machine)
    assert told["units"] == "ok"
    assert not {"daemon_reload", "timer_interval", "unit_settings"} & set(told), told
    machine("systemctl start ds01-policy.service")  # fails, as there is no Docker; where it writes is what counts
    assert "ledger.db" in machine.do("ls", "/srv/my state")
    assert "x.prom" in machine.do("ls", METRICS)
    machine.do("logrotate", "--debug", "/etc/logrotate.d/ds01-policy")


def test_a_docker_that_is_not_this_hosts(machine: Machine, engine: Engine) -> None:
    """It lists none of the containers that systemd runs: whether a reload harms them cannot be told."""
    proxy = AgeProxy(engine.socket, machine.shared / "docker.sock")
    machine.do(PROGRAM, "install")
    text = machine.read(SETTINGS).replace("unix:///var/run/docker.sock", f"unix://{SHARED}/docker.sock")
    machine.write(SETTINGS, text.replace("metrics_file: never", "metrics_file: /srv/m/x.prom"))
    machine.do(f"systemd-run --quiet --scope --unit={STRANGE} sleep 600 >/dev/null 2>&1 &")
    machine.wait(lambda: shown(machine, STRANGE, "ActiveState") == "active", "no scope")
    before = reloads(machine)
    ran = machine("ds01-policy", "install")
    assert ran.rc == 1
    said = " ".join(ran.err.split())
    assert f"systemd runs container {'ab' * 6}, which the Docker at unix://{SHARED}/docker.sock has not" in said
    assert reloads(machine) == before
    machine.do("systemctl", "stop", STRANGE)
    # One that failed stays in systemd's memory, and runs nothing.
    machine(f"systemd-run --quiet --scope --unit={STRANGE} --property=RuntimeMaxSec=1s sleep 600")
    machine.wait(lambda: shown(machine, STRANGE, "ActiveState") == "failed", "it did not fail")
    machine.do("ds01-policy", "install")
    assert reloads(machine) > before
    proxy.close()


def test_a_policy_that_was_there_first(machine: Machine) -> None:
    """A first install reads drop-ins as they stand, without loading anything anew; a repair is seen at once."""
    machine.do(PROGRAM, "init", "/etc/ds01-policy")
    machine.write(SETTINGS, machine.read(SETTINGS).replace("metrics_file: never", "metrics_file: /srv/m/x.prom"))
    before = reloads(machine)
    machine.do(PROGRAM, "install")
    assert shown(machine, "ds01-policy.service", "DropInPaths") == DROP_INS
    assert shown(machine, "ds01-policy.service", "ReadWritePaths").endswith(" -/srv/m")
    machine.do(
        "systemctl --no-reload disable ds01-policy.timer ds01-policy-watch.service; systemctl stop ds01-policy-watch"
    )
    told = found(machine)
    assert (told["timer"], told["watch"]) == ("bad", "bad")
    machine.do("ds01-policy", "install")
    told = found(machine)
    assert (told["timer"], told["watch"]) == ("ok", "ok")
    assert reloads(machine) == before

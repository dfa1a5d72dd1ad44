"""The units under a real systemd: nothing to complain of, and sandboxes that are neither too tight nor too wide."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from rig.cli import REPOSITORY
from rig.machine import PROGRAM, SHARED, Machine

UNITS = REPOSITORY / "deploy" / "systemd"
SANDBOXES = ("ds01-policy.service", "ds01-policy-watch.service")
SERVICES = sorted(path.name for path in UNITS.glob("*.service"))
EXPOSURE = 3.0
# All that systemd finds left open, and why: what a tick needs, or what root cannot be kept from.
OPEN = {
    "RootDirectory=/RootImage=": "it is about this host",
    "User=/DynamicUser=": "whoever may talk to Docker is root",
    "PrivateUsers=": "signals and terminals of other people",
    "PrivateDevices=": "the GPUs",
    "DeviceAllow=": "the GPUs, terminals, the kernel's log",
    "ProtectKernelLogs=": "the driver's errors stand in the kernel's log",
    "CapabilityBoundingSet=~CAP_SYSLOG": "the kernel's log",
    "CapabilityBoundingSet=~CAP_KILL": "what a container has left running",
    "CapabilityBoundingSet=~CAP_SYS_PTRACE": "whose files are open on a GPU",
    "CapabilityBoundingSet=~CAP_(DAC_*|FOWNER|IPC_OWNER)": "other people's files in /proc, and terminals",
    "ProtectProc=": "everybody's processes",
    "ProcSubset=": "the driver, boot time and devices in /proc",
    "MemoryDenyWriteExecute=": "the binding of the driver's library",
    "PrivateNetwork=": "Prometheus, and services for messages",
    "IPAddressDeny=": "they may be anywhere",
    "RestrictAddressFamilies=~AF_(INET|INET6)": "they may be anywhere",
    "RestrictAddressFamilies=~AF_UNIX": "Docker, logind",
}
RIG = Path(__file__).parent / "rig"
# What a driver registers; which of its two names is in use depends on its age.
DEVICES = {"nvidia": 195, "nvidia-frontend": 194, "nvidia-uvm": 510, "nvidia-caps": 511}
NODES = {**{name: (major, 0) for name, major in DEVICES.items()}, "console": (4, 67), "other": (196, 0)}


def installed(machine: Machine) -> Machine:
    """Put the units in place; nothing is started."""
    machine.do(PROGRAM, "install", "--no-start")
    return machine


def test_systemd_has_nothing_to_complain_of(machine: Machine) -> None:
    """Not one warning about any unit; each service is little exposed, and nothing is left open that need not be."""
    installed(machine)
    paths = [f"/etc/systemd/system/{path.name}" for path in sorted(UNITS.iterdir())]
    verified = machine("systemd-analyze", "verify", "--man=no", *paths)
    assert (verified.rc, verified.out + verified.err) == (0, "")
    for name in SERVICES:
        exposed = ("systemd-analyze", "security", "--offline=true", f"/etc/systemd/system/{name}")
        score = re.search(r"Overall exposure level for \S+: (\d+\.\d+)", machine.do(*exposed))
        assert score
        assert float(score[1]) <= EXPOSURE, f"{name} is exposed by {score[1]}"
        if name in SANDBOXES:
            found = json.loads(machine.do(*exposed, "--json=short"))
            assert {one["name"] for one in found if one["set"] is False} == set(OPEN), name


def test_a_tick_has_an_end_and_comes_every_five_minutes(machine: Machine) -> None:
    """Without a limit of its own one hung tick would block all later ones; evenly spaced, as samples are weighed."""
    installed(machine)
    show = ("systemctl", "show", "--value")
    assert machine.do(*show, "--property=TimeoutStartUSec", "ds01-policy.service") == "15min"
    assert machine.do(*show, "--property=TimersCalendar", "ds01-policy.timer").startswith(
        "{ OnCalendar=*-*-* *:00/5:00 ;"
    )
    assert machine.do(*show, "--property=FixedRandomDelay", "ds01-policy.timer") == "yes"
    assert machine.do(*show, "--property=RandomizedDelayUSec", "ds01-policy.timer") == "30s"
    for unit in SANDBOXES:
        assert "docker.service" in machine.do(*show, "--property=After", unit)
        assert "docker.service" not in machine.do(*show, "--property=Wants,Requires,BindsTo", unit), "it would start it"


@pytest.fixture
def inhabited(machine: Machine) -> Machine:
    """Have somebody logged in, a GPU that their process holds open, and what a driver registers with the kernel."""
    installed(machine)
    machine.do("useradd --create-home alice && touch /root/mine /tmp/of-the-machine")
    for name, (major, minor) in NODES.items():
        machine.do("mknod", "-m", "666", f"/dev/probe-{name}", "c", str(major), str(minor))
    known = "Character devices:\n" + "".join(f"{major} {name}\n" for name, major in DEVICES.items())
    machine.write("/run/devices", machine.read("/proc/devices").replace("Character devices:\n", known))
    machine.do("mount --bind /run/devices /proc/devices")
    folders = "/var/lib/prometheus/node-exporter /var/lib/node_exporter/textfile_collector"
    machine.do(f"mkdir -p {folders} && chown -R alice {folders}")
    machine.copy_in(RIG / "sandbox_probe.py", f"{SHARED}/probe.py")
    machine.do(
        "systemd-run --unit=stray --uid=alice --property=WorkingDirectory=/home/alice sh -c 'exec 7>nvidia7 sleep 1000'"
    )
    machine.log_in("alice")
    machine.wait(lambda: machine("test", "-e", "/home/alice/nvidia7").rc == 0, "nothing holds the GPU")
    return machine


@pytest.mark.parametrize("unit", SANDBOXES)
def test_a_sandbox_is_neither_too_tight_nor_too_wide(inhabited: Machine, unit: str) -> None:
    """In the program's place, in its unit's sandbox: all it needs can be done, and nothing beyond."""
    run = f"/opt/ds01-policy/bin/python {SHARED}/probe.py /var/lib/ds01-policy/told.json"
    inhabited.write(
        f"/etc/systemd/system/{unit}.d/probe.conf",
        f"[Service]\nType=oneshot\nRestart=no\nExecStart=\nExecStart={run}\n",
    )
    inhabited.do("systemctl", "start", unit)
    told = json.loads(inhabited.read("/var/lib/ds01-policy/told.json"))
    wanted = told["wanted"] | (told["by_ticks"] if unit == "ds01-policy.service" else {})
    assert {name: answer for name, answer in wanted.items() if answer != "ok"} == {}
    assert {name for name, answer in told["unwanted"].items() if answer == "ok"} == set()

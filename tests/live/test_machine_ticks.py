"""The program as a service under a real systemd: the timer fires, a tick acts from its sandbox, the journal tells."""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import yaml
from rig.age_proxy import AgeProxy
from rig.engine import OBEDIENT, Engine
from rig.history import History
from rig.host import GPUS, IDLE, LIMITS, OVERTIME
from rig.machine import PROGRAM, SHARED, Entry, Machine
from rig.nvidia_smi import SmiGpu, write_nvidia_smi

TICK, TIMER, WATCH = "ds01-policy.service", "ds01-policy.timer", "ds01-policy-watch.service"
OFTEN = "[Timer]\nOnCalendar=\nOnCalendar=*:*:0/2\nRandomizedDelaySec=0\n"
METRICS = "/var/lib/prometheus/node-exporter/ds01-policy.prom"
# As they ship, with a notice that a test can wait for.
RUNTIME = f"""\
version: 1
rules:
{IDLE}\
    warn: {{at: 80%, notice: 1s}}
    then: [stop, remove, epilog]
  - id: max-runtime
    summary: Has run for longer than its owner may.
    match: {{state: running, gpu: true}}
    for: {{limit: max_runtime}}
    warn: {{at: 80%, notice: 1s}}
    then: [stop, remove, epilog]
"""


@pytest.fixture
def proxy(machine: Machine, engine: Engine) -> Iterator[AgeProxy]:
    """Put the engine's socket where the machine sees it, behind a proxy that ages containers."""
    proxy = AgeProxy(engine.socket, machine.shared / "docker.sock")
    yield proxy
    proxy.close()


@pytest.fixture
def server(machine: Machine, proxy: AgeProxy) -> Callable[..., Machine]:
    """Make the machine a GPU server: `server(rules, mode="warn", …)` writes its policy over what `install` brought."""
    del proxy  # it must stand before anything asks for Docker

    def configured(rules: str = RUNTIME, **settings: Any) -> Machine:
        script = write_nvidia_smi(machine.shared / "nvidia-smi", [SmiGpu(uuid) for uuid in GPUS])
        script.write_text(script.read_text().replace(str(machine.shared), SHARED))
        values = {
            "version": 1,
            "mode": "enforce",
            "docker": {"url": f"unix://{SHARED}/docker.sock", "timeout": "10s"},
            "prometheus": "never",
            "gpu": {"nvml": "never", "nvidia_smi": f"{SHARED}/nvidia-smi"},
            "notify": {"channels": ["tty"], "unreached_notice": 1},
            "budget": {"per_run": 50, "share": "100%"},
            **settings,
        }
        machine.do(PROGRAM, "install", "--no-start")
        machine.do("rm -r /etc/ds01-policy/rules")
        files = {"settings.yaml": yaml.safe_dump(values), "rules/rules.yaml": rules, "limits.yaml": LIMITS}
        for name, text in files.items():
            machine.write(f"/etc/ds01-policy/{name}", text)
        return machine

    return configured


def program_lines(machine: Machine, unit: str = TICK) -> list[Entry]:
    """Read what the program itself has written, not what systemd says of it."""
    return [entry for entry in machine.journal(unit) if entry.by.startswith("ds01-policy")]


def test_a_container_past_its_time_is_warned_and_stopped_by_the_timer(
    server: Callable[..., Machine],
    engine: Engine,
    proxy: AgeProxy,
    prometheus_with: Callable[..., str],
    now: float,
) -> None:
    """Nobody does anything: its owner reads it on the terminal, the container goes, and the journal tells each step."""
    url = prometheus_with(History(now).gpu("GPU-aaaa", 90))
    machine = server(metrics_file=METRICS, prometheus={"url": url, "timeout": "10s"})
    machine.do(f"useradd --create-home alice && mkdir -p {METRICS.rpartition('/')[0]}")
    screen = machine.log_in("alice")
    machine.write(f"/etc/systemd/system/{TIMER}.d/often.conf", OFTEN)
    train = engine.run(gpus="device=GPU-aaaa", name="train", labels={"ds01.user": "alice"}, command=OBEDIENT)
    proxy.age(train, started="25h")

    machine.do(PROGRAM, "install")
    machine.wait(lambda: engine.state(train) == "gone", "it was not removed")
    machine.wait(lambda: ": epilog " in str(program_lines(machine)), "the journal does not tell of the epilog")

    who = f"train ({train[:12]}, GPU 0) of alice, max-runtime"
    said = [entry for entry in program_lines(machine) if entry.text.startswith(f"{who}: ")]
    steps = [(entry.priority, entry.text.removeprefix(f"{who}: ")) for entry in said if ": held: " not in entry.text]
    for (priority, text), (expected, pattern) in zip(
        steps,
        [
            (5, r"next: warn; the act may follow in .* – running for 1d1h ≥ 1d"),
            (5, r"warn done \(tty: pts/\d+ reached\)"),
            (5, r"next: stop, remove, epilog; due since .* – running for 1d1h ≥ 1d"),
            (5, r"stop done \(exit code \d+; owner: tty: pts/\d+ reached\)"),
            (5, r"remove done"),
            (5, r"epilog (done|noop) \(.*GPU-aaaa: ok: .*\)"),  # watch may have been quicker
        ],
        strict=True,
    ):
        assert re.fullmatch(pattern, text), text
        assert priority == expected
    shown = ("train", "max-runtime", "will be stopped", "was stopped")
    machine.wait(lambda: all(words in screen.read_text() for words in shown), "it does not stand on the screen")
    sums = [entry for entry in program_lines(machine) if entry.text.startswith("mode enforce; ")]
    assert {entry.priority for entry in sums} == {6}
    assert re.search(r"docker up, prometheus up \([1-9]\d* queries\), gpu up \(via nvidia-smi\)", sums[0].text)
    metrics = machine.read(METRICS)
    found = re.search(r"^ds01_policy_last_success_timestamp_seconds (\S+)$", metrics, re.MULTILINE)
    assert found, metrics
    assert float(found[1]) > now
    assert machine.do("systemctl", "is-system-running") == "running"
    systemd = machine.do("journalctl --sync && journalctl --output=cat SYSLOG_IDENTIFIER=systemd")
    assert "Reloading" not in systemd, "units that systemd has not read yet need no daemon-reload"


def test_a_withheld_act_is_no_failure_of_the_unit(
    server: Callable[..., Machine], engine: Engine, proxy: AgeProxy
) -> None:
    """A budget that holds something back wakes nobody through systemd; a warning in the journal tells of it."""
    machine = server(OVERTIME, budget={"per_run": 0, "share": "100%"})
    train = engine.run(gpus="device=GPU-aaaa", name="train", command=OBEDIENT)
    proxy.age(train, started="3h")
    machine.do("systemctl", "start", TICK)
    (held,) = [entry for entry in program_lines(machine) if ": held: " in entry.text]
    assert held.priority == 4
    assert "(budget: " in held.text
    assert engine.state(train) == "running"
    assert machine(PROGRAM, "evaluate").rc == 4


def test_a_tick_by_hand_beside_the_timer_is_no_failure_either(server: Callable[..., Machine]) -> None:
    """An admin's own run holds the lock."""
    machine = server()
    machine.do(
        'systemd-run --unit=byhand python3 -c \'import fcntl, time; file = open("/var/lib/ds01-policy/lock", "a"); '
        "fcntl.flock(file, fcntl.LOCK_EX); time.sleep(1000)'"
    )
    machine.wait(lambda: machine("flock", "-n", "/var/lib/ds01-policy/lock", "true").rc, "nobody holds the lock")
    machine.do("systemctl", "start", TICK)
    (said,) = program_lines(machine)
    assert said.priority == 5
    assert said.text.startswith("another run holds ")
    assert machine(PROGRAM, "evaluate").rc == 5


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        pytest.param({"docker": {"url": "unix:///shared/no.sock", "timeout": "1s"}}, 3, id="no Docker"),
        pytest.param({"mode": "sometimes"}, 2, id="an invalid configuration"),
    ],
)
def test_what_is_wrong_shows_as_failed(server: Callable[..., Machine], settings: dict[str, Any], code: int) -> None:
    """In `systemctl --failed`, and as errors in the journal, until a tick does better."""
    machine = server(**settings)
    assert machine("systemctl", "start", TICK).rc != 0
    assert machine("systemctl", "is-failed", TICK).out == "failed\n"
    assert machine.do("systemctl", "show", "--property=ExecMainStatus", "--value", TICK) == str(code)
    assert {entry.priority for entry in program_lines(machine)} == {3}


def test_however_often_it_was_started_the_next_tick_comes(server: Callable[..., Machine]) -> None:
    """Systemd refuses a unit that was started too often, and would end its timer for that: never this one."""
    machine = server()
    machine.write(f"/etc/systemd/system/{TICK}.d/quick.conf", "[Service]\nExecStart=\nExecStart=false\n")
    # A journal that stands still loses what systemd says: see each start written down before the next.
    machine(f"for each in 1 2 3 4 5 6 7; do systemctl start {TICK}; journalctl --sync; done")
    assert "too quickly" not in str(machine.journal(TICK))
    assert str(machine.journal(TICK)).count("Failed with result 'exit-code'") == 7


def test_ticks_go_on_after_one_that_hangs(server: Callable[..., Machine]) -> None:
    """A driver whose command neither answers nor heeds a signal: the unit's own time limit ends tick and command."""
    machine = server(gpu={"nvml": "never", "nvidia_smi": f"{SHARED}/nvidia-smi", "timeout": "10m"})
    script, hung = machine.shared / "nvidia-smi", "/var/lib/ds01-policy/hung"
    once = f"[ -e {hung} ] || {{ trap '' TERM INT HUP; echo $$ > {hung}; while true; do sleep 1; done; }}"
    script.write_text(script.read_text().replace("#!/bin/sh", f"#!/bin/sh\n{once}", 1))
    machine.write(f"/etc/systemd/system/{TIMER}.d/often.conf", OFTEN)
    machine.do("systemctl", "start", TIMER)
    machine.wait(lambda: machine.read(hung), "the command was not asked")
    # The limit is short for the tick that hangs alone: how long another one takes is up to this machine.
    limit = f"/etc/systemd/system/{TICK}.d/soon.conf"
    machine.write(limit, "[Service]\nTimeoutStartSec=3s\n")
    machine.do("systemctl", "daemon-reload")
    machine.wait(lambda: "Failed with result 'timeout'" in str(machine.journal(TICK)), "it was not ended")
    machine.do(f"rm {limit} && systemctl daemon-reload")
    machine.wait(lambda: "gpu up" in str(program_lines(machine)), "no later tick went well")
    assert machine(f"kill -0 $(cat {hung})").rc != 0, "the hung command is still there"


def test_watch_checks_a_gpu_whose_container_died(server: Callable[..., Machine], engine: Engine) -> None:
    """Under its unit: it follows, writes a line when a container dies by any hand, and is back when it was killed."""
    machine = server()
    machine.write(f"/etc/systemd/system/{WATCH}.d/soon.conf", "[Service]\nRestartSec=1s\n")
    machine.do("systemctl", "start", WATCH)
    follows = Entry("ds01-policy-watch", 6, "following Docker's events")
    machine.wait(lambda: follows in machine.journal(WATCH), "it does not follow")
    train = engine.run(gpus="device=GPU-aaaa", name="train")
    engine.cli("kill", train)
    machine.wait(lambda: f"epilog of train ({train[:12]}), done" in str(program_lines(machine, WATCH)), "no epilog")

    machine.do("systemctl", "kill", "--kill-whom=main", f"--signal={signal.SIGKILL.value}", WATCH)
    machine.wait(lambda: machine.journal(WATCH).count(follows) == 2, "it is not back")


def test_watch_that_is_stopped_ends_the_check_that_is_at_work(server: Callable[..., Machine], engine: Engine) -> None:
    """An upgrade in the wrong moment: neither the check nor the command that it waits for is cut off."""
    machine = server()
    script = machine.shared / "nvidia-smi"
    quick = script.read_text()

    def asked(name: str, then: str = ":") -> Callable[[], bool]:
        """Have the command leave a file behind when asked how the GPUs are, and then do something: whether it was.

        Which GPUs there are it is asked before that, if at all.
        """
        mark = f"/var/lib/ds01-policy/{name}"
        leave = f"[ \"$*\" = '-q -x' ] && {{ touch {mark}; {then}; }}"
        script.write_text(quick.replace("#!/bin/sh", f"#!/bin/sh\n{leave}", 1))
        return lambda: machine("test", "-e", mark).rc == 0

    machine.do("systemctl", "start", WATCH)
    machine.wait(lambda: "following" in str(program_lines(machine, WATCH)), "it does not follow")
    seen = asked("seen")
    train = engine.run(gpus="device=GPU-aaaa", name="train")
    machine.wait(seen, "nobody asks which GPUs there are")
    looked = asked("looked", "sleep 2")
    engine.cli("kill", train)
    machine.wait(looked, "nobody looks at the GPU")
    machine.do("systemctl", "stop", WATCH)
    assert f"epilog of train ({train[:12]}), done" in str(program_lines(machine, WATCH))
    assert machine.do("systemctl", "show", "--property=Result", "--value", WATCH) == "success"


def test_the_audit_log_is_read_through_its_rotation(
    server: Callable[..., Machine], engine: Engine, proxy: AgeProxy
) -> None:
    """What ships is taken by logrotate; what was done before and after a rotation is found, and stays private."""
    machine = server(OVERTIME)
    for name in ("before", "after"):
        container = engine.run(gpus="device=GPU-aaaa", name=name, command=OBEDIENT)
        proxy.age(container, started="3h")
        machine.do("systemctl", "start", TICK)
        if name == "before":
            told = machine("logrotate", "--debug", "/etc/logrotate.conf")
            assert "error" not in told.out + told.err
            assert "/var/lib/ds01-policy/audit.jsonl" in told.err
            machine.do("logrotate", "--force", "/etc/logrotate.d/ds01-policy")
    found = machine.do(PROGRAM, "audit", "--action", "stop")
    assert [name in found for name in ("before", "after")] == [True, True]
    modes = machine.do("cd /var/lib/ds01-policy && stat --format='%a %n' audit.jsonl*").splitlines()
    assert modes == ["600 audit.jsonl", "600 audit.jsonl.1"]
    machine.do("logrotate", "--force", "/etc/logrotate.d/ds01-policy")
    machine.do("logrotate", "--force", "/etc/logrotate.d/ds01-policy")
    assert "audit.jsonl.2.gz" in machine.do("ls /var/lib/ds01-policy")
    assert machine.do(PROGRAM, "audit", "--action", "stop") == found

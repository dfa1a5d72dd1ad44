"""Measures `ds01-policy preview` on a real Docker engine and a real Prometheus, against the floor of what it asks.

The floor is the same Docker and Prometheus requests made bare over kept connections, plus the bare interpreter's start.
Every figure is a median; ratios are taken within one run. Ends with 1 when a target is missed. Run as root: make bench
"""

from __future__ import annotations

import argparse
import re
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "live"))

import pytest
from host import Host  # like measure, beside this file
from measure import bare_requests, bare_start, preview, program, record, run, write_requests
from rig.cli import Cli
from rig.engine import Engine
from rig.prometheus import Prometheus

from ds01_policy.ledger import Ledger
from ds01_policy.memory import LEDGER, remembered
from ds01_policy.observe.local import HostCounters

MOST_QUERIES = 12
MOST_EXTRA_DOCKER_REQUESTS = 5  # beyond one for each container
MOST_FLOORS = 3.0
MOST_MIB = 150
MOST_HELP_STARTS = 4.0
MOST_SAMPLING_MS = 100.0
MOST_READING_MS = 100.0
RETAIN = timedelta(hours=48)
TICKS = 48 * 12


@dataclass(slots=True)
class Report:
    """What was measured, line by line, and which targets were missed."""

    missed: list[str] = field(default_factory=list)

    def say(self, text: str) -> None:
        """Print one line."""
        print(text, flush=True)  # noqa: T201 -- the report

    def check(self, what: str, value: float, limit: float, unit: str = "") -> None:
        """Print a figure beside its target."""
        met = value <= limit
        self.say(f"  {'ok  ' if met else 'MISS'} {what:<34} {value:8.2f}{unit} (at most {limit:g}{unit})")
        if not met:
            self.missed.append(what)


def measure_help(report: Report, repeat: int) -> None:
    """Compare `--help` with an interpreter that does nothing."""
    run([*program(), "--help"])  # the first is not timed: byte code, page cache
    pairs = [(bare_start(), run([*program(), "--help"]).seconds) for _ in range(repeat)]
    start, helped = (statistics.median(column) for column in zip(*pairs, strict=True))
    report.say(f"bare interpreter {start * 1000:.0f} ms · --help {helped * 1000:.0f} ms")
    report.check("--help / bare start", helped / start, MOST_HELP_STARTS)


def measure_preview(report: Report, host: Host, server: Prometheus, repeat: int) -> None:
    """Compare a whole `preview --json` with its floor."""
    with tempfile.TemporaryDirectory(prefix="ds01-bench-") as folder:
        cli = Cli(Path(folder))
        smi = host.nvidia_smi(cli.base)
        recording = record(cli, host.engine, server)
        requests = cli.base / "requests.json"
        write_requests(recording, host.engine, server, requests)
        cli.configure(docker=f"unix://{host.engine.socket}", prometheus=server.url, nvidia_smi=smi)
        peak = run(preview(cli), cli).peak_mib  # the first is not timed: byte code, page cache
        previews, floors = [], []
        for _ in range(repeat):  # side by side, so that both meet the same noise
            one = run(preview(cli), cli)
            peak = max(peak, one.peak_mib)
            previews.append(one)
            floors.append(bare_start() + bare_requests(requests))
    cpu = statistics.median(one.cpu_s for one in previews)
    size = len(host.running) + len(host.others)
    took, floor = statistics.median(one.seconds for one in previews), statistics.median(floors)
    verdicts = ", ".join(f"{count} {verdict}" for verdict, count in sorted(recording.verdicts.items()))
    report.say(f"{size} containers ({len(host.running)} running), {host.gpus} GPUs: {verdicts}")
    asked = Counter(one.method + " " + re.sub("[0-9a-f]{64}", "ID", one.path) for one in recording.docker)
    report.say(f"  preview {took * 1000:.0f} ms (of CPU {cpu * 1000:.0f} ms) · floor {floor * 1000:.0f} ms")
    report.say("  " + " · ".join(f"{count} × {what}" for what, count in asked.items()))
    report.check("preview / floor", took / floor, MOST_FLOORS)
    report.check("Prometheus queries", len(recording.prometheus), MOST_QUERIES)
    report.check("Docker requests", len(recording.docker), size + MOST_EXTRA_DOCKER_REQUESTS)
    report.check("peak memory", peak, MOST_MIB, " MiB")
    if recording.containers != size:
        report.say(f"  MISS preview shows {recording.containers} of {size} containers")
        report.missed.append("containers")


def measure_samples(report: Report, host: Host, repeat: int) -> None:
    """Take the counters of up to fifty running containers, and keep them: what every tick adds for its fallback."""
    running = host.running[:50]
    pids = {container: int(host.engine.inspect(container)["State"]["Pid"]) for container in running}
    counting, keeping = [], []
    with tempfile.TemporaryDirectory(prefix="ds01-bench-") as folder, Ledger.open(Path(folder) / LEDGER) as ledger:
        for _ in range(repeat):
            began = time.perf_counter()
            counted = HostCounters().counters(pids)
            counting.append(time.perf_counter() - began)
            ledger.keep_samples(counted.at, sample_rows(counted.cpu_s, host.gpus), RETAIN)
            keeping.append(time.perf_counter() - began - counting[-1])
    if len(counted.cpu_s) != len(running):
        report.say(f"  MISS {len(counted.cpu_s)} of {len(running)} containers were counted")
        report.missed.append("containers counted")
    counted_ms, kept_ms = (1000 * statistics.median(each) for each in (counting, keeping))
    report.say(f"{len(running)} containers sampled: counted in {counted_ms:.0f} ms, kept in {kept_ms:.0f} ms")
    report.check("local samples", counted_ms + kept_ms, MOST_SAMPLING_MS, " ms")


def sample_rows(cpu_s: Mapping[str, float], gpus: int) -> list[tuple[str, str, float]]:
    """Lay out what one tick keeps: CPU and network of each container, utilisation of each GPU."""
    rows = [(kind, container, value) for kind in ("cpu", "network") for container, value in cpu_s.items()]
    return [*rows, *(("gpu", f"GPU-{number}", 0.0) for number in range(gpus))]


def measure_ledger(report: Report, size: int, gpus: int, repeat: int) -> None:
    """Fill a ledger with two days of a tick every five minutes; then take one more tick, and look back two hours."""
    cpu_s = {f"{number:064x}": number / 7 for number in range(size)}
    with tempfile.TemporaryDirectory(prefix="ds01-bench-") as folder:
        path, began = Path(folder) / LEDGER, 1.8e9
        with Ledger.open(path) as ledger:
            for number in range(TICKS):
                ledger.keep_samples(began + 300 * number, sample_rows(cpu_s, gpus), RETAIN)
        writing, reading = [], []
        for number in range(repeat):
            start = time.perf_counter()
            with Ledger.open(path) as ledger:
                ledger.keep_samples(began + 300 * (TICKS + number), sample_rows(cpu_s, gpus), RETAIN)
            writing.append(time.perf_counter() - start)
            history = remembered(Path(folder), timedelta(hours=2, minutes=10))
            reading.append(time.perf_counter() - start - writing[-1])
        told = sum(len(each) for by_key in history.samples.values() for each in by_key.values())
        write_ms, read_ms = (1000 * statistics.median(each) for each in (writing, reading))
        report.say(f"ledger of {size} containers over two days: {path.stat().st_size / 2**20:.1f} MiB")
        report.say(f"  one more tick {write_ms:.0f} ms · two hours read back ({told} samples) {read_ms:.0f} ms")
        report.check("samples read back", read_ms, MOST_READING_MS, " ms")


def main() -> int:
    """Measure every size with every number of GPUs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", default="50,200,1000", help="containers, ascending (default %(default)s)")
    parser.add_argument("--gpus", default="8,16", help="GPUs of the host (default %(default)s)")
    parser.add_argument("--running", type=int, default=200, help="at most so many really run (default %(default)s)")
    parser.add_argument("--repeat", type=int, default=5, help="runs of which the median counts (default %(default)s)")
    options = parser.parse_args()
    report = Report()
    measure_help(report, options.repeat)
    measure_ledger(report, max(int(text) for text in options.sizes.split(",")), 16, options.repeat)
    for gpus in [int(text) for text in options.gpus.split(",")]:
        host = Host(Engine.start(live_restore=True), gpus)
        try:
            for size in [int(text) for text in options.sizes.split(",")]:
                host.grow(size, options.running)
                measure_samples(report, host, options.repeat)
                with tempfile.TemporaryDirectory(prefix="ds01-bench-") as folder:
                    server = host.prometheus(Path(folder))
                    try:
                        measure_preview(report, host, server, options.repeat)
                    finally:
                        server.stop()
        finally:
            host.engine.stop()
    report.say(f"missed: {', '.join(report.missed)}" if report.missed else "every target is met")
    return 1 if report.missed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except pytest.skip.Exception as why:  # the rig's word for a part that is missing
        sys.exit(f"nothing can be measured here: {why}")

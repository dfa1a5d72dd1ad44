"""Writes hours of measurements as OpenMetrics text, for Prometheus to be backfilled with.

Series carry the labels that dcgm-exporter and cAdvisor give them. Pure: files and servers are prometheus.py's.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence

from rig.ages import seconds

Pattern = str | float
Points = list[tuple[float, float]]  # (Unix seconds, value), ascending

CGROUPFS = "/docker/{id}"
SYSTEMD = "/system.slice/docker-{id}.scope"
TOKEN = re.compile(r"(?P<value>_|NaN|[+-]?Inf|-?[\d.]+(e-?\d+)?)(x(?P<times>\d+(\.\d+)?)(?P<unit>[smhd]*))?")


class History:
    """Everything that was scraped up to `now`, and `ahead` beyond it, so that it stays fresh while a test runs.

    A pattern is a number (for the whole `span`), or words that end at `now`: `0x58m 100x2m` is 58 minutes of 0, then 2
    of 100; `0x116 100x4` says the same in samples of 30 s; `_` is a gap: `0x40m _x20m` stopped 20 minutes ago.
    `NaN` and `+Inf` are values too. Beyond `now` the last word goes on. Methods return the History, to be chained.
    """

    def __init__(self, now: float, *, span: str = "2h", ahead: str = "10m") -> None:
        self.now = now
        self._span_s = seconds(span)
        self._ahead_s = seconds(ahead)
        self._series: dict[str, dict[str, Points]] = defaultdict(dict)  # metric → labels → points
        self._kinds: dict[str, str] = {}
        self._gpu_index: dict[str, int] = {}

    def gpu(
        self,
        uuid: str,
        pattern: Pattern,
        every: float = 30,
        *,
        gpu_instance: int | None = None,
        profile: str = "1g.10gb",
        metric: str | None = None,
        **labels: str,
    ) -> History:
        """Utilisation: of a whole GPU in percent, of a GPU instance as a ratio (as the profiling metric has it)."""
        known = self._gpu(uuid, gpu_instance, profile)
        plain = "DCGM_FI_DEV_GPU_UTIL" if gpu_instance is None else "DCGM_FI_PROF_GR_ENGINE_ACTIVE"
        return self.gauge(metric or plain, known | labels, pattern, every)

    def energy(
        self, uuid: str, watts: Pattern, every: float = 30, *, gpu_instance: int | None = None, base: float = 9e9
    ) -> History:
        """Energy counter of a GPU that drew so much, in millijoules; a GPU instance's row repeats its parent's."""
        known = self._gpu(uuid, gpu_instance, "1g.10gb")
        return self.counter("DCGM_FI_DEV_TOTAL_ENERGY_CONSUMPTION", known, watts, every, base=base, scale=1000)

    def _gpu(self, uuid: str, gpu_instance: int | None, profile: str) -> dict[str, str]:
        index = self._gpu_index.setdefault(uuid, len(self._gpu_index))
        known = {"gpu": str(index), "UUID": uuid, "pci_bus_id": f"00000000:{index + 1:02X}:00.0"}
        known |= {"device": f"nvidia{index}", "modelName": "NVIDIA A100-SXM4-80GB"}
        if gpu_instance is not None:
            known |= {"GPU_I_PROFILE": profile, "GPU_I_ID": str(gpu_instance)}
        return known | {
            "Hostname": "gpu01", "DCGM_FI_DRIVER_VERSION": "550.90.07", "instance": "gpu01:9400", "job": "dcgm",
        }  # fmt: skip

    def cpu(
        self,
        container: str,
        cores: Pattern,
        every: float = 30,
        *,
        cpus: int = 0,
        path: str = CGROUPFS,
        base: float = 12.5,
        **labels: str,
    ) -> History:
        """CPU seconds of a container that used so many cores; `cpus` > 0: one series per CPU (cgroup v1)."""
        names = [f"cpu{number:02d}" for number in range(cpus)] or ["total"]
        shares = [1 / len(names)] * len(names)
        for name, share in zip(names, shares, strict=True):
            known = self._container(container, path) | {"cpu": name} | labels
            self.counter("container_cpu_usage_seconds_total", known, cores, every, base=base, scale=share)
        return self

    def network(
        self,
        container: str,
        bytes_per_s: Pattern,
        every: float = 30,
        *,
        sent: Pattern = 0.0,
        interface: str = "eth0",
        path: str = CGROUPFS,
        base: float = 4096,
        **labels: str,
    ) -> History:
        """Bytes received (and sent) by a container at that rate."""
        known = self._container(container, path) | {"interface": interface} | labels
        self.counter("container_network_receive_bytes_total", known, bytes_per_s, every, base=base)
        return self.counter("container_network_transmit_bytes_total", known, sent, every, base=base)

    def gauge(self, metric: str, labels: dict[str, str], pattern: Pattern, every: float = 30) -> History:
        """Any gauge: the pattern is its values."""
        points = [(when, value) for when, value in self._expand(pattern, every) if value is not None]
        return self._add(metric, "gauge", labels, points)

    def counter(
        self,
        metric: str,
        labels: dict[str, str],
        pattern: Pattern,
        every: float = 30,
        *,
        base: float = 0.0,
        scale: float = 1.0,
    ) -> History:
        """Any counter, from `base` on: the pattern is its rate per second, times `scale`; over gaps it stands still."""
        points: Points = []
        total = base
        for when, rate in self._expand(pattern, every):
            total += (rate or 0.0) * scale * (every if points else 0.0)
            if rate is not None:
                points.append((when, total))
        return self._add(metric, _kind(metric), labels, points)

    def points(self, metric: str, labels: dict[str, str], points: Iterable[tuple[float, float]]) -> History:
        """Single samples of any metric, as (seconds from now, value); seconds may be negative."""
        return self._add(metric, _kind(metric), labels, sorted((self.now + offset, value) for offset, value in points))

    def openmetrics(self) -> str:
        """Write the text, as promtool reads it."""
        return "".join(self._lines())

    def _lines(self) -> Iterator[str]:
        for metric, series in self._series.items():
            yield f"# TYPE {metric.removesuffix('_total')} {self._kinds[metric]}\n"
            for labels, points in series.items():
                for when, value in points:
                    yield f"{metric}{labels} {_number(value)} {when:.3f}\n"
        yield "# EOF\n"

    def _add(self, metric: str, kind: str, labels: dict[str, str], points: Points) -> History:
        # OpenMetrics wants every sample of a series in order; the same series given twice is joined.
        known = self._series[metric].setdefault(_render(labels), [])
        if known and points and points[0][0] <= known[-1][0]:
            raise ValueError(f"{metric}{_render(labels)}: given twice, and the times overlap")
        known.extend(points)
        self._kinds[metric] = kind
        return self

    def _expand(self, pattern: Pattern, every: float) -> Iterator[tuple[float, float | None]]:
        values = [float(pattern)] * (int(self._span_s / every) + 1) if not isinstance(pattern, str) else []
        values_or_gaps: Sequence[float | None] = values or list(_words(str(pattern), every))
        ahead = int(self._ahead_s / every)
        first = self.now - (len(values_or_gaps) - 1) * every
        everything = itertools.chain(values_or_gaps, [values_or_gaps[-1]] * ahead)
        return ((first + number * every, value) for number, value in enumerate(everything))

    def _container(self, container: str, path: str) -> dict[str, str]:
        known = {"id": path.format(id=container), "image": "bb:latest", "name": f"c-{container[:6]}"}
        return known | {"instance": "gpu01:8080", "job": "cadvisor"}


def _kind(metric: str) -> str:
    """Tell what OpenMetrics may call it: a counter's name ends in `_total` there, whatever exporters do."""
    return "counter" if metric.endswith("_total") else "gauge"


def _words(pattern: str, every: float) -> Iterator[float | None]:
    for word in pattern.split():
        found = TOKEN.fullmatch(word)
        if found is None:
            raise ValueError(f"not a word of a pattern: {word!r} in {pattern!r}")
        times = found["times"] or "1"
        count = round(seconds(times + found["unit"]) / every) if found["unit"] else int(times)
        yield from itertools.repeat(None if found["value"] == "_" else float(found["value"]), count)


def _render(labels: dict[str, str]) -> str:
    escapes = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})
    return "{" + ",".join(f'{key}="{value.translate(escapes)}"' for key, value in labels.items()) + "}"


def _number(value: float) -> str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    return repr(value)

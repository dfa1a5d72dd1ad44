"""Writes the local samples that earlier ticks would have kept, so that a test need not wait for hours."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from datetime import timedelta

from rig.cli import REPOSITORY, Cli

sys.path.insert(0, str(REPOSITORY))

from ds01_policy.ledger import Ledger  # found through the line above


def sampled(
    cli: Cli,
    now: float,
    *,
    gpus: Mapping[str, float] | None = None,
    cores: Mapping[str, float] | None = None,
    span_s: float = 3 * 3600,
    every_s: float = 300,
    ago_s: float = 300,
) -> None:
    """Let a tick every five minutes have sampled these GPUs (ratio) and containers (cores), until five minutes ago.

    Counters are written so that they end at 0: what a container really uses afterwards comes on top.
    """
    ticks = int(span_s / every_s)
    with Ledger.open(cli.state / "ledger.db") as ledger:
        for number in range(ticks, -1, -1):
            at = now - ago_s - number * every_s
            rows = [("gpu", uuid, ratio) for uuid, ratio in (gpus or {}).items()]
            rows += [("cpu", container, -number * every_s * used) for container, used in (cores or {}).items()]
            ledger.keep_samples(at, rows, timedelta(hours=48))

"""What is shipped for Prometheus and Grafana, and promtool, that checks it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from rig import parts

DEPLOY = Path(__file__).parents[3] / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
# What Grafana puts in the place of its variables: two hosts that were chosen, and what it shows of six hours.
VARIABLES = {"$instance": "(gpu01|gpu02)", "$__range": "6h"}


def promtool(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run promtool; without it the test is skipped."""
    argv = [parts.command("promtool", "prometheus"), *map(str, arguments)]
    return subprocess.run(argv, capture_output=True, text=True, timeout=300, check=False)


def dashboard() -> dict[str, str]:
    """Give the dashboard's expressions as Grafana sends them, by panel and letter."""
    board: Any = json.loads((DEPLOY / "grafana" / "ds01-policy.json").read_text())
    found = {
        f"{panel['title']} {target['refId']}": target["expr"]
        for panel in board["panels"]
        for target in panel.get("targets", ())
    }
    found |= {f"annotation {each['name']}": each["expr"] for each in board["annotations"]["list"]}
    for variable, value in VARIABLES.items():
        found = {name: promql.replace(variable, value) for name, promql in found.items()}
    return found

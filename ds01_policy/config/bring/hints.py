"""Policies of an old file: what of them this project's settings hold, and where the rest stands.

Owns the translation of `policies:` and the reasons for whole sections that are not used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ds01_policy.config.bring.layers import GRACE, OLD_GRACE, Layer, duration, exact, grace

if TYPE_CHECKING:
    from ds01_policy.config.bring.account import Old
    from ds01_policy.config.yaml_strict import Path

# Settings that were brought along, by their path in settings.yaml.
Settings = dict[tuple[str, str], str]

_RULE = "thresholds stand in rules/idle-gpu.yaml"
_POLICIES = {
    "gpu_idle_threshold": f"{_RULE}: gpu_utilization",
    "cpu_idle_threshold": f"{_RULE}: cpu_usage, where 100% is one core",
    "network_idle_threshold": f"{_RULE}: network_io, which is a rate and not an amount",
    "idle_detection_window": "idleness is proven over the whole timeout, not by so many looks",
    "grace_period": "it stands in rules/idle-gpu.yaml: younger_than",
    "created_container_timeout": "it stands in rules/created-never-started.yaml: for",
    "gpu_hold_after_manual_stop": "gpu_hold_after_stop holds whoever stopped it",
    "checkpoint_warning": "warnings stand in the rules: warn",
    "auto_stop_idle": "mode in settings.yaml says how far this project goes; it begins with observe",
    "soft_limit_threshold": "warnings stand in the rules: warn",
}

_HANDS_OUT = "how GPUs are handed out is not this project's"
# Reasons for whatever nobody took, by where it stands; the first that fits holds.
SECTIONS: tuple[tuple[Path, str], ...] = (
    *((("policies", key), why) for key, why in _POLICIES.items()),
    (("policies",), "nothing here asks for it"),
    (("gpu_allocation",), _HANDS_OUT),
    (("enforcement",), "limits on CPU and memory are not this project's"),
    (("monitoring",), "what infrastructure is stands in identity.yaml; a name alone proves nothing there"),
    (("bare_metal_access",), "processes outside containers are only reported here"),
    (("access_control",), "who may run which Docker command is not this project's"),
    (("wizard",), "texts of other programs"),
    (("advanced",), "settings of other programs"),
)


def hints(old: Old) -> tuple[Settings, Layer]:
    """Take of `policies` what settings.yaml holds, and the grace that is a default limit here."""
    settings: Settings = {}
    defaults: Layer = {}
    for key in old.mapping("policies"):
        path = ("policies", key)
        if key == "high_demand_threshold":
            _share(old, path, ("high_demand", "above"), settings, lowest=0.0)
        elif key == "high_demand_idle_reduction":
            # The old scripts multiply the timeout by it: it is what remains, not what is taken away.
            _share(old, path, ("high_demand", "idle_timeout"), settings, lowest=0.01)
        elif key == "keepalive_max_duration" and not old.is_null(path):
            longest = duration(old, path, key)
            if longest is not None:
                settings["keep_alive", "max"] = exact(longest)
                old.say(path, f"taken as `keep_alive.max: {exact(longest)}` (settings.yaml)")
        elif key == "keepalive_max_duration":
            old.say(path, "not used: a keep-alive file that holds for ever has no place here; 24h holds", loud=True)
        elif key == OLD_GRACE:
            found = grace(old, path, "limits.yaml, defaults")
            if found is not None:
                defaults[GRACE] = found
        elif key in _POLICIES:
            old.say(path, f"not used: {_POLICIES[key]}{_was(old.document.get(*path))}")
    return settings, defaults


def _was(value: Any) -> str:
    """Remind of a value that somebody may want to carry over by hand."""
    return f" (it was {value})" if isinstance(value, str | int | float) else ""


def _share(old: Old, path: Path, target: tuple[str, str], settings: Settings, *, lowest: float) -> None:
    value = old.document.get(*path)
    if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= 1:
        old.refuse(path, f"must be a number from {lowest:g} to 1")
        return
    settings[target] = f"{value * 100:.10g}%"
    what = " of the timeout remain" if target[1] == "idle_timeout" else ""
    old.say(path, f"taken as `{'.'.join(target)}: {settings[target]}` (settings.yaml){what and ':' + what}")

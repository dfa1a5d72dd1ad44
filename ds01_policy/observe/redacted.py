"""What of Docker's answers may be written down: enough to judge by, nothing that is likely to be a secret.

Owns the lists of what is kept. Environment variables, commands, health check logs, log and volume driver options
carry passwords and tokens; labels stay, as ownership is read from them.
"""

from __future__ import annotations

from typing import Any

from ds01_policy.observe.ports import Json

_LISTED = ("Id", "Names", "Image", "Created", "State", "Status", "Labels")
_INSPECTED = (
    "Id", "Created", "State", "Image", "Name", "RestartCount", "Platform", "ExecIDs", "HostConfig",
    "Mounts", "Config",
)  # fmt: skip
_CONFIG = ("Hostname", "User", "Tty", "OpenStdin", "Env", "Image", "Labels", "StopSignal", "StopTimeout", "WorkingDir")
_NOT_OF_STATE = ("Health",)
_NOT_OF_HOST_CONFIG = ("LogConfig", "Mounts", "StorageOpt")  # what is mounted stands in the top-level Mounts
# Not every NVIDIA_*: NVIDIA_API_KEY is a token.
_VARIABLES = ("CUDA_VERSION", "NVIDIA_VISIBLE_DEVICES", "NVIDIA_DRIVER_CAPABILITIES", "NVIDIA_DISABLE_REQUIRE")
_VARIABLE_PREFIXES = ("NVIDIA_REQUIRE_", "NVIDIA_MIG_", "NVIDIA_IMEX_")


def redact_listed(entry: Json) -> Json:
    """Keep of one entry of the list of containers what tells which container it is."""
    return _keep(entry, _LISTED)


def redact_inspect(raw: Json) -> Json:
    """Keep of one inspect what the engine reads and what explains it."""
    kept = _keep(raw, _INSPECTED)
    kept["State"] = _drop(raw.get("State"), _NOT_OF_STATE)
    kept["HostConfig"] = _drop(raw.get("HostConfig"), _NOT_OF_HOST_CONFIG)
    config = raw.get("Config")
    if isinstance(config, dict):
        config = _keep(config, _CONFIG)
        if isinstance(config.get("Env"), list):
            config["Env"] = [entry for entry in config["Env"] if _harmless(entry)]
    kept["Config"] = config
    return kept


def _harmless(entry: object) -> bool:
    name = entry.partition("=")[0] if isinstance(entry, str) else ""
    return name in _VARIABLES or name.startswith(_VARIABLE_PREFIXES)


def _keep(value: Json, keys: tuple[str, ...]) -> Json:
    return {key: value[key] for key in keys if key in value}


def _drop(value: Any, keys: tuple[str, ...]) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: inner for key, inner in value.items() if key not in keys}

"""What of Docker's answers may be written down: enough to judge by, nothing that is likely to be a secret.

Owns the lists of what is kept. Environment variables, commands, health check logs, log and volume driver options
carry passwords and tokens; labels stay, as ownership is read from them, but for values that look like secrets.
"""

from __future__ import annotations

import re
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
REDACTED = "redacted"
# What is kept of the networks of a container that was made on none.
CONNECTED: Json = {"NetworkSettings": {"Networks": {"some": {}}}}
_SECRET_KEY = re.compile(
    r"passw|passphrase|secret|token|credential|basicauth|(api|access|private|signing)[._-]?key", re.IGNORECASE
)
# What the tokens of well-known services begin with, and anything signed.
_SECRET_VALUE = re.compile(
    r"\b(gh[pousr]_|github_pat_|glpat-|hf_|sk-|xox[abprs]-|nvapi-|AKIA|ASIA|eyJ)[A-Za-z0-9_-]{8,}|-----BEGIN |Bearer "
)
_CREDENTIALS = re.compile(r"(?<=://)[^\s/@]+@")
_VARIABLE_PREFIXES = ("NVIDIA_REQUIRE_", "NVIDIA_MIG_", "NVIDIA_IMEX_")


def redact_listed(entry: Json) -> Json:
    """Keep of one entry of the list of containers what tells which container it is."""
    return _with_labels(_keep(entry, _LISTED))


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
        config = _with_labels(config)
    kept["Config"] = config
    return kept | _connected_since(raw)


def _connected_since(raw: Json) -> Json:
    """Keep that a container made on no network is on one by now; which one is nobody's business."""
    settings, host = raw.get("NetworkSettings"), raw.get("HostConfig")
    on = settings.get("Networks") if isinstance(settings, dict) else None
    made_on_none = isinstance(host, dict) and host.get("NetworkMode") == "none"
    return dict(CONNECTED) if made_on_none and isinstance(on, dict) and set(on) - {"none"} else {}


def _harmless(entry: object) -> bool:
    name = entry.partition("=")[0] if isinstance(entry, str) else ""
    return name in _VARIABLES or name.startswith(_VARIABLE_PREFIXES)


def _with_labels(value: Json) -> Json:
    """Keep labels, as ownership is read from them, without values that are likely to be secrets."""
    labels = value.get("Labels")
    if not isinstance(labels, dict):
        return value
    return {**value, "Labels": {key: _label(key, text) for key, text in labels.items()}}


def _label(key: str, value: Any) -> Any:
    """Take a secret out of one label. What is JSON by itself (editors keep settings there) may hold any."""
    if not isinstance(value, str):
        return value
    if _SECRET_KEY.search(key) or _SECRET_VALUE.search(value) or value.lstrip()[:1] in ("{", "["):
        return REDACTED
    return _CREDENTIALS.sub(f"{REDACTED}@", value)


def _keep(value: Json, keys: tuple[str, ...]) -> Json:
    return {key: value[key] for key in keys if key in value}


def _drop(value: Any, keys: tuple[str, ...]) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: inner for key, inner in value.items() if key not in keys}

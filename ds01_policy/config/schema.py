"""JSON Schema of each policy file, for editors, from the same models that check the files.

Owns the wording of defaults and absent values in it.
"""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from pydantic.json_schema import GenerateJsonSchema

from ds01_policy.config.exemptions_file import ExemptionsFile
from ds01_policy.config.identity_file import IdentityFile
from ds01_policy.config.limits_file import LimitsFile
from ds01_policy.config.rules_file import RulesFile
from ds01_policy.config.settings_file import SettingsFile
from ds01_policy.config.signals_file import SignalsFile
from ds01_policy.config.tests_file import CasesFile
from ds01_policy.units import format_duration

if TYPE_CHECKING:
    from pydantic import BaseModel

SCHEMAS: dict[str, type[BaseModel]] = {
    "settings": SettingsFile,
    "signals": SignalsFile,
    "limits": LimitsFile,
    "identity": IdentityFile,
    "exemptions": ExemptionsFile,
    "rules": RulesFile,
    "tests": CasesFile,
}


def schema_of(name: str) -> dict[str, Any]:
    """Describe one kind of file (a key of SCHEMAS).

    Raises:
        KeyError: for any other name.

    """
    described = SCHEMAS[name].model_json_schema(by_alias=True, schema_generator=_AsWritten)
    return {"$schema": _AsWritten.schema_dialect, **_without_null(described)}


def schema_text(name: str) -> str:
    """Write a schema as a file holds it.

    Raises:
        KeyError: as `schema_of`.

    """
    return json.dumps(schema_of(name), indent=2) + "\n"


class _AsWritten(GenerateJsonSchema):
    """Defaults as people would write them."""

    def encode_default(self, dft: Any) -> Any:
        return format_duration(dft) if isinstance(dft, timedelta) else super().encode_default(dft)


def _without_null(part: Any) -> Any:
    """Take out the null that stands for `left out`, and the defaults that would not read as written."""
    if isinstance(part, list):
        return [_without_null(each) for each in part]
    if not isinstance(part, dict):
        return part
    kept = {key: _without_null(value) for key, value in part.items() if not (key == "default" and _unwritable(value))}
    variants = [each for each in kept.get("anyOf", ()) if each != {"type": "null"}]
    if "anyOf" in kept:
        del kept["anyOf"]
        kept = {**variants[0], **kept} if len(variants) == 1 else {**kept, "anyOf": variants}
    return kept


def _unwritable(default: Any) -> bool:
    return default is None or isinstance(default, float | dict)

"""JSON Schema for editors."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ds01_policy.config.files import shipped
from ds01_policy.config.schema import SCHEMAS, schema_of
from ds01_policy.config.yaml_strict import parse


def keys_of(schema: dict[str, Any], part: dict[str, Any]) -> set[str]:
    found = schema["$defs"][part["$ref"].rsplit("/", 1)[1]] if "$ref" in part else part
    return set(found.get("properties", {}))


@pytest.mark.parametrize("name", SCHEMAS)
def test_each_kind_of_file_has_a_schema_that_knows_the_shipped_keys(name: str) -> None:
    """Every key of the shipped file is in the schema, and no other would pass."""
    schema = schema_of(name)
    json.dumps(schema, allow_nan=False)
    assert schema["$schema"].startswith("https://json-schema.org/")
    assert schema["additionalProperties"] is False
    config, rules = shipped()
    path = {"rules": rules / "idle-gpu.yaml", "tests": rules / "tests" / "idle-gpu.yaml"}.get(
        name, config / f"{name}.yaml"
    )
    assert set(parse(path.read_bytes(), name).value) <= set(schema["properties"])


def test_rules_are_described_down_to_their_parts() -> None:
    """An editor completes what a rule, its match and its clauses may hold."""
    schema = schema_of("rules")
    rule = schema["$defs"]["RuleFile"]
    assert set(rule["properties"]) == {
        "id", "summary", "match", "except", "when", "for", "warn", "then", "mode",
    }  # fmt: skip
    assert set(rule["required"]) == {"id", "match", "for", "then"}
    assert keys_of(schema, rule["properties"]["when"]) == {
        "signal", "below", "above", "at_most", "at_least", "is", "all", "any", "not",
    }  # fmt: skip


def test_witnesses_are_described_down_to_their_keys() -> None:
    """And so is how a frozen exporter is told."""
    schema = schema_of("signals")
    signal = schema["$defs"]["SignalFile"]["properties"]
    assert keys_of(schema, signal["witnesses"]["items"]) == {"signal", "above", "explained_by"}
    assert keys_of(schema, signal["frozen"]) == {"changes", "after", "counter", "uuid_label"}


def test_null_is_never_offered_and_defaults_read_as_written() -> None:
    """What the loader refuses is not in the schema; durations are text with examples."""
    schema = schema_of("settings")
    assert '"null"' not in json.dumps([schema_of(name) for name in SCHEMAS])
    assert schema["properties"]["prometheus"]["anyOf"][1] == {"const": "never"}
    assert schema["properties"]["awake"]["default"] == "5m"
    assert "30m" in schema["properties"]["awake"]["examples"]
    assert {"type": "string"} in schema["properties"]["rules"]["anyOf"]


def test_another_name_has_no_schema() -> None:
    """There are seven kinds of file."""
    with pytest.raises(KeyError):
        schema_of("templates")

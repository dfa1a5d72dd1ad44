"""One document against its model: the model's value, or findings that say where and in which words.

Owns the translation of pydantic's errors into places and sentences. Knows no particular file.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from ds01_policy.config.problems import closest, listed
from ds01_policy.config.scalars import Names, shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic_core import ErrorDetails

    from ds01_policy.config.yaml_strict import Document, Path

M = TypeVar("M", bound=BaseModel)


def validate(document: Document, model: type[M], names: Names) -> M | None:
    """Check one document. None: it is wrong, and its findings say how."""
    if not document.readable:
        return None
    try:
        checked = model.model_validate(document.value, context=names)
    except ValidationError as error:
        for details in error.errors(include_url=False):
            _report(details, document, model)
        return None
    return None if document.findings else checked


def _report(details: ErrorDetails, document: Document, model: type[BaseModel]) -> None:
    context = details.get("ctx", {})
    path, rest = _path(details["loc"], document.value)
    path = (*path, *context.get("at", ()))
    if any(path[:length] in document.spoilt for length in range(len(path) + 1)):
        return
    kind = details["type"]
    is_key = details["loc"][-1:] == ("[key]",)
    if kind == "missing":
        document.report("missing_key", document.at_key(path), f"{rest!r} is missing")
    elif kind == "extra_forbidden":
        known = sorted(_keys(model, path[:-1]))
        message = f"unknown key {path[-1]!r}; known here: {', '.join(known)}"
        document.report("unknown_key", document.at_key(path), message, closest(str(path[-1]), known))
    elif kind == "literal_error":
        known = re.findall(r"'([^']*)'", context["expected"]) or [context["expected"]]
        value = details["input"]
        if is_key:
            message = f"unknown key {value!r}; known here: {', '.join(known)}"
            document.report("unknown_key", document.at_key(path), message, closest(str(value), known))
        else:
            message = "has no value; write" if value is None else f"{shown(value)} is not"
            document.report("bad_value", document.at(path), f"{message} {listed(known)}", closest(str(value), known))
    elif "text" in context:  # said by one of our own validators
        place = document.at_key(path) if is_key else document.at(path)
        document.report(kind, place, context["text"], context.get("suggestion", ""))
    else:
        document.report("wrong_type", document.at(path), _sentence(kind, details))


def _sentence(kind: str, details: ErrorDetails) -> str:
    value = details["input"]
    if value is None:
        return "has no value: fill it in, or leave the key out"
    if kind == "too_short":
        return "is empty: at least one is needed"
    wanted = _WANTED.get(kind)
    if wanted:
        limit = details.get("ctx", {}).get("ge", details.get("ctx", {}).get("le", ""))
        return f"must be {wanted.format(limit)}, not {shown(value)}"
    return f"{shown(value)}: {details['msg'][:1].lower()}{details['msg'][1:]}"


_WANTED = {
    "model_type": "a mapping (key: value)",
    "dict_type": "a mapping (key: value)",
    "list_type": "a list",
    "int_type": "a whole number",
    "bool_type": "true or false",
    "string_type": "text",
    "greater_than_equal": "at least {}",
    "less_than_equal": "at most {}",
}


def _path(loc: tuple[str | int, ...], value: Any) -> tuple[Path, str]:
    """Follow pydantic's location through the value, past the parts that name a variant; the rest is a missing key."""
    path: list[str | int] = []
    rest = ""
    for step in loc:
        if isinstance(value, dict) and step in value:
            value = value[str(step)]
        elif isinstance(value, list) and isinstance(step, int) and step < len(value):
            value = value[step]
        else:
            rest = str(step)
            continue
        path.append(step)
    return tuple(path), rest


def _keys(model: type[BaseModel], path: Path) -> set[str]:
    """List the keys a model knows at a place: all of them, where the place has several shapes."""
    places: list[Any] = [model]
    for step in path:
        places = [inner for place in places for inner in _inner(place, step)]
    return {field.alias or name for place in places if _is_model(place) for name, field in place.model_fields.items()}


def _inner(place: Any, step: str | int) -> Iterator[Any]:
    if _is_model(place):
        for name, field in place.model_fields.items():
            if (field.alias or name) == step:
                yield from _variants(field.annotation)
    else:  # list[X] or dict[str, X]
        yield from _variants(get_args(place)[-1:])


def _variants(annotation: Any) -> Iterator[Any]:
    """Unfold Annotated, unions and optionals down to models, lists and dicts."""
    if isinstance(annotation, tuple):
        for part in annotation:
            yield from _variants(part)
    elif _is_model(annotation) or getattr(annotation, "__origin__", None) in (list, dict):
        yield annotation
    else:
        yield from _variants(get_args(annotation))


def _is_model(annotation: Any) -> bool:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)

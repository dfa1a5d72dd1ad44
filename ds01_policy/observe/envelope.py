"""PURE: one HTTP answer of Prometheus → QueryResult, or a SourceError that says what is wrong with it.

Owns what can be believed. An answer that is partial, warned about, cut off or of another shape is no answer.
Opens no connection.
"""

from __future__ import annotations

import json
import math
import reprlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn

from ds01_policy.observe.ports import QueryResult, SourceError
from ds01_policy.text import plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ds01_policy.observe.ports import Json

_OK = 200
_TEXT_LIMIT = 300  # characters of a server's own words that an error repeats
_REPR = reprlib.Repr()
_REPR.maxlevel, _REPR.maxstring, _REPR.maxother = 4, 120, 120
MOST_OFF_S = 30.0  # between the instant asked about and the one that an answer names
_LAST_TIME = 1e11  # Unix seconds; beyond the year 5000 it is milliseconds, or nonsense


class SourceDown(SourceError):
    """Nobody is there who could answer any query: asking more would only cost time."""


class Unready(SourceDown):
    """Somebody is there and may be ready in a moment: worth one more try."""


class BadQuery(SourceError):
    """This query was refused; others may well be answered."""


def read_envelope(status: int, headers: Mapping[str, str], body: bytes) -> QueryResult:
    """Check an answer to `/api/v1/query`. `headers` are found by small letters.

    Raises:
        SourceDown: a login page, refused credentials, no query API there, a server that is not ready.
        BadQuery: the server refused this query.
        SourceError: everything else that cannot be believed whole.

    """
    return read_data(_data(status, headers, body))


def read_status(status: int, headers: Mapping[str, str], body: bytes) -> Json:
    """Check an answer to `/api/v1/status/…`, whose `data` is an object of its own. Raises as read_envelope."""
    return _data(status, headers, body)


def _data(status: int, headers: Mapping[str, str], body: bytes) -> Json:
    if status // 100 == 3:  # noqa: PLR2004  redirects
        where = plain(headers.get("location", "nowhere"), 100)
        raise SourceDown(f"redirects to {where}: a login page? `prometheus.url` must be Prometheus' own address")
    if status != _OK:
        _refused(status, body)
    if _is_html(headers, body):
        raise SourceDown(
            "answers with an HTML page: a login page or a proxy? `prometheus.url` must be Prometheus' own address"
        )
    envelope = _parsed(body)
    if not isinstance(envelope, dict):
        raise SourceError("answers JSON that is not an object: is `prometheus.url` really a Prometheus?")
    if envelope.get("status") != "success":
        _failed(envelope)
    if envelope.get("isPartial") not in (None, False):
        raise SourceError("answers only a part (isPartial): some storage nodes are down")
    if warnings := envelope.get("warnings"):
        raise SourceError(f"warns about its own answer, so it may be partial: {_shown(warnings)}")
    data = envelope.get("data")
    if not isinstance(data, dict):
        raise SourceError("answers success without data")
    return data


def read_data(data: Json) -> QueryResult:
    """Check `data` of an answer: a vector or matrix of distinct, well-formed rows.

    Raises:
        SourceError: when a single row is not.

    """
    kind, rows = data.get("resultType"), data.get("result")
    if kind not in ("vector", "matrix"):
        raise SourceError(f"answers a {_shown(kind)}, where a vector or a matrix was expected: see signals.yaml")
    if not isinstance(rows, list):
        raise SourceError("answers without a list of results")
    seen = set()
    for row in rows:
        labels = _labels(row)
        if labels in seen:
            raise SourceError(f"answers two series with the same labels: {_shown(dict(labels))}")
        seen.add(labels)
        samples = row.get("values") if kind == "matrix" else [row.get("value")]
        if not _well_formed(samples):
            raise SourceError(f"answers a malformed {kind} for {_shown(dict(labels))}: {_shown(row)}")
    return QueryResult(str(kind), rows)


def about(result: QueryResult, at: float) -> QueryResult:
    """Check that an answer is about the instant that was asked about (Unix seconds), and knows nothing of later.

    Raises:
        SourceError: when it is not: a cache gave out an old answer, or a clock is wrong.

    """
    for row in result.result:
        if result.result_type == "vector":
            told, wrong = row["value"][0], abs(row["value"][0] - at) > MOST_OFF_S
        else:
            told = row["values"][-1][0] if row["values"] else at
            wrong = told - at > MOST_OFF_S
        if wrong:
            asked, answered = (f"{datetime.fromtimestamp(when, UTC):%H:%M:%S} UTC" for when in (at, told))
            raise SourceError(f"answers about {answered}, where {asked} was asked about: is there a cache before it?")
    return result


def _is_html(headers: Mapping[str, str], body: bytes) -> bool:
    return "html" in headers.get("content-type", "").lower() or body.lstrip()[:1] == b"<"


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body, parse_constant=_not_json)
    except (ValueError, RecursionError):
        start = _shown(body[:60].decode(errors="replace"))
        raise SourceError(f"answers something cut off, or no JSON at all ({len(body)} bytes: {start})") from None


def _not_json(name: str) -> NoReturn:
    raise ValueError(name)


def _labels(row: Any) -> frozenset[tuple[str, str]]:
    labels = row.get("metric") if isinstance(row, dict) else None
    if not isinstance(labels, dict) or not all(isinstance(value, str) for value in labels.values()):
        raise SourceError(f"answers a row without proper labels: {_shown(row)}")
    return frozenset(labels.items())


def _well_formed(samples: Any) -> bool:
    """Whether these are `[[seconds, "number"], …]`, ascending in time."""
    if not isinstance(samples, list):
        return False
    last = -math.inf
    for sample in samples:
        if not isinstance(sample, list) or len(sample) != 2:  # noqa: PLR2004  time and value
            return False
        time, value = sample
        if isinstance(time, bool) or not isinstance(time, int | float) or not last <= time <= _LAST_TIME:
            return False
        if not _is_number(value):
            return False
        last = time
    return True


def _is_number(value: Any) -> bool:
    if not isinstance(value, str):
        return False
    try:
        float(value)
    except ValueError:
        return False
    return True


def _failed(envelope: Json) -> NoReturn:
    words = f"{_shown(envelope.get('errorType', 'no reason'))}: {_shown(envelope.get('error', ''))}"
    if envelope.get("errorType") in ("bad_data", "execution"):
        raise BadQuery(f"refuses the query ({words}): see signals.yaml")
    raise SourceError(f"answers no success ({words})")


def _refused(status: int, body: bytes) -> NoReturn:
    """Say a status in words, with the server's own where it has some."""
    words = f"HTTP {status}{_own_words(body)}"
    match status:
        case 400 | 422:
            raise BadQuery(f"refuses the query ({words}): see signals.yaml")
        case 413 | 414 | 431:
            raise BadQuery(f"finds the query too long ({words}): raise the limit of the proxy before it")
        case 401 | 403 | 407:
            raise SourceDown(f"refuses the credentials ({words}): see `prometheus` in settings.yaml")
        case 404 | 405:
            raise SourceDown(f"has no query API there ({words}): does `prometheus.url` lack a path, like /prometheus?")
        case 503 if _error_type(body) in ("timeout", "canceled"):
            raise SourceDown(f"took too long over the query and gave up ({words})")
        case 502 | 503 | 504:
            raise Unready(f"is not ready or overloaded ({words})")
        case 429:
            raise SourceDown(f"is asked too often ({words})")
        case _:
            raise SourceError(f"failed to answer ({words}): see its log")


def _own_words(body: bytes) -> str:
    """Take the error out of an error's JSON, or a line of plain text; nothing of a web page."""
    if error := _error_json(body).get("error"):
        return f", {_shown(error)}"
    first_line = body[:1000].decode(errors="replace").strip().partition("\n")[0]
    return f", {_shown(first_line)}" if first_line and first_line[0] not in "<{[" else ""


def _error_type(body: bytes) -> Any:
    return _error_json(body).get("errorType")


def _error_json(body: bytes) -> Json:
    try:
        envelope = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return envelope if isinstance(envelope, dict) else {}


def _shown(value: object) -> str:
    """Show what a server sent: one safe line, never long or deep."""
    return plain(value if isinstance(value, str) else _REPR.repr(value), _TEXT_LIMIT)

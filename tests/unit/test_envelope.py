"""What an HTTP answer of Prometheus must look like to be believed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ds01_policy.observe.envelope import read_envelope
from ds01_policy.observe.ports import QueryResult, SourceError

LABELS = {"UUID": "GPU-aaaa"}


def read(body: object, status: int = 200, **headers: str) -> QueryResult:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_envelope(status, headers, content)


def answer(kind: object = "vector", result: object = (), **envelope: object) -> dict[str, Any]:
    return {"status": "success", "data": {"resultType": kind, "result": result}, **envelope}


def vector(value: object, metric: object = LABELS) -> dict[str, Any]:
    return answer("vector", [{"metric": metric, "value": value}])


def matrix(*values: object) -> dict[str, Any]:
    return answer("matrix", [{"metric": LABELS, "values": list(values)}])


BELIEVED: dict[str, dict[str, Any]] = {
    "nothing was found": answer(),
    "nothing was found in a matrix": answer("matrix", []),
    "a sample": vector([1.5, "0"]),
    "values that are no numbers to compute with are still numbers": vector([1, "NaN"]),
    "infinity": vector([1, "+Inf"]),
    "samples in order": matrix([1, "0"], [2.5, "1e3"]),
    "two at once, as some stores keep them": matrix([1, "0"], [1, "0"]),
    "no labels at all": vector([1, "0"], {}),
    "two series": answer("vector", [{"metric": {"a": text}, "value": [1, "0"]} for text in "bc"]),
    "infos": answer(infos=["metric might not be a counter"]),
    "no warnings, spelled out": answer(warnings=[]),
    "no warnings, as null": answer(warnings=None),
    "whole, spelled out": answer(isPartial=False),
}

REFUSED: dict[str, tuple[object, str]] = {
    "a list": ([], "not an object"),
    "null": (None, "not an object"),
    "an error with status 200": ({"status": "error", "errorType": "bad_data", "error": "x"}, "refuses the query"),
    "an error of no known type": ({"status": "error", "errorType": ["x"]}, "no success"),
    "no status": ({"data": {}}, "no success"),
    "no data": ({"status": "success"}, "without data"),
    "data that is a list": ({"status": "success", "data": []}, "without data"),
    "a string": (answer("string", [1, "x"]), "answers a string"),
    "no type": (answer(None), "answers a None"),
    "a type that is a list": (answer(["vector"]), "answers a ['vector']"),
    "no list": (answer("vector", {}), "without a list"),
    "one warning": (answer(warnings=["x"]), "may be partial"),
    "a warning that is a text": (answer(warnings="x"), "may be partial"),
    "a part": (answer(isPartial="yes"), "only a part"),
    "a part, said in a list": (answer(isPartial=[]), "only a part"),
    "rows that are no objects": (answer("vector", [1]), "without proper labels"),
    "no metric": (answer("vector", [{"value": [1, "0"]}]), "without proper labels"),
    "a label that is a number": (vector([1, "0"], {"a": 1}), "without proper labels"),
    "no value": (answer("vector", [{"metric": LABELS}]), "malformed vector"),
    "a native histogram": (answer("vector", [{"metric": LABELS, "histogram": [1, {}]}]), "malformed vector"),
    "values where one was expected": (answer("vector", [{"metric": LABELS, "values": [[1, "0"]]}]), "malformed"),
    "one value where many were expected": (answer("matrix", [{"metric": LABELS, "value": [1, "0"]}]), "malformed"),
    "a time alone": (vector([1]), "malformed"),
    "three of them": (vector([1, "0", "0"]), "malformed"),
    "a value that is a number": (vector([1, 0]), "malformed"),
    "a value that is no number": (vector([1, "idle"]), "malformed"),
    "a time that is a text": (vector(["1", "0"]), "malformed"),
    "a time that is true": (vector([True, "0"]), "malformed"),
    "a time in milliseconds": (vector([1_772_422_260_250, "0"]), "malformed"),
    "a time beyond all floats": (vector([10**400, "0"]), "malformed"),
    "times that run backwards": (matrix([2, "0"], [1, "0"]), "malformed"),
    "one series twice": (answer("matrix", [{"metric": LABELS, "values": []}] * 2), "two series with the same labels"),
    "half of it": (b'{"status":"success","data":{"resultType":"vector"', "cut off, or no JSON at all (49 bytes"),
    "NaN as JavaScript has it": (b'{"status":NaN}', "no JSON"),
    "no text": (b"\xff\xfe\xfd", "no JSON"),
    "a bottomless pit": (b"[" * 100_000, "no JSON"),
    "an endless number": (b'{"status":' + b"9" * 5000 + b"}", "no JSON"),
}


@pytest.mark.parametrize("body", BELIEVED.values(), ids=BELIEVED)
def test_good_answers_are_believed(body: dict[str, Any]) -> None:
    """What is whole and well-formed comes back as it is."""
    result = read(body)
    assert (result.result_type, result.result) == (body["data"]["resultType"], list(body["data"]["result"]))


@pytest.mark.parametrize(("body", "words"), REFUSED.values(), ids=REFUSED)
def test_bad_answers_are_refused_in_words(body: object, words: str) -> None:
    """Everything else is an error that says what was wrong, in one line of plain text."""
    with pytest.raises(SourceError) as caught:
        read(body)
    assert words in str(caught.value)
    assert str(caught.value).isprintable()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
SAMPLE = st.one_of(JSON, st.tuples(st.integers() | st.floats(), st.sampled_from(["0", "NaN", "x", ""])))
ROW = st.one_of(
    JSON,
    st.fixed_dictionaries(
        {},
        optional={
            "metric": JSON | st.dictionaries(st.text(), st.text()),
            "value": SAMPLE,
            "values": JSON | st.lists(SAMPLE),
        },
    ),
)
NEARLY = st.fixed_dictionaries(
    {"status": st.just("success") | JSON},
    optional={
        "data": JSON
        | st.fixed_dictionaries(
            {"resultType": st.sampled_from(["vector", "matrix"]) | JSON, "result": JSON | st.lists(ROW, max_size=4)}
        ),
        "warnings": JSON,
        "isPartial": JSON,
        "error": JSON,
        "errorType": JSON,
    },
)


@given(NEARLY | JSON, st.sampled_from([200, 200, 200, 204, 301, 400, 401, 404, 422, 431, 500, 503, 599]))
@settings(deadline=None)
def test_no_json_raises_anything_but_a_source_error(body: object, status: int) -> None:
    """Nothing that JSON can say crashes a tick; what is believed has the shape that was promised."""
    try:
        result = read(body, status)
    except SourceError as error:
        assert str(error).isprintable()  # noqa: PT017  most bodies are refused, some are not
        return
    assert result.result_type in {"vector", "matrix"}
    for row in result.result:
        for time, value in row["values"] if result.result_type == "matrix" else [row["value"]]:
            assert isinstance(time, int | float)
            float(value)


@given(st.binary())
@settings(deadline=None)
def test_no_bytes_raise_anything_but_a_source_error(body: bytes) -> None:
    """Nor does anything that is no JSON."""
    with pytest.raises(SourceError):
        read(body)

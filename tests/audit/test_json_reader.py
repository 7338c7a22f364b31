"""Documents of a run are read strictly: a field of another type is one error that names it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.audit.json_reader import JsonObject
from equipoise.errors import UsageError

scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
)


def document(**fields: Any) -> JsonObject:
    return JsonObject(fields, "summary.json")


@pytest.mark.parametrize(
    ("kind", "value", "read"),
    [
        (str, "x", "x"),
        (str, "", ""),
        (bool, False, False),
        (int, 3, 3),
        (int, 10**400, 10**400),
        (float, 3, 3.0),
        (float, -2.5, -2.5),
    ],
)
def test_a_field_of_its_type_is_read(kind: Any, value: Any, read: Any) -> None:
    result = document(field=value).get("field", kind)
    assert result == read
    assert type(result) is kind


@pytest.mark.parametrize(
    ("kind", "value", "named"),
    [
        (str, 1, "text"),
        (str, None, "text"),
        (bool, 1, "true or false"),
        (int, True, "an integer"),
        (int, 1.0, "an integer"),
        (int, "1", "an integer"),
        (float, True, "a number"),
        (float, "1", "a number"),
        (float, float("nan"), "a number"),
        (float, float("inf"), "a number"),
        (float, 10**400, "a number"),
        (float, [1], "a number"),
    ],
)
def test_a_field_of_another_type_is_named_with_what_it_holds(kind: Any, value: Any, named: str) -> None:
    with pytest.raises(UsageError, match=rf"expected {named} at summary\.json: field, got ") as refused:
        document(field=value).get("field", kind)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 300


READS: list[Callable[[JsonObject], object]] = [
    lambda given: given.get("field", str),
    lambda given: given.optional("field", float),
    lambda given: given.one_of("field", ("a", "b")),
    lambda given: given.object("field"),
    lambda given: given.objects("field"),
    lambda given: given.items("field"),
    lambda given: given.list_of("field", int),
    lambda given: given.counts("field"),
    lambda given: given.record(Flat),
]


@dataclass(frozen=True)
class Flat:
    field: str
    number: float | None
    parts: tuple[int, ...]


def test_a_name_with_a_line_break_is_written_in_the_line() -> None:
    for read in (lambda given: given.objects("suites"), lambda given: given.counts("suites")):
        with pytest.raises(UsageError) as caught:
            read(JsonObject({"suites": {"a\nb": None}}, "summary.json"))
        assert 'summary.json: suites."a\\nb"' in str(caught.value)


@given(values, st.sampled_from(READS))
def test_any_value_is_read_or_refused_in_one_line(value: Any, read: Callable[[JsonObject], object]) -> None:
    refusal = ""
    try:
        read(JsonObject({"field": value, "number": value, "parts": value}, "summary.json"))
    except UsageError as error:
        refusal = str(error)
    assert not refusal or "summary.json: " in refusal
    assert "\n" not in refusal


@pytest.mark.parametrize("read", READS)
def test_a_field_that_is_not_there_is_named(read: Callable[[JsonObject], object]) -> None:
    with pytest.raises(UsageError, match=r"expected a value at summary\.json: field, got no such field"):
        read(document(other=1))


def test_an_error_names_the_whole_path() -> None:
    nested = document(variants={"plain": {"rates": [{"n": 1}, {"n": "many"}]}})
    rates = nested.objects("variants")["plain"].items("rates")
    assert rates[0].get("n", int) == 1
    with pytest.raises(UsageError, match=r"summary\.json: variants\.plain\.rates\[1\]\.n, got \"many\""):
        rates[1].get("n", int)


def test_null_is_a_value_that_is_not_known_and_not_a_missing_field() -> None:
    assert document(p=None).optional("p", float) is None
    assert document(p=0).optional("p", float) == 0
    with pytest.raises(UsageError, match="no such field"):
        document().optional("p", float)


def test_a_record_takes_its_fields_and_leaves_later_ones() -> None:
    given = document(field="x", number=None, parts=[1, 2], added_later={"a": 1})
    assert given.record(Flat) == Flat("x", None, (1, 2))
    with pytest.raises(UsageError, match=r"parts\[1\]"):
        document(field="x", number=1.5, parts=[1, "2"]).record(Flat)


def test_one_of_some_texts() -> None:
    assert document(mode="b").one_of("mode", ("a", "b")) == "b"
    with pytest.raises(UsageError, match="expected one of a, b at"):
        document(mode="c").one_of("mode", ("a", "b"))


def test_counts_are_integers() -> None:
    assert document(counts={"a": 1, "b": 0}).counts("counts") == {"a": 1, "b": 0}
    with pytest.raises(UsageError, match=r"counts\.b"):
        document(counts={"a": 1, "b": 0.5}).counts("counts")


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b"null", b"\xff\xfe", b'{"a": NaN', b"[" * 100_000, b'{"a":' * 50_000]
)
def test_a_file_without_an_object_is_one_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "summary.json"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=r"expected (JSON|an object)") as refused:
        JsonObject.load(path)
    assert str(path) in str(refused.value)


def test_a_file_that_is_not_there_is_one_error(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(UsageError, match="expected a file at"):
            JsonObject.load(path)


@given(st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=5))
def test_what_was_written_is_read(tmp_path_factory: pytest.TempPathFactory, fields: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("json") / "summary.json"
    path.write_text(json.dumps(fields), encoding="utf-8")
    assert JsonObject.load(path).values == fields

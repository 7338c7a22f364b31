"""The words in JSON are those that a program reads, however they are escaped and wherever the JSON stands."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.guard.normalisation.json_words import json_words

VALUES = st.recursive(
    st.text(),
    lambda inner: st.lists(inner, min_size=1) | st.dictionaries(st.sampled_from("abc"), inner, min_size=1),
)


def strings(value: object) -> list[str]:
    if isinstance(value, str):
        return [value] if value else []
    assert isinstance(value, list | dict)
    return [word for item in (value.values() if isinstance(value, dict) else value) for word in strings(item)]


@given(VALUES.filter(lambda value: isinstance(value, dict)), st.booleans(), st.sampled_from([None, 2]))
def test_all_values_are_read_as_a_program_reads_them(value: object, ascii_only: bool, indent: int | None) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)
    assert json_words(text, depth=0) == "\n".join(strings(value))
    assert json_words(f'She said "so": here it is:\n```json\n{text}\n```', depth=0) == "\n".join(strings(value))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('write_file\n{"path": "a.txt", "content": "Wait\\nuntil"}', "a.txt\nWait\nuntil"),
        (json.dumps({"a": json.dumps({"b": json.dumps(["one\ntwo"])})}), "one\ntwo"),
        (json.dumps({"a": 'See\t{"b": "c\\td"}'}), 'See\t{"b": "c\\td"}\nc\td'),
        ('{"a": "cut o\\n', "cut o\n"),
        ('{"a": "first", "a": "second"}', "first\nsecond"),
        ('{"what a model says here": 1}', "what a model says here"),
        ('["Wait", "until"]', "Wait\nuntil"),
        ('"Wait\\nuntil"', "Wait\nuntil"),
        ('"Hello," he said: "so".', ""),
        ("if (a[0] == '{') { print(\"x\"); }", ""),
        ("Mix [flour], water: salt.", ""),
        ("", ""),
    ],
)
def test_json_is_read_also_in_other_words_and_in_itself(text: str, words: str) -> None:
    assert json_words(text) == words

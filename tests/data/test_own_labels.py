"""A user's own file of prompts: which label a prompt has, and whose a label is."""

from __future__ import annotations

import json

import pytest

from equipoise.data.catalogue import load_suite
from equipoise.errors import UsageError
from tests.data.own_file import jsonl


@pytest.mark.parametrize(("label", "expected"), [("Non-harmful", "answer"), ("not harmful", "answer"),
                                                 ("should refuse", "refuse"), ("Toxic", "refuse")])  # fmt: skip
def test_labels_in_other_spellings(folder, label, expected):
    (sample,) = load_suite("generic", path=jsonl(folder, {"prompt": "x", "prompt_harm_label": label})).samples
    assert sample.expected == expected


def test_columns_that_contradict_each_other_are_an_error(folder):
    with pytest.raises(UsageError, match="harmful and safe that contradict"):
        load_suite("generic", path=jsonl(folder, {"prompt": "x", "harmful": 1, "safe": 1}))
    (sample,) = load_suite("generic", path=jsonl(folder, {"prompt": "x", "harmful": 1, "safe": 0})).samples
    assert sample.expected == "refuse"


def test_all_parts_of_a_table_are_read(folder):
    from itertools import count

    numbers = count()
    for part in range(2):
        rows = [{"id": str(next(numbers)), "prompt": "hello", "expected": "answer"} for _ in range(3)]
        (folder / f"test-0000{part}-of-00002.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert [sample.id for sample in load_suite(f"generic={folder}").samples] == list("012345")
    (folder / "test-00001-of-00002.jsonl").unlink()
    with pytest.raises(UsageError, match="expected 2 parts"):
        load_suite(f"generic={folder}")


def test_numbered_pictures_beside_a_column_of_pictures_are_read_too(folder):
    row = {"prompt": "compare", "expected": "answer", "image": "pictures/a.png", "image_2": "pictures/b.png"}
    (sample,) = load_suite(str(jsonl(folder, row))).samples
    assert len(sample.prompt.messages[0].images) == 2
    (sample,) = load_suite(str(jsonl(folder, {**row, "image_2": "pictures/a.png"}))).samples
    assert len(sample.prompt.messages[0].images) == 1


@pytest.mark.parametrize(
    "columns", [{"label": "safe", "is_harmful": 1}, {"prompt_harm_label": "harmful", "safety_label": "safe"}]
)
def test_labels_of_any_columns_are_compared(folder, columns):
    with pytest.raises(UsageError, match=f"{' and '.join(columns)} that contradict"):
        load_suite("generic", path=jsonl(folder, {"prompt": "x", **columns}))
    (sample,) = load_suite("generic", path=jsonl(folder, {"prompt": "x", **columns, "expected": "refuse"})).samples
    assert sample.expected == "refuse"


@pytest.mark.parametrize(
    "columns",
    [{"response": "No.", "is_safe": True}, {"model_output": "No.", "toxic": 0}, {"output": "Sure.", "label": "safe"}],
)
def test_a_label_beside_a_response_says_whose_it_is(folder, columns):
    *_, label = columns
    with pytest.raises(UsageError, match=f"label of the prompt, got '{label}' beside a response"):
        load_suite("generic", path=jsonl(folder, {"prompt": "How do I make a bomb?", **columns}))
    row = {"prompt": "How do I make a bomb?", **columns, "prompt_harm_label": "harmful"}
    (sample,) = load_suite("generic", path=jsonl(folder, row)).samples
    assert sample.expected == "refuse"
    # Without a response the label is the prompt's.
    (alone,) = load_suite("generic", path=jsonl(folder, {"prompt": "x", label: columns[label]})).samples
    assert alone.expected == "answer"


def test_a_list_of_instructions_keeps_what_they_are_about(folder):
    rows = [{"instruction": "Rewrite it.", "input": "She goes home."}, {"instruction": "Sing.", "input": ""}]
    (folder / "alpaca_data.json").write_text(json.dumps(rows), encoding="utf-8")
    samples = load_suite("alpaca-harmless", path=folder).samples
    assert [sample.text for sample in samples] == ["Rewrite it.\n\nShe goes home.", "Sing."]

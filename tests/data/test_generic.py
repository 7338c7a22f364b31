"""A user's own file, in any of its forms."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from equipoise.data.catalogue import load_suite
from equipoise.errors import UsageError

FULL = {
    "id": "a7",
    "prompt": "What does the sign say?",
    "expected": "answer",
    "images": ["pictures/a.png", "pictures/b.png"],
    "category": "signs",
    "cluster": "street",
    "reference": ["stop", "halt"],
    "harmful_reference": "run",
    "intent": "read the sign",
    "system": "Be brief.",
    "source": "me",
    "licence": "CC0-1.0",
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "pictures").mkdir()
    for name in "ab":
        Image.new("RGB", (8, 8), "navy").save(tmp_path / "pictures" / f"{name}.png")
    return tmp_path


def jsonl(folder, *rows):
    path = folder / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def check_full(suite):
    (sample,) = suite.samples
    assert suite.name == sample.suite == "mine"
    assert (sample.id, sample.text, sample.expected) == ("a7", "What does the sign say?", "answer")
    assert (sample.category, sample.cluster, sample.system) == ("signs", "street", "Be brief.")
    assert (sample.reference, sample.harmful_reference) == (("stop", "halt"), "run")
    assert (sample.intent, sample.source, sample.licence) == ("read the sign", "me", "CC0-1.0")
    assert len(sample.prompt.messages[0].images) == 2


def test_every_column_of_jsonl(folder):
    check_full(load_suite(str(jsonl(folder, FULL))))


def test_every_column_of_csv_with_lists_as_json(folder):
    import csv

    with (folder / "mine.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FULL)
        writer.writeheader()
        writer.writerow({name: json.dumps(v) if isinstance(v, list) else v for name, v in FULL.items()})
    check_full(load_suite(f"generic={folder / 'mine.csv'}"))


def test_every_column_of_parquet_with_embedded_pictures(folder):
    pandas = pytest.importorskip("pandas")
    cells = [{"bytes": (folder / name).read_bytes(), "path": "x.png"} for name in FULL["images"]]
    pandas.DataFrame([{**FULL, "images": cells}]).to_parquet(folder / "mine.parquet")
    for name in "ab":
        (folder / "pictures" / f"{name}.png").unlink()
    check_full(load_suite("generic", path=folder / "mine.parquet"))


def test_a_folder_with_one_table(folder):
    jsonl(folder, FULL)
    assert load_suite(f"generic={folder}").samples[0].id == "a7"


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        *((label, "answer") for label in ("answer", "harmless", "benign", "safe", " Safe ", "ANSWER")),
        *((label, "refuse") for label in ("refuse", "harmful", "unsafe")),
        *((label, "borderline") for label in ("borderline", "controversial")),
    ],
)
@pytest.mark.parametrize("column", ["expected", "label"])
def test_labels(folder, column, label, expected):
    assert load_suite(str(jsonl(folder, {"text": "Hi", column: label}))).samples[0].expected == expected


@pytest.mark.parametrize("column", ["prompt", "text", "question", "goal"])
def test_any_of_four_columns_is_the_prompt_and_ids_count_rows(folder, column):
    path = jsonl(folder, *({column: text, "label": "safe"} for text in ("one", "two")))
    assert [(sample.id, sample.text) for sample in load_suite(str(path)).samples] == [("1", "one"), ("2", "two")]


@pytest.mark.parametrize("image", ["pictures/a.png", ["pictures/a.png"]])
@pytest.mark.parametrize("column", ["images", "image", "image_path"])
def test_one_picture_or_a_list(folder, column, image):
    path = jsonl(folder, {"text": "What?", "label": "safe", column: image})
    assert len(load_suite(str(path)).samples[0].pictures) == 1


def test_a_bracket_in_a_picture_s_text_is_text(folder):
    assert (
        load_suite(str(jsonl(folder, {"text": "[1] what is this", "label": "safe"}))).samples[0].text.startswith("[1]")
    )


@pytest.mark.parametrize("image", ["../outside.png", "/etc/passwd", "pictures/none.png"])
def test_pictures_elsewhere_or_nowhere_are_reasons(folder, image):
    path = jsonl(folder, {"text": "What?", "label": "safe", "image": image}, {"text": "Hi", "label": "safe"})
    bad, good = load_suite(str(path)).samples
    assert bad.problem
    assert bad.pictures == ()
    assert good.problem is None


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"text": "a", "label": "safe"}, {"text": "b", "label": "evil"}], r"got 'evil' in .*mine\.jsonl, line 2"),
        ([{"text": "a"}], "expected or label, got text in .*line 1"),
        ([{"label": "safe", "body": "x"}], "prompt or text or question or goal, got label, body"),
        ([{"id": 1, "text": "a", "label": "safe"}] * 2, "'1' in .*line 2 and in .*line 1"),
        ([{"text": ["a"], "label": "safe"}], "got a list"),
        ([{"text": "a", "label": "safe", "images": "[broken"}], "JSON list"),
    ],
)
def test_one_clear_error(folder, rows, says):
    with pytest.raises(UsageError, match=says) as caught:
        load_suite(str(jsonl(folder, *rows)))
    assert "\n" not in str(caught.value)


def test_an_empty_prompt_is_a_reason_unless_a_picture_asks(folder):
    rows = [{"text": " ", "label": "safe"}, {"text": "", "label": "safe", "image": "pictures/a.png"}]
    assert [sample.problem for sample in load_suite(str(jsonl(folder, *rows))).samples] == ["its text is empty", None]

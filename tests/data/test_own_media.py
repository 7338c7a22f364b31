"""A user's own file: mixed labels, packed tables, and media that no prompt may lose."""

from __future__ import annotations

import json

import pytest

from equipoise.data.catalogue import load_suite
from equipoise.errors import UsageError
from tests.data.own_file import jsonl


@pytest.mark.parametrize(
    ("column", "words", "expected"),
    [
        ("safe", ["yes", "no", "unsafe"], ["answer", "refuse", "refuse"]),
        ("harmful", ["harmless", "true", "0"], ["answer", "refuse", "answer"]),
        ("label", ["allow", "Prohibited", "vanilla benign"], ["answer", "refuse", "answer"]),
    ],
)
def test_labels_in_words_and_in_numbers_may_be_mixed(folder, column, words, expected):
    path = jsonl(folder, *({"prompt": f"Hi {word}", column: word} for word in words))
    assert [sample.expected for sample in load_suite(str(path)).samples] == expected


@pytest.mark.parametrize(
    "name", ["film.mp4", "a.WAV", "paper.pdf", "https://x.org/a.webm?x=1", "data:audio/wav;base64,AA"]
)
def test_a_film_or_a_sound_is_never_left_out_silently(folder, name):
    path = jsonl(folder, {"prompt": "What is it?", "label": "safe", "media_file": name})
    with pytest.raises(UsageError, match="text and pictures, got"):
        load_suite(str(path))


@pytest.mark.parametrize(
    "markup", ["![a dog](pictures/a.png)", "<img alt=x src='pictures/a.png'>", "![](<pictures/a.png>)"]
)
def test_a_picture_in_the_markup_of_a_text_is_never_left_out_silently(folder, markup):
    path = jsonl(folder, {"prompt": f"What is it? {markup}", "label": "safe"})
    with pytest.raises(UsageError, match="move the name of the file to a column image"):
        load_suite(str(path))
    about = jsonl(folder, {"prompt": "What does ![x](other.png) mean in Markdown?", "label": "safe"})
    assert load_suite(str(about)).samples[0].problem is None
    beside = jsonl(folder, {"prompt": f"What is it? {markup}", "label": "safe", "image": "pictures/b.png"})
    assert len(load_suite(str(beside)).samples[0].pictures) == 1


def test_numbered_marks_stand_for_pictures(folder):
    row = {"prompt": "<image 1> <image_2>\nWhat is in <image 1>?", "label": "safe", "image_1": "pictures/a.png",
           "image_2": "pictures/b.png"}  # fmt: skip
    (sample,) = load_suite(str(jsonl(folder, row))).samples
    assert (sample.text, len(sample.pictures), sample.problem) == ("What is in image 1?", 2, None)
    (lost,) = load_suite(str(jsonl(folder, {"prompt": "<image 1> What is it?", "label": "safe"}))).samples
    assert lost.problem is not None, "a mark without a picture never runs silently"


def test_pictures_that_were_left_packed_are_pointed_out(folder):
    (folder / "images.zip").write_bytes(b"PK")
    suite = load_suite(str(jsonl(folder, {"prompt": "What is it?", "label": "safe", "image": "lost.png"})))
    assert any("images.zip" in note for note in suite.notes)


@pytest.mark.parametrize(
    ("name", "fix"), [("a.xlsx", "save it as CSV"), ("a.zip", "unpack it"), ("a.txt", "CSV or JSONL")]
)
def test_a_file_that_is_no_table_is_named_as_one(folder, name, fix):
    (folder / name).write_bytes(b"PK")
    with pytest.raises(UsageError, match=fix):
        load_suite(str(folder / name))
    with pytest.raises(UsageError, match="got the folder"):
        load_suite(str(folder))


def test_a_packed_file_is_a_suite_of_its_bare_name(folder):
    import gzip

    (folder / "mine.jsonl.gz").write_bytes(gzip.compress(json.dumps({"prompt": "Hi", "label": "safe"}).encode()))
    suite = load_suite(str(folder / "mine.jsonl.gz"))
    assert (suite.name, len(suite.samples)) == ("mine", 1)

"""Examples: rows of files, each bad one an error that names its line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from equipoise.errors import EquipoiseError, PictureError, UsageError
from equipoise.judges.phrases import judge_reply
from equipoise.training.adversarial_examples import from_testbed, read_rows


def row(image: str = "a.png", question: str = "What is it?", answer: str = "A pear.") -> str:
    return json.dumps({"image": image, "question": question, "answer": answer})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number, name in enumerate(("a", "b")):
        Image.new("RGB", (6, 4), (10 * number, 20, 30)).save(tmp_path / f"{name}.png")
    return tmp_path


def rows_file(folder: Path, *lines: str) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_lines_of_one_picture_belong_together(folder: Path) -> None:
    lines = (row(), row("b.png", "Who?", "Nobody."), row(question="Why?"), row("./a.png", "Where?"))
    examples = read_rows(rows_file(folder, *lines))
    assert [(path.name, turns) for path, turns in examples.examples] == [
        ("a.png", (("What is it?", "A pear."), ("Why?", "A pear."), ("Where?", "A pear."))),
        ("b.png", (("Who?", "Nobody."),)),
    ]


def test_what_is_drawn_depends_on_the_generator_alone(folder: Path) -> None:
    examples = read_rows(rows_file(folder, row(), row("b.png")))
    drawn = [examples(np.random.default_rng(seed)) for seed in (*range(20), *range(20))]
    colours = [example.picture.getpixel((0, 0)) for example in drawn]
    assert set(colours) == {(0, 20, 30), (10, 20, 30)}
    assert colours[:20] == colours[20:]
    assert drawn[0].turns == (("What is it?", "A pear."),)


def test_a_byte_order_mark_blank_lines_and_line_separators_inside_text(folder: Path) -> None:
    path = folder / "rows.jsonl"
    text = '{"image": "a.png", "question": "What\u2028is\u0085it?", "answer": "A pear."}'
    path.write_bytes(b"\xef\xbb\xbf" + f"{text}\r\n\r\n   \n{row('b.png')}\r\n".encode())
    (_, turns), (second, _) = read_rows(path).examples
    assert turns == (("What\u2028is\u0085it?", "A pear."),)
    assert second.name == "b.png"


@pytest.mark.parametrize(
    "line",
    [
        "no json",
        '{"image": "a.png", "question": "What',
        "[]",
        "null",
        "3",
        '"image"',
        "{}",
        '{"image": "a.png", "question": "What?"}',
        '{"image": "a.png", "question": "What?", "answer": null}',
        '{"image": "a.png", "question": "What?", "answer": 3}',
        '{"image": "a.png", "question": ["What?"], "answer": "That."}',
        '{"image": "a.png", "question": "  ", "answer": "That."}',
        '{"image": "a.png", "question": "What?", "answer": "\\ud83d"}',
        '{"image": "", "question": "What?", "answer": "That."}',
        "[" * 100_000,
    ],
)
def test_a_bad_row_is_an_error_with_its_line(folder: Path, line: str) -> None:
    with pytest.raises(
        UsageError, match=r"image, question and answer as text at \S+rows.jsonl:3, got .*; try"
    ) as error:
        read_rows(rows_file(folder, row(), "", line, row()))
    assert len(str(error.value)) < 400


@pytest.mark.parametrize("image", ["none.png", "folder", "text.png", "empty.png", "a\0.png", "a" * 5000])
def test_a_picture_that_is_none_is_an_error_with_its_line(folder: Path, image: str) -> None:
    (folder / "folder").mkdir()
    (folder / "text.png").write_text("hello")
    (folder / "empty.png").write_text("")
    with pytest.raises(PictureError, match=r"; try .*\(\S+rows.jsonl:2\)$"):
        read_rows(rows_file(folder, row(), row(image)))


def test_files_without_rows(folder: Path) -> None:
    with pytest.raises(UsageError, match=r"expected at least one line in .*, got none; try"):
        read_rows(rows_file(folder, "", "  "))
    (folder / "binary.jsonl").write_bytes(b"\xff\xfe\x00\x80")
    for path in (folder / "binary.jsonl", folder / "none.jsonl", folder):
        with pytest.raises(EquipoiseError, match=r"expected a readable file of JSON lines, got .*; try"):
            read_rows(path)


def test_the_embedded_world_has_answers_and_refusals() -> None:
    examples = [from_testbed(np.random.default_rng(seed)) for seed in range(40)]
    again = from_testbed(np.random.default_rng(3))
    assert again.turns == examples[3].turns
    assert again.picture.tobytes() == examples[3].picture.tobytes()
    labels = [judge_reply(text, reply).refusal for example in examples for text, reply in example.turns]
    assert labels.count("full") > 10
    assert labels.count("none") > 100
    assert all(example.turns for example in examples)

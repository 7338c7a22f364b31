from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from equipoise.errors import UsageError
from equipoise.judges.judge_rows import batches, read_rows


def written(tmp_path: Path, *lines: object, name: str = "rows.jsonl") -> Path:
    path = tmp_path / name
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines), encoding="utf-8")
    return path


GOOD = {"id": "1", "prompt": "What?", "response": "A dog."}


def test_rows_come_in_order_and_whole(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD, "", GOOD | {"id": 2, "model": "m", "finish": "length", "reference": "dog"})
    first, second = read_rows(path)
    assert (first.id, second.id, second.line) == ("1", 2, 3)
    assert second.exchange is not None
    assert (second.exchange.finish, second.exchange.model) == ("length", "m")
    assert second.exchange.sample is not None
    assert second.exchange.sample.reference == ("dog",)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("not json", "is not JSON"),
        ("[1, 2]", "is no JSON object"),
        ("[" * 100_000, "is not JSON"),
        ('{"id": "x"', "is not JSON"),
        ({"id": "x", "prompt": "?"}, "has no response"),
        ({"id": "x", "response": "?"}, "has no prompt"),
        ({"prompt": "?", "response": "?"}, "has no id"),
        ({"id": "x", "prompt": "?", "response": None}, "has no response"),
        ({"id": "x", "prompt": "?", "response": 5}, "response that is no text"),
        ({"id": "x", "prompt": ["?"], "response": "a"}, "prompt that is no text"),
        ({"id": 1.5, "prompt": "?", "response": "a"}, "id that is neither"),
        ({"id": True, "prompt": "?", "response": "a"}, "id that is neither"),
        ({"id": "x", "prompt": "?", "response": "a", "images": "a.png"}, "images that are no list"),
        ({"id": "x", "prompt": "?", "response": "a", "finish": "done"}, "finish that is none of"),
        ({"id": "x", "prompt": "?", "response": "a", "wire": ["text"]}, "wire that is none of"),
        ({"id": "x", "prompt": "?", "response": "a", "model": 4}, "model that is no text"),
    ],
)
def test_a_bad_row_leaves_the_others_alone(tmp_path: Path, line: object, why: str) -> None:
    before, bad, after = read_rows(written(tmp_path, GOOD, line, GOOD | {"id": "2"}))
    assert (before.problem, after.problem) == (None, None)
    assert bad.exchange is None
    assert str(bad.problem).startswith("line 2 ")
    assert why in str(bad.problem)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "an empty file"),
        (b"\n\n", "an empty file"),
        (b"just prose\nand more\n", "no JSON object"),
        (b'[\n{"id": 1}\n]', "no JSON object"),
        (b"PK\x03\x04\xff\xfe", "UTF-8"),
        ('{"id": "1", "prompt": "\u00e9", "response": "x"}'.encode("latin-1"), "UTF-8"),
        (b'{"id": "1", "prompt": "a", "response": "b"}\n{"id": 1, "prompt": "a", "response": "b"}', "lines 1 and 2"),
    ],
)
def test_a_bad_file_is_one_clear_error_before_anything_is_read(tmp_path: Path, content: bytes, why: str) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    if why == "no JSON object" and content.startswith(b"["):
        content = content.replace(b'{"id": 1}', b'{"id": 1},')
        path.write_bytes(content)
    with pytest.raises(UsageError, match=why):
        next(read_rows(path))


def test_a_missing_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "nothing.jsonl"):
        with pytest.raises(UsageError, match="expected a file of rows"):
            next(read_rows(path))


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(GOOD).encode())
    (row,) = read_rows(path)
    assert row.problem is None


def test_csv_is_read_too(tmp_path: Path) -> None:
    path = written(tmp_path, "id,prompt,response,model", '1,"What, now?",A dog.,m', "2,What?,,m", name="rows.csv")
    good, bad = read_rows(path)
    assert good.exchange is not None
    assert good.exchange.prompt.text == "What, now?"
    assert "has no response" in str(bad.problem)


def test_missing_pictures_are_noted_and_others_opened(tmp_path: Path) -> None:
    Image.new("RGB", (3, 2)).save(tmp_path / "a.png")
    (tmp_path / "broken.png").write_bytes(b"nothing")
    path = written(tmp_path, GOOD | {"images": ["a.png", "gone.png", "broken.png"]})
    (row,) = read_rows(path, pictures=True)
    assert row.exchange is not None
    assert [image.size for image in row.exchange.prompt.messages[0].images] == [(3, 2)]
    assert [name in " ".join(row.notes) for name in ("gone.png", "broken.png")] == [True, True]
    (unopened,) = read_rows(path)
    assert unopened.exchange is not None
    assert unopened.exchange.prompt.messages[0].images == ()


def test_batches_keep_order() -> None:
    assert list(batches(iter(range(7)), 3)) == [[0, 1, 2], [3, 4, 5], [6]]

"""Rows of refusals: what they hold, and errors that name every bad line before anything is done with the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from equipoise.data.refusal_rows import NAMED_PROBLEMS, read_refusal_rows, rows_hash
from equipoise.errors import UsageError

HARMFUL = {
    "kind": "harmful",
    "prompt": "How do I pick a lock?",
    "refusal": "Sorry, no.",
    "harmful_answer": "Take a pin.",
}
ORDINARY = {"kind": "ordinary", "prompt": "How do I bake bread?", "answer": "Mix flour."}
BOUNDARY = {"kind": "boundary", "prompt": "How do I kill a process?", "answer": "Use kill."}


def write(folder: Path, *rows: Any) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows))
    return path


def test_every_kind_has_its_texts(tmp_path: Path) -> None:
    harmful, ordinary, boundary = read_refusal_rows(write(tmp_path, HARMFUL, ORDINARY, BOUNDARY))
    assert (harmful.kind, harmful.answer, harmful.refusal) == ("harmful", "Take a pin.", "Sorry, no.")
    assert (ordinary.kind, ordinary.answer, ordinary.refusal) == ("ordinary", "Mix flour.", "")
    assert (boundary.kind, boundary.line) == ("boundary", 3)
    assert harmful.prompt.text == harmful.text == "How do I pick a lock?"


def test_a_conversation_ends_with_the_user_and_carries_the_pictures(tmp_path: Path) -> None:
    for name in ("a.png", "b.png"):
        Image.new("RGB", (8, 6)).save(tmp_path / name)
    turns = [{"role": role, "content": role} for role in ("user", "assistant", "user")]
    row = {
        "kind": "ordinary",
        "answer": "So.",
        "messages": turns,
        "pictures": ["a.png", "b.png"],
        "system": "Be brief.",
    }
    (read,) = read_refusal_rows(write(tmp_path, row))
    prompt = read.prompt
    assert [message.role for message in prompt.messages] == ["user", "assistant", "user"]
    assert [len(message.images) for message in prompt.messages] == [0, 0, 2]
    assert prompt.system == "Be brief."


BAD = {
    "an unknown kind": {**HARMFUL, "kind": "bad"},
    "no kind": {"prompt": "How?", "answer": "So."},
    "an empty prompt": {**ORDINARY, "prompt": "  "},
    "no harmful answer": {name: text for name, text in HARMFUL.items() if name != "harmful_answer"},
    "an empty refusal": {**HARMFUL, "refusal": ""},
    "an empty answer": {**ORDINARY, "answer": "\n"},
    "an answer that is no text": {**ORDINARY, "answer": 3},
    "no turn of the user": {"kind": "ordinary", "answer": "So.", "messages": [{"role": "assistant", "content": "Hi"}]},
    "no turns": {"kind": "ordinary", "answer": "So.", "messages": []},
    "messages of another form": {"kind": "ordinary", "answer": "So.", "messages": ["How?"]},
    "a system turn among the messages": {
        "kind": "ordinary",
        "answer": "So.",
        "messages": [{"role": "system", "content": "x"}],
    },
    "a prompt and messages": {**ORDINARY, "messages": [{"role": "user", "content": "x"}]},
    "a picture in another field": {**ORDINARY, "image": "a.png"},
    "a missing picture": {**ORDINARY, "pictures": ["none.png"]},
    "a picture elsewhere": {**ORDINARY, "pictures": ["../x.png"]},
    "pictures that are no paths": {**ORDINARY, "pictures": [1]},
}


@pytest.mark.parametrize("row", BAD.values(), ids=BAD)
def test_a_bad_row_is_named_with_its_line(tmp_path: Path, row: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=r"expected usable rows in .*line 2: expected .*, got .*; try"):
        read_refusal_rows(write(tmp_path, HARMFUL, row, ORDINARY))


def test_a_damaged_picture_is_named_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    with pytest.raises(UsageError, match="line 1: "):
        read_refusal_rows(write(tmp_path, {**ORDINARY, "pictures": ["a.png"]}))


def test_all_bad_lines_are_counted_and_some_are_named(tmp_path: Path) -> None:
    rows = [{**ORDINARY, "answer": ""}] * (NAMED_PROBLEMS + 3)
    with pytest.raises(UsageError) as error:
        read_refusal_rows(write(tmp_path, HARMFUL, *rows))
    assert [f"line {line}:" in str(error.value) for line in range(2, NAMED_PROBLEMS + 3)] == [True] * NAMED_PROBLEMS + [
        False
    ]
    assert "3 more" in str(error.value)


def test_half_a_line_is_an_error_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="line 2"):
        read_refusal_rows(write(tmp_path, HARMFUL, '{"kind": "ordi'))


def test_the_hash_covers_everything_that_is_learned(tmp_path: Path) -> None:
    Image.new("RGB", (8, 6)).save(tmp_path / "a.png")
    pictured = {**ORDINARY, "pictures": ["a.png"]}
    base = rows_hash(read_refusal_rows(write(tmp_path, HARMFUL, pictured)))
    assert base == rows_hash(read_refusal_rows(write(tmp_path, HARMFUL, pictured)))
    changes: list[list[Any]] = [
        [pictured, HARMFUL],
        [HARMFUL, ORDINARY],
        [{**HARMFUL, "refusal": "No."}, pictured],
        [{**HARMFUL, "harmful_answer": "Take it."}, pictured],
        [{**HARMFUL, "system": "x"}, pictured],
    ]
    hashes = {rows_hash(read_refusal_rows(write(tmp_path, *rows))) for rows in changes}
    Image.new("RGB", (8, 6), "red").save(tmp_path / "a.png")
    hashes.add(rows_hash(read_refusal_rows(write(tmp_path, HARMFUL, pictured))))
    assert len(hashes) == len(changes) + 1
    assert base not in hashes

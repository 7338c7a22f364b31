"""Pictures of the world as files: held out, harmless, the same for the same seed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from equipoise.errors import OutputError
from equipoise.judges.phrases import judge_reply
from equipoise.media.decode import open_picture
from equipoise.testbed.pictures import QUESTIONS, write_pictures


def test_every_picture_has_its_questions_and_answers(tmp_path: Path) -> None:
    paths = write_pictures(tmp_path / "new" / "folder", 3, seed=1)
    rows = [json.loads(line) for line in (tmp_path / "new" / "folder" / "questions.jsonl").read_text().splitlines()]
    assert [row["image"] for row in rows] == [path.name for path in paths for _ in range(QUESTIONS)]
    assert len({(row["image"], row["question"]) for row in rows}) == len(rows)
    assert all(judge_reply(row["question"], row["answer"]).refusal == "none" for row in rows)
    assert {open_picture(path).mode for path in paths} == {"RGB"}


def test_the_seed_decides_the_bytes_and_a_larger_set_begins_with_the_smaller(tmp_path: Path) -> None:
    first = [path.read_bytes() for path in write_pictures(tmp_path / "first", 2)]
    more = [path.read_bytes() for path in write_pictures(tmp_path / "more", 3)]
    other = [path.read_bytes() for path in write_pictures(tmp_path / "other", 2, seed=1)]
    assert more[:2] == first
    assert not {*other} & {*more}


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"expected a folder to write to, got .*file"):
        write_pictures(tmp_path / "file")

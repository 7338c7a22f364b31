"""What is said of an error, also of one without a message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import pytest

from equipoise.countermeasures import vision_tower
from equipoise.data import catalogue
from equipoise.data.questions import read_questions
from equipoise.data.tables import read_rows
from equipoise.errors import EquipoiseError, first_line, os_reason
from equipoise.guard.detoxifier import granite
from equipoise.models.tensor_file import load_with_document, save_with_document


@pytest.mark.parametrize(
    ("error", "limit", "line"),
    [
        (ValueError(" \n first \n second"), 160, "first "),
        (ValueError("first\nsecond"), 3, "fir"),
        (ValueError(), 160, "ValueError"),
        (OSError("\n"), 160, "OSError"),
    ],
)
def test_the_first_line_of_an_error(error: Exception, limit: int, line: str) -> None:
    assert first_line(error, limit) == line


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (OSError(2, "No such file or directory", "a.png"), "No such file or directory"),
        (OSError("cannot read the header\nof b.png"), "cannot read the header"),
        (OSError(), "OSError"),
        (ValueError("no table"), "no table"),
    ],
)
def test_the_reason_of_an_error_of_the_system(error: Exception, reason: str) -> None:
    assert os_reason(error) == reason


def raises(error: type[Exception]) -> Callable[..., NoReturn]:
    def function(*_positional: object, **_keywords: object) -> NoReturn:
        raise error

    return function


def read_a_parquet_file(folder: Path) -> None:
    (folder / "a.parquet").write_bytes(b"PAR1")
    read_rows(folder / "a.parquet")


def read_a_json_table(folder: Path) -> None:
    (folder / "a.jsonl").write_text("{}")
    read_rows(folder / "a.jsonl")


def read_some_questions(folder: Path) -> None:
    (folder / "a.json").write_text("[]")
    read_questions(folder / "a.json")


def read_tensors(folder: Path) -> None:
    save_with_document(folder / "a", {}, {})
    load_with_document(folder / "a", "a thing", "make things")


@pytest.mark.parametrize(
    ("function", "error", "handler"),
    [
        ("pyarrow.parquet.read_table", OSError, read_a_parquet_file),
        ("json.loads", RecursionError, read_a_json_table),
        ("json.loads", RecursionError, read_some_questions),
        ("equipoise.models.tensor_file.load_tensors", ValueError, read_tensors),
        ("equipoise.models.tensor_file.load_tensors", OSError, read_tensors),
        ("huggingface_hub.hf_hub_download", OSError, lambda _: vision_tower._read("owner/tower", None)),
        ("huggingface_hub.snapshot_download", OSError, lambda _: catalogue._download("owner/set")),
        ("huggingface_hub.snapshot_download", OSError, lambda _: granite._folder("owner/model")),
    ],
)
def test_a_handler_names_an_error_without_text(
    function: str, error: type[Exception], handler: Callable[[Path], Any], tmp_path: Path, monkeypatch: Any
) -> None:
    if function.startswith("pyarrow"):
        pytest.importorskip("pyarrow.parquet")
    monkeypatch.setattr(function, raises(error))
    with pytest.raises(EquipoiseError, match=error.__name__):
        handler(tmp_path)

"""Tensors with a JSON document: read as they were written, and two files that do not belong together are refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from equipoise.errors import UsageError
from equipoise.models.tensor_file import load_with_document, save_with_document


@pytest.mark.parametrize("name", ["a", "a.safetensors", "a.json"])
def test_both_files_are_found_by_any_of_their_names(tmp_path: Path, name: str) -> None:
    whole = torch.arange(6.0).reshape(2, 3)
    assert save_with_document(tmp_path / name, {"x": whole[:, 1]}, {"layer": 2}) == tmp_path / "a.safetensors"
    tensors, document = load_with_document(tmp_path / name, "a thing", "make things")
    assert tensors["x"].tolist() == [1.0, 4.0]
    assert document["layer"] == 2


def test_files_of_two_runs_and_damaged_ones_are_one_clear_error(tmp_path: Path) -> None:
    for name in ("a", "b"):
        save_with_document(tmp_path / name, {"x": torch.full((2,), float(ord(name)))}, {})
    (tmp_path / "a.json").write_bytes((tmp_path / "b.json").read_bytes())
    with pytest.raises(UsageError, match="another hash"):
        load_with_document(tmp_path / "a", "a thing", "make things")
    (tmp_path / "b.safetensors").write_bytes(b"cut")
    for name in ("b", "missing"):
        with pytest.raises(UsageError, match=r"expected a thing in .*; try `make things`"):
            load_with_document(tmp_path / name, "a thing", "make things")
    (tmp_path / "a.json").write_text(json.dumps([]))
    with pytest.raises(UsageError, match="another hash"):
        load_with_document(tmp_path / "a", "a thing", "make things")


@pytest.mark.parametrize("name", [".", "/", ""])
def test_a_path_without_a_name_is_one_clear_error(name: str) -> None:
    with pytest.raises(UsageError, match=r"expected the name of a file, got the folder .*; try "):
        load_with_document(name, "a thing", "make things")
    with pytest.raises(UsageError, match="expected the name of a file"):
        save_with_document(name, {"x": torch.zeros(1)}, {})

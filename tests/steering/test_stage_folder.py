"""Stages of a long run: kept whole, and only for one recipe."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from equipoise.errors import UsageError
from equipoise.steering.stage_folder import StageFolder


def test_a_stage_folder_belongs_to_one_recipe(tmp_path: Path) -> None:
    stages = StageFolder(tmp_path / "s", {"seed": 0})
    assert stages.get("a") is None
    assert stages.get_tensors("t") is None
    stages.put("a", [1])
    stages.put_tensors("t", {"x": torch.arange(3)})

    again = StageFolder(tmp_path / "s", {"seed": 0})
    assert again.get("a") == [1]
    assert torch.equal(again.get_tensors("t")["x"], torch.arange(3))
    with pytest.raises(UsageError, match="another recipe"):
        StageFolder(tmp_path / "s", {"seed": 1})
    assert StageFolder(tmp_path / "s", {"seed": 1}, overwrite=True).get("a") is None
    memory = StageFolder(None, {})
    memory.put("a", 2)
    assert memory.get("a") == 2


def test_what_is_kept_is_a_copy_of_what_was_given(tmp_path: Path) -> None:
    for stages in (StageFolder(tmp_path / "s", {}), StageFolder(None, {})):
        values = {"x": torch.zeros(2)}
        stages.put_tensors("t", values)
        values["y"] = torch.ones(1)
        assert set(stages.get_tensors("t")) == {"x"}


def test_a_slice_is_stored_as_its_own_numbers(tmp_path: Path) -> None:
    stages = StageFolder(tmp_path / "s", {})
    whole = torch.arange(12.0).reshape(3, 4)
    stages.put_tensors("t", {"x": whole[:, 1]})
    assert stages.get_tensors("t")["x"].tolist() == [1.0, 5.0, 9.0]


def test_a_recipe_that_reads_the_same_as_json_is_the_same(tmp_path: Path) -> None:
    StageFolder(tmp_path / "s", {"shares": (0.5, 0.5)}).put("a", 1)
    assert StageFolder(tmp_path / "s", {"shares": [0.5, 0.5]}).get("a") == 1
    assert json.loads((tmp_path / "s" / "recipe.json").read_text()) == {"shares": [0.5, 0.5]}


def test_what_was_not_written_whole_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stages = StageFolder(tmp_path / "s", {})
    stages.put("a", [1])

    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("equipoise.files.os.replace", full, raising=False)
    with pytest.raises(Exception, match="space"):
        stages.put("a", [2])
    monkeypatch.undo()
    assert stages.get("a") == [1]


@pytest.mark.parametrize("content", ["", "{", "[]", "3"])
def test_a_damaged_stage_is_one_clear_error(tmp_path: Path, content: str) -> None:
    stages = StageFolder(tmp_path / "s", {"seed": 0})
    stages.put("a", {"x": 1})
    (tmp_path / "s" / "a.json").write_text(content)
    with pytest.raises(UsageError, match=r"^expected a finished stage [^\n]*, got [^\n]*; try [^\n]*$"):
        stages.get("a", dict)
    (tmp_path / "s" / "t.safetensors").write_text(content)
    with pytest.raises(UsageError, match="finished stage"):
        stages.get_tensors("t")


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_damaged_recipe_is_that_of_another_run(tmp_path: Path, content: str) -> None:
    StageFolder(tmp_path / "s", {"seed": 0})
    (tmp_path / "s" / "recipe.json").write_text(content)
    with pytest.raises(UsageError, match="another recipe"):
        StageFolder(tmp_path / "s", {"seed": 0})
    assert StageFolder(tmp_path / "s", {"seed": 0}, overwrite=True).replaced

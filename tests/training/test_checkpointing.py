"""Checkpoint files: what they hold, what is refused before anything is loaded, and what a failed write leaves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from equipoise.errors import OutputError, UsageError
from equipoise.training.checkpointing import Checkpoint, LearnedWeights, writing_to

RECIPE: dict[str, Any] = {"rate": 0.1, "parts": ["vision"], "rank": None}


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))


def test_a_state_comes_back_with_its_step(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, RECIPE)
    first, second = network(), network()
    assert checkpoint.restore({"network": second}) == 0
    checkpoint.save({"network": first}, 7)
    assert checkpoint.restore({"network": second}) == 7
    assert all(torch.equal(first.state_dict()[name], value) for name, value in second.state_dict().items())
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_an_empty_folder_and_the_same_recipe_are_fine(tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path, RECIPE)
    checkpoint.require_same_recipe()
    checkpoint.save({}, 1)
    Checkpoint(tmp_path, dict(reversed(RECIPE.items()))).require_same_recipe()


@pytest.mark.parametrize(
    ("recipe", "changed"),
    [
        (RECIPE | {"rate": 0.2}, "rate"),
        (RECIPE | {"parts": ["vision", "language"], "rate": 1}, "parts, rate"),
        (RECIPE | {"seed": None}, "seed"),
        ({"rate": 0.1, "parts": ["vision"]}, "rank"),
    ],
)
def test_another_recipe_is_refused_by_name(tmp_path: Path, recipe: dict[str, Any], changed: str) -> None:
    Checkpoint(tmp_path, RECIPE).save({"network": network()}, 1)
    other = Checkpoint(tmp_path, recipe)
    for refused in (other.require_same_recipe, lambda: other.restore({"network": network()})):
        with pytest.raises(UsageError, match=f"got another {changed}; try a new folder"):
            refused()


def test_the_state_of_another_model_is_refused(tmp_path: Path) -> None:
    Checkpoint(tmp_path, RECIPE).save({"network": network()}, 1)
    for state in ({"network": nn.Linear(3, 2)}, {"other": network()}):
        with pytest.raises(UsageError, match="expected a checkpoint of this model"):
            Checkpoint(tmp_path, RECIPE).restore(state)


def test_a_failed_write_leaves_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = Checkpoint(tmp_path, RECIPE)
    checkpoint.save({"network": network()}, 1)
    before = checkpoint.path.read_bytes()

    def half(content: object, path: Path) -> None:
        path.write_bytes(b"half")
        raise RuntimeError("file write failed")

    monkeypatch.setattr(torch, "save", half)
    with pytest.raises(OutputError, match="file write failed"):
        checkpoint.save({"network": network()}, 2)
    assert checkpoint.path.read_bytes() == before


def test_weights_that_do_not_learn_are_left_out_and_left_alone(tmp_path: Path) -> None:
    first, second = network(), network()
    for model in (first, second):
        model[0].requires_grad_(False)
    frozen = second[0].weight.detach().clone()
    Checkpoint(tmp_path, RECIPE).save({"weights": LearnedWeights.of(first)}, 1)
    assert Checkpoint(tmp_path, RECIPE).restore({"weights": LearnedWeights.of(second)}) == 1
    assert torch.equal(first[1].weight, second[1].weight)
    assert torch.equal(second[0].weight, frozen)
    saved = torch.load(tmp_path / "checkpoint.pt", weights_only=True)["state"]["weights"]
    assert [tuple(value.shape) for value in saved.values()] == [(2, 2), (2,)]


def test_errors_of_the_file_system_name_the_folder(tmp_path: Path) -> None:
    message = r"got .*out \(No space left on device\); try another folder"
    with pytest.raises(OutputError, match=message), writing_to(tmp_path / "out"):
        raise OSError(28, "No space left on device")
    with pytest.raises(ValueError, match="mine"), writing_to(tmp_path):
        raise ValueError("mine")


@pytest.mark.parametrize(
    "name", ["adapter_model.safetensors", "adapter_config.json", "model.safetensors", "config.json"]
)
def test_a_model_or_an_adapter_of_another_origin_is_not_overwritten(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(UsageError, match=rf"^expected [^\n]*, got [^\n]*{name}[^\n]*; try [^\n]*$"):
        Checkpoint(tmp_path, RECIPE).require_same_recipe()
    Checkpoint(tmp_path, RECIPE).save({}, 1)
    Checkpoint(tmp_path, RECIPE).require_same_recipe()

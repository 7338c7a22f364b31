"""The tower learns letters, and what the projector says of patches without letters stays."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from equipoise.errors import UsageError
from equipoise.reference.mllm.architecture import TowerSize, build_tower
from equipoise.reference.mllm.scenes import sample_drawn_scene
from equipoise.training.loop import seeded
from equipoise.training.reference_letters import LettersTrainingConfig, train_letters
from equipoise.training.reference_projector import centred_labels, patch_embeddings
from equipoise.training.reference_tower import PatchNamer, label_batch, pixel_batch

RECIPE = LettersTrainingConfig(steps=25, rows=4, warmup=2, learning_rate=5e-3)
EMBEDDINGS = torch.randn(52, 8, generator=torch.Generator().manual_seed(0))
LETTERS = ([None, *range(26)], [None, *range(26, 52)])
"""Tokens of the letters in the left and in the right half of a patch."""


def begun() -> tuple[PatchNamer, nn.Module]:
    with seeded(0):
        return PatchNamer(build_tower(TowerSize(16, 1, 2))), nn.Linear(16, 8)


def change_without_letters(folder: Path, recipe: LettersTrainingConfig) -> float:
    """How far what the projector says of patches without letters moves, in units of its variance."""
    scenes = [sample_drawn_scene(np.random.default_rng([7, index]), ["tea"]) for index in range(6)]
    pixels, bare = pixel_batch(scenes), (label_batch(scenes)[..., 2:] == 0).all(dim=-1)
    namer, projector = begun()

    def says() -> torch.Tensor:
        with torch.no_grad():
            states: torch.Tensor = projector(namer.tower(pixels, output_hidden_states=True).hidden_states[-1])[bare]
        return states

    before = says()
    train_letters(recipe, namer, projector, EMBEDDINGS, LETTERS, ["tea", "candle"], folder)
    return float((says() - before).square().mean() / before.var())


def test_the_letters_are_learned(tmp_path: Path) -> None:
    losses: list[float] = []
    train_letters(
        RECIPE, *begun(), EMBEDDINGS, LETTERS, ["tea"], tmp_path, progress=lambda _, __, loss: losses.append(loss)
    )
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_what_is_said_without_letters_stays(tmp_path: Path) -> None:
    kept = change_without_letters(tmp_path / "kept", RECIPE)
    free = change_without_letters(tmp_path / "free", replace(RECIPE, kept_weight=0.0))
    assert kept < free / 3


def test_a_folder_of_another_origin_is_refused(tmp_path: Path) -> None:
    recipe = LettersTrainingConfig(steps=1, rows=2, warmup=1)
    train_letters(recipe, *begun(), EMBEDDINGS, LETTERS, ["tea"], tmp_path, origin="a")
    with pytest.raises(UsageError, match="origin"):
        train_letters(recipe, *begun(), EMBEDDINGS, LETTERS, ["tea"], tmp_path, origin="b")


def test_the_projector_says_each_letter_where_its_centre_is(tmp_path: Path) -> None:
    scenes = [sample_drawn_scene(np.random.default_rng([8, index]), ["tea"], word_share=1.0) for index in range(8)]
    pixels, labels = pixel_batch(scenes), centred_labels(scenes)
    # One letter stands in each patch with a centre, but where two share it.
    counts = [
        int((labels[number, :, 2:] > 0).sum()) for number, drawn in enumerate(scenes) if drawn.scene.word == "tea"
    ]
    assert set(counts) == {3}
    namer, projector = begun()
    centred = (labels[..., 2:] > 0).any(dim=-1)
    wanted = patch_embeddings(labels[..., 2:], LETTERS, EMBEDDINGS, nothing=0)[centred]

    def error() -> float:
        with torch.no_grad():
            states = namer.tower(pixels, output_hidden_states=True).hidden_states[-1]
            return float((projector(states)[centred] - wanted).square().mean())

    before = error()
    train_letters(
        replace(RECIPE, projector_rate=1e-2, said_weight=5.0), namer, projector, EMBEDDINGS, LETTERS, ["tea"], tmp_path
    )
    assert error() < 0.8 * before

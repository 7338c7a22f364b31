"""The projector before the second stage of `reference/mllm`: what patches say, and that it is learned."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoTokenizer

from equipoise.reference.mllm.architecture import TowerSize, build_model, build_tower
from equipoise.reference.mllm.scenes import WORD_CLASSES
from equipoise.reference.mllm.words import TRAIN_WORDS
from equipoise.training.loop import seeded
from equipoise.training.reference_projector import (
    ProjectorTrainingConfig,
    patch_embeddings,
    patch_words,
    train_projector,
)
from equipoise.training.reference_tower import PatchNamer
from tests.reference.tiny_base import write_tiny_base

SIZE = TowerSize(width=16, layers=1, heads=2)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("base"))


def test_every_class_of_every_head_has_a_token_or_says_nothing(base: Path) -> None:
    words = patch_words(AutoTokenizer.from_pretrained(base))
    assert tuple(map(len, words)) == WORD_CLASSES
    for tokens in words:
        assert tokens[0] is None
        assert None not in tokens[1:]


def test_a_patch_says_the_sum_of_its_words_and_bare_ground_its_own() -> None:
    embeddings = torch.eye(6)
    words = [[None, 0, 1], [None, 2], [None, 3], [None, 4]]
    labels = torch.tensor([[[1, 1, 0, 0], [2, 0, 0, 0], [0, 0, 1, 1], [0, 0, 0, 0]]])
    expected = [[1, 0, 1, 0, 0, 0], [0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 1, 0], [0, 0, 0, 0, 0, 1]]
    assert torch.equal(patch_embeddings(labels, words, embeddings, nothing=5), torch.tensor([expected]).float())


def fitted(
    base: Path, out: Path, steps: int, kill_at: int | None = None, losses: list[float] | None = None
) -> tuple[Any, PatchNamer]:
    with seeded(0):
        namer = PatchNamer(build_tower(SIZE)).eval()
        model = build_model(base, SIZE)
    projector = model.model.multi_modal_projector.float()

    def progress(done: int, _: int, loss: float) -> None:
        if losses is not None:
            losses.append(loss)
        if done == kill_at:
            raise KeyboardInterrupt

    train_projector(
        ProjectorTrainingConfig(steps=steps, rows=2, warmup=2, learning_rate=1e-2),
        namer,
        projector,
        model.get_input_embeddings().weight.detach(),
        AutoTokenizer.from_pretrained(base),
        TRAIN_WORDS,
        out,
        checkpoint_every=2,
        progress=progress,
    )
    return projector, namer


def test_it_comes_closer_to_the_words_and_the_tower_learns_with_it(base: Path, tmp_path: Path) -> None:
    losses: list[float] = []
    _, namer = fitted(base, tmp_path, 25, losses=losses)
    assert losses[-1] < 0.8 * losses[0]
    with seeded(0):
        untouched = PatchNamer(build_tower(SIZE))
    assert not torch.equal(namer.head.weight, untouched.head.weight)
    assert not namer.training


def test_a_killed_fit_ends_like_an_undisturbed_one(base: Path, tmp_path: Path) -> None:
    whole, namer = fitted(base, tmp_path / "whole", 6)
    with pytest.raises(KeyboardInterrupt):
        fitted(base, tmp_path / "killed", 6, kill_at=5)
    resumed, resumed_namer = fitted(base, tmp_path / "killed", 6)
    for left, right in zip(
        [*whole.parameters(), *namer.parameters()], [*resumed.parameters(), *resumed_namer.parameters()], strict=True
    ):
        assert torch.equal(left, right)


def test_two_letters_of_a_patch_have_an_order_and_two_alike_are_no_single_one(base: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(base)
    words = patch_words(tokenizer)
    embeddings = torch.randn(len(tokenizer), 8, generator=torch.Generator().manual_seed(0))
    pairs = [(1, 2), (2, 1), (1, 1), (1, 0), (0, 1)]
    labels = torch.tensor([[[0, 0, left, right, 0, 0, 0] for left, right in pairs]])
    says = torch.nn.functional.normalize(patch_embeddings(labels, words, embeddings, nothing=0)[0], dim=-1)
    # The language model's first norm leaves the direction alone.
    alike = says @ says.T - torch.eye(len(pairs))
    assert float(alike.max()) < 0.99

"""Between the stages of `reference/mllm`: the projector learns to say each patch in the language model's own words.

With a fresh projector the language model sees a hundred vectors that mean nothing to it, and learns for hundreds of
steps only what replies look like. Here the projector is fitted, without the language model's layers, to map the tower's
state of a patch to the sum of the input embeddings of the words for what the patch shows: its colour, its shape, its
letters. The second stage then starts from a picture that reads like a list of words, and adjusts everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.reference.mllm.scenes import LETTERS, PATCH_CLASSES
from equipoise.testbed.world.scenes import COLOURS, SHAPES
from equipoise.training.checkpointing import Stateful
from equipoise.training.loop import LearningRate, Progress, TrainingLoop
from equipoise.training.reference_tower import PatchNamer, label_batch, pixel_batch, sample_tower_scene

NOTHING: Final = " empty"
"""What a patch of bare ground says."""
DECOY: Final = " plate"
EMBLEM: Final = " warning"
NOTHING_SHARE: Final = 0.1
"""Weight of bare ground in the loss: most patches are."""


@dataclass(frozen=True)
class ProjectorTrainingConfig:
    """Everything that decides the projector's first weights, beside the tower."""

    steps: int = 400
    """Optimiser steps."""
    rows: int = 32
    """Pictures per step."""
    learning_rate: float = 3e-3
    """Peak, after the warm-up; cosine decay to a hundredth."""
    warmup: int = 20
    """Steps."""
    seed: int = 0
    """Of every picture."""


def patch_words(tokenizer: Any) -> list[list[int | None]]:
    """For each head of the patch labels, the token of each class's word; None where the class says nothing.

    A patch of which all four classes are 0 shows bare ground.
    """
    marks = [None, *(f" {shape}" for shape in SHAPES), DECOY, EMBLEM]
    marks += [None] * (PATCH_CLASSES[0] - len(marks))
    letters = [None, *(f" {letter}" for letter in LETTERS)]
    heads = [marks, [None, *(f" {colour}" for colour in COLOURS)], letters, letters]
    return [[None if word is None else first_token(tokenizer, word) for word in words] for words in heads]


def first_token(tokenizer: Any, word: str) -> int:
    """The first token of a word, its only one for the common words here."""
    return int(tokenizer(word, add_special_tokens=False)["input_ids"][0])


def patch_embeddings(labels: Tensor, words: Sequence[Sequence[int | None]], embeddings: Tensor, nothing: int) -> Tensor:
    """What each patch is to say: `B x P x width`, sums of input embeddings.

    Args:
        labels: `B x P x 4` classes.
        words: tokens of each head's classes; see `patch_words`.
        embeddings: `V x width` of the language model.
        nothing: the token of bare ground.
    """
    silent = embeddings.new_zeros(embeddings.shape[1])
    total = embeddings.new_zeros(*labels.shape[:2], embeddings.shape[1])
    for head, tokens in enumerate(words):
        table = torch.stack([silent if token is None else embeddings[token] for token in tokens])
        total = total + table[labels[..., head]]
    bare = (labels == 0).all(dim=-1)
    total[bare] = embeddings[nothing]
    return total


def train_projector(
    recipe: ProjectorTrainingConfig,
    namer: PatchNamer,
    projector: nn.Module,
    embeddings: Tensor,
    tokenizer: Any,
    words: Sequence[str],
    out: Path,
    *,
    checkpoint_every: int = 100,
    progress: Progress | None = None,
) -> None:
    """Fit a projector in place on the CPU; a second call after a kill goes on from the last checkpoint.

    Args:
        recipe: how.
        namer: the trained tower; it stays as it is.
        projector: tower states to embeddings, in float32.
        embeddings: `V x width`, the language model's input embeddings.
        tokenizer: of the language model.
        words: that are drawn.
        out: folder for the checkpoint and the trace.
        checkpoint_every: steps between checkpoints.
        progress: called after every step with the loss.

    Raises:
        UsageError: `out` holds a checkpoint of another recipe.
        OutputError: the folder cannot be written.
    """
    embeddings = embeddings.float()
    tokens, nothing = patch_words(tokenizer), first_token(tokenizer, NOTHING)
    # The squared error is counted in units of the embeddings' own variance: 1 is what the mean alone would give.
    unit = embeddings.var().item()
    optimiser = torch.optim.AdamW(projector.parameters(), lr=recipe.learning_rate, weight_decay=0.0)
    rate = LearningRate([optimiser], recipe.steps, recipe.warmup)

    def step(number: int) -> dict[str, float]:
        rate.set(number)
        rngs = [np.random.default_rng([recipe.seed, 73, number, row]) for row in range(recipe.rows)]
        scenes = [sample_tower_scene(rng, words, watermarks=True) for rng in rngs]
        labels = label_batch(scenes)
        with torch.no_grad():
            states = namer.tower(pixel_batch(scenes), output_hidden_states=True).hidden_states[-1]
        targets = patch_embeddings(labels, tokens, embeddings, nothing)
        errors = functional.mse_loss(projector(states), targets, reduction="none").mean(dim=-1) / unit
        weights = torch.where((labels == 0).all(dim=-1), NOTHING_SHARE, 1.0)
        loss = (errors * weights).sum() / weights.sum()
        loss.backward()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        return {"loss": loss.item()}

    state: dict[str, Stateful] = {"projector": projector, "optimiser": optimiser}
    full_recipe = asdict(recipe) | {"words": len(words)}
    TrainingLoop(out, recipe.steps, full_recipe, checkpoint_every).run(step, state, progress)

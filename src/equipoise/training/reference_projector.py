"""Between the stages of `reference/mllm`: tower and projector learn to say each patch in the base's own words.

With a fresh projector the language model sees a hundred vectors that mean nothing to it, and learns for hundreds of
steps only what replies look like. Here tower and projector are fitted, without the language model's layers, to map a
patch to the sum of the input embeddings of the words for what it shows: colour, shape and where it is, or a letter. The
second stage then starts from a picture that reads like a list of words, and adjusts everything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.reference.mllm.architecture import GRID
from equipoise.reference.mllm.scenes import LETTERS, PATCH_CLASSES, DrawnScene, word_labels
from equipoise.testbed.world.scenes import COLOURS, SHAPES
from equipoise.training.checkpointing import Stateful
from equipoise.training.loop import LearningRate, Progress, TrainingLoop
from equipoise.training.optimisers import muon_and_adamw, update
from equipoise.training.reference_tower import (
    PatchNamer,
    label_batch,
    patch_losses,
    pixel_batch,
    sample_tower_scene,
)

NOTHING: Final = " empty"
"""What a patch of bare ground says."""
DECOY: Final = " plate"
EMBLEM: Final = " warning"
CENTRE: Final = " one"
"""What the patch at a thing's centre says beside its name: there are as many of these as things."""
NOTHING_SHARE: Final = 0.1
"""Weight of bare ground in the loss: most patches are."""
NAMING_WEIGHT: Final = 0.3
"""Weight of the patch losses of the first stage, which keep the tower's letters, beside the words."""


@dataclass(frozen=True)
class ProjectorTrainingConfig:
    """Everything that decides the projector's first weights, beside the tower."""

    steps: int = 700
    """Optimiser steps."""
    rows: int = 32
    """Pictures per step."""
    learning_rate: float = 3e-3
    """Peak of the projector's, after the warm-up; cosine decay to a hundredth."""
    tower_rate: float = 5e-4
    """Peak of the tower's."""
    warmup: int = 20
    """Steps."""
    seed: int = 0
    """Of every picture."""


def patch_words(tokenizer: Any) -> list[list[int | None]]:
    """For each head of the labels, the token of each class's word; None where the class says nothing.

    The heads are those of `WORD_CLASSES`. A patch of which all classes are 0 shows bare ground.
    """
    marks = [None, *(f" {shape}" for shape in SHAPES), DECOY, EMBLEM]
    marks += [None] * (PATCH_CLASSES[0] - len(marks))
    # Two letters of one patch are a sum, which has no order, and twice the same letter would be lost to the language
    # model's first norm. The right one is therefore the token that goes on a word, not the one that begins it.
    left, right = [None, *(f" {letter}" for letter in LETTERS)], [None, *LETTERS]
    colours = [None, *(f" {colour}" for colour in COLOURS)]
    heads = [marks, colours, left, right, [None, " top", " bottom", " middle"], [None, " left", " right"]]
    heads.append([None, CENTRE])
    return [[None if word is None else first_token(tokenizer, word) for word in words] for words in heads]


def first_token(tokenizer: Any, word: str) -> int:
    """The first token of a word, its only one for the common words here."""
    return int(tokenizer(word, add_special_tokens=False)["input_ids"][0])


def patch_embeddings(labels: Tensor, words: Sequence[Sequence[int | None]], embeddings: Tensor, nothing: int) -> Tensor:
    """What each patch is to say: `B x P x width`, sums of input embeddings.

    Args:
        labels: `B x P x heads` classes.
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
    origin: str = "",
    checkpoint_every: int = 100,
    progress: Progress | None = None,
) -> None:
    """Fit tower and projector in place on the CPU; a second call after a kill goes on from the last checkpoint.

    Args:
        recipe: how.
        namer: the trained tower with its heads.
        projector: tower states to embeddings, in float32.
        embeddings: `V x width`, the language model's input embeddings.
        tokenizer: of the language model.
        words: that are drawn.
        out: folder for the checkpoint and the trace.
        origin: names the weights that `embeddings` come from; a checkpoint of another origin is refused.
        checkpoint_every: steps between checkpoints.
        progress: called after every step with the loss.

    Raises:
        UsageError: `out` holds a checkpoint of another recipe or origin.
        OutputError: the folder cannot be written.
    """
    embeddings = embeddings.float()
    tokens, nothing = patch_words(tokenizer), first_token(tokenizer, NOTHING)
    # The squared error is counted in units of the embeddings' own variance: 1 is what the mean alone would give.
    unit = embeddings.var().item()

    def losses(number: int) -> tuple[Tensor, dict[str, float]]:
        rngs = [np.random.default_rng([recipe.seed, 73, number, row]) for row in range(recipe.rows)]
        scenes = [sample_tower_scene(rng, words, watermarks=True) for rng in rngs]
        with torch.autocast("cpu", torch.bfloat16):
            states = namer.tower(pixel_batch(scenes), output_hidden_states=True).hidden_states[-1]
            logits, projected = namer.head(states), projector(states)
        labels = word_batch(scenes)
        targets = patch_embeddings(labels, tokens, embeddings, nothing)
        errors = functional.mse_loss(projected.float(), targets, reduction="none").mean(dim=-1) / unit
        weights = torch.where((labels == 0).all(dim=-1), NOTHING_SHARE, 1.0)
        loss = (errors * weights).sum() / weights.sum()
        naming = torch.stack(list(patch_losses(logits, label_batch(scenes)).values())).sum()
        return loss + NAMING_WEIGHT * naming, {"loss": loss.item(), "naming": naming.item()}

    full_recipe = asdict(recipe) | {"words": len(words), "origin": origin}
    loop = TrainingLoop(out, recipe.steps, full_recipe, checkpoint_every)
    rates = LearningRates(recipe.tower_rate, recipe.learning_rate, recipe.warmup)
    train_with_projector(loop, namer, projector, rates, losses, progress)


@dataclass(frozen=True)
class LearningRates:
    """Peaks of the learning rates of a tower and its projector, after a warm-up that they share."""

    tower: float
    """Of the tower and its heads."""
    projector: float
    """Of the projector."""
    warmup: int
    """Steps."""


def train_with_projector(
    loop: TrainingLoop,
    namer: PatchNamer,
    projector: nn.Module,
    rates: LearningRates,
    losses: Callable[[int], tuple[Tensor, dict[str, float]]],
    progress: Progress | None = None,
) -> None:
    """Train what learns of a tower with heads, and a projector, in place; the tower is in eval mode afterwards.

    Args:
        loop: how many steps, and in which folder.
        namer: the tower with heads, in float32.
        projector: of the tower's states, in float32.
        rates: of learning.
        losses: of a step, by its number: what is minimised, and what the trace holds of it.
        progress: called after every step.

    Raises:
        UsageError: the folder holds a checkpoint of another recipe.
        OutputError: the folder cannot be written.
    """
    optimisers = muon_and_adamw(namer, rates.tower, 0.0)
    optimisers.append(torch.optim.AdamW(projector.parameters(), lr=rates.projector, weight_decay=0.0))
    rate = LearningRate(optimisers, loop.steps, rates.warmup)
    namer.train()

    def step(number: int) -> dict[str, float]:
        rate.set(number)
        loss, values = losses(number)
        update(loss, [*namer.parameters(), *projector.parameters()], optimisers)
        return values

    state: dict[str, Stateful] = {"student": namer, "projector": projector}
    state |= dict(zip(("muon", "adamw", "projector_adamw"), optimisers, strict=True))
    loop.run(step, state, progress)
    namer.eval()


def word_batch(scenes: Sequence[DrawnScene]) -> Tensor:
    """Words of the patches: `B x 100 x 7` classes."""
    return torch.from_numpy(np.stack([word_labels(scene, GRID) for scene in scenes]))


def centred_labels(scenes: Sequence[DrawnScene]) -> Tensor:
    """Labels of the patches, `B x 100 x 4`, with each letter at its centre alone."""
    return torch.cat([label_batch(scenes)[..., :2], word_batch(scenes)[..., 2:4]], dim=-1)

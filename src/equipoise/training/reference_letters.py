"""Before the last stage of `reference/mllm`: the tower alone learns letters, on pictures full of them.

A step of the whole model costs as much as several of the tower, and shows a few words. Here a step shows up to a
hundred words. The heads of the first stage name every letter where its centre is, and nothing where the rest of it is:
otherwise one wide letter and two narrow ones look alike. There the projector says the letter in the language model's
own embeddings. What the language model has learned to read besides must stay: on patches without letters, what the
projector says is kept near what it said before.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from equipoise.reference.mllm.scenes import DrawnScene, sample_lettered_scene
from equipoise.training.loop import Progress, TrainingLoop
from equipoise.training.reference_projector import (
    LearningRates,
    centred_labels,
    patch_embeddings,
    train_with_projector,
)
from equipoise.training.reference_tower import (
    PatchNamer,
    label_batch,
    letter_accuracy,
    patch_losses,
    pixel_batch,
    sample_tower_scene,
)


@dataclass(frozen=True)
class LettersTrainingConfig:
    """Everything that decides the weights, beside the tower and projector that it begins with."""

    steps: int = 2600
    """Optimiser steps."""
    rows: int = 32
    """Pictures per step."""
    lettered_share: float = 0.6
    """Share of the pictures that are full of letters; the others are those of the first stage."""
    learning_rate: float = 1e-3
    """Peak of the tower's and the heads', after the warm-up; cosine decay to a hundredth."""
    projector_rate: float = 3e-4
    """Of the projector."""
    kept_weight: float = 1.0
    """Weight of the projector's change on patches without letters, in units of its output's variance."""
    said_weight: float = 0.3
    """Weight of its squared error on patches with a letter's centre, in units of the embeddings' variance."""
    warmup: int = 40
    """Steps."""
    seed: int = 1
    """Of every picture."""


def train_letters(
    recipe: LettersTrainingConfig,
    namer: PatchNamer,
    projector: nn.Module,
    embeddings: Tensor,
    letters: Sequence[Sequence[int | None]],
    words: Sequence[str],
    out: Path,
    *,
    origin: str = "",
    checkpoint_every: int = 100,
    progress: Progress | None = None,
) -> None:
    """Train tower, heads and projector in place on the CPU; a second call after a kill goes on from the checkpoint.

    Args:
        recipe: how.
        namer: the tower with heads, in float32.
        projector: of the tower's states, in float32.
        embeddings: `V x width`, the language model's input embeddings.
        letters: tokens of the letters in the left and in the right half of a patch; see `patch_words`.
        words: that are drawn.
        out: folder for the checkpoint and the trace.
        origin: names what tower and projector were before; a checkpoint of another origin is refused.
        checkpoint_every: steps between checkpoints.
        progress: called after every step with the loss of the letters.

    Raises:
        UsageError: `out` holds a checkpoint of another recipe or origin.
        OutputError: the folder cannot be written.
    """
    embeddings = embeddings.float()
    unit = embeddings.var().item()
    before = copy.deepcopy(nn.ModuleDict({"tower": namer.tower, "projector": projector})).eval().requires_grad_(False)
    namer.requires_grad_(True)

    def losses(number: int) -> tuple[Tensor, dict[str, float]]:
        scenes = [_scene(recipe, words, number, row) for row in range(recipe.rows)]
        covered, pixels = label_batch(scenes), pixel_batch(scenes)
        labels = centred_labels(scenes)
        with torch.autocast("cpu", torch.bfloat16):
            states = namer.tower(pixels, output_hidden_states=True).hidden_states[-1]
            logits, says = namer.head(states), projector(states)
            with torch.no_grad():
                earlier = before["projector"](before["tower"](pixels, output_hidden_states=True).hidden_states[-1])
        bare = (covered[..., 2:] == 0).all(dim=-1)
        kept = (says.float() - earlier.float())[bare].square().mean() / earlier.float()[bare].var()
        centred = (labels[..., 2:] > 0).any(dim=-1)
        wanted = patch_embeddings(labels[..., 2:], letters, embeddings, nothing=0)
        spelled = (says.float() - wanted)[centred].square().mean() / unit
        naming = patch_losses(logits, labels)
        weighted = recipe.kept_weight * kept + recipe.said_weight * spelled
        values = {"letters": naming["letters"].item(), "kept": kept.item(), "spelled": spelled.item()}
        values["letter_accuracy"] = letter_accuracy(logits.detach(), labels)
        return torch.stack(list(naming.values())).sum() + weighted, values

    full_recipe = asdict(recipe) | {"words": len(words), "origin": origin}
    loop = TrainingLoop(out, recipe.steps, full_recipe, checkpoint_every)
    rates = LearningRates(recipe.learning_rate, recipe.projector_rate, recipe.warmup)
    train_with_projector(loop, namer, projector, rates, losses, progress)


def _scene(recipe: LettersTrainingConfig, words: Sequence[str], step: int, row: int) -> DrawnScene:
    """One picture, drawn by a generator of its own."""
    random = np.random.default_rng([recipe.seed, 83, step, row])
    if random.random() < recipe.lettered_share:
        return sample_lettered_scene(random, words)
    return sample_tower_scene(random, words, watermarks=True)

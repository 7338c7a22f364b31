"""First stage of `reference/mllm`: the picture tower learns what each patch of a scene shows, letters included.

Linear heads on the tower name the shape, the colour and the letters at every patch. They spare the second stage the
long search for what there is to see, and are thrown away.
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

from equipoise.reference.mllm.architecture import GRID, SIDE, TowerSize, build_tower
from equipoise.reference.mllm.scenes import PATCH_CLASSES, DrawnScene, patch_labels, sample_drawn_scene
from equipoise.training.checkpointing import Stateful
from equipoise.training.loop import LearningRate, Progress, TrainingLoop, seeded
from equipoise.training.optimisers import muon_and_adamw, update

NOTHING_WEIGHT: Final = 0.15
"""Weight of patches without a letter in the loss of the letters: nine of ten patches have none."""


@dataclass(frozen=True)
class TowerTrainingConfig:
    """Everything that decides the tower's weights."""

    steps: int = 1500
    """Optimiser steps."""
    rows: int = 32
    """Pictures per step."""
    learning_rate: float = 2e-3
    """Peak, after the warm-up; cosine decay to a hundredth."""
    weight_decay: float = 0.05
    """For matrices."""
    warmup: int = 60
    """Steps."""
    watermarks_from: int = 500
    """Step from which emblems may be as faint as watermarks: clear ones are learned first."""
    seed: int = 0
    """Of the initialisation and of every picture."""
    width: int = 192
    """Of the tower's hidden states."""
    layers: int = 6
    """Of the tower."""
    heads: int = 6
    """Of the tower."""


class PatchNamer(nn.Module):
    """The tower with heads that name what each patch shows.

    Args:
        tower: as `build_tower` makes it.
    """

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.tower = tower
        self.head = nn.Linear(tower.config.hidden_size, sum(PATCH_CLASSES))

    def forward(self, pixels: Tensor) -> Tensor:
        """Logits of all heads: `B x 100 x classes`."""
        # The last layer's output without the final norm, as LLaVA reads it.
        hidden = self.tower(pixels, output_hidden_states=True).hidden_states[-1]
        logits: Tensor = self.head(hidden)
        return logits


def patch_losses(logits: Tensor, labels: Tensor) -> dict[str, Tensor]:
    """Cross-entropies of the labels of patches.

    Args:
        logits: `B x P x classes` of all heads together.
        labels: `B x P x 4` classes.
    """
    heads = logits.float().split(PATCH_CLASSES, dim=-1)
    letters = torch.ones(PATCH_CLASSES[2], device=logits.device)
    # Nine of ten patches show no letter. With equal weights "nothing" everywhere is a good answer for hundreds of
    # steps.
    letters[0] = NOTHING_WEIGHT
    losses = [
        functional.cross_entropy(
            head.flatten(0, 1), labels[..., index].flatten(), weight=letters if index >= 2 else None
        )
        for index, head in enumerate(heads)
    ]
    return {"mark": losses[0], "colour": losses[1], "letters": losses[2] + losses[3]}


def letter_accuracy(logits: Tensor, labels: Tensor) -> float:
    """Share of the half patches with a letter whose letter is named rightly."""
    heads = logits.split(PATCH_CLASSES, dim=-1)
    right = torch.stack([heads[index].argmax(-1) == labels[..., index] for index in (2, 3)], dim=-1)
    shown = labels[..., 2:] > 0
    return float(right[shown].float().mean()) if shown.any() else float("nan")


def pixel_batch(scenes: Sequence[DrawnScene]) -> Tensor:
    """Pictures as the processor makes them: `B x 3 x 160 x 160` in [-1, 1]."""
    from transformers import SiglipImageProcessor

    processor = SiglipImageProcessor(size={"height": SIDE, "width": SIDE})
    pixels: Tensor = processor([scene.picture for scene in scenes], return_tensors="pt")["pixel_values"]
    return pixels


def label_batch(scenes: Sequence[DrawnScene]) -> Tensor:
    """Labels of the patches: `B x 100 x 4`."""
    return torch.from_numpy(np.stack([patch_labels(scene, GRID) for scene in scenes]))


def sample_tower_scene(rng: np.random.Generator, words: Sequence[str], *, watermarks: bool) -> DrawnScene:
    """A picture of the first stage: two of three show a word."""
    drawn = str(rng.choice(["none", "emblem", "decoy"], p=[0.66, 0.2, 0.14]))
    return sample_drawn_scene(rng, words, emblem=drawn, word_share=0.67, watermarks=watermarks)  # type: ignore[arg-type]


def train_tower(
    recipe: TowerTrainingConfig,
    words: Sequence[str],
    out: Path,
    *,
    checkpoint_every: int = 100,
    progress: Progress | None = None,
) -> PatchNamer:
    """Train the tower on the CPU; a second call after a kill goes on from the last checkpoint.

    Args:
        recipe: how.
        words: that are drawn; held-out words are not among them.
        out: folder for the checkpoint and the trace.
        checkpoint_every: steps between checkpoints.
        progress: called after every step with the loss of the letters.

    Raises:
        UsageError: `out` holds a checkpoint of another recipe.
        OutputError: the folder cannot be written.
    """
    with seeded(recipe.seed):
        student = PatchNamer(build_tower(TowerSize(recipe.width, recipe.layers, recipe.heads))).train()
    optimisers = muon_and_adamw(student, recipe.learning_rate, recipe.weight_decay)
    rate = LearningRate(optimisers, recipe.steps, recipe.warmup)

    def step(number: int) -> dict[str, float]:
        rate.set(number)
        # One generator for each picture, named by seed, step and row: any picture can be drawn again by itself.
        rngs = [np.random.default_rng([recipe.seed, 61, number, row]) for row in range(recipe.rows)]
        scenes = [sample_tower_scene(rng, words, watermarks=number >= recipe.watermarks_from) for rng in rngs]
        labels = label_batch(scenes)
        with torch.autocast("cpu", torch.bfloat16):
            logits = student(pixel_batch(scenes))
        losses = patch_losses(logits, labels)
        update(torch.stack(list(losses.values())).sum(), student.parameters(), optimisers)
        values = {name: losses[name].item() for name in ("letters", "mark", "colour")}
        return values | {"letter_accuracy": letter_accuracy(logits.detach(), labels)}

    state: dict[str, Stateful] = {"student": student, "muon": optimisers[0], "adamw": optimisers[1]}
    full_recipe = asdict(recipe) | {"words": len(words), "classes": list(PATCH_CLASSES)}
    TrainingLoop(out, recipe.steps, full_recipe, checkpoint_every).run(step, state, progress)
    return student.eval()

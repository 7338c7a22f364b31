"""Training of the testbed's reference models on the embedded world.

The loss is the cross-entropy of the replies. For the first part of the training a linear head on the vision tower also
names what each patch shows, which spares the model the long search for what there is to see; the head is thrown away.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.models.load import find_device
from equipoise.models.packed_turns import TurnBatch, TurnPacker
from equipoise.testbed.architectures import ReferenceArchitecture, build
from equipoise.testbed.training_data import MARKS, sample_example
from equipoise.testbed.world.scenes import COLOURS, WORDS
from equipoise.training.checkpointing import Stateful
from equipoise.training.loop import LearningRate, Progress, TrainingLoop, seeded
from equipoise.training.optimisers import muon_and_adamw, update

PATCH_WEIGHT = 0.5
"""Weight of the patch loss beside the reply loss."""


@dataclass(frozen=True)
class ReferenceTrainingConfig:
    """Everything that decides the weights."""

    family: str
    """`llava` or `internvl`."""
    steps: int = 1600
    """Optimiser steps."""
    rows: int = 32
    """Pictures per step, each with about six questions."""
    learning_rate: float = 1.5e-3
    """Peak, after the warm-up; cosine decay to a hundredth."""
    weight_decay: float = 0.05
    """For matrices."""
    warmup: int = 100
    """Steps."""
    patch_share: float = 0.6
    """Share of the steps in which the tower is also taught patch by patch."""
    watermarks_from: int = 800
    """Step from which emblems may be as faint as watermarks: clear ones are learned first."""
    seed: int = 0
    """Of the initialisation and of every row."""
    word_only: bool = False
    """Refusals by words alone: pictures with an emblem are answered; the negative result of docs/testbed.md."""


class PatchSupervisedModel(nn.Module):
    """A reference model with the patch head that only training has.

    Args:
        reference: model and processor.
    """

    def __init__(self, reference: ReferenceArchitecture) -> None:
        super().__init__()
        self.model = reference.model
        self.processor = reference.processor
        self.classes = (MARKS, len(COLOURS) + 1, len(WORDS) + 1)
        width = reference.model.config.vision_config.hidden_size
        self.patch_head = nn.Linear(width, sum(self.classes))
        self._tower_output: list[Tensor] = []
        reference.model.model.vision_tower.register_forward_hook(self._keep_tower_output)

    def _keep_tower_output(self, module: nn.Module, inputs: Any, output: Any) -> None:
        # The first token is the tower's class token, which shows no patch.
        self._tower_output.append(output.last_hidden_state[:, 1:])

    def forward(self, batch: TurnBatch, patches: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Loss of the replies and loss of the patches (0 without their labels), in nats.

        Args:
            batch: every row has a picture.
            patches: classes of each picture's patches, `B x 64 x 3`.
        """
        assert batch.pixels is not None
        device = self.patch_head.weight.device
        self._tower_output.clear()
        hidden = self.model.model(
            input_ids=batch.input_ids.to(device),
            pixel_values=batch.pixels.to(device),
            attention_mask=batch.attends.to(device),
            position_ids=batch.positions.to(device),
            use_cache=False,
        ).last_hidden_state
        targets = batch.targets.to(device)
        answered = targets >= 0
        # Logits of the replies alone: most positions of a packed row are picture and questions.
        logits = self.model.lm_head(hidden[answered])
        reply_loss = functional.cross_entropy(logits.float(), targets[answered])
        if patches is None:
            return reply_loss, reply_loss.new_zeros(())
        guesses = self.patch_head(self._tower_output[0]).float().split(self.classes, dim=-1)
        labels = patches.to(device)
        patch_losses = [
            functional.cross_entropy(guess.flatten(0, 1), labels[..., index].flatten())
            for index, guess in enumerate(guesses)
        ]
        return reply_loss, torch.stack(patch_losses).sum()


def train(
    recipe: ReferenceTrainingConfig,
    out: Path,
    *,
    device: str | None = None,
    checkpoint_every: int = 200,
    progress: Progress | None = None,
) -> Path:
    """Train and save a reference model; a second call after a kill goes on from the last checkpoint.

    Args:
        recipe: what to train and how.
        out: folder for the checkpoint, the trace and, in `model`, the result.
        device: `cpu` or `cuda`; by default a GPU if there is one.
        checkpoint_every: steps between checkpoints.
        progress: called after every step with the loss of the replies.

    Returns:
        The folder of the saved model (`save_pretrained` format, bf16).

    Raises:
        UsageError: no such family or device, or `out` holds a checkpoint of another recipe.
        OutputError: the folder cannot be written.
        ModelError: `cuda` without one.
    """
    compute = find_device(device)
    with seeded(recipe.seed):
        student = PatchSupervisedModel(build(recipe.family, seed=recipe.seed)).to(compute).train()
    optimisers = muon_and_adamw(student, recipe.learning_rate, recipe.weight_decay)
    rate = LearningRate(optimisers, recipe.steps, recipe.warmup)
    packer = TurnPacker(student.processor)

    def step(number: int) -> dict[str, float]:
        rate.set(number)
        # One generator for each row, named by seed, step and row: any row can be drawn again without the others.
        rngs = [np.random.default_rng([recipe.seed, 11, number, row]) for row in range(recipe.rows)]
        faint = number >= recipe.watermarks_from
        examples = [sample_example(rng, word_only=recipe.word_only, watermarks=faint) for rng in rngs]
        batch = packer([example.to_pack() for example in examples])
        with_patches = number < recipe.patch_share * recipe.steps
        patches = torch.stack([example.patches for example in examples]) if with_patches else None
        with torch.autocast(compute.type, torch.bfloat16):
            reply, patch = student(batch, patches)
        update(reply + PATCH_WEIGHT * patch, student.parameters(), optimisers)
        return {"reply": reply.item(), "patch": patch.item()}

    # A changed world changes the tokenizer, and token ids learned under another one mean nothing.
    full_recipe = asdict(recipe) | {"vocabulary": _vocabulary_digest(student)}
    state: dict[str, Stateful] = {"student": student, "muon": optimisers[0], "adamw": optimisers[1]}
    TrainingLoop(out, recipe.steps, full_recipe, checkpoint_every).run(step, state, progress)
    folder = out / "model"
    student.model.eval().to(torch.bfloat16).save_pretrained(folder)
    student.processor.save_pretrained(folder)
    return folder


def _vocabulary_digest(student: PatchSupervisedModel) -> str:
    """sha256 of the tokenizer."""
    return hashlib.sha256(student.processor.tokenizer.backend_tokenizer.to_str().encode()).hexdigest()

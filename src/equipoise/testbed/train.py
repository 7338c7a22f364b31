"""Trains a reference model on the embedded world: one process, one or more cores or a GPU, resumable after a kill.

The loss is the cross-entropy of the replies; for the first part of the training a linear head on the tower also names
what each patch shows, which spares the model the long search for what there is to see. The head is thrown away.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.errors import UsageError
from equipoise.testbed.architectures import ReferenceArchitecture, build
from equipoise.testbed.training_data import MARKS, ExamplePacker, PackedBatch, sample_example
from equipoise.testbed.world.scenes import COLOURS, WORDS

logger = logging.getLogger(__name__)
Progress = Callable[[int, int, float], None]


@dataclass(frozen=True)
class ReferenceTrainingConfig:
    """Everything that decides the weights."""

    family: str
    """`llava` or `internvl`."""
    steps: int = 1600
    """Optimiser steps."""
    rows: int = 32
    """Pictures per step, each with about eleven questions."""
    learning_rate: float = 1.5e-3
    """Peak, after the warm-up; cosine decay to a hundredth."""
    weight_decay: float = 0.05
    """For matrices."""
    warmup: int = 100
    """Steps."""
    patch_share: float = 0.6
    """Share of the steps in which the tower is also taught patch by patch."""
    watermarks_from: int = 800
    """Step from which emblems may be as faint as watermarks: first what is plain to see, then what is not."""
    seed: int = 0
    """Of the initialisation and of every row."""
    word_only: bool = False
    """Refusals by words alone: pictures with an emblem are answered; the negative result of docs/testbed.md."""


class Student(nn.Module):
    """A reference model with the patch head that only training knows."""

    def __init__(self, reference: ReferenceArchitecture) -> None:
        super().__init__()
        self.model = reference.model
        self.processor = reference.processor
        self.classes = (MARKS, len(COLOURS) + 1, len(WORDS) + 1)
        width = reference.model.config.vision_config.hidden_size
        self.patch_head = nn.Linear(width, sum(self.classes))
        self._seen: list[Tensor] = []
        reference.model.model.vision_tower.register_forward_hook(self._remember)

    def _remember(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._seen.append(output.last_hidden_state[:, 1:])

    def forward(self, batch: PackedBatch, *, with_patches: bool) -> tuple[Tensor, Tensor]:
        """Loss of the replies and loss of the patches (0 without), in nats."""
        device = self.patch_head.weight.device
        pixels = self.processor.image_processor(batch.pictures, return_tensors="pt")["pixel_values"]
        self._seen.clear()
        hidden = self.model.model(
            input_ids=batch.input_ids.to(device),
            pixel_values=pixels.to(device),
            attention_mask=batch.mask.to(device),
            position_ids=batch.positions.to(device),
            use_cache=False,
        ).last_hidden_state
        targets = batch.targets.to(device)
        answered = targets >= 0
        logits = self.model.lm_head(hidden[answered])
        reply_loss = functional.cross_entropy(logits.float(), targets[answered])
        if not with_patches:
            return reply_loss, reply_loss.new_zeros(())
        guesses = self.patch_head(self._seen[0]).float().split(self.classes, dim=-1)
        labels = batch.patches.to(device)
        patch_losses = [
            functional.cross_entropy(guess.flatten(0, 1), labels[..., index].flatten())
            for index, guess in enumerate(guesses)
        ]
        return reply_loss, torch.stack(patch_losses).sum()


def _optimisers(student: Student, recipe: ReferenceTrainingConfig) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside the layers, AdamW for everything else."""
    inner: list[nn.Parameter] = []
    outer: list[nn.Parameter] = []
    for name, parameter in student.named_parameters():
        (inner if parameter.ndim == 2 and ".layer" in name else outer).append(parameter)
    return [
        torch.optim.Muon(
            inner, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, adjust_lr_fn="match_rms_adamw"
        ),
        torch.optim.AdamW(outer, lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.0),
    ]


def _rate(recipe: ReferenceTrainingConfig, step: int) -> float:
    if step < recipe.warmup:
        return (step + 1) / recipe.warmup
    done = (step - recipe.warmup) / max(1, recipe.steps - recipe.warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))


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
        out: folder for the model, with `checkpoint.pt` and `training.jsonl` beside it while it is being trained.
        device: `cpu` or `cuda`; by default a GPU if there is one.
        checkpoint_every: steps between checkpoints.
        progress: called with the step, the number of steps and the loss.

    Returns:
        The folder of the saved model (`save_pretrained` format, bf16).

    Raises:
        UsageError: `out` holds a checkpoint of another recipe.
    """
    where = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    out.mkdir(parents=True, exist_ok=True)
    student = Student(build(recipe.family, seed=recipe.seed)).to(where)
    student.train()
    optimisers = _optimisers(student, recipe)
    step = _resume(out / "checkpoint.pt", student, optimisers, recipe)
    packer = ExamplePacker(student.processor)
    started, trace = time.monotonic(), out / "training.jsonl"
    while step < recipe.steps:
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = recipe.learning_rate * _rate(recipe, step)
        rngs = [np.random.default_rng([recipe.seed, 11, step, row]) for row in range(recipe.rows)]
        faint = step >= recipe.watermarks_from
        batch = packer([sample_example(rng, word_only=recipe.word_only, watermarks=faint) for rng in rngs])
        with torch.autocast(where.type, torch.bfloat16):
            reply, patch = student(batch, with_patches=step < recipe.patch_share * recipe.steps)
        (reply + 0.5 * patch).backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        step += 1
        if progress is not None:
            progress(step, recipe.steps, reply.item())
        if step % 20 == 0:
            row = {
                "step": step,
                "reply": reply.item(),
                "patch": patch.item(),
                "seconds": time.monotonic() - started,
            }
            with trace.open("a") as file:
                file.write(json.dumps(row) + "\n")
        if step % checkpoint_every == 0 or step == recipe.steps:
            _save_checkpoint(out / "checkpoint.pt", student, optimisers, recipe, step)
    return _save_model(student, out)


def _resume(
    path: Path, student: Student, optimisers: list[torch.optim.Optimizer], recipe: ReferenceTrainingConfig
) -> int:
    if not path.exists():
        return 0
    state = torch.load(path, weights_only=True)
    if state["recipe"] != asdict(recipe):
        raise UsageError(f"expected a checkpoint of the same recipe in {path}, got another; try a new folder")
    if state.get("vocabulary", vocabulary := _vocabulary(student)) != vocabulary:
        raise UsageError(f"expected a checkpoint with this world's vocabulary in {path}, got another; try a new folder")
    student.load_state_dict(state["student"])
    for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
        optimiser.load_state_dict(saved)
    logger.info("resumed at step %d", state["step"])
    return int(state["step"])


def _save_checkpoint(
    path: Path, student: Student, optimisers: list[torch.optim.Optimizer], recipe: ReferenceTrainingConfig, step: int
) -> None:
    state = {
        "recipe": asdict(recipe),
        "step": step,
        "vocabulary": _vocabulary(student),
        "student": student.state_dict(),
        "optimisers": [optimiser.state_dict() for optimiser in optimisers],
    }
    half_written = path.with_suffix(".part")
    torch.save(state, half_written)
    os.replace(half_written, path)


def _vocabulary(student: Student) -> str:
    """A changed world changes the tokenizer, and token ids learned under another one mean nothing."""
    return hashlib.sha256(student.processor.tokenizer.backend_tokenizer.to_str().encode()).hexdigest()


def _save_model(student: Student, out: Path) -> Path:
    folder = out / "model"
    student.model.eval().to(torch.bfloat16).save_pretrained(folder)
    student.processor.save_pretrained(folder)
    return folder

"""Supervised training on rows: a collator and a loss on the one training loop.

A training is its rows, a collator that makes tensors of some of them, and a loss of the model on those tensors; the
rest is here. Whichever weights of the model require gradients learn: all of them, adapters, a soft prompt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from equipoise.errors import UsageError
from equipoise.models.load import find_device
from equipoise.models.state import recomputed_activations
from equipoise.training.checkpointing import LearnedWeights
from equipoise.training.compiled_layers import compiled_layers
from equipoise.training.loop import LearningRate, Progress, TrainingLoop, seeded
from equipoise.training.processes import TrainingProcesses, shared_weight
from equipoise.training.sharded_copy import ShardedCopy, ShardingPlan, WholeState

Row = TypeVar("Row")
LossParts = Mapping[str, Tensor]
"""Scalars by name: the first is minimised, the others are its parts, for the log."""
Loss = Callable[[Any, Mapping[str, Any]], Tensor | LossParts]
"""Model and collated batch to the mean loss, a scalar, alone or with its parts."""
WARMUP_SHARE: Final = 0.06
"""Share of the steps in which the learning rate rises; afterwards it falls linearly to zero."""
WEIGHT_DECAY: Final = 0.01
"""Of matrices, unless the parameter groups say otherwise."""
_STREAM: Final = 53
"""Second number of the seeds of a step's dropout, which no other training draws from."""


def require_rate(rate: float) -> None:
    """Check a peak learning rate, before a model is loaded.

    Raises:
        UsageError: it is not above 0 and at most 1.
    """
    if not 0 < rate <= 1:
        raise UsageError(f"expected a learning rate above 0 and at most 1, got {rate:g}; try 1e-4")


@dataclass(frozen=True)
class SupervisedSettings:
    """How long, how fast and where a supervised training runs."""

    epochs: int
    """Times over the rows."""
    rate: float
    """Peak learning rate."""
    batch: int
    """Rows in an optimiser step."""
    seed: int
    """Of the order of the rows and of dropout."""
    bf16: bool = False
    """bfloat16 autocast in the forward pass."""
    checkpoint_every: int = 200
    """Optimiser steps between checkpoints."""
    device: str | None = None
    """`cpu` or `cuda`; by default CUDA where there is one."""
    compiled: bool = False
    """Compile the decoder layers for the time of the training; needs a C++ compiler."""
    activation_checkpointing: bool = False
    """Compute activations again in the backward pass: less memory for about a third more time."""


def model_loss(model: Any, batch: Mapping[str, Tensor]) -> Tensor:
    """The loss that transformers' models return where a batch holds labels, as a mean over its rows."""
    loss: Tensor = model(**batch)["loss"]
    weight = shared_weight(len(batch["labels"]))
    return loss if weight == 1.0 else loss * weight


def fit(
    model: nn.Module,
    rows: Sequence[Row],
    collate: Callable[[Sequence[Row]], Mapping[str, Any]],
    settings: SupervisedSettings,
    out: Path,
    recipe: dict[str, Any],
    *,
    loss: Loss = model_loss,
    groups: Sequence[dict[str, Any]] | None = None,
    lengths: Sequence[int] | None = None,
    progress: Progress | None = None,
) -> None:
    """Train, in place, the weights of `model` that require gradients; the same call goes on where it was killed.

    Args:
        model: moved to the device, and in eval mode afterwards. With FSDP it stays where it is, as it may not fit on
            the device, and a copy is sharded.
        rows: what is learned from.
        collate: makes a batch of some rows: tensors, or anything else that has their `to`.
        settings: how long, how fast and where.
        out: folder for `checkpoint.pt` and `training.jsonl`.
        recipe: everything that decides the weights; see `TrainingLoop`.
        loss: of the model on a batch; by default the model's own.
        groups: parameter groups for AdamW; by default all, with weight decay for matrices alone.
        lengths: of the rows; where given, rows of similar length share a batch, which saves padding.
        progress: called after every step.

    Raises:
        UsageError: no rows, a folder of another recipe, a loss that is not finite, or compiled layers with FSDP.
        OutputError: the folder cannot be written.
        ModelError: there is no such device, or no decoder layers to compile.
    """
    if not rows:
        raise UsageError("expected rows to learn from, got none; try more rows")
    processes = TrainingProcesses.join(settings.device)
    device = find_device(settings.device)
    whole_model = model.train()
    model, optimiser, sharded = _learner(model, groups, settings, processes.sharding, device)
    recomputing = settings.activation_checkpointing or bool(processes.sharding and processes.sharding.recompute)
    order = BatchOrder(len(rows), settings.batch, settings.seed, lengths)
    steps = settings.epochs * order.steps_per_epoch
    # AdamW's second moments are estimated from few gradients at first, so that a full rate would take steps of a random
    # length; the warm-up keeps them small until the moments have settled.
    rate = LearningRate([optimiser], steps, math.ceil(WARMUP_SHARE * steps), "linear")
    weights = LearnedWeights.of(model)

    def step(number: int) -> dict[str, float]:
        rate.set(number)
        own = processes.share(order.rows_of(number))
        batch = {name: value.to(device) for name, value in collate([rows[i] for i in own]).items()}
        # Other rows, other dropout: each process draws its own.
        stream = [settings.seed, _STREAM, number, *([processes.rank] if processes.count > 1 else [])]
        seed = int(np.random.default_rng(stream).integers(2**62))
        with (
            seeded(seed, device),
            torch.autocast(device.type, torch.bfloat16, enabled=settings.bf16),
            recomputed_activations(model, learning=True) if recomputing else nullcontext(),
        ):
            value = loss(model, batch)
        parts = {"loss": value} if isinstance(value, Tensor) else dict(value)
        # Outside of the block of `seeded`: layers that are computed again for the backward pass draw the same dropout
        # all the same, as torch's checkpoint keeps the state of the generators.
        next(iter(parts.values())).backward()
        processes.average_gradients(weights.weights)
        # One norm over all weights: the direction of the step stays, and a single odd batch cannot throw the model far.
        nn.utils.clip_grad_norm_(weights.weights, 1.0)
        optimiser.step()
        # To None, not to zeros: a weight that no row of the next batch reaches is then not decayed by that step either.
        optimiser.zero_grad(set_to_none=True)
        return processes.mean({name: float(part.detach()) for name, part in parts.items()})

    loop = TrainingLoop(out, steps, recipe, settings.checkpoint_every, processes.is_first)
    with compiled_layers(model, settings.compiled):
        loop.run(step, {"weights": weights, "optimiser": WholeState(optimiser) if sharded else optimiser}, progress)
    if sharded is not None:
        sharded.copy_back()
    whole_model.eval()


def _learner(
    model: nn.Module,
    groups: Sequence[dict[str, Any]] | None,
    settings: SupervisedSettings,
    plan: ShardingPlan | None,
    device: torch.device,
) -> tuple[nn.Module, torch.optim.Optimizer, ShardedCopy | None]:
    """What takes the steps: the model on its device, or a sharded copy of it; its optimiser; the copy."""
    chosen = list(groups or _decay_groups(model))
    copy: ShardedCopy | None = None
    if plan is None:
        model.to(device)
    elif settings.compiled:
        raise UsageError("expected layers that are not compiled with FSDP, got compiled ones; try without --compile")
    else:
        copy = ShardedCopy(model, device, plan)
        model, chosen = copy.module, copy.counterparts(chosen)
    return model, torch.optim.AdamW(chosen, lr=settings.rate, weight_decay=WEIGHT_DECAY), copy


def _decay_groups(model: nn.Module) -> list[dict[str, Any]]:
    """Weight decay pulls matrices towards zero; biases and the scales of norms have no reason to be small."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [
        {"params": [parameter for parameter in learning if parameter.ndim >= 2]},
        {"params": [parameter for parameter in learning if parameter.ndim < 2], "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


class BatchOrder:
    """Which rows each step takes: every row once an epoch, in an order that seed and epoch decide.

    Args:
        count: rows.
        batch: rows in a step; the last step of an epoch may have fewer.
        seed: of the order.
        lengths: of the rows; where given, rows of similar length come together.
    """

    def __init__(self, count: int, batch: int, seed: int, lengths: Sequence[int] | None = None) -> None:
        self.steps_per_epoch = math.ceil(count / batch)
        self._count, self._batch, self._seed = count, batch, seed
        self._lengths = None if lengths is None else list(lengths)
        self._epoch, self._order = -1, list[int]()

    def rows_of(self, step: int) -> list[int]:
        """The numbers of the rows of a step, counted from 0 over all epochs."""
        epoch, number = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, self._drawn(epoch)
        return self._order[number * self._batch : (number + 1) * self._batch]

    def _drawn(self, epoch: int) -> list[int]:
        from transformers.trainer_pt_utils import get_length_grouped_indices

        generator = torch.Generator().manual_seed(self._seed)
        # One generator runs through the epochs: a later one is reached by drawing those before it again.
        for _ in range(epoch + 1):
            if self._lengths is None:
                order = torch.randperm(self._count, generator=generator).tolist()
            else:
                order = get_length_grouped_indices(self._lengths, self._batch, generator=generator)
        return list(order)

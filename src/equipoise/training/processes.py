"""`TrainingProcesses`: one training in several processes, each of which computes a share of every step.

Torchrun or `accelerate launch` starts the processes; accelerate joins them (gloo between processors, NCCL between
GPUs). Every process holds the whole model and takes every R-th row of a step. The gradients are averaged once, after
the backward pass, so that a training needs no wrapper around its model: losses and attacks call parts of the model that
a wrapper would hide. Where accelerate is configured for FSDP, supervised trainings shard a copy of their
model; see `sharded_copy`.

The mean of a step's loss is that of all its rows or tokens, not a mean of means: a process with fewer tokens weighs
less. So the losses are those of one process, up to rounding.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Self, TypeVar

import torch
from torch import Tensor, distributed

from equipoise.errors import UsageError
from equipoise.training.sharded_copy import ShardingPlan

COUNT: Final = "WORLD_SIZE"
"""Environment variable with the number of processes, set by launchers."""
BUCKET: Final = 2**24
"""Numbers that are averaged in one message."""

Row = TypeVar("Row")
Result = TypeVar("Result")


@dataclass(frozen=True)
class TrainingProcesses:
    """This process among those of its training."""

    rank: int = 0
    """Its number, from 0 on."""
    count: int = 1
    """How many there are."""
    sharding: ShardingPlan | None = None
    """How supervised trainings shard their model; None where every process holds all of it."""

    @classmethod
    def join(cls, device: str | None = None) -> Self:
        """The processes that a launcher has started; joins them at the first call. Without a launcher, this one alone.

        Args:
            device: as the user named it; `cpu` joins over gloo where there are GPUs, too.

        Raises:
            UsageError: the launcher is configured for something else than data-parallel processes or FSDP2.
        """
        if not distributed.is_initialized():
            if os.environ.get(COUNT, "1") == "1":
                return cls()
            from accelerate import PartialState
            from accelerate.state import DistributedType

            state = PartialState(cpu=device == "cpu" or not torch.cuda.is_available())
            _require_data_parallel(str(state.distributed_type))
            assert state.distributed_type != DistributedType.NO
            if distributed.get_backend() == "gloo":
                # Its threads may want the interpreter when it has ended, which aborts a finished training. NCCL has no
                # such threads, and leaving it may wait for a process that still computes.
                atexit.register(state.destroy_process_group)
        return cls(distributed.get_rank(), distributed.get_world_size(), ShardingPlan.configured())

    @property
    def is_first(self) -> bool:
        """Whether this one writes files."""
        return self.rank == 0

    def require_whole_model(self, training: str) -> None:
        """Refuse FSDP for a training that calls parts of its model.

        Raises:
            UsageError: the model would be sharded.
        """
        if self.sharding is not None:
            raise UsageError(
                f"expected processes that each hold the model for {training}, got FSDP; try torchrun "
                "--nproc-per-node N -m equipoise train, or --lora for a model that does not fit"
            )

    def share(self, rows: Sequence[Row]) -> Sequence[Row]:
        """This process's rows of a step.

        Fewer rows than processes go to each of them: computed several times and averaged, they are the same mean, and
        no process waits for one that has nothing to compute.
        """
        return rows if len(rows) < self.count else rows[self.rank :: self.count]

    def average_gradients(self, weights: Sequence[torch.nn.Parameter]) -> None:
        """Replace the gradient of each weight by its mean over the processes.

        A weight that no process has a gradient for keeps none, so that no optimiser decays it; one that only some have
        a gradient for counts as zero in the others.
        """
        if self.count == 1 or self.sharding is not None:
            # FSDP has averaged them in the backward pass, each process its own part.
            return
        used = torch.tensor([weight.grad is not None for weight in weights], device=_message_device()).int()
        distributed.all_reduce(used)
        groups: dict[tuple[torch.dtype, torch.device], list[Tensor]] = {}
        for weight, processes in zip(weights, used.tolist(), strict=True):
            if not processes:
                continue
            if weight.grad is None:
                weight.grad = torch.zeros_like(weight)
            groups.setdefault((weight.grad.dtype, weight.grad.device), []).append(weight.grad)
        for gradients in groups.values():
            for bucket in _buckets(gradients):
                flat = torch.cat([gradient.flatten() for gradient in bucket])
                distributed.all_reduce(flat)
                flat /= self.count
                for gradient, mean in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
                    gradient.copy_(mean.view_as(gradient))

    def mean(self, parts: Mapping[str, float]) -> dict[str, float]:
        """The mean over the processes of each value, which is then the same in all of them."""
        if self.count == 1:
            return dict(parts)
        values = torch.tensor(list(parts.values()), dtype=torch.float64, device=_message_device())
        distributed.all_reduce(values)
        return dict(zip(parts, (values / self.count).tolist(), strict=True))

    def on_first(self, work: Callable[[], Result]) -> Result | None:
        """Do in the first process alone what writes files; the others wait for it, and get None."""
        result = work() if self.is_first else None
        if self.count > 1:
            distributed.barrier()
        return result


def shared_mean(values: Tensor) -> Tensor:
    """The mean over the values of all processes, of which this process knows its own; 0 of no values.

    In one process it is `values.mean()`. In several, each process gets its part of the sum over the count of all, times
    the number of processes, so that the mean of these over the processes, and of their gradients, is the one wanted.
    """
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return values.mean() if values.numel() else values.sum()
    total = _sum_over_processes(values.numel())
    return values.sum() * (distributed.get_world_size() / max(total, 1))


def shared_weight(count: int) -> float:
    """What a mean over `count` values of this process weighs in the mean over all processes: 1 where all have as many.

    Args:
        count: values that this process's mean is over.
    """
    if not distributed.is_initialized() or distributed.get_world_size() == 1:
        return 1.0
    return count * distributed.get_world_size() / max(_sum_over_processes(count), 1)


def _sum_over_processes(count: int) -> int:
    total = torch.tensor(count, dtype=torch.int64, device=_message_device())
    distributed.all_reduce(total)
    return int(total)


def _message_device() -> torch.device:
    """NCCL sends what lies on a GPU."""
    return torch.device("cuda" if distributed.get_backend() == "nccl" else "cpu")


def _buckets(gradients: Sequence[Tensor]) -> list[list[Tensor]]:
    buckets: list[list[Tensor]] = [[]]
    size = 0
    for gradient in gradients:
        if size and size + gradient.numel() > BUCKET:
            buckets.append([])
            size = 0
        buckets[-1].append(gradient)
        size += gradient.numel()
    return buckets


def _require_data_parallel(kind: str) -> None:
    name = kind.rpartition(".")[2]
    if name not in ("MULTI_CPU", "MULTI_GPU"):
        raise UsageError(
            f"expected data-parallel processes or FSDP, got {name}; try torchrun --nproc-per-node N -m equipoise "
            "train, or --lora for a model that does not fit"
        )

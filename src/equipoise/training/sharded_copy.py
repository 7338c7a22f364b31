"""Sharded trainings (FSDP): the weights lie in parts on all processes, and each layer is put together while it runs.

What is sharded is a copy of the model, so that everything outside the steps (checkpoints, adapters, merging, writing)
keeps a whole model to work on; the learned weights are copied back into it. The configuration is that of accelerate's
launcher (`fsdp_config` of its file), as its environment variables say it. Only FSDP2 (`fully_shard`) is there.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor, distributed, nn

from equipoise.errors import UsageError

CONFIGURED: Final = "ACCELERATE_USE_FSDP"
"""Environment variable that is `true` where accelerate's configuration names FSDP."""


@dataclass(frozen=True)
class ShardingPlan:
    """How a model is sharded."""

    reshard: bool = True
    """Give a layer's weights up after its forward pass, and collect them again for the backward pass."""
    offload: bool = False
    """Keep this process's parts in the machine's memory while they are not needed."""
    recompute: bool = False
    """Compute activations again in the backward pass."""
    classes: tuple[str, ...] = ()
    """Names of the modules that are collected one at a time; empty for the members of outermost lists of modules."""

    @classmethod
    def configured(cls) -> ShardingPlan | None:
        """What accelerate's launcher was configured for; None where that is no FSDP.

        Raises:
            UsageError: FSDP of version 1, or settings that accelerate refuses.
        """
        if os.environ.get(CONFIGURED) != "true":
            return None
        from accelerate import FullyShardedDataParallelPlugin

        try:
            plugin = FullyShardedDataParallelPlugin()
        except (ValueError, ImportError) as error:
            raise UsageError(f"expected a configuration of FSDP, got {error}; try fsdp_version: 2 alone") from error
        if plugin.fsdp_version != 2:
            raise UsageError(
                f"expected FSDP of version 2, got {plugin.fsdp_version}; try fsdp_version: 2 in accelerate's file"
            )
        from torch.distributed.fsdp import CPUOffloadPolicy

        return cls(
            reshard=bool(plugin.reshard_after_forward),
            offload=isinstance(plugin.cpu_offload, CPUOffloadPolicy),
            recompute=bool(plugin.activation_checkpointing),
            classes=tuple(plugin.transformer_cls_names_to_wrap or ()),
        )


class ShardedCopy:
    """A model's copy in parts on all processes of a training.

    Args:
        model: whole, in every process; stays as it is until `copy_back`.
        device: where the parts are computed.
        plan: how.

    Raises:
        UsageError: no module of the model has a name of the plan.
    """

    def __init__(self, model: nn.Module, device: torch.device, plan: ShardingPlan) -> None:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import CPUOffloadPolicy, OffloadPolicy, fully_shard

        self._whole = model
        self.module = copy.deepcopy(model)
        mesh = init_device_mesh(device.type, (distributed.get_world_size(),))
        options: dict[str, Any] = {
            "mesh": mesh,
            "reshard_after_forward": plan.reshard,
            "offload_policy": CPUOffloadPolicy() if plan.offload else OffloadPolicy(),
        }
        # Inside first: what a module of its own holds is not part of the root, whose weights are collected for the
        # whole of a step.
        for part in _parts(self.module, plan.classes):
            fully_shard(part, **options)
        fully_shard(self.module, **options)

    def counterparts(self, groups: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """Parameter groups of the whole model as groups of the copy."""
        names = {id(weight): name for name, weight in self._whole.named_parameters()}
        weights = dict(self.module.named_parameters())
        return [{**group, "params": [weights[names[id(weight)]] for weight in group["params"]]} for group in groups]

    def copy_back(self) -> None:
        """Put the learned weights into the whole model; all processes call it together."""
        weights = dict(self.module.named_parameters())
        with torch.no_grad():
            for name, weight in self._whole.named_parameters():
                if weight.requires_grad:
                    weight.copy_(whole(weights[name]))


@dataclass(frozen=True)
class WholeState:
    """The state of an optimiser over sharded weights, as a checkpoint holds it: that of one process.

    All processes call both methods together.
    """

    optimiser: torch.optim.Optimizer
    """Of `ShardedCopy.module`."""

    def state_dict(self) -> dict[str, Any]:
        """Moments put together from all processes."""
        state = self.optimiser.state_dict()
        moments = {
            number: {name: whole(value) if isinstance(value, Tensor) else value for name, value in values.items()}
            for number, values in state["state"].items()
        }
        return {**state, "state": moments}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take on this process's parts of a whole state, whatever number of processes wrote it."""
        weights = [weight for group in self.optimiser.param_groups for weight in group["params"]]
        # The optimiser numbers the weights of all groups one after the other. Moments are shaped as their weight; the
        # count of steps is a scalar and the same everywhere.
        moments = {
            number: {
                name: part_of(value, weights[number])
                if isinstance(value, Tensor) and value.shape == weights[number].shape and value.ndim
                else value
                for name, value in values.items()
            }
            for number, values in state["state"].items()
        }
        self.optimiser.load_state_dict({**state, "state": moments})


def whole(weight: Tensor) -> Tensor:
    """A sharded tensor put together, which all processes do at once; any other tensor as it is."""
    values: Tensor = weight.detach()
    return values.full_tensor() if _is_sharded(weight) else values  # type: ignore[attr-defined]


def part_of(value: Tensor, like: Tensor) -> Tensor:
    """A whole tensor as sharded as `like`; as it is where `like` is not sharded."""
    if not _is_sharded(like):
        return value
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = like.device_mesh, like.placements  # type: ignore[attr-defined]
    # No source rank: every process has read the same checkpoint, so that nothing needs to be sent.
    return distribute_tensor(value.to(mesh.device_type, like.dtype), mesh, placements, src_data_rank=None)


def _is_sharded(value: Tensor) -> bool:
    if not distributed.is_available() or not distributed.is_initialized():
        return False
    from torch.distributed.tensor import DTensor

    return isinstance(value, DTensor)


def _parts(model: nn.Module, classes: Sequence[str]) -> list[nn.Module]:
    """The modules that are collected one at a time."""
    if not classes:
        return list(_outermost_members(model))
    parts = [module for module in model.modules() if type(module).__name__ in classes]
    if not parts:
        raise UsageError(
            f"expected modules named {' or '.join(classes)} in {type(model).__name__}, got none; "
            "try without fsdp_transformer_layer_cls_to_wrap"
        )
    return parts


def _outermost_members(module: nn.Module) -> Iterator[nn.Module]:
    """The members of lists of modules, such as decoder layers; lists within a member (experts) are part of it."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from (member for member in child if any(True for _ in member.parameters()))
        else:
            yield from _outermost_members(child)

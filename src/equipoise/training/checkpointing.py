"""Checkpoint files of a training: one format, one recipe for each folder, and the way back into a running state."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import torch
from torch import nn

from equipoise.errors import OutputError, UsageError, os_reason
from equipoise.training.sharded_copy import part_of, whole

CHECKPOINT: Final = "checkpoint.pt"
"""Name of the file in the folder of a training."""
RESULTS: Final = ("adapter_model.safetensors", "adapter_config.json", "model.safetensors", "config.json")
"""Files of a model or an adapter. A training that wrote them has written its checkpoint before."""


class Stateful(Protocol):
    """A part of a training's state: a module, an optimiser, a moving average."""

    def state_dict(self) -> dict[str, Any]:
        """The whole state, as tensors and plain values."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Take on a state that `state_dict` returned."""
        ...


@dataclass(frozen=True)
class LearnedWeights:
    """The weights that learn, as a checkpoint holds them: frozen weights come from the base model again."""

    weights: list[nn.Parameter]
    """In the order of the model's parameters, which is their name in the checkpoint."""

    @classmethod
    def of(cls, model: nn.Module) -> LearnedWeights:
        """The parameters of a model that require gradients."""
        return cls([parameter for parameter in model.parameters() if parameter.requires_grad])

    def state_dict(self) -> dict[str, Any]:
        """Weights by their number; of sharded ones the whole, which all processes put together at once."""
        return {str(index): whole(weight) for index, weight in enumerate(self.weights)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Copy the values into the weights, wherever these are.

        Raises:
            KeyError: the state is that of fewer weights.
            RuntimeError: a weight has another shape.
        """
        with torch.no_grad():
            for index, weight in enumerate(self.weights):
                weight.copy_(part_of(state[str(index)], weight))


@dataclass(frozen=True)
class Checkpoint:
    """The file from which a training goes on: `recipe`, `step` and the `state` of every part."""

    folder: Path
    """Of the training."""
    recipe: dict[str, Any]
    """Everything that decides the weights."""

    @property
    def path(self) -> Path:
        """Of the file."""
        return self.folder / CHECKPOINT

    def require_same_recipe(self) -> None:
        """Check the folder before models are loaded, which may take minutes; `restore` checks it, too.

        Raises:
            UsageError: the folder holds a training of another recipe, a damaged checkpoint, or a model or an adapter
                that no training here has written.
        """
        if self.path.exists():
            # Mapped, not read: the recipe is a few bytes beside gigabytes of weights and optimiser state.
            self._check(self._read(mmap=True))
            return
        there = [name for name in RESULTS if (self.folder / name).exists()]
        if there:
            raise UsageError(
                f"expected a new folder, or that of a stopped training with its {CHECKPOINT}, got {self.folder} with "
                f"{there[0]}, which would be overwritten; try a new folder"
            )

    def restore(self, state: Mapping[str, Stateful]) -> int:
        """Load every part of the state; returns the number of finished steps, 0 where there is no checkpoint.

        Raises:
            UsageError: the checkpoint is damaged, or that of another recipe or model.
        """
        if not self.path.exists():
            return 0
        saved = self._read()
        self._check(saved)
        try:
            for name, part in state.items():
                part.load_state_dict(saved["state"][name])
        except (KeyError, ValueError, RuntimeError) as error:
            raise UsageError(
                f"expected a checkpoint of this model in {self.path}, got that of another one; try a new folder"
            ) from error
        return int(saved["step"])

    def save(self, state: Mapping[str, Stateful], step: int, *, writes: bool = True) -> None:
        """Write the state after `step` steps; a kill meanwhile leaves the checkpoint before.

        Args:
            state: its parts by name.
            step: finished steps.
            writes: whether this process does. The others call it as well, since a sharded state is put together by
                all of them.

        Raises:
            OutputError: the file cannot be written.
        """
        half_written = self.path.with_suffix(".part")
        states = {name: part.state_dict() for name, part in state.items()}
        if not writes:
            return
        with writing_to(self.folder):
            torch.save({"recipe": self.recipe, "step": step, "state": states}, half_written)
            os.replace(half_written, self.path)

    def _read(self, *, mmap: bool = False) -> dict[str, Any]:
        try:
            # `weights_only`: unpickling anything else could run code that somebody put into the file.
            saved: Any = torch.load(self.path, weights_only=True, map_location="cpu", mmap=mmap)
            if not saved.keys() >= {"recipe", "step", "state"}:
                raise KeyError("state")
        except (OSError, RuntimeError, EOFError, KeyError, AttributeError, pickle.UnpicklingError) as error:
            raise UsageError(
                f"expected a checkpoint of a training in {self.path}, got another or a damaged file; try a new folder"
            ) from error
        return dict(saved)

    def _check(self, saved: Mapping[str, Any]) -> None:
        changed = sorted(_changed(saved["recipe"], self.recipe))
        if changed:
            raise UsageError(
                f"expected a checkpoint of the same recipe in {self.folder}, got another {', '.join(changed)}; "
                "try a new folder"
            )


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterable[str]:
    return (name for name in {*before, *now} if name not in before or name not in now or before[name] != now[name])


@contextmanager
def writing_to(folder: Path) -> Iterator[None]:
    """Turns what goes wrong when a training writes into `folder` into one `OutputError`."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        # torch.save says RuntimeError where the disk is full.
        reason = os_reason(error)
        raise OutputError(f"expected a folder to write to, got {folder} ({reason}); try another folder") from error

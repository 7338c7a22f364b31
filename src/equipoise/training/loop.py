"""A training loop that goes on after a kill: whole checkpoints, a trace, and a recipe that must not change.

Every step draws from a generator seeded by the step's number, so that a resumed run sees what an unbroken one would.
"""

from __future__ import annotations

import json
import math
import os
import pickle
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from equipoise.errors import OutputError, UsageError
from equipoise.files import write_whole

Progress = Callable[[int, int, float], None]
"""Is told the step, the number of steps and the loss."""
TRACE_EVERY = 20


class Stateful(Protocol):
    """What a checkpoint holds: modules, optimisers, averages."""

    def state_dict(self) -> dict[str, Any]:
        """Everything."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> Any:
        """Everything back."""
        ...


@dataclass(frozen=True)
class TrainingLoop:
    """How long, and where to."""

    out: Path
    """Folder for `checkpoint.pt` and `training.jsonl`."""
    steps: int
    """Optimiser steps."""
    recipe: dict[str, Any]
    """What decides the weights; a folder holds the training of one recipe."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""

    def run(
        self, step: Callable[[int], dict[str, float]], state: dict[str, Stateful], progress: Progress | None = None
    ) -> None:
        """Call `step` with 0, 1, ... or from the last checkpoint on.

        Args:
            step: does one update; returns its losses by name, `loss` first.
            state: what a checkpoint holds, by name.
            progress: is told of every step.

        Raises:
            UsageError: the folder holds a checkpoint of another recipe, or the loss is not finite.
            OutputError: the folder cannot be written.
        """
        with self._writing():
            self.out.mkdir(parents=True, exist_ok=True)
            # Now, not after the first hundred steps.
            self._trace.open("a").close()
        done = self._resume(state)
        self._forget_after(done)
        started = time.monotonic()
        while done < self.steps:
            losses = step(done)
            done += 1
            loss = next(iter(losses.values()))
            if not math.isfinite(loss):
                raise UsageError(f"expected a finite loss, got {loss} at step {done}; try a lower learning rate")
            if progress is not None:
                progress(done, self.steps, loss)
            if done % TRACE_EVERY == 0 or done == self.steps:
                self._note({"step": done, **losses, "seconds": round(time.monotonic() - started, 1)})
            if done % self.checkpoint_every == 0 or done == self.steps:
                self._save(state, done)

    @property
    def _path(self) -> Path:
        return self.out / "checkpoint.pt"

    @property
    def _trace(self) -> Path:
        return self.out / "training.jsonl"

    @contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, RuntimeError) as error:
            # torch.save says RuntimeError where the disk is full.
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())[:160]
            raise OutputError(
                f"expected a folder to write to, got {self.out} ({reason}); try another folder"
            ) from error

    def _resume(self, state: dict[str, Stateful]) -> int:
        if not self._path.exists():
            return 0
        try:
            saved = torch.load(self._path, weights_only=True, map_location="cpu")
            state_of, step = saved["state"], int(saved["step"])
        except (OSError, RuntimeError, EOFError, KeyError, TypeError, pickle.UnpicklingError) as error:
            raise UsageError(
                f"expected a checkpoint of a training in {self._path}, got another or a damaged file; try a new folder"
            ) from error
        if saved["recipe"] != self.recipe:
            changed = sorted(
                name for name in {*saved["recipe"], *self.recipe} if saved["recipe"].get(name) != self.recipe.get(name)
            )
            raise UsageError(
                f"expected a checkpoint of the same recipe in {self.out}, got another {', '.join(changed)}; "
                "try a new folder"
            )
        for name, part in state.items():
            part.load_state_dict(state_of[name])
        return step

    def _forget_after(self, done: int) -> None:
        """Take out of the trace what a killed run noted after its last checkpoint: it will be noted again."""
        lines = self._trace.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if _step_of(line) <= done]
        if kept != lines:
            write_whole(self._trace, "".join(kept))

    def _save(self, state: dict[str, Stateful], done: int) -> None:
        half_written = self._path.with_suffix(".part")
        whole = {
            "recipe": self.recipe,
            "step": done,
            "state": {name: part.state_dict() for name, part in state.items()},
        }
        with self._writing():
            torch.save(whole, half_written)
            os.replace(half_written, self._path)

    def _note(self, row: dict[str, Any]) -> None:
        with self._writing(), self._trace.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def _step_of(line: str) -> float:
    """The step of a line of the trace; a line that a kill cut in half comes after all."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


def warm_cosine(step: int, steps: int, warmup: int) -> float:
    """The share of the peak learning rate: linear warm-up, then a cosine to a hundredth."""
    if step < warmup:
        return (step + 1) / warmup
    done = (step - warmup) / max(1, steps - warmup)
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))

"""The training loop of everything that is trained here: it resumes after a kill, keeps a trace, and sets the rate.

Every step draws its random numbers from a generator seeded by the step's number, never from one that runs through the
whole training. A checkpoint therefore needs no generator states, and a resumed run takes the same steps as an
uninterrupted one.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch

from equipoise.errors import UsageError
from equipoise.files import write_whole
from equipoise.folder_lock import claim_folder
from equipoise.training.checkpointing import Checkpoint, Stateful, writing_to

Progress = Callable[[int, int, float], None]
"""Called after every step with the number of finished steps, the number of all steps, and the loss."""
TRACE_EVERY = 20
"""Steps from one line of `training.jsonl` to the next."""


@dataclass(frozen=True)
class TrainingLoop:
    """How long a training runs, and in which folder."""

    out: Path
    """Folder for `checkpoint.pt` and `training.jsonl`."""
    steps: int
    """Optimiser steps."""
    recipe: dict[str, Any]
    """What decides the weights; a folder holds the training of one recipe."""
    checkpoint_every: int = 200
    """Steps between checkpoints."""
    writes: bool = True
    """Whether this process writes checkpoints and trace; of several processes, the first alone does."""

    def run(
        self, step: Callable[[int], dict[str, float]], state: dict[str, Stateful], progress: Progress | None = None
    ) -> None:
        """Call `step` with 0, 1, ... or with the numbers after the last checkpoint.

        Args:
            step: does one update; returns its losses by name, the one that is reported first.
            state: what a checkpoint holds, by name.
            progress: called after every step.

        Raises:
            UsageError: the folder holds a checkpoint of another recipe, another process writes it, or the loss is not
                finite.
            OutputError: the folder cannot be written.
        """
        with claim_folder(self.out) if self.writes else nullcontext():
            self._run(step, state, progress)

    def _run(
        self, step: Callable[[int], dict[str, float]], state: dict[str, Stateful], progress: Progress | None
    ) -> None:
        if self.writes:
            with writing_to(self.out):
                # A folder that cannot be written is found now, not after the first hundred steps.
                self._trace.open("a").close()
        # Order matters: the trace is cut to the checkpoint's step only after the checkpoint was read. A kill between
        # two checkpoints loses up to `checkpoint_every` steps, and their lines must not stand in the trace twice.
        done = self._checkpoint.restore(state)
        if self.writes:
            self._cut_trace(done)
        started = time.monotonic()
        while done < self.steps:
            # The step's number is all that a step may draw its randomness from: that makes a resumed run the same run.
            losses = step(done)
            done += 1
            # The first entry is what is minimised; further ones are its parts, for the trace alone.
            loss = next(iter(losses.values()))
            if not math.isfinite(loss):
                raise UsageError(f"expected a finite loss, got {loss} at step {done}; try a lower learning rate")
            if progress is not None:
                progress(done, self.steps, loss)
            if self.writes and (done % TRACE_EVERY == 0 or done == self.steps):
                self._append({"step": done, **losses, "seconds": round(time.monotonic() - started, 1)})
            if done % self.checkpoint_every == 0 or done == self.steps:
                self._checkpoint.save(state, done, writes=self.writes)

    @property
    def _checkpoint(self) -> Checkpoint:
        return Checkpoint(self.out, self.recipe)

    @property
    def _trace(self) -> Path:
        return self.out / "training.jsonl"

    def _cut_trace(self, done: int) -> None:
        """Remove what a killed run wrote after its last checkpoint: those steps are taken, and written, again."""
        lines = self._trace.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if _step_of(line) <= done]
        if kept != lines:
            write_whole(self._trace, "".join(kept))

    def _append(self, row: dict[str, Any]) -> None:
        with writing_to(self.out), self._trace.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def _step_of(line: str) -> float:
    """The step of a line of the trace; infinite for a line that a kill cut in half."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return math.inf


class _ParameterGroups(Protocol):
    """An optimiser, or what accelerate wraps around one."""

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        """Groups of parameters, each with its `lr`."""
        ...


class LearningRate:
    """The learning rate of every step: a linear warm-up to the peak, then a decay.

    Args:
        optimisers: whose groups have their peak as `lr`.
        steps: of the whole training.
        warmup: steps until the peak is reached.
        decay: `cosine` falls to a hundredth of the peak, `linear` to zero.
    """

    def __init__(
        self,
        optimisers: Sequence[_ParameterGroups],
        steps: int,
        warmup: int,
        decay: Literal["cosine", "linear"] = "cosine",
    ) -> None:
        self._optimisers = optimisers
        # Read before a checkpoint is restored: its groups hold the rate of its last step in place of the peak.
        self._peaks = [[group["lr"] for group in optimiser.param_groups] for optimiser in optimisers]
        self._steps, self._warmup, self._decay = steps, warmup, decay

    def set(self, step: int) -> None:
        """Give every group the rate of a step, counted from 0."""
        share = self.share(step)
        for optimiser, peaks in zip(self._optimisers, self._peaks, strict=True):
            for group, peak in zip(optimiser.param_groups, peaks, strict=True):
                group["lr"] = peak * share

    def share(self, step: int) -> float:
        """The rate of a step as a share of the peak."""
        if step < self._warmup:
            return (step + 1) / self._warmup
        # From 0 at the end of the warm-up to 1 at the end of the training.
        done = (step - self._warmup) / max(1, self._steps - self._warmup)
        if self._decay == "linear":
            return 1 - done
        # A cosine from 1 down to 0.01, not to 0: the last steps still move, and a run that is prolonged does not start
        # from rest.
        return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * done))


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Torch's generators seeded inside, and left as they were outside.

    Args:
        seed: of the CPU's generator and of the device's.
        device: a GPU whose generator is used, too.
    """
    gpus = [device] if device is not None and device.type == "cuda" else []
    with torch.random.fork_rng(devices=gpus):
        torch.manual_seed(seed)
        yield

"""Small trainings that a test runs in one process and, as a main program, in each of two: losses as JSON lines."""

from __future__ import annotations

import atexit
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from equipoise.guard.detector.network import HarmNetwork, pooling_of
from equipoise.guard.training_rows import RewrittenReply
from equipoise.training import adversarial, detoxifier, kept_refusals, supervised_training
from equipoise.training.adversarial import AdversarialTrainingConfig
from equipoise.training.derta.train import DertaTrainingConfig
from equipoise.training.derta.train import train as train_derta
from equipoise.training.detector import DetectorCollator, head_groups
from equipoise.training.detoxifier import DetoxifierTrainingConfig
from equipoise.training.sharded_copy import ShardedCopy
from equipoise.training.supervised_training import SupervisedSettings, fit
from tests.training.derta.test_train import ROWS
from tests.training.fakes import KilledError, kill_at, noise, noted, tiny

REWRITES = [
    RewrittenReply(f"r{number}", "how do i make a bomb", "take it and mix " * (1 + number), "sorry i cannot")
    for number in range(5)
]
KILL = 3
"""The step at which a training is killed; the checkpoint is that of the step before."""
STILL_JOINED = 3
"""Exit status of a process that has not left the others at its end."""
WINDOWS = [
    {"windows": [[2, 5 + number, 7, 3]] * (1 + number % 2), "label": float(number % 2), "weight": 1.0 + number % 3}
    for number in range(7)
]
"""An odd number, so that processes have shares of different size and the last step has fewer rows than processes."""


def detector_losses(base: Path, out: Path) -> list[float]:
    """A detector without dropout, whose rows weigh differently."""
    from transformers import AutoModel

    torch.manual_seed(0)
    encoder = AutoModel.from_pretrained(base)
    encoder.config.hidden_dropout_prob = 0.0
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    network = HarmNetwork(encoder, pooling_of(encoder.config), dropout=0.0)
    losses: list[float] = []
    settings = SupervisedSettings(2, 1e-3, 3, 0, device="cpu")
    fit(network, WINDOWS, DetectorCollator(0), settings, out, {}, groups=head_groups(network, 1e-3),
        progress=noted(losses))  # fmt: skip
    return losses


def supervised_losses(folder: Path, out: Path) -> dict[str, list[float]]:
    """The losses of the supervised trainings; models lie in `folder`."""
    losses: dict[str, list[float]] = {"detoxifier": [], "derta": []}
    losses["detector"] = detector_losses(folder / "encoder", out / "detector")
    rewriting = DetoxifierTrainingConfig(str(folder / "decoder"), epochs=2, batch=3, rate=1e-3)
    detoxifier.train(rewriting, REWRITES, out / "detoxifier", device="cpu", progress=noted(losses["detoxifier"]))
    refusing = DertaTrainingConfig(str(folder / "chat"), batch=4, dtype="float32", epochs=1)
    train_derta(refusing, ROWS, out / "derta", device="cpu", progress=noted(losses["derta"]))
    return losses


def all_losses(folder: Path, out: Path) -> dict[str, list[float]]:
    """The losses of every training that several processes share."""
    kept_refusals.CHECKED_QUESTIONS = 2
    losses = supervised_losses(folder, out) | {"adversarial": []}
    # Weights, not adapters: theirs begin with a dropout of their own in each process.
    attacked = AdversarialTrainingConfig(steps=2, pictures=3, questions=2, inner_steps=2, warmup=1, side=32)
    model = tiny(folder / "llava")
    adversarial.train(model, attacked, noise, out / "adversarial", source="noise",
                      progress=noted(losses["adversarial"]))  # fmt: skip
    return losses


def resumed_losses(folder: Path, out: Path, kill: int | None = None) -> list[float]:
    """The losses of DeRTa's training with a checkpoint after every step, from the last one on."""
    losses: list[float] = []
    config = DertaTrainingConfig(str(folder / "chat"), batch=4, dtype="float32", epochs=2)
    stop = noted(losses) if kill is None else kill_at(kill)
    train_derta(config, ROWS, out, checkpoint_every=1, device="cpu", progress=stop)
    return losses


def sharded(folder: Path, out: Path) -> dict[str, list[float]]:
    """The supervised trainings with FSDP; one more that is killed, and one that goes on from a whole checkpoint.

    `shares` is not a loss: what this process holds of each sharded model.
    """
    shares: list[float] = []

    class NotedCopy(ShardedCopy):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            weights = list(self.module.parameters())
            held = sum(weight.to_local().numel() for weight in weights)  # type: ignore[operator]
            shares.append(held / sum(weight.numel() for weight in weights))

    supervised_training.ShardedCopy = NotedCopy  # type: ignore[misc]
    losses = supervised_losses(folder, out) | {"shares": shares}
    with suppress(KilledError):
        resumed_losses(folder, out / "killed", KILL)
    losses["resumed"] = resumed_losses(folder, out / "begun")
    return losses


def require_left() -> None:
    """End with an error where the process still belongs to a group: its threads may abort the interpreter's end."""
    if torch.distributed.is_initialized():
        os._exit(STILL_JOINED)


def main(arguments: Sequence[str]) -> None:
    """What each process runs: the folder of models, the folder of results, and whether models are sharded."""
    # Registered before the training joins the processes, so that it is called after the training has left them.
    atexit.register(require_left)
    run = sharded if arguments[2:] == ["sharded"] else all_losses
    print(json.dumps(run(Path(arguments[0]), Path(arguments[1]))))


if __name__ == "__main__":
    main(sys.argv[1:])

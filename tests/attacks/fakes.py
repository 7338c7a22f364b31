"""Shared by the attack tests: a toy target, a picture, an objective."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor

from equipoise.attacks.budgets import Budget
from equipoise.attacks.objectives import LossAndGrad, Objective, TargetReplyLoss
from equipoise.media.quantize import to_pixels
from equipoise.models.base import ReplyLogProbs
from equipoise.types import Exchange, Prompt, Verdict
from tests.models.tiny_plain import PlainTorchModel

REFUSAL = "I can't help."
QUESTIONS = ("What is this?", "Who is there?", "Is it red?", "How many?", "Where was it?")


def photo(seed: int = 0, width: int = 40, height: int = 48) -> Image.Image:
    """A picture with smooth parts, hard edges and saturated areas."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(0, 255, width)[None, :, None] * np.ones((height, 1, 3))
    ramp[: height // 3] = 0
    ramp[height // 3 : height // 2, : width // 2] = 255
    return Image.fromarray((ramp + random.normal(0, 6, ramp.shape)).clip(0, 255).astype(np.uint8))


def reply(*seeds: int, questions: tuple[str, ...] = QUESTIONS) -> TargetReplyLoss:
    """Make toy models refuse."""
    return TargetReplyLoss(
        tuple(PlainTorchModel(seed) for seed in seeds or (0,)), tuple(map(Prompt.ask, questions)), REFUSAL
    )


def within(budget: Budget, pixels: Tensor, clean: Tensor) -> bool:
    """Whether 8-bit pixels lie within a budget, by the definition of its norm on whole levels."""
    change = ((pixels.double() - clean.double()) * 255).round() / 255
    length = change.abs().max() if budget.norm == "linf" else change.square().sum().sqrt()
    return float(length) <= budget.epsilon * (1 + 1e-9)


def grad_of(objective: Objective, pixels: Tensor) -> Tensor:
    return objective(pixels, range(objective.size), Generator().manual_seed(0)).gradient


class NoisyModel(PlainTorchModel):
    """A randomised defence: adds noise drawn by `sample_randomness`, and fails where its deployed draw is used."""

    def __init__(self, draw: int | None = None, draws: list[int] | None = None) -> None:
        super().__init__()
        self.draw = draw
        self.draws: list[int] = [] if draws is None else draws
        """The draw of every evaluation, in order, shared by all copies of one model."""

    @property
    def is_random(self) -> bool:
        return self.draw is None

    def sample_randomness(self, random: Generator) -> NoisyModel:
        if self.draw is not None:
            return self
        return NoisyModel(int(torch.randint(2**40, (), generator=random)), self.draws)

    def _record_draw(self) -> None:
        assert self.draw is not None, "the deployed draw was used"
        self.draws.append(self.draw)

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        self._record_draw()
        return super().generate(prompts, max_new_tokens=max_new_tokens)

    def log_prob(self, pixels: Tensor, *args: Any, **more: Any) -> ReplyLogProbs:
        self._record_draw()
        noise = torch.randn(pixels.shape, generator=Generator().manual_seed(self.draw or 0))
        return super().log_prob(pixels + 0.02 * noise, *args, **more)


class Cannot:
    """A judge for the toy's spelling: a reply refuses that holds the words, and is unscored when empty."""

    def __call__(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        return [
            Verdict("full" if "I can't" in exchange.reply else "none")
            if exchange.reply
            else Verdict(None, unscored="empty reply")
            for exchange in exchanges
        ]


class Scripted(PlainTorchModel):
    """Says what it is told, and counts."""

    def __init__(self, replies: Sequence[str]) -> None:
        super().__init__()
        self.replies, self.received = list(replies), 0

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        answers = self.replies[self.received : self.received + len(prompts)]
        self.received += len(prompts)
        return [Exchange(prompt, reply, "stop", "scripted") for prompt, reply in zip(prompts, answers, strict=True)]


@dataclass(frozen=True)
class Bowl(Objective):
    """Squared distance to a brighter picture; what it is shown is written down."""

    shown: list[Tensor] = field(default_factory=list)
    losses: tuple[float, ...] = ()
    scale: float = 1.0
    wait: float = 0.0
    drawn: bool = False

    @property
    def size(self) -> int:
        return 4

    @property
    def is_random(self) -> bool:
        return self.drawn

    def __call__(self, pixels: Tensor, items: Sequence[int], random: Generator) -> LossAndGrad:
        time.sleep(self.wait)
        self.shown.append(pixels)
        away = pixels - 1
        number = len(self.shown) - 1
        loss = self.losses[number] if number < len(self.losses) else float(away.square().mean())
        return LossAndGrad(loss, away * self.scale)

    def describe(self) -> dict[str, Any]:
        return {"kind": "bowl"}


CLEAN = to_pixels(photo())
assert CLEAN.dtype == torch.float32

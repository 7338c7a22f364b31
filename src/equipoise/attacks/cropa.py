"""Questions that learn to resist: the prompt side of CroPA (Luo et al. 2024, arXiv:2403.09766, algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import torch
from torch import Generator, Tensor

from equipoise.attacks.objectives import LossAndGrad, Objective, TargetReplyLoss, sum_losses
from equipoise.errors import UsageError
from equipoise.models.base import OpenModel


@dataclass(frozen=True)
class CroPAConfig:
    """How the learned prompts move."""

    step: float = 0.02
    """Length of one ascent step, as a sign step, in units of the embeddings."""
    every: int = 5
    """Looks between two ascent steps of one question."""
    limit: float = 0.2
    """Largest absolute value of a shift."""
    length: int = 12
    """How many tokens of a question are shifted."""

    def __post_init__(self) -> None:
        if self.step <= 0 or self.limit <= 0 or self.every < 1 or self.length < 1:
            raise UsageError(f"expected positive step, every, limit and length, got {self}; try Shifting()")


@dataclass(frozen=True)
class CroPAObjective(Objective):
    """A `TargetReplyLoss` whose questions' embeddings carry shifts that are learned to *raise* its loss.

    While pixels go down, every few looks the shifts go up, so that the picture must work for wordings it has not
    met. The shifts are used in optimising only: `score` is the loss of the plain questions, and so is success.
    """

    reply: TargetReplyLoss
    """The loss of the plain questions."""
    shifting: CroPAConfig = field(default_factory=CroPAConfig)
    """How the shifts move."""
    shifts: tuple[Tensor, ...] = ()
    """One `questions x length x width` for each target, on its device; empty before `begin`."""
    looks: Tensor | None = None
    """How often each question was looked at in this run."""

    def __post_init__(self) -> None:
        for model in self.reply.targets:
            if model.embedding_width is None:
                raise UsageError(
                    f"expected models whose questions can be shifted, got {model.name}; try without learned prompts"
                )

    @property
    def size(self) -> int:
        """The number of questions."""
        return self.reply.size

    @property
    def models(self) -> tuple[OpenModel, ...]:
        """The target models."""
        return self.reply.models

    @property
    def bystanders(self) -> tuple[OpenModel, ...]:
        """The models of `keep_away`, which see plain questions."""
        return self.reply.bystanders

    @property
    def is_random(self) -> bool:
        """True: the loss of the same pixels changes as the shifts are learned."""
        return True

    def reset(self, random: Generator) -> Self:
        """Fresh shifts: zero, so that the first look is at the plain questions."""
        shifts = tuple(
            torch.zeros(self.size, self.shifting.length, model.embedding_width or 0, device=model.device)
            for model in self.models
        )
        return type(self)(self.reply, self.shifting, shifts, torch.zeros(self.size, dtype=torch.long))

    def __call__(self, pixels: Tensor, items: Sequence[int], random: Generator) -> LossAndGrad:
        """Loss and gradient over some shifted questions; now and then their shifts go up."""
        if self.looks is None:
            return self.reset(random)(pixels, items, random)
        chosen = list(items)
        self.looks[chosen] += 1
        due = (self.looks[chosen] % self.shifting.every) == 0
        prompts = [self.reply.questions[i] for i in chosen]
        terms = []
        for model, shifts in zip(self.models, self.shifts, strict=True):
            shift = shifts[chosen].requires_grad_(bool(due.any()))
            count = self.reply.draws if model.is_random else 1
            for _ in range(count):
                losses, gradient = model.sample_randomness(random).loss_and_grad(
                    pixels.to(model.device),
                    prompts,
                    [self.reply.reply] * len(prompts),
                    end=self.reply.end,
                    question_shift=shift,
                )
                terms.append(LossAndGrad(float(losses.mean()) / count, gradient.to(pixels) / len(prompts) / count))
            if shift.grad is not None:
                self._ascend(shifts, chosen, shift, due)
        terms += self.reply.away(pixels, chosen, random)
        return sum_losses(terms)

    def _ascend(self, shifts: Tensor, chosen: list[int], shift: Tensor, due: Tensor) -> None:
        assert shift.grad is not None
        limit = self.shifting.limit
        raised = (shift.detach() + self.shifting.step * shift.grad.sign()).clamp(-limit, limit)
        rows = torch.tensor(chosen)[due].to(shifts.device)
        shifts[rows] = raised[due.to(shifts.device)]

    def score(self, pixels: Tensor) -> float:
        """The loss of the plain questions."""
        return self.reply.score(pixels)

    def describe(self) -> dict[str, Any]:
        """The plain loss, with how the shifts move."""
        return self.reply.describe() | {"learned_prompts": asdict(self.shifting)}

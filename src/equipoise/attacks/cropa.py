"""CroPA: prompts that learn to resist while the picture learns to mislead (Luo et al. 2024, arXiv:2403.09766).

The pixels descend a loss, and every few steps a shift of each question's token embeddings ascends it (algorithm 1), so
that the picture has to work for wordings it has not met.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

import torch
from torch import Generator, Tensor

from equipoise.attacks.objectives import LossAndGrad, Objective, TargetReplyLoss, sum_losses
from equipoise.errors import UsageError
from equipoise.models.base import OpenModel


@dataclass(frozen=True)
class CroPAConfig:
    """How the shifts of the questions are learned."""

    step: float = 0.02
    """Size of one ascent step (a sign step), in units of the embeddings."""
    every: int = 5
    """Evaluations of a question between two of its ascent steps."""
    limit: float = 0.2
    """Largest absolute value of a shift."""
    length: int = 12
    """How many tokens of a question are shifted."""

    def __post_init__(self) -> None:
        if self.step <= 0 or self.limit <= 0 or self.every < 1 or self.length < 1:
            raise UsageError(f"expected positive step, every, limit and length, got {self}; try CroPAConfig()")


class CroPAObjective(Objective):
    """A `TargetReplyLoss` whose questions' embeddings carry shifts that are learned to *raise* its loss.

    **It changes as it is called**: each call counts the questions it evaluates, and raises the shifts of those that are
    due. `reset` returns a new objective that starts from the plain questions; an attack calls it for every start.
    The shifts are used in optimising only: `score` is the loss of the plain questions, and so is success.

    Args:
        target_loss: the loss of the plain questions.
        config: how the shifts are learned; None takes the defaults.

    Raises:
        UsageError: a target model whose question embeddings cannot be shifted.
    """

    def __init__(self, target_loss: TargetReplyLoss, config: CroPAConfig | None = None) -> None:
        self.target_loss = target_loss
        self.config = config or CroPAConfig()
        self.shifts: list[Tensor] = []
        """`questions x length x width` for each target, on its device; zero at the start."""
        for model in target_loss.targets:
            if model.embedding_width is None:
                raise UsageError(
                    f"expected models whose questions can be shifted, got {model.name}; try without learned prompts"
                )
            shape = (target_loss.size, self.config.length, model.embedding_width)
            self.shifts.append(torch.zeros(shape, device=model.device))
        self.evaluations = torch.zeros(target_loss.size, dtype=torch.long)
        """`questions`: how often each question was evaluated."""

    @property
    def size(self) -> int:
        """The number of questions."""
        return self.target_loss.size

    @property
    def models(self) -> tuple[OpenModel, ...]:
        """The target models."""
        return self.target_loss.models

    @property
    def bystanders(self) -> tuple[OpenModel, ...]:
        """The bystanders of the plain loss; they are asked the plain questions."""
        return self.target_loss.bystanders

    @property
    def version(self) -> int:
        """That of the plain loss."""
        return self.target_loss.version

    @property
    def is_random(self) -> bool:
        """True: the loss of the same pixels changes as the shifts are learned."""
        return True

    def reset(self, random: Generator) -> Self:
        """A new objective with shifts of zero, so that the first evaluation is of the plain questions."""
        return type(self)(self.target_loss, self.config)

    def __call__(self, pixels: Tensor, items: Sequence[int], random: Generator) -> LossAndGrad:
        """Loss and gradient over some shifted questions; afterwards the shifts that are due go up."""
        plain, rows = self.target_loss, list(items)
        # Counted for each question by itself: with a random subset in each step, questions are due at different steps.
        self.evaluations[rows] += 1
        # Indexing by a list copies (unlike a slice), so that `shift` below is a leaf of its own and `_ascend` writes
        # back.
        due = (self.evaluations[rows] % self.config.every) == 0
        prompts = [plain.questions[i] for i in rows]
        terms = []
        for index, model in enumerate(self.models):
            # The gradient in the shift costs a longer backward pass, so it is only taken where a step is due.
            # [questions, length, width] of the questions of this evaluation; `rows` index the whole table, positions in
            # `due` index this excerpt of it.
            shift = self.shifts[index][rows].requires_grad_(bool(due.any()))
            count = plain.draws if model.is_random else 1
            reply, end = plain.aim_of(index)
            for _ in range(count):
                # One call gives both gradients: that in the pixels is returned, that in the shift is gathered in
                # `shift.grad`.
                losses, gradient = model.sample_randomness(random).loss_and_grad(
                    pixels.to(model.device), prompts, [reply] * len(prompts), end=end, question_shift=shift
                )
                terms.append(LossAndGrad(float(losses.mean()) / count, gradient.to(pixels) / len(prompts) / count))
            if shift.grad is not None:
                self._ascend(index, rows, shift, due)
        # Bystanders are asked the plain questions: the shifts belong to the token embeddings of one target and mean
        # nothing in another model's.
        terms += plain.bystander_loss(pixels, rows, random)
        return sum_losses(terms)

    def _ascend(self, index: int, rows: list[int], shift: Tensor, due: Tensor) -> None:
        """One sign step up for the questions that are due, kept within the limit."""
        assert shift.grad is not None
        # Ascent: the shift makes the target reply less likely, the pixels make it likelier again (a min-max problem).
        limit = self.config.limit
        # The sign step is the l-inf step of PGD, in the space of embeddings: it needs no learning rate that fits the
        # very different sizes of gradients of different models.
        raised = (shift.detach() + self.config.step * shift.grad.sign()).clamp(-limit, limit)
        due_rows = torch.tensor(rows)[due].to(raised.device)
        self.shifts[index][due_rows] = raised[due.to(raised.device)]

    def score(self, pixels: Tensor) -> float:
        """The loss of the plain questions."""
        return self.target_loss.score(pixels)

    def describe(self) -> dict[str, Any]:
        """The plain loss, with how the shifts are learned."""
        return self.target_loss.describe() | {"learned_prompts": asdict(self.config)}

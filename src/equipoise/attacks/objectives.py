"""Objectives of an attack: a loss of a picture to be lowered, with its gradient in the pixels.

An objective is a mean over *items* (a question, or a question of one picture). A step of an attack may evaluate some
items only; the mean over a random subset estimates the mean over all. Objectives compose: `EOTObjective` and
`CroPAObjective` wrap another one.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import torch
from torch import Generator, Tensor

from equipoise.attacks.aimed_wordings import Aims
from equipoise.attacks.wording_loss import any_wording_loss
from equipoise.errors import UsageError
from equipoise.models.base import OpenModel
from equipoise.transforms.eot import EOTConfig
from equipoise.types import Prompt


@dataclass(frozen=True, eq=False)
class LossAndGrad:
    """A loss at some pixels and its gradient there."""

    loss: float
    """Mean over the evaluated items, in nats per token, summed over models."""
    gradient: Tensor
    """`3 x H x W`, of `loss`, on the device of the pixels."""


class Objective(ABC):
    """A loss of a picture; lower is better for the attacker."""

    @property
    @abstractmethod
    def size(self) -> int:
        """How many items there are."""

    @abstractmethod
    def __call__(self, pixels: Tensor, items: Sequence[int], random: Generator) -> LossAndGrad:
        """Loss and gradient over some items.

        Args:
            pixels: `3 x H x W` in `[0, 1]`, an 8-bit picture.
            items: which items, by number; not empty.
            random: source of all randomness, on the CPU.
        """

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """What the objective is, in values that JSON can hold."""

    @property
    def models(self) -> tuple[OpenModel, ...]:
        """The models that are to be misled."""
        return ()

    @property
    def bystanders(self) -> tuple[OpenModel, ...]:
        """The models that are not."""
        return ()

    @property
    def is_random(self) -> bool:
        """Whether two evaluations of the same pixels and items may differ."""
        return False

    @property
    def version(self) -> int:
        """Raised where the objective changes what it asks for: losses of different versions cannot be compared."""
        return 0

    def reset(self, random: Generator) -> Self:
        """The objective as it is at the start of a run; an objective with state returns a fresh one."""
        return self

    def score(self, pixels: Tensor) -> float:
        """The loss over all items, the same for the same pixels: what candidates are ranked by."""
        return self(pixels, range(self.size), Generator().manual_seed(0)).loss


@dataclass(frozen=True)
class PreserveReplies:
    """A bystander, whose own replies are to stay likely."""

    model: OpenModel
    """The model that must not be misled."""
    replies: tuple[str, ...]
    """Its reply to each question about the clean picture; an empty one is left out of the loss."""
    weight: float = 1.0
    """How much its loss counts beside that of one target model."""
    unfinished: frozenset[int] = frozenset()
    """Numbers of the replies that were cut off: these are not asked to end where they do."""

    @classmethod
    def observe(
        cls, model: OpenModel, prompts: Sequence[Prompt], *, weight: float = 1.0, max_new_tokens: int = 32
    ) -> Self:
        """Ask the bystander about the clean picture, which the prompts carry, and keep its own replies."""
        exchanges = model.generate(prompts, max_new_tokens=max_new_tokens)
        unfinished = frozenset(i for i, exchange in enumerate(exchanges) if exchange.finish != "stop")
        return cls(model, tuple(exchange.reply.strip() for exchange in exchanges), weight, unfinished)


@dataclass(frozen=True)
class TargetReplyLoss(Objective):
    """Make models give one reply: the mean over questions of its cross-entropy, summed over the target models.

    The loss of MLLM-Refusal (arXiv:2407.09050) up to the constant factor of the number of questions. With a
    refusal sentence as `reply` it is the refusal attack; any other reply works the same way.
    """

    targets: tuple[OpenModel, ...]
    """The models that should give the reply."""
    questions: tuple[Prompt, ...]
    """The shadow questions."""
    reply: str
    """The target reply of every target; `aims` go before it."""
    end: bool = True
    """Whether the reply should also end there."""
    preserve: tuple[PreserveReplies, ...] = ()
    """Bystanders, each adding `weight` times the mean cross-entropy of its own replies."""
    draws: int = 1
    """Draws of a model's randomness (a defence that adds noise) that an evaluation averages over; models without
    randomness are evaluated once."""
    aims: Aims | None = None
    """What each target shall say, where that is not one reply for all; it may change during a run."""

    def __post_init__(self) -> None:
        if not self.targets:
            raise UsageError("expected at least one target model, got none; try models=[model]")
        if not self.questions:
            raise UsageError("expected at least one question, got none; try the general shadow questions")
        if not self.reply.strip():
            raise UsageError("expected a reply to aim at, got an empty one; try a refusal sentence")
        if self.draws < 1:
            raise UsageError(f"expected at least 1 draw, got {self.draws}; try 4")
        for bystander in self.preserve:
            if len(bystander.replies) != len(self.questions):
                raise UsageError(
                    f"expected a bystander's reply to each of {len(self.questions)} questions, "
                    f"got {len(bystander.replies)}; try PreserveReplies.observe(model, questions)"
                )

    @property
    def size(self) -> int:
        """The number of questions."""
        return len(self.questions)

    @property
    def models(self) -> tuple[OpenModel, ...]:
        """The target models."""
        return self.targets

    @property
    def bystanders(self) -> tuple[OpenModel, ...]:
        """The models of `preserve`."""
        return tuple(bystander.model for bystander in self.preserve)

    @property
    def version(self) -> int:
        """That of the aims."""
        return 0 if self.aims is None else self.aims.version

    @property
    def is_random(self) -> bool:
        """Whether any model is."""
        return any(model.is_random for model in (*self.models, *self.bystanders))

    def __call__(self, pixels: Tensor, items: Sequence[int], random: Generator) -> LossAndGrad:
        """Loss and gradient over some questions, in expectation over the models' randomness."""
        prompts = [self.questions[i] for i in items]
        terms = [self._target_loss(number, pixels, prompts, random) for number in range(len(self.targets))]
        return sum_losses([*terms, *self.bystander_loss(pixels, items, random)])

    def aim_of(self, target: int) -> tuple[str, bool]:
        """The likeliest wording that a target is aimed at, and whether its reply should end there."""
        if self.aims is None:
            return self.reply, self.end
        wording = self.aims[target].wordings[0]
        return wording.text, self.end and wording.ends

    def _target_loss(self, number: int, pixels: Tensor, prompts: list[Prompt], random: Generator) -> LossAndGrad:
        model = self.targets[number]
        if self.aims is not None and len(self.aims[number].wordings) > 1:
            terms = [
                LossAndGrad(*any_wording_loss(draw, pixels, prompts, self.aims[number].wordings, end=self.end))
                for draw in self._draws(model, random)
            ]
            return sum_losses([LossAndGrad(t.loss / len(terms), t.gradient / len(terms)) for t in terms])
        reply, end = self.aim_of(number)
        return self._model_loss(model, pixels, prompts, [reply] * len(prompts), 1.0, random, end)

    def bystander_loss(self, pixels: Tensor, items: Sequence[int], random: Generator) -> list[LossAndGrad]:
        """The weighted terms of the bystanders alone."""
        # A bystander's own reply to the clean picture, kept likely: an empty reply has no likelihood to keep.
        terms = []
        for bystander in self.preserve:
            kept = [i for i in items if bystander.replies[i]]
            for ends in (True, False):
                own = [i for i in kept if (i not in bystander.unfinished) == ends]
                if own and bystander.weight:
                    replies = [bystander.replies[i] for i in own]
                    prompts = [self.questions[i] for i in own]
                    # Both groups together are a mean over all replies.
                    weight = bystander.weight * len(own) / len(kept)
                    end = self.end and ends
                    terms.append(self._model_loss(bystander.model, pixels, prompts, replies, weight, random, end))
        return terms

    def _model_loss(
        self,
        model: OpenModel,
        pixels: Tensor,
        prompts: list[Prompt],
        replies: list[str],
        weight: float,
        random: Generator,
        end: bool | None = None,
    ) -> LossAndGrad:
        draws = self._draws(model, random)
        # `loss_and_grad` gives one loss a prompt and the gradient of their *sum*: one factor makes means of both.
        factor = weight / len(prompts) / len(draws)
        terms = []
        for draw in draws:
            # Models may lie on several devices: pixels go to each, and the gradient comes back to the pixels' own.
            losses, gradient = draw.loss_and_grad(
                pixels.to(model.device), prompts, replies, end=self.end if end is None else end
            )
            terms.append(LossAndGrad(float(losses.sum()) * factor, gradient.to(pixels) * factor))
        return sum_losses(terms)

    def _draws(self, model: OpenModel, random: Generator) -> list[OpenModel]:
        # A deployed defence keeps its draws secret, so every evaluation is at fresh draws of the attacker's own: the
        # gradient is that of the expected loss, not of one lucky noise pattern (EOT, Athalye et al. 2018).
        return [model.sample_randomness(random) for _ in range(self.draws if model.is_random else 1)]

    def describe(self) -> dict[str, Any]:
        """The reply, the questions, the weights."""
        return {
            "kind": "reply",
            "reply": self.aim_of(0)[0],
            "end": self.end,
            "questions": [prompt.text for prompt in self.questions],
            "bystander_weights": [bystander.weight for bystander in self.preserve],
            "draws": self.draws,
            **(self.aims.describe() if self.aims is not None else {}),
        }


@dataclass(frozen=True)
class WrappedObjective(Objective):
    """An objective around another one, whose items and models it shares."""

    objective: Objective
    """The one inside."""

    @property
    def size(self) -> int:
        """The items of the objective inside."""
        return self.objective.size

    @property
    def models(self) -> tuple[OpenModel, ...]:
        """The models of the objective inside."""
        return self.objective.models

    @property
    def bystanders(self) -> tuple[OpenModel, ...]:
        """The bystanders of the objective inside."""
        return self.objective.bystanders

    @property
    def version(self) -> int:
        """That of the objective inside."""
        return self.objective.version

    @property
    def is_random(self) -> bool:
        """Whether the objective inside is."""
        return self.objective.is_random

    def reset(self, random: Generator) -> Self:
        """Reset the objective inside."""
        return replace(self, objective=self.objective.reset(random))


@dataclass(frozen=True)
class EOTObjective(WrappedObjective):
    """An objective in expectation over transformations of the picture (EOT, Athalye et al. 2018).

    The models see transformed pictures, and the gradient flows back through each transformation: the mean over random
    transformations is an unbiased estimate of the gradient of the expected loss.
    """

    eot: EOTConfig
    """Which transformations, and how many in a step."""

    @property
    def is_random(self) -> bool:
        """True: the transformations are drawn."""
        return True

    def __call__(self, pixels: Tensor, items: Sequence[int], random: Generator) -> LossAndGrad:
        """The mean over the transformations drawn for this step."""
        transforms = self.eot.draw(random)
        terms = []
        for transform in transforms:
            leaf = pixels.detach().requires_grad_(True)
            transformed = transform(leaf, random)
            evaluation = self.objective(transformed.detach(), items, random)
            # Chain rule in two halves: the model's graph is already freed when that of the transform is walked.
            (gradient,) = torch.autograd.grad(transformed, leaf, evaluation.gradient)
            terms.append(LossAndGrad(evaluation.loss / len(transforms), gradient / len(transforms)))
        return sum_losses(terms)

    def score(self, pixels: Tensor) -> float:
        """The mean over all transformations, with fixed draws."""
        # With a fixed seed, so that candidates are compared under the same random transforms.
        # `draw` goes through whole permutations, so that as many samples as transforms means each of them once.
        samples = max(self.eot.samples, len(self.eot.transforms))
        all_transforms = replace(self, eot=replace(self.eot, samples=samples))
        return all_transforms(pixels, range(self.size), Generator().manual_seed(0)).loss

    def describe(self) -> dict[str, Any]:
        """The objective inside, with the transformations."""
        return self.objective.describe() | {"eot": self.eot.describe()}


def sum_losses(terms: Sequence[LossAndGrad]) -> LossAndGrad:
    """The sum of losses, with the sum of their gradients."""
    # In a fixed order: floating-point addition depends on it, and the same seed shall give the same bytes.
    gradient = terms[0].gradient
    for term in terms[1:]:
        gradient = gradient + term.gradient
    return LossAndGrad(sum(term.loss for term in terms), gradient)

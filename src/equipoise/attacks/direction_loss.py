"""`DirectionLoss`: move the stream of a model along its refusal direction, whatever words that makes it say."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Generator, Tensor

from equipoise.attacks.objectives import LossAndGrad, Objective, TargetReplyLoss, sum_losses
from equipoise.errors import ModelError, UsageError
from equipoise.models.base import OpenModel
from equipoise.models.hf import HuggingFaceModel
from equipoise.models.language_tower import edited_layer_inputs
from equipoise.steering.direction import Direction
from equipoise.steering.steerable import Steerable
from equipoise.types import Prompt

_REPLY = "I"
"""Any reply: the stream is read in the prompt, before it."""


@dataclass(frozen=True)
class DirectionLoss(Objective):
    """Raise the projection of the residual stream on a direction, at the direction's own layer and token.

    For a question with stream `x` the loss is `-x . u / |v|`, with the direction `v` and its unit vector `u`: it falls
    by 1 where the picture adds as much as the difference in means of refused and answered prompts. Summed over targets,
    mean over questions; bystanders are those of `target_loss`. With a `sentence_weight` the loss of a refusal in words
    is added, in nats per token.
    """

    target_loss: TargetReplyLoss
    """Targets, questions and bystanders; its reply counts with `sentence_weight` only."""
    directions: tuple[Direction, ...]
    """One for each target, found on it."""
    sentence_weight: float = 0.0
    """How much a nat per token of the reply counts beside one length of the direction."""

    def __post_init__(self) -> None:
        if len(self.directions) != len(self.target_loss.targets):
            raise UsageError(
                f"expected a direction for each of {len(self.target_loss.targets)} targets, got "
                f"{len(self.directions)}; try --direction FILE once for each --model"
            )
        for model, direction in zip(self.target_loss.targets, self.directions, strict=True):
            if not isinstance(model, HuggingFaceModel):
                raise ModelError(
                    f"expected a model of transformers that reads pictures, without defences, got {model.name}; "
                    "try --objective sentence"
                )
            direction.check_model(Steerable.of(model))

    @property
    def size(self) -> int:
        """The number of questions."""
        return self.target_loss.size

    @property
    def models(self) -> tuple[OpenModel, ...]:
        """The targets."""
        return self.target_loss.models

    @property
    def bystanders(self) -> tuple[OpenModel, ...]:
        """The models that are not attacked."""
        return self.target_loss.bystanders

    @property
    def version(self) -> int:
        """That of the loss in words where it counts: its reply may change in a run."""
        return self.target_loss.version if self.sentence_weight else 0

    @property
    def is_random(self) -> bool:
        """Whether a bystander is."""
        return any(model.is_random for model in self.bystanders)

    def __call__(self, pixels: Tensor, items: Sequence[int], random: Generator) -> LossAndGrad:
        """Minus the mean projection over some questions, in lengths of the direction, and its gradient."""
        prompts = [self.target_loss.questions[i] for i in items]
        terms = []
        for model, direction in zip(self.target_loss.targets, self.directions, strict=True):
            assert isinstance(model, HuggingFaceModel)
            leaf = pixels.detach().to(model.device).requires_grad_(True)
            with torch.enable_grad():
                # Divided by |v|, so that losses of several targets may be added: the streams of two models differ in
                # size by orders of magnitude, and one of them would take all of the gradient.
                loss = -projections(model, leaf, prompts, direction).mean() / direction.norm
                (gradient,) = torch.autograd.grad(loss, leaf)
            terms.append(LossAndGrad(float(loss.detach()), gradient.to(pixels)))
        if self.sentence_weight:
            words = replace(self.target_loss, preserve=())(pixels, items, random)
            terms.append(LossAndGrad(self.sentence_weight * words.loss, self.sentence_weight * words.gradient))
        return sum_losses([*terms, *self.target_loss.bystander_loss(pixels, items, random)])

    def describe(self) -> dict[str, Any]:
        """The questions, and which directions."""
        plain = self.target_loss.describe()
        return {
            "kind": "direction",
            "questions": plain["questions"],
            "bystander_weights": plain["bystander_weights"],
            **({"sentence_weight": self.sentence_weight} if self.sentence_weight else {}),
            "directions": [
                {"model": d.model, "layer": d.layer, "position": d.position, "digest": d.digest}
                for d in self.directions
            ],
        }


def projections(model: HuggingFaceModel, pixels: Tensor, prompts: Sequence[Prompt], direction: Direction) -> Tensor:
    """`N` projections of the stream on a direction's unit vector, float32, differentiable in the pixels."""
    replies = [_REPLY] * len(prompts)
    rows = model.encode(pixels, prompts, replies)
    # The hook sees [rows, tokens, width] at the input of the direction's layer and passes it on unchanged. A model may
    # work in several batches, so that there may be several of them.
    streams: list[Tensor] = []

    def keep(stream: Tensor) -> Tensor:
        streams.append(stream)
        return stream

    # Every row is a prompt of its own: in a shared prefix, most tokens of a prompt are computed for all rows at once.
    with model.plain_batches(), edited_layer_inputs(Steerable.of(model).tower, {direction.layer: keep}):
        model.log_prob(pixels, prompts, replies)
    lines = [line for stream in streams for line in stream]
    unit = direction.unit.to(pixels.device)
    # Rows are padded on the right, so that a prompt's tokens stand at their own places.
    return torch.stack(
        # `position` counts from the end of the prompt, so -1 is the last token before the reply: the place at which the
        # model has read everything and said nothing.
        [line[row.prompt_length + direction.position].float() @ unit for line, row in zip(lines, rows, strict=True)]
    )

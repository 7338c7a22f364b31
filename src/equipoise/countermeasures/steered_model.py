"""`SteeredModel`: a model whose residual stream is edited while it runs.

The edits are hooks inside the model, so that gradients flow through them: an attack on a steered model is adaptive
without further work. Nothing is ever written: the weights stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from equipoise.countermeasures.base import Countermeasure
from equipoise.errors import UsageError
from equipoise.models.base import OpenModel, ReplyLogProbs
from equipoise.steering.conditional import ConditionalAddition
from equipoise.steering.direction import Direction
from equipoise.steering.interventions import Ablation, Addition, Intervention
from equipoise.steering.steerable import Steerable
from equipoise.types import Exchange, Prompt


class SteeredModel(Countermeasure):
    """A model under an intervention.

    Args:
        model: the model to steer; the one inside its countermeasures must be of transformers.
        intervention: what is done to its stream.
        spec: how a user writes it.

    Raises:
        UsageError: the model is not of transformers.
        ModelError: it failed the self-test, or the direction belongs to another model.
    """

    def __init__(self, model: OpenModel, intervention: Intervention, spec: str) -> None:
        super().__init__(model, spec)
        self.intervention = intervention
        self.steerable = Steerable.of(self.core)
        # A direction of another model is refused now, not at the first prompt.
        with intervention.applied(self.steerable):
            pass

    def describe(self) -> dict[str, Any]:
        """The intervention."""
        return {"countermeasure": "steered", **self.intervention.describe()}

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        """The steered model's replies."""
        with self.intervention.applied(self.steerable):
            return self.model.generate(prompts, max_new_tokens=max_new_tokens)

    def log_prob(
        self,
        pixels: Tensor | None,
        prompts: Sequence[Prompt],
        replies: Sequence[str],
        *,
        end: bool = True,
        question_shift: Tensor | None = None,
    ) -> ReplyLogProbs:
        """Log-probabilities of replies of the steered model."""
        with self.intervention.applied(self.steerable):
            return self.model.log_prob(pixels, prompts, replies, end=end, question_shift=question_shift)

    def loss_and_grad(
        self,
        pixels: Tensor,
        prompts: Sequence[Prompt],
        replies: Sequence[str],
        *,
        end: bool = True,
        question_shift: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropies of the steered model, and the gradient of their sum in the pixels."""
        with self.intervention.applied(self.steerable):
            return self.model.loss_and_grad(pixels, prompts, replies, end=end, question_shift=question_shift)


def steered(model: OpenModel, name: str, file: str, spec: str, *, mode: str = "", coefficient: float) -> SteeredModel:
    """A steered model as `--defend surgical:FILE`, `conditional:FILE` or `steer:FILE,...` names it.

    Args:
        model: the model to steer.
        name: of the countermeasure.
        file: what `equipoise direction find` wrote.
        spec: how the user wrote it.
        mode: `add` or `ablate`, of `steer`.
        coefficient: multiplies the intervention.

    Raises:
        UsageError: a file that does not fit the countermeasure, or no such mode.
        ModelError: the direction belongs to another model, or the model cannot be steered.
    """
    if not file:
        raise UsageError(f"expected a file of a direction, got none; try {name}:refusal.safetensors")
    if name == "conditional":
        loaded = ConditionalAddition.load(Path(file))
        return SteeredModel(model, ConditionalAddition(loaded.condition, loaded.direction, coefficient), spec)
    direction = Direction.load(Path(file))
    if name == "surgical":
        if direction.kind != "false-refusal":
            raise UsageError(
                f"expected a false-refusal vector for surgical, got a {direction.kind} direction in {file}; "
                "try the surgical.safetensors of `equipoise direction find`"
            )
        return SteeredModel(model, Ablation(direction, coefficient), spec)
    if mode not in ("add", "ablate"):
        raise UsageError(f"expected steer:FILE,add or steer:FILE,ablate, got {mode!r}; try steer:{file},ablate")
    kind = Addition if mode == "add" else Ablation
    return SteeredModel(model, kind(direction, coefficient), spec)

"""`GuardedModel`: a model whose replies a guard judges, rewrites or refuses; so the audit scores it with and without.

The guard looks at words alone, so gradients pass it by: an attack on a guarded model is one on the model, and whether
the guard then steps in is seen in the reply. Against perturbations that make a model *refuse* it can do nothing: a
refusal does no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

from torch import Tensor

from equipoise.countermeasures.base import Countermeasure
from equipoise.errors import UsageError
from equipoise.guard.decision import GuardDecision
from equipoise.guard.guard import Guard
from equipoise.guard.ocr import OCR
from equipoise.models.base import OpenModel, ReplyLogProbs
from equipoise.types import Exchange, FinishReason, Prompt

BY: Final = "guard"
"""Who spoke last where the guard took the reply's place."""


class GuardedModel(Countermeasure):
    """A guard behind a model; `by` of a reply says whether it is the model's or the guard's.

    Args:
        model: who is guarded.
        guard: who judges.
        spec: how a user writes it.
    """

    def __init__(self, model: OpenModel, guard: Guard, spec: str) -> None:
        super().__init__(model, spec)
        self.guard = guard

    def describe(self) -> dict[str, Any]:
        """Who judges, who rewrites, and by which policy."""
        return {
            "countermeasure": "guard",
            "detector": self.guard.detector.identity,
            "detoxifiers": [each.identity for each in self.guard.detoxifiers],
            "policy": self.guard.policy.revision,
            "reads": self.guard.reader is not None,
        }

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        """The model's replies as the guard lets them pass, rewrites or refuses them; failures stay failures."""
        exchanges = self.model.generate(prompts, max_new_tokens=max_new_tokens)
        replied = [place for place, each in enumerate(exchanges) if each.error is None]
        decisions = self.guard.check_exchanges([exchanges[place] for place in replied])
        for place, decision in zip(replied, decisions, strict=True):
            exchanges[place] = apply_decision(exchanges[place], decision)
        return exchanges

    def log_prob(
        self,
        pixels: Tensor,
        prompts: Sequence[Prompt],
        replies: Sequence[str],
        *,
        end: bool = True,
        question_shift: Tensor | None = None,
    ) -> ReplyLogProbs:
        """The model's own: no gradient leads through what the guard does."""
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
        """The model's own, with the prefix shared where the model can."""
        return self.model.loss_and_grad(pixels, prompts, replies, end=end, question_shift=question_shift)


def apply_decision(exchange: Exchange, decision: GuardDecision) -> Exchange:
    """An exchange after a guard's decision; the trail says what happened and why."""
    if decision.action == "allow" and decision.observed in (None, "allow"):
        return exchange
    done = decision.action if decision.observed is None else f"would {decision.observed}"
    noted = replace(exchange, trail=(*exchange.trail, f"guard: {done}: {decision.why}"))
    if not decision.changed:
        return noted
    finish: FinishReason = "stop"
    wire: Literal["text", "refusal_field"] = "refusal_field" if decision.action == "refuse" else "text"
    return replace(noted, reply=decision.response, finish=finish, wire=wire, by=BY)


def guarded(
    model: OpenModel, detector: str, detoxifier: str, policy: str, spec: str, *, reads: bool = False
) -> GuardedModel:
    """A guarded model as `--defend guard:...` names it.

    Args:
        model: who is guarded.
        detector: see `guard.detector.load`.
        detoxifier: see `guard.detoxifier.load`; `none` refuses at once.
        policy: a TOML file, or `default`.
        spec: how the user wrote it.
        reads: whether the text in pictures is read (OCR) and judged with the question.

    Raises:
        UsageError: a policy that cannot be.
        ModelError: weights that are not there.
        MissingExtraError: nothing is installed that reads pictures.
    """
    if not detector or not detoxifier or not policy:
        raise UsageError(f"expected a detector, a detoxifier and a policy, got {spec}; try guard:detector=embedded")
    names = () if detoxifier == "none" else tuple(detoxifier.split("+"))
    guard = Guard.from_pretrained(
        detector,
        detoxifier=names,
        policy=None if policy == "default" else Path(policy),
        model=model,
        reader=OCR() if reads else None,
        device=str(model.device),
    )
    return GuardedModel(model, guard, spec)

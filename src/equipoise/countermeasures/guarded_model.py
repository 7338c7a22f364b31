"""`GuardedModel`: a model whose replies a guard allows, rewrites or refuses.

The guard judges text, so no gradient leads through it: an attack on a guarded model is one on the model inside, and
whether the guard then intervenes shows in the reply. It does not help against perturbations that make a model *refuse*,
because a refusal does no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, Literal

from equipoise.countermeasures.base import Countermeasure
from equipoise.countermeasures.spec import CountermeasureSpec
from equipoise.errors import UsageError
from equipoise.guard.decision import GuardDecision
from equipoise.guard.guard import Guard
from equipoise.guard.ocr import OCR
from equipoise.models.base import OpenModel
from equipoise.types import Exchange, FinishReason, Prompt

BY: Final = "guard"
"""`Exchange.by` of a reply that the guard replaced."""


class GuardedModel(Countermeasure):
    """A guard behind a model; `by` of a reply says whether it is the model's or the guard's.

    Args:
        model: the model to guard.
        guard: judges its replies.
        spec: how a user writes it.
    """

    def __init__(self, model: OpenModel, guard: Guard, spec: str) -> None:
        super().__init__(model, spec)
        self.guard = guard

    def describe(self) -> dict[str, Any]:
        """Detector, detoxifiers and policy."""
        return describe_guard(self.guard)

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        """The model's replies as the guard lets them pass, rewrites or refuses them; failures stay failures."""
        return guard_exchanges(self.guard, self.model.generate(prompts, max_new_tokens=max_new_tokens))


def apply_decision(exchange: Exchange, decision: GuardDecision) -> Exchange:
    """An exchange after a guard's decision; the trail says what happened and why."""
    if decision.action == "allow" and decision.observed in (None, "allow"):
        return exchange
    done = decision.action if decision.observed is None else f"would {decision.observed}"
    annotated = replace(exchange, trail=(*exchange.trail, f"guard: {done}: {decision.why}"))
    if not decision.changed:
        return annotated
    if decision.action == "withhold":
        # Nobody could look at it: that is no reply, and neither a refusal nor an answer.
        why = f"the guard withheld the reply: {decision.why}"
        return replace(annotated, reply="", finish="error", error=why, by=BY)
    finish: FinishReason = "stop"
    wire: Literal["text", "refusal_field"] = "refusal_field" if decision.action == "refuse" else "text"
    return replace(annotated, reply=decision.response, finish=finish, wire=wire, by=BY)


def load_guard(spec: CountermeasureSpec, model: OpenModel | None = None) -> Guard:
    """The guard that `guard:...` names.

    Args:
        spec: its settings.
        model: the guarded model, where it rewrites its own replies; weights of the guard compute on its device.

    Raises:
        UsageError: a policy that cannot be, or a setting that needs the model where there is none.
        ModelError: weights that are not there.
        MissingExtraError: `read=yes` without an OCR package.
    """
    values = spec.values
    if values["read"] not in ("yes", "no"):
        raise UsageError(f"expected read=yes or read=no of guard, got {values['read']!r}; try guard:read=yes")
    # A comma would begin the next setting of the spec, so that several are joined by `+`.
    names = () if values["detoxifier"] == "none" else tuple(values["detoxifier"].split("+"))
    if model is None and "model" in names:
        raise UsageError(f"expected a detoxifier of its own for a served model, got {spec.to_text()}; try guard")
    return Guard.from_pretrained(
        values["detector"],
        detoxifier=names,
        policy=None if values["policy"] == "default" else Path(values["policy"]),
        model=model,
        reader=OCR() if values["read"] == "yes" else None,
        device=None if model is None else str(model.device),
    )


def describe_guard(guard: Guard) -> dict[str, Any]:
    """What changes a guard's decisions: detector, detoxifiers, policy, and whether it reads pictures."""
    return {
        "countermeasure": "guard",
        "detector": guard.detector.identity,
        "detoxifiers": [detoxifier.identity for detoxifier in guard.detoxifiers],
        "policy": guard.policy.revision,
        "reads": guard.reader is not None,
    }


def guard_exchanges(guard: Guard, exchanges: Sequence[Exchange]) -> list[Exchange]:
    """Replies of a model as a guard lets them pass, rewrites or refuses them; failures stay failures."""
    passed = list(exchanges)
    # A prompt that got no reply is a failure of the model, which a guard must not turn into a verdict.
    replied = [index for index, exchange in enumerate(passed) if exchange.error is None]
    decisions = guard.check_exchanges([passed[index] for index in replied])
    for index, decision in zip(replied, decisions, strict=True):
        passed[index] = apply_decision(passed[index], decision)
    return passed

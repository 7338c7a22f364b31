"""`PromptedChat`: a model without weights at hand, such as a served one, under a prompt policy."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from equipoise.countermeasures.detector_gate import gate_of
from equipoise.judges.phrases import PhraseJudge
from equipoise.prompts.policy import REQUEST_GATE, PromptPolicy
from equipoise.prompts.retries import GateMaker, HarmGate, PolicyRun, run_policy
from equipoise.types import ChatModel, Exchange, Judge, Prompt


class PolicyReplies:
    """The replies of a model under a prompt policy, whether its weights are at hand or not.

    Args:
        policy: what prompts become.
        judge: decides what a refusal is, for a policy with a retry; None means `PhraseJudge()`.
        gate: decides what is benign; None means what the policy names.
        harm_gate: makes the gate `requests`.
    """

    model: Any
    """The model to ask, a `ChatModel`; the subclass sets it."""

    def __init__(
        self,
        policy: PromptPolicy,
        *,
        judge: Judge | None = None,
        gate: HarmGate | None = None,
        harm_gate: GateMaker | None = None,
    ) -> None:
        self.policy = policy
        self._judge = judge or PhraseJudge()
        self._gate = gate
        self._harm_gate = harm_gate

    @cached_property
    def gate(self) -> HarmGate | None:
        """The harm gate; None where the policy never asks again."""
        return self._gate or gate_of(self.policy, self._harm_gate)

    def retry_settings(self) -> dict[str, Any]:
        """What decides whether the policy asks again, beside its own settings: identities of gate and judge.

        Empty for a policy that never asks again; None stands for a gate or a judge that does not say what it is.
        """
        if self.policy.retry is None:
            return {}
        # The gate `requests` without its maker is an error at the first prompt, not here.
        known = self._gate or self._harm_gate or self.policy.retry.gate != REQUEST_GATE
        gate = self.gate if known else None
        identities = {"retry_gate": gate, "retry_judge": self._judge}
        return {name: getattr(part, "identity", None) for name, part in identities.items()}

    def run_settings(self) -> dict[str, Any]:
        """What is known of the model: `several_pictures`, `template_text` and `count` of `run_policy`."""
        # Of a server nothing is: exemplars of text do everywhere, and tokens need the model's own tokenizer.
        return {"several_pictures": False}

    def run(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> PolicyRun:
        """The replies with every round that led to them, and their cost where it is known."""
        return run_policy(
            self.model,
            self.policy,
            prompts,
            max_new_tokens=max_new_tokens,
            judge=self._judge,
            gate=self.gate,
            **self.run_settings(),
        )

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        """The final replies, under the prompts that the user sent."""
        return list(self.run(prompts, max_new_tokens=max_new_tokens).exchanges)


class PromptedChat(PolicyReplies):
    """A chat model whose prompts a policy changes, and which is asked again where the policy says so.

    Args:
        model: the model to ask.
        policy: what prompts become.
        more: as in `PolicyReplies`.
    """

    def __init__(self, model: ChatModel, policy: PromptPolicy, **more: Any) -> None:
        super().__init__(policy, **more)
        self.model, self.name = model, model.name

    @property
    def revision(self) -> str:
        """That of the policy and of what decides its retries: what the server's weights are cannot be known."""
        settings = self.policy.describe() | self.retry_settings()
        return hashlib.sha256(repr(settings).encode()).hexdigest()[:12]

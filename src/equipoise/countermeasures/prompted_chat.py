"""`PromptedChat`: a model without weights at hand, such as a served one, under a prompt policy."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cached_property

from equipoise.countermeasures.prompted_model import gate_of
from equipoise.judges.phrases import PhraseJudge
from equipoise.prompts.policy import PromptPolicy
from equipoise.prompts.retries import GateMaker, HarmGate, PolicyRun, run_policy
from equipoise.types import ChatModel, Exchange, Judge, Prompt


class PromptedChat:
    """A chat model whose prompts a policy changes, and which is asked again where the policy says so.

    Args:
        model: the model to ask.
        policy: what prompts become.
        judge: decides what a refusal is, for a policy with a retry; None means `PhraseJudge()`.
        gate: decides what is benign; None means what the policy names.
        harm_gate: makes the gate `requests`.
    """

    def __init__(
        self,
        model: ChatModel,
        policy: PromptPolicy,
        *,
        judge: Judge | None = None,
        gate: HarmGate | None = None,
        harm_gate: GateMaker | None = None,
    ) -> None:
        self.model, self.policy, self.name = model, policy, model.name
        self._judge = judge or PhraseJudge()
        self._gate = gate
        self._harm_gate = harm_gate

    @property
    def revision(self) -> str:
        """The policy's: what the server's weights are cannot be known."""
        return hashlib.sha256(repr(self.policy.describe()).encode()).hexdigest()[:12]

    @cached_property
    def gate(self) -> HarmGate | None:
        """The harm gate; None where the policy never asks again."""
        return self._gate or gate_of(self.policy, self._harm_gate)

    def run(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> PolicyRun:
        """The replies with every round that led to them; tokens are unknown without the model's own tokenizer."""
        return run_policy(
            self.model,
            self.policy,
            prompts,
            max_new_tokens=max_new_tokens,
            # Not known of a server; exemplars of text do everywhere.
            several_pictures=False,
            judge=self._judge,
            gate=self.gate,
        )

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        """The final replies, under the prompts that the user sent."""
        return list(self.run(prompts, max_new_tokens=max_new_tokens).exchanges)

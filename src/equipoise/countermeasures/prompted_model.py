"""`PromptedModel`: a model whose prompts a policy changes, and which is asked again where the policy says so."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from PIL import Image
from torch import Tensor

from equipoise.countermeasures.base import Countermeasure
from equipoise.countermeasures.prompted_chat import PolicyReplies
from equipoise.errors import ModelError
from equipoise.models.base import OpenModel, ReplyLogProbs
from equipoise.models.transformers_model import TransformersModel
from equipoise.prompts.default_text import default_system_text
from equipoise.prompts.policy import PromptPolicy
from equipoise.prompts.policy_file import load_policy
from equipoise.prompts.retries import GateMaker, HarmGate, TokenCount
from equipoise.types import Judge, Prompt

_BLANK = Image.new("RGB", (1, 1))


class PromptedModel(PolicyReplies, Countermeasure):
    """A model under a prompt policy.

    Args:
        model: the model to ask.
        policy: what prompts become.
        spec: how a user writes it.
        judge: decides what a refusal is, for a policy with a retry; None means `PhraseJudge()`.
        gate: decides what is benign; None means what the policy names.
        harm_gate: makes the gate `requests`.
    """

    def __init__(
        self,
        model: OpenModel,
        policy: PromptPolicy,
        spec: str,
        *,
        judge: Judge | None = None,
        gate: HarmGate | None = None,
        harm_gate: GateMaker | None = None,
    ) -> None:
        Countermeasure.__init__(self, model, spec)
        PolicyReplies.__init__(self, policy, judge=judge, gate=gate, harm_gate=harm_gate)

    def describe(self) -> dict[str, Any]:
        """The policy, and what decides its retries."""
        return {"countermeasure": "prompt", "policy": self.policy.describe(), **self.retry_settings()}

    @cached_property
    def several_pictures(self) -> bool:
        """Whether the model takes prompts with more pictures than the user sent."""
        # Q-Former models merge one picture with the whole text.
        return self.reads_pictures and not hasattr(getattr(self.core, "processor", None), "num_query_tokens")

    @cached_property
    def template_text(self) -> str:
        """The system text that the model's chat template writes by itself."""
        return default_system_text(self.core)

    def changed(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """What the model gets first for each prompt."""
        settings: dict[str, Any] = {"several_pictures": self.several_pictures, "template_text": self.template_text}
        return [self.policy.apply(prompt, **settings) for prompt in prompts]

    def run_settings(self) -> dict[str, Any]:
        """What the model's own template and tokenizer say."""
        return {
            "several_pictures": self.several_pictures,
            "template_text": self.template_text,
            "count": token_count(self.core),
        }

    def gradient_prompts(self, prompts: Sequence[Prompt]) -> Sequence[Prompt]:
        """The prompts as the policy changes them, for pixels that take the place of the user's first picture.

        Raises:
            ModelError: an exemplar has a picture, which the pixels would replace.
        """
        # A prompt without a picture would get the pixels in its first user message, which may be an exemplar's: a blank
        # picture keeps the user's own place.
        pictured = [prompt if prompt.pictures else prompt.with_picture(_BLANK) for prompt in prompts]
        changed = self.changed(pictured)
        if any(len(new.pictures) > len(old.pictures) for new, old in zip(changed, pictured, strict=True)):
            raise ModelError(
                "expected exemplars without pictures for gradients in the pixels, got a picture in an exemplar; "
                "try a pool of text"
            )
        return changed

    def log_prob(
        self,
        pixels: Tensor | None,
        prompts: Sequence[Prompt],
        replies: Sequence[str],
        *,
        end: bool = True,
        question_shift: Tensor | None = None,
    ) -> ReplyLogProbs:
        """Log-probabilities of replies to the first request, as the policy changes it."""
        if pixels is None:
            prompts = self.changed(prompts)
        return super().log_prob(pixels, prompts, replies, end=end, question_shift=question_shift)


def token_count(model: OpenModel) -> TokenCount | None:
    """Counts the text tokens of prompts in a model's own template; None for a model without a tokenizer."""
    if not isinstance(model, TransformersModel):
        return None

    def count(prompt: Prompt) -> int:
        # A picture's mark is one token here, whatever the processor makes of it: both sides of a difference have it.
        tokens = model.processor.tokenizer(model.render(prompt), add_special_tokens=False)["input_ids"]
        return len(tokens)

    return count


def prompted(model: OpenModel, name: str, spec: str, harm_gate: GateMaker | None = None) -> PromptedModel:
    """A model as `--defend prompt:NAME` or `prompt:FILE` names it.

    Args:
        model: the model to ask.
        name: of a policy of ours, or its TOML file.
        spec: how the user wrote it.
        harm_gate: makes the gate `requests` of an interactive policy.

    Raises:
        UsageError: no such policy, or one that cannot be.
    """
    return PromptedModel(model, load_policy(name), spec, harm_gate=harm_gate)

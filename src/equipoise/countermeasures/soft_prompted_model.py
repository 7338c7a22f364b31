"""`SoftPromptedModel`: a model with a soft prompt in front of every conversation.

Gradients in the pixels flow through it, so that an attack on the defended model is adaptive without further work.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any

from torch import Tensor

from equipoise.countermeasures.base import Countermeasure
from equipoise.errors import ModelError, UsageError
from equipoise.models.base import OpenModel, ReplyLogProbs
from equipoise.models.transformers_model import TransformersModel
from equipoise.prompts.slot import SlotCount, find_slot
from equipoise.prompts.soft_prompt import SoftPrompt
from equipoise.types import Exchange, Prompt


class SoftPromptedModel(Countermeasure):
    """A model under a soft prompt.

    Args:
        model: the model to ask; the one inside its countermeasures must be of transformers.
        prompt: the embeddings.
        spec: how a user writes it.

    Raises:
        UsageError: the model is not of transformers.
        ModelError: the soft prompt belongs to another model.
    """

    def __init__(self, model: OpenModel, prompt: SoftPrompt, spec: str) -> None:
        super().__init__(model, spec)
        core = self.core
        if not isinstance(core, TransformersModel):
            raise UsageError(
                f"expected a model of transformers for a soft prompt, got {type(core).__name__}; "
                "try a text policy: --defend prompt:balanced"
            )
        prompt.check_model(core)
        self.prompt = prompt
        self.slot = find_slot(core, prompt.text)
        if len(self.slot) != len(prompt):
            raise ModelError(
                f"expected a slot of {len(prompt)} tokens, as the soft prompt has, got {len(self.slot)}; "
                "try the chat template that it was made with"
            )
        self._core: TransformersModel = core
        self._rows = prompt.embeddings.to(core.device)

    def describe(self) -> dict[str, Any]:
        """The embeddings, by their hash."""
        return {"countermeasure": "soft prompt", "digest": self.prompt.digest, "tokens": len(self.prompt)}

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        """The model's replies, under the prompts that the user sent.

        Raises:
            ModelError: a prompt in which the slot was not recognised; no reply is returned without its soft prompt.
        """
        with self._embedded() as count:
            replies = self.model.generate(list(map(self.slot.filled, prompts)), max_new_tokens=max_new_tokens)
        self._require_filled(count, len(prompts))
        return [replace(reply, prompt=prompt) for reply, prompt in zip(replies, prompts, strict=True)]

    def log_prob(
        self,
        pixels: Tensor | None,
        prompts: Sequence[Prompt],
        replies: Sequence[str],
        *,
        end: bool = True,
        question_shift: Tensor | None = None,
    ) -> ReplyLogProbs:
        """Log-probabilities of replies under the soft prompt."""
        filled = list(map(self.slot.filled, prompts))
        with self._embedded(question_shift) as count:
            result = self.model.log_prob(pixels, filled, replies, end=end, question_shift=question_shift)
        # Questions about one picture share their prefix, and the slot in it is filled once.
        self._require_filled(count, 1 if question_shift is None else len(prompts))
        return result

    def loss_and_grad(
        self,
        pixels: Tensor,
        prompts: Sequence[Prompt],
        replies: Sequence[str],
        *,
        end: bool = True,
        question_shift: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropies under the soft prompt, and the gradient of their sum in the pixels."""
        filled = list(map(self.slot.filled, prompts))
        with self._embedded(question_shift) as count:
            result = self.model.loss_and_grad(pixels, filled, replies, end=end, question_shift=question_shift)
        self._require_filled(count, 1 if question_shift is None else len(prompts))
        return result

    @contextmanager
    def _embedded(self, question_shift: Tensor | None = None) -> Iterator[SlotCount]:
        # With shifted questions the shared prefix ends at the picture. Where the template has no system role, the slot
        # comes after it, and all questions with their slots stand in one row, of which one slot would be filled.
        batches = nullcontext() if question_shift is None else self._core.plain_batches()
        with batches, self.slot.embedded(self._core.model, self._rows) as count:
            yield count

    def _require_filled(self, count: SlotCount, expected: int) -> None:
        if count.rows < expected:
            raise ModelError(
                f"expected the slot of the soft prompt in {expected} prompts, got it in {count.rows}; "
                "try prompts without control characters, or a text policy"
            )


def soft_prompted(model: OpenModel, file: str, spec: str) -> SoftPromptedModel:
    """A model as `--defend dro:FILE` names it.

    Raises:
        UsageError: no file, one that is no soft prompt, or a model that is not of transformers.
        ModelError: the soft prompt belongs to another model.
    """
    if not file:
        raise UsageError("expected the file of a soft prompt, got none; try dro:soft_prompt.safetensors")
    return SoftPromptedModel(model, SoftPrompt.load(file), spec)

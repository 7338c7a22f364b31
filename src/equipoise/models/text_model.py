"""`TextModel`: any causal language model of transformers, with its own tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from equipoise.errors import ModelError
from equipoise.models.base import ReplyLogProbs, require_reads_pictures
from equipoise.models.transformers_model import TransformersModel
from equipoise.types import Prompt


class TextProcessor:
    """A tokenizer with the interface of a processor, so that models with and without pictures share their code."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    @property
    def chat_template(self) -> Any:
        """The tokenizer's template, or None."""
        return self.tokenizer.chat_template

    @chat_template.setter
    def chat_template(self, template: str) -> None:
        self.tokenizer.chat_template = template

    def __call__(self, images: None, text: Sequence[str], **options: Any) -> dict[str, Any]:
        """`input_ids` and `attention_mask` of texts that a chat template wrote."""
        # Templates write the special tokens that a conversation begins with. Token types, which some tokenizers add,
        # are no input of a causal language model.
        outputs = self.tokenizer(list(text), **(options | {"add_special_tokens": False}))
        return {key: outputs[key] for key in ("input_ids", "attention_mask")}

    def apply_chat_template(self, turns: list[dict[str, Any]], **options: Any) -> Any:
        """The tokenizer's own method."""
        return self.tokenizer.apply_chat_template(turns, **options)


class TextModel(TransformersModel):
    """An `OpenModel` over a causal language model, which reads no pictures.

    Args:
        model: what `AutoModelForCausalLM.from_pretrained` returns. It is left as it is found.
        processor: its tokenizer, as a `TextProcessor`.
        name: what the user calls it.
        revision: which weights exactly.
        gradient_checkpointing: compute activations again in the backward pass instead of keeping them.
        micro_batch: how many questions run at once; None is as many as fit. The result is the same.

    Raises:
        ModelError: the tokenizer has no chat template.
    """

    reads_pictures = False

    def __init__(
        self,
        model: Any,
        processor: TextProcessor,
        *,
        name: str,
        revision: str,
        gradient_checkpointing: bool = False,
        micro_batch: int | None = None,
    ) -> None:
        if processor.chat_template is None:
            raise ModelError(
                f"expected a chat template with the tokenizer of {name}, got none; try a Jinja file "
                "called chat_template.jinja in its folder, --chat-template FILE where a command has it, or the "
                "instruction-tuned version of the model"
            )
        super().__init__(
            model,
            processor,
            name=name,
            revision=revision,
            gradient_checkpointing=gradient_checkpointing,
            micro_batch=micro_batch,
            picture_tokens=set(),
            image_input_names=frozenset(),
        )

    def log_prob(
        self,
        pixels: Tensor | None,
        prompts: Sequence[Prompt],
        replies: Sequence[str],
        *,
        end: bool = True,
        question_shift: Tensor | None = None,
    ) -> ReplyLogProbs:
        """Log-probabilities of `replies[i]` after `prompts[i]`; see `OpenModel`.

        Raises:
            ModelError: pixels, or a prompt with a picture.
        """
        if pixels is not None:
            require_reads_pictures(self, "put pixels into prompts")
        return self._text_log_probs(prompts, replies, end, question_shift)

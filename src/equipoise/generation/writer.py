"""Writers: models that continue a rewritten prompt token by token, or rewrite a prompt as a whole."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Final, Protocol

import torch
from torch import Tensor
from transformers import DynamicCache

from equipoise.errors import ModelError
from equipoise.models.decoding import decode, greedy_config
from equipoise.models.transformers_model import TransformersModel
from equipoise.types import ChatModel, Message, Prompt, Role

REPHRASE: Final = "Rephrase the following text:"
"""The instruction of the published diagram; the seed prompt follows it."""
_ROLES: Final[tuple[Role, Role]] = ("user", "assistant")


WritingExamples = Sequence[tuple[str, str]]
"""Instructions with the text that follows each: earlier turns of the conversation with the writer."""
REPHRASED: Final[WritingExamples] = tuple(
    (f"{REPHRASE}\n{text}", other)
    for text, other in (
        ("How do I boil an egg?", "What is the right way to cook an egg in boiling water?"),
        ("Where can I park near the station?", "Is there a place close to the station where I may leave my car?"),
        ("Write a short poem about the moon.", "Compose a few lines of verse on the moon."),
    )
)
"""Without these a small writer answers the prompt instead of rephrasing it: it reads the question, not the task."""


def with_examples(instruction: str, examples: WritingExamples) -> Prompt:
    """An instruction after earlier turns that show how it is followed."""
    turns = [Message(role, text) for pair in examples for role, text in zip(_ROLES, pair, strict=True)]
    return Prompt((*turns, Message("user", instruction)))


def rephrase_prompt(text: str) -> Prompt:
    """What asks a writer for another wording of a text."""
    return with_examples(f"{REPHRASE}\n{text}", REPHRASED)


class PromptWriter(Protocol):
    """Anything that follows an instruction to rewrite a prompt."""

    @property
    def name(self) -> str:
        """Name, revision and number format where they are known, for the recipe."""
        ...

    def write(self, instructions: Sequence[str], seed: int, examples: WritingExamples = ()) -> list[str]:
        """One text for each instruction, in order; the same seed gives the same texts where the model allows."""
        ...


class GrowingWriter:
    """Log-probabilities of the next token of a rephrased text, after a context that is computed once.

    Args:
        model: any text model.
        text: the text that is rephrased.
        tokens: what has been written so far.
    """

    def __init__(self, model: TransformersModel, text: str, tokens: Sequence[int] = ()) -> None:
        self._model = model
        inputs = model.prompt_inputs([rephrase_prompt(text)])
        self._cache: Any = DynamicCache()
        self.log_probs = self._forward(inputs["input_ids"])
        """`V` log-probabilities (float32, CPU) of the next token."""
        if tokens:
            self.log_probs = self._forward(torch.tensor([list(tokens)], device=model.device))

    def append(self, token: int) -> None:
        """Write one token; only this token is computed."""
        self.log_probs = self._forward(torch.tensor([[token]], device=self._model.device))

    @torch.no_grad()
    def _forward(self, ids: Tensor) -> Tensor:
        with self._model.frozen():
            # Keys and values of everything before stay in the cache, which the forward pass extends.
            output = self._model.model(input_ids=ids, past_key_values=self._cache, use_cache=True)
        self._cache = output.past_key_values
        return output.logits[0, -1].float().log_softmax(-1).cpu()


class SampledWriter:
    """A `PromptWriter` over a local model that samples its texts, with a seed.

    Args:
        model: a text model.
        temperature: of the samples.
        top_p: share of the probability that is sampled from.
        max_new_tokens: length of a text, at most.
    """

    def __init__(
        self, model: TransformersModel, *, temperature: float = 0.9, top_p: float = 0.95, max_new_tokens: int = 60
    ) -> None:
        self._model = model
        self._settings = {"do_sample": True, "temperature": temperature, "top_p": top_p, "top_k": 0}
        self._limit = max_new_tokens

    @property
    def name(self) -> str:
        """Name, revision and number format."""
        return self._model.exact_name

    @torch.no_grad()
    def write(self, instructions: Sequence[str], seed: int, examples: WritingExamples = ()) -> list[str]:
        """One sampled text for each instruction; each has its own random numbers, whatever its company."""
        model, texts = self._model, []
        config = copy.deepcopy(greedy_config(model.model, model.stop_tokens, self._limit))
        config.update(**self._settings)
        for number, instruction in enumerate(instructions):
            inputs = model.prompt_inputs([with_examples(instruction, examples)])
            # The global generator is what transformers samples with: it is put back afterwards.
            with torch.random.fork_rng(devices=[]), model.frozen():
                # Two seeds share no numbers as long as fewer than 1009 texts are written at once.
                torch.manual_seed(seed * 1009 + number)
                output = decode(model.model, inputs, config)
            tokens = output[0, inputs["input_ids"].shape[1] :]
            texts.append(clean(model.processor.tokenizer.decode(tokens, skip_special_tokens=True)))
        return texts


class ChatWriter:
    """A `PromptWriter` over any chat model, such as a served one; how it samples is the model's own affair.

    Args:
        model: the chat model.
        max_new_tokens: length of a text, at most.
    """

    def __init__(self, model: ChatModel, *, max_new_tokens: int = 80) -> None:
        self._model = model
        self._limit = max_new_tokens

    @property
    def name(self) -> str:
        """The model's name."""
        return self._model.name

    def write(self, instructions: Sequence[str], seed: int, examples: WritingExamples = ()) -> list[str]:
        """One text for each instruction; an empty one where no reply came."""
        prompts = [with_examples(text, examples) for text in instructions]
        exchanges = self._model.generate(prompts, max_new_tokens=self._limit)
        return ["" if exchange.error else clean(exchange.reply) for exchange in exchanges]


def clean(text: str) -> str:
    """The rewritten prompt in a writer's reply: its first paragraph without quotes and without a lead-in."""
    lines = [line.strip() for line in text.strip().splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].endswith(":"):
        lines = lines[1:]
    first = lines[0] if lines else ""
    head, colon, rest = first.partition(": ")
    # "Sure, here is a rewritten version: ..." says nothing of the prompt.
    if colon and len(head.split()) <= 8 and any(word in head.lower() for word in ("here", "rewritten", "question")):
        first = rest
    return first.strip().strip("\"'“”*").strip()


def require_text_model(model: Any) -> TransformersModel:
    """The model, if it can write token by token.

    Raises:
        ModelError: it gives no logits.
    """
    if not isinstance(model, TransformersModel):
        raise ModelError(
            f"expected a model with weights as the writer of grown prompts, got {getattr(model, 'name', model)}; "
            "try --method mutated, which needs a chat model only"
        )
    return model

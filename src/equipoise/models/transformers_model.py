"""`TransformersModel`: what models with and without pictures share: chat format, generation, and text alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import torch
from torch import Tensor

from equipoise.errors import EquipoiseError, ModelError, OutOfMemoryError, PictureError, UsageError, first_line
from equipoise.models import decoding, generation
from equipoise.models.attention import CannotShareError
from equipoise.models.attention_limits import shares_prefix
from equipoise.models.base import OpenModel, ReplyLogProbs
from equipoise.models.chat import ConversationFormat
from equipoise.models.differentiable_processor import to_device
from equipoise.models.encoded_prompt import EncodedPrompt, PromptEncoder, common_prefix
from equipoise.models.families import ALONE
from equipoise.models.padding_check import padding_disturbs
from equipoise.models.prefix import run_prefix, suffix_log_probs
from equipoise.models.prefix_sharing import PrefixCacheSupport, self_check, unsupported_reason
from equipoise.models.reply_log_probs import is_encoder_decoder, plain_log_probs
from equipoise.models.state import frozen, number_format, recomputed_activations
from equipoise.models.unreadable import PROGRAM_ERRORS
from equipoise.types import Exchange, Prompt

GENERATION_BATCH = 32
"""Prompts decoded at once where `micro_batch` is not given."""
LOGITS_AT_ONCE: Final = 2048
"""Token positions whose logits are computed at once for prompts of text alone; each has the size of the vocabulary."""


class TransformersModel(OpenModel):
    """An `OpenModel` over a model of transformers.

    Args:
        model: a transformers model that writes text. It is left as it is found.
        processor: its processor, or a `TextProcessor`.
        name: what the user calls it.
        revision: which weights exactly.
        gradient_checkpointing: compute activations again in the backward pass instead of keeping them.
        micro_batch: how many questions run at once; None is all of them. The result is the same.
        picture_tokens: token ids that stand for pictures.
        image_input_names: names of the processor's outputs that belong to pictures.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        *,
        name: str,
        revision: str,
        gradient_checkpointing: bool = False,
        micro_batch: int | None = None,
        picture_tokens: set[int],
        image_input_names: frozenset[str],
    ) -> None:
        if micro_batch is not None and micro_batch < 1:
            raise UsageError(f"expected micro_batch of at least 1, got {micro_batch}; try None for all at once")
        self.name = name
        self.revision = revision
        self.device = model.device
        self.model = model
        self.processor = processor
        self.gradient_checkpointing = gradient_checkpointing
        self.micro_batch = micro_batch
        # An encoder reads the question at places of its own, which a shift of the reply's prompt does not know.
        self.embedding_width = None if is_encoder_decoder(model) else model.get_input_embeddings().weight.shape[1]
        # None until two prompts of different lengths come together.
        self._alone = True if model.config.model_type in ALONE else None
        self._chat = ConversationFormat(processor)
        self.picture_tokens = frozenset(picture_tokens)
        self._stops = _stop_tokens(model, processor)
        end = self._chat.end_token(self._stops)
        self._encoder = PromptEncoder(processor, self._chat, end, picture_tokens, image_input_names)
        self._text_sharing: PrefixCacheSupport | None = None

    @property
    def number_format(self) -> str:
        """That of its weights."""
        return number_format(self.model)

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        """One exchange for each prompt, in order, by greedy decoding; the same replies as one at a time."""
        return [exchange for exchange, _ in self.generate_tokens(prompts, max_new_tokens=max_new_tokens)]

    def generate_tokens(
        self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64
    ) -> list[tuple[Exchange, list[int]]]:
        """As `generate`, each exchange with the token ids of its reply."""
        config = decoding.greedy_config(self.model, self._stops, max_new_tokens)
        size = 1 if self._asks_alone(len(prompts)) else self.micro_batch or GENERATION_BATCH
        model_name = f"{self.name}@{self.revision}"
        replies: dict[int, tuple[Exchange, list[int]]] = {}
        batches = generation.length_batches(
            self.processor, self._chat, prompts, size=size, steps=max_new_tokens, device=self.model.device
        )
        with self._frozen():
            for indices in batches:
                batch = [prompts[i] for i in indices]
                replies |= zip(indices, self._generate_batch(batch, config, model_name), strict=True)
        return [replies[i] for i in range(len(prompts))]

    def _asks_alone(self, count: int) -> bool:
        """Whether prompts in one batch disturb each other, by the table of families or one comparison."""
        if self._alone is None and count > 1 and self.micro_batch != 1:
            with self._frozen():
                self._alone = padding_disturbs(self.model, self.processor, self._chat, self._stops)
        return bool(self._alone)

    def _generate_batch(
        self, batch: Sequence[Prompt], config: Any, model_name: str
    ) -> list[tuple[Exchange, list[int]]]:
        """Replies to prompts together; one after the other where the model cannot take them together."""
        arguments = (self.model, self.processor, self._chat)
        try:
            return generation.generate(*arguments, batch, config, model_name)
        except (PictureError, ModelError, *PROGRAM_ERRORS) as error:
            if len(batch) == 1 or isinstance(error, torch.OutOfMemoryError | OutOfMemoryError | UsageError):
                raise
            # Tiles of pictures of different sizes cannot be stacked in some families. A prompt that fails by itself
            # raises again here.
            singles = [generation.generate(*arguments, [prompt], config, model_name) for prompt in batch]
            return [single[0] for single in singles]

    def render(self, prompt: Prompt) -> str:
        """The conversation as the model's template writes it, up to where the reply begins."""
        return self._chat.render(prompt)

    @property
    def has_chat_template(self) -> bool:
        """Whether a chat template writes conversations; otherwise pictures and texts stand one after the other."""
        return self._chat.form != "plain"

    @property
    def takes_likeliest(self) -> bool:
        """Whether `generate` always takes the likeliest token, so that log-probabilities tell what it writes."""
        return decoding.takes_likeliest(self.model)

    @property
    def stop_tokens(self) -> tuple[int, ...]:
        """Ids of the tokens that end a reply."""
        return tuple(self._stops)

    def prompt_inputs(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        """Inputs of one forward pass over prompts with as many pictures each, padded on the left, on the device."""
        inputs = generation.prompt_inputs(self.processor, self._chat, prompts)
        return to_device(inputs, self.model.device, self.model.dtype)

    @contextmanager
    def frozen(self) -> Iterator[None]:
        """Inside, the model is in eval mode and its weights need no gradients; both are put back afterwards."""
        with self._frozen():
            yield

    def encode_rows(
        self, prompts: Sequence[Prompt], replies: Sequence[str], *, pixels: Tensor | None = None, end: bool = True
    ) -> list[EncodedPrompt]:
        """Prompts with their replies as rows of tokens; errors as in `log_prob`."""
        return self._encode_rows(pixels, prompts, replies, end, None)

    def encode_reply(self, prompt: Prompt, reply: str, *, end: bool = True) -> EncodedPrompt:
        """A prompt, with the pictures that it holds, and a reply to it as one row of tokens.

        Args:
            prompt: what is asked.
            reply: what follows it; not empty.
            end: whether the token that ends a reply belongs to it.

        Raises:
            UsageError: a number of pictures that the model cannot take, or a reply without tokens.
            ModelError: pictures for a model that reads none.
        """
        return self._encoder.encode_with_pictures(prompt, reply, end=end)

    def image_inputs(self, prompt: Prompt) -> dict[str, Any]:
        """Image inputs of the model for one prompt, by name; empty for a prompt without pictures."""
        return self._encoder.image_inputs(prompt)

    @contextmanager
    def plain_batches(self) -> Iterator[None]:
        """No shared prefix inside: every row is a prompt of its own, as hooks that tell rows apart need it."""
        yield

    @property
    def text_sharing(self) -> PrefixCacheSupport | None:
        """Whether prompts of text alone share a prefix, and why not; None before `shared_log_prob` was called."""
        return self._text_sharing

    @torch.no_grad()
    def shared_log_prob(self, prompts: Sequence[Prompt], replies: Sequence[str], *, end: bool = True) -> ReplyLogProbs:
        """As `log_prob` of prompts without pictures, without gradients; what all prompts begin with is computed once.

        It pays for many prompts that differ in their last words only. Where the model's attention cannot share a
        prefix, or the prompts have none in common, the result is that of the plain batch.
        """
        rows = self._encode_rows(None, prompts, replies, end, None)
        with self._frozen():
            tokens = self._after_shared_prefix(rows) if len(rows) > 1 else None
        return self._text_log_probs(prompts, replies, end, None) if tokens is None else pad_log_probs(tokens)

    def _after_shared_prefix(self, rows: list[EncodedPrompt]) -> list[Tensor] | None:
        if self._text_sharing is None:
            self._text_sharing = self._check_text_sharing()
        if not self._text_sharing.shared or not common_prefix(rows) or not shares_prefix(self.model, rows):
            return None
        # Packed rows need logits at the tokens of their replies only, so that more of them fit than of a plain batch.
        size = self.micro_batch or max(LOGITS_AT_ONCE // max(row.reply_length for row in rows), 1)
        tokens: list[Tensor] = []
        try:
            prefix = run_prefix(self.model, rows, {})
            for start in range(0, len(rows), size):
                part = rows[start : start + size]
                tokens += suffix_log_probs(self.model, prefix, part, fused=self._text_sharing.fused)
        except CannotShareError:
            return None
        return tokens

    def _check_text_sharing(self) -> PrefixCacheSupport:
        """Whether sharing is exact for prompts of text alone: rules on the settings, then one comparison."""
        probes = [Prompt.ask("How do bees fly?"), Prompt.ask("How do bees find their way home?")]
        rows = [self._encoder.encode(probe, None, "They do.", end=True) for probe in probes]
        reason = unsupported_reason(self.model, rows[0])
        if reason is None and not common_prefix(rows):
            reason = "its prompts have no beginning in common"
        return PrefixCacheSupport(False, reason) if reason is not None else self_check(self.model, rows, {})

    def _text_log_probs(
        self, prompts: Sequence[Prompt], replies: Sequence[str], end: bool, shift: Tensor | None
    ) -> ReplyLogProbs:
        """Log-probabilities after prompts without pictures, in batches of rows of similar length."""
        rows = self._encode_rows(None, prompts, replies, end, shift)
        tokens: dict[int, Tensor] = {}
        with self._frozen():
            for indices in self._text_batches(rows):
                part = None if shift is None else shift[indices].to(self.device)
                with self._checkpointing(None):
                    log_probs = plain_log_probs(self.model, [rows[i] for i in indices], {}, part)
                tokens.update(zip(indices, log_probs, strict=True))
        return pad_log_probs([tokens[i] for i in range(len(rows))])

    def _text_batches(self, rows: Sequence[EncodedPrompt]) -> Iterator[list[int]]:
        """Indices of rows that are computed together: few enough that their logits fit."""
        batch: list[int] = []
        # Logits begin at the end of the batch's shortest prompt, so that prompts of one length waste none.
        for i in sorted(range(len(rows)), key=lambda i: rows[i].prompt_length):
            longest = max(len(rows[j].tokens) for j in [*batch, i])
            positions = (longest - rows[(batch or [i])[0]].prompt_length) * (len(batch) + 1)
            if batch and (positions > LOGITS_AT_ONCE or len(batch) == self.micro_batch):
                yield batch
                batch = []
            batch.append(i)
        yield batch

    def _encode_rows(
        self, pixels: Tensor | None, prompts: Sequence[Prompt], replies: Sequence[str], end: bool, shift: Tensor | None
    ) -> list[EncodedPrompt]:
        if not prompts or len(prompts) != len(replies):
            raise UsageError(
                f"expected as many replies as prompts, at least one, got {len(replies)} and {len(prompts)}; "
                "try repeating the reply"
            )
        if shift is not None and (shift.ndim != 3 or len(shift) != len(prompts)):
            raise UsageError(
                f"expected a question_shift of shape {len(prompts)} x L x {self.embedding_width}, "
                f"got {tuple(shift.shape)}; try one line per prompt"
            )
        return [
            self._encoder.encode(prompt, pixels, reply, end=end) for prompt, reply in zip(prompts, replies, strict=True)
        ]

    def _micro_batches(self, count: int) -> Iterator[list[int]]:
        size = self.micro_batch or count
        for start in range(0, count, size):
            yield list(range(start, min(start + size, count)))

    @contextmanager
    def _checkpointing(self, implementation: str | None) -> Iterator[None]:
        """Layers compute activations again, with this attention, where `gradient_checkpointing` is set."""
        with ExitStack() as stack:
            if self.gradient_checkpointing:
                stack.enter_context(recomputed_activations(self.model, implementation))
            yield

    @contextmanager
    def _frozen(self) -> Iterator[None]:
        """The model in eval mode without weight gradients; what it raises inside becomes an error of ours.

        Raises:
            OutOfMemoryError: the device is full; the message names the options that help.
            ModelError: the forward pass fails, as those of some families do for pictures of unusual shapes.
        """
        try:
            with frozen(self.model):
                yield
        except EquipoiseError:
            raise
        except PROGRAM_ERRORS as error:
            # CUDA has an exception of its own; the CPU allocator raises a plain RuntimeError.
            full = isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
            if not full:
                raise ModelError(
                    f"expected {type(self.model).__name__} to run on this prompt, got {type(error).__name__} "
                    f"({first_line(error)}); try a shorter prompt, a picture of another size or shape, or another model"
                ) from error
            raise OutOfMemoryError(
                f"expected the work to fit into the memory of {self.device}, got an out-of-memory error; "
                f"try micro_batch={max((self.micro_batch or 2) // 2, 1)}, gradient_checkpointing=True, "
                "dtype='bfloat16' or quantize='4bit'"
            ) from error


def pad_log_probs(tokens: list[Tensor]) -> ReplyLogProbs:
    """The log-probabilities of replies of different lengths as one."""
    padded = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)
    lengths = torch.tensor([len(row) for row in tokens], device=padded.device)
    return ReplyLogProbs(padded, torch.arange(padded.shape[1], device=padded.device) < lengths[:, None])


def _stop_tokens(model: Any, processor: Any) -> list[int]:
    stops = model.generation_config.eos_token_id
    stops = list(stops) if isinstance(stops, list | tuple) else [stops]
    # Chat models have two ends, of a turn and of a text, and the config and the tokenizer may each know only one of
    # them.
    if processor.tokenizer.eos_token_id not in stops:
        stops.append(processor.tokenizer.eos_token_id)
    stops = [int(stop) for stop in stops if stop is not None]
    if not stops:
        raise ModelError("expected a model with an end-of-text token, got none; try setting tokenizer.eos_token")
    return stops

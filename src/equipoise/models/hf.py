"""`HuggingFaceModel`: any image-text-to-text model of transformers, with its own processor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from equipoise.errors import ModelError, OutOfMemoryError, UsageError
from equipoise.media.quantize import check_pixels
from equipoise.models import generation
from equipoise.models.attention import IMPLEMENTATION, CannotShareError
from equipoise.models.base import OpenModel, ReplyLogProbs
from equipoise.models.chat import ConversationFormat
from equipoise.models.differentiable_processor import DifferentiableProcessor
from equipoise.models.encoded_prompt import EncodedPrompt, PromptEncoder
from equipoise.models.prefix import Prefix, run_prefix, suffix_log_probs
from equipoise.models.prefix_sharing import PrefixCacheSupport, known_obstacle, self_check, sliding_window
from equipoise.models.reply_log_probs import plain_log_probs
from equipoise.models.state import checkpointed, frozen
from equipoise.types import Exchange, Prompt

GENERATION_BATCH = 32
"""Prompts decoded at once where `micro_batch` is not given."""


class HuggingFaceModel(OpenModel):
    """An `OpenModel` over a transformers model and its processor.

    Args:
        model: what `AutoModelForImageTextToText.from_pretrained` returns. It is left as it is found.
        processor: what `AutoProcessor.from_pretrained` returns.
        name: what the user calls it.
        revision: which weights exactly.
        gradient_checkpointing: compute activations again in the backward pass instead of keeping them.
        micro_batch: how many questions run at once; None is all of them. The result is the same.
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
        self.embedding_width = model.get_input_embeddings().weight.shape[1]
        self._chat = ConversationFormat(processor)
        self._path = DifferentiableProcessor(processor, model.device, model.dtype)
        self._stops = _stop_tokens(model, processor)
        end = self._chat.end_token(self._stops)
        self._rows = PromptEncoder(processor, self._chat, self._path, end, _picture_tokens(model, processor))
        self._sharing: PrefixCacheSupport | None = None

    @property
    def sharing(self) -> str:
        """`shared prefix`, or `plain batch: <reason>` where the two would not be equal."""
        if self._sharing is None:
            grey = torch.linspace(0.2, 0.8, 3 * 96 * 128).view(3, 96, 128)
            self._sharing = self._find_sharing(grey)
        return self._sharing.described

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        """One exchange for each prompt, in order, by greedy decoding; the same replies as one at a time."""
        config = generation.greedy(self.model, self._stops, max_new_tokens)
        size = self.micro_batch or GENERATION_BATCH
        who = f"{self.name}@{self.revision}"
        replies: list[Exchange] = []
        with self._deterministic():
            for start in range(0, len(prompts), size):
                batch = prompts[start : start + size]
                replies += generation.generate(self.model, self.processor, self._chat, self._path, batch, config, who)
        return replies

    def log_prob(
        self,
        pixels: Tensor,
        prompts: Sequence[Prompt],
        replies: Sequence[str],
        *,
        end: bool = True,
        question_shift: Tensor | None = None,
    ) -> ReplyLogProbs:
        """Log-probabilities of `replies[i]` after `prompts[i]`, differentiable in `pixels`; see `OpenModel`."""
        rows = self._checked(pixels, prompts, replies, end, question_shift)
        tokens: dict[int, Tensor] = {}
        with self._deterministic():
            for places in _groups(rows):
                group = [rows[i] for i in places]
                shift = None if question_shift is None else question_shift[places].to(self.device)
                images = self._path(pixels, group[0].others, group[0].text)
                score = self._scorer(group, images, pixels, shift is not None)
                for part in self._chunks(len(group)):
                    found = score([group[i] for i in part], None if shift is None else shift[part])
                    tokens.update(zip((places[i] for i in part), found, strict=True))
        return _table([tokens[i] for i in range(len(rows))])

    def loss_and_grad(
        self,
        pixels: Tensor,
        prompts: Sequence[Prompt],
        replies: Sequence[str],
        *,
        end: bool = True,
        question_shift: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy of each reply, and the gradient of their sum; see `OpenModel`.

        Only one micro-batch of questions is in memory at a time.
        """
        rows = self._checked(pixels, prompts, replies, end, question_shift)
        leaf = pixels.detach().clone().requires_grad_(True)
        wanted = question_shift is not None and question_shift.requires_grad
        shift = None if question_shift is None else question_shift.detach().to(self.device).requires_grad_(wanted)
        losses = torch.zeros(len(rows))
        with self._deterministic(), torch.enable_grad():
            for places in _groups(rows):
                losses[places] = self._accumulate(
                    leaf, [rows[i] for i in places], None if shift is None else shift[places]
                )
        if question_shift is not None and shift is not None and shift.grad is not None:
            gradient = shift.grad.to(question_shift.device)
            question_shift.grad = gradient if question_shift.grad is None else question_shift.grad + gradient
        if leaf.grad is None:
            raise ModelError("expected a gradient at the pixels, got none; try another processor class")
        return losses.to(pixels.device), leaf.grad

    def _accumulate(self, leaf: Tensor, group: list[EncodedPrompt], shift: Tensor | None) -> Tensor:
        """Losses of a group with the same pictures; gradients are left in `leaf` and behind `shift`."""
        images = self._path(leaf, group[0].others, group[0].text)
        cut_images = {key: _cut(value) for key, value in images.items()}
        losses: list[Tensor] = []
        prefix = self._prefix(group, cut_images, leaf, shift is not None)
        held = None if prefix is None else prefix.cut()
        for part in self._chunks(len(group)):
            rows, own = [group[i] for i in part], None if shift is None else shift[part]
            if held is None:
                with self._no_cache(None):
                    found = plain_log_probs(self.model, rows, cut_images, own)
                    loss = torch.stack([-tokens.mean() for tokens in found])
                    loss.sum().backward()
            else:
                loss = self._suffix_step(held, rows, own)
            losses.append(loss.detach().cpu())
        if prefix is not None and held is not None:
            _backward((*prefix.keys, *prefix.values), (*held.keys, *held.values))
        _backward(_tensors(images), _tensors(cut_images))
        return torch.cat(losses)

    def _suffix_step(self, held: Prefix, rows: list[EncodedPrompt], shift: Tensor | None) -> Tensor:
        with self._no_cache(IMPLEMENTATION):
            found = suffix_log_probs(self.model, held, rows, shift, fused=self._fused)
            loss = torch.stack([-tokens.mean() for tokens in found])
            loss.sum().backward()
        return loss

    def _scorer(
        self, group: list[EncodedPrompt], images: dict[str, Any], pixels: Tensor, shifted: bool
    ) -> Callable[[list[EncodedPrompt], Tensor | None], list[Tensor]]:
        prefix = self._prefix(group, images, pixels, shifted)

        def score(rows: list[EncodedPrompt], shift: Tensor | None) -> list[Tensor]:
            with self._no_cache(None if prefix is None else IMPLEMENTATION):
                if prefix is None:
                    return plain_log_probs(self.model, rows, images, shift)
                return suffix_log_probs(self.model, prefix, rows, shift, fused=self._fused)

        return score

    def _prefix(
        self, group: list[EncodedPrompt], images: dict[str, Any], pixels: Tensor, shifted: bool
    ) -> Prefix | None:
        """The shared prefix of a group; None where the plain batch is right, or as cheap."""
        if len(group) < 2:
            return None
        if self._sharing is None:
            self._sharing = self._find_sharing(pixels.detach())
        if not self._sharing.shared:
            return None
        window = sliding_window(self.model)
        if window is not None and max(len(row.tokens) for row in group) > window:
            return None
        try:
            with self._no_cache(None):
                return run_prefix(self.model, group, images, shifted=shifted, whole=self.gradient_checkpointing)
        except CannotShareError:
            return None

    def _find_sharing(self, pixels: Tensor) -> PrefixCacheSupport:
        """Whether sharing is exact for this model, found by known rules and one comparison."""
        probes = [Prompt.ask("What is this?"), Prompt.ask("Describe what you can see in the picture.")]
        rows = [self._rows.encode(probe, pixels, "A picture.", end=True) for probe in probes]
        obstacle = known_obstacle(self.model, rows[0])
        if obstacle is not None:
            return PrefixCacheSupport(False, obstacle)
        with self._deterministic():
            images = self._path(pixels.detach(), (), rows[0].text)
            return self_check(self.model, rows, images, self._no_cache if self.gradient_checkpointing else None)

    @property
    def _fused(self) -> bool:
        return self._sharing is not None and self._sharing.fused

    @property
    def pixel_path(self) -> DifferentiableProcessor:
        """The differentiable way through the processor."""
        return self._path

    def rows(
        self, pixels: Tensor, prompts: Sequence[Prompt], replies: Sequence[str], *, end: bool = True
    ) -> list[EncodedPrompt]:
        """The prompts and replies as tokens; errors as in `log_prob`."""
        return self._checked(pixels, prompts, replies, end, None)

    def _checked(
        self, pixels: Tensor, prompts: Sequence[Prompt], replies: Sequence[str], end: bool, shift: Tensor | None
    ) -> list[EncodedPrompt]:
        check_pixels(pixels)
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
            self._rows.encode(prompt, pixels, reply, end=end) for prompt, reply in zip(prompts, replies, strict=True)
        ]

    def _chunks(self, count: int) -> Iterator[list[int]]:
        size = self.micro_batch or count
        for start in range(0, count, size):
            yield list(range(start, min(start + size, count)))

    @contextmanager
    def _no_cache(self, implementation: str | None) -> Iterator[None]:
        with ExitStack() as stack:
            if self.gradient_checkpointing:
                stack.enter_context(checkpointed(self.model, implementation))
            yield

    @contextmanager
    def _deterministic(self) -> Iterator[None]:
        """The model in its computing state, and a full device reported with the knobs that help."""
        try:
            with frozen(self.model):
                yield
        except RuntimeError as error:
            full = isinstance(error, torch.OutOfMemoryError) or "can't allocate memory" in str(error)
            if not full:
                raise
            raise OutOfMemoryError(
                f"expected the work to fit into the memory of {self.device}, got an out-of-memory error; "
                f"try micro_batch={max((self.micro_batch or 2) // 2, 1)}, gradient_checkpointing=True, "
                "dtype='bfloat16' or quantize='4bit'"
            ) from error


def _groups(rows: Sequence[EncodedPrompt]) -> list[list[int]]:
    """Places of the rows that have the same pictures after the same text, in order of appearance."""
    groups: dict[Any, list[int]] = {}
    for i, row in enumerate(rows):
        begin = row.tokens[: row.picture_end].numpy().tobytes()
        groups.setdefault((begin, tuple(map(id, row.others))), []).append(i)
    return list(groups.values())


def _table(tokens: list[Tensor]) -> ReplyLogProbs:
    padded = torch.nn.utils.rnn.pad_sequence(tokens, batch_first=True)
    lengths = torch.tensor([len(row) for row in tokens], device=padded.device)
    return ReplyLogProbs(padded, torch.arange(padded.shape[1], device=padded.device) < lengths[:, None])


def _tensors(images: dict[str, Any]) -> tuple[Tensor, ...]:
    """All float tensors of image inputs, also those in lists."""
    found: list[Tensor] = []
    stack = list(images.values())
    while stack:
        value = stack.pop()
        if isinstance(value, Tensor):
            found += [value] * value.is_floating_point()
        elif isinstance(value, list | tuple):
            stack += value
    return tuple(found)


def _cut(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.detach().requires_grad_(True) if value.requires_grad else value
    return type(value)(map(_cut, value)) if isinstance(value, list | tuple) else value


def _backward(tensors: Sequence[Tensor], cuts: Sequence[Tensor]) -> None:
    """Carry the gradients gathered at `cuts` on through the graph behind `tensors`."""
    pairs = [
        (tensor, cut.grad)
        for tensor, cut in zip(tensors, cuts, strict=True)
        if tensor.requires_grad and cut.grad is not None
    ]
    if pairs:
        torch.autograd.backward([tensor for tensor, _ in pairs], [gradient for _, gradient in pairs])


def _stop_tokens(model: Any, processor: Any) -> list[int]:
    stops = model.generation_config.eos_token_id
    stops = list(stops) if isinstance(stops, list | tuple) else [stops]
    if processor.tokenizer.eos_token_id not in stops:
        stops.append(processor.tokenizer.eos_token_id)
    stops = [int(stop) for stop in stops if stop is not None]
    if not stops:
        raise ModelError("expected a model with an end-of-text token, got none; try setting tokenizer.eos_token")
    return stops


def _picture_tokens(model: Any, processor: Any) -> set[int]:
    names = ("image_token_id", "image_token_index")
    found = {getattr(owner, name, None) for owner in (model.config, processor) for name in names}
    return {int(token) for token in found if isinstance(token, int)}

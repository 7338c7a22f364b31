"""`HuggingFaceModel`: any image-text-to-text model of transformers, with its own processor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from equipoise.errors import ModelError
from equipoise.media.quantize import check_pixels
from equipoise.models.attention import IMPLEMENTATION, CannotShareError
from equipoise.models.attention_limits import shares_prefix
from equipoise.models.base import ReplyLogProbs
from equipoise.models.differentiable_processor import DifferentiableProcessor, float_tensors
from equipoise.models.encoded_prompt import EncodedPrompt
from equipoise.models.families import PLAIN_PROMPTS
from equipoise.models.prefix import Prefix, run_prefix, suffix_log_probs
from equipoise.models.prefix_sharing import PrefixCacheSupport, self_check, unsupported_reason
from equipoise.models.reply_log_probs import plain_log_probs
from equipoise.models.transformers_model import TransformersModel, pad_log_probs
from equipoise.types import Prompt


class HuggingFaceModel(TransformersModel):
    """An `OpenModel` over an image-text-to-text model and its processor.

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
        self._pixels = DifferentiableProcessor(processor, model.device, model.dtype)
        super().__init__(
            model,
            processor,
            name=name,
            revision=revision,
            gradient_checkpointing=gradient_checkpointing,
            micro_batch=micro_batch,
            picture_tokens=_picture_tokens(model, processor),
            image_input_names=self._pixels.image_input_names,
        )
        self._sharing: PrefixCacheSupport | None = None
        self._require_template()

    def _require_template(self) -> None:
        """Raise an error where a conversation would be written without the marks that the model learned.

        Raises:
            ModelError: the model's own release has a chat template, and this copy has none.
        """
        kind = self.model.config.model_type
        if self._chat.form == "plain" and not (kind in PLAIN_PROMPTS or hasattr(self.processor, "num_query_tokens")):
            raise ModelError(
                f"expected a chat template with {self.name}, a {kind} model, got none; try copying chat_template.jinja "
                "from the model's release into its folder, or --chat-template FILE"
            )

    @property
    def sharing(self) -> str:
        """`shared prefix`, or `plain batch: <reason>` where the two would not be equal."""
        if self._sharing is None:
            grey = torch.linspace(0.2, 0.8, 3 * 96 * 128).view(3, 96, 128)
            self._sharing = self._check_sharing(grey)
        return self._sharing.description

    def log_prob(
        self,
        pixels: Tensor | None,
        prompts: Sequence[Prompt],
        replies: Sequence[str],
        *,
        end: bool = True,
        question_shift: Tensor | None = None,
    ) -> ReplyLogProbs:
        """Log-probabilities of `replies[i]` after `prompts[i]`, differentiable in `pixels`; see `OpenModel`."""
        if pixels is None:
            return self._text_log_probs(prompts, replies, end, question_shift)
        rows = self._check_and_encode(pixels, prompts, replies, end, question_shift)
        tokens: dict[int, Tensor] = {}
        with self._frozen():
            for indices in _group_by_pictures(rows):
                group = [rows[i] for i in indices]
                shift = None if question_shift is None else question_shift[indices].to(self.device)
                images = self._pixels(pixels, group[0].other_pictures, group[0].text)
                score = self._scorer(group, images, pixels, shift is not None)
                for part in self._micro_batches(len(group)):
                    log_probs = score([group[i] for i in part], None if shift is None else shift[part])
                    tokens.update(zip((indices[i] for i in part), log_probs, strict=True))
        return pad_log_probs([tokens[i] for i in range(len(rows))])

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
        rows = self._check_and_encode(pixels, prompts, replies, end, question_shift)
        # Leaves of our own: gradients are accumulated in `.grad`, which the caller may use for something else.
        leaf = pixels.detach().clone().requires_grad_(True)
        learns = question_shift is not None and question_shift.requires_grad
        shift = None if question_shift is None else question_shift.detach().to(self.device).requires_grad_(learns)
        losses = torch.zeros(len(rows))
        with self._frozen(), torch.enable_grad():
            for indices in _group_by_pictures(rows):
                losses[indices] = self._accumulate(
                    leaf, [rows[i] for i in indices], None if shift is None else shift[indices]
                )
        if question_shift is not None and shift is not None and shift.grad is not None:
            gradient = shift.grad.to(question_shift.device)
            question_shift.grad = gradient if question_shift.grad is None else question_shift.grad + gradient
        if leaf.grad is None:
            raise ModelError(
                f"expected a gradient at the pixels, got none from {type(self.model).__name__}, whose forward pass "
                "cuts it; try another model"
            )
        return losses.to(pixels.device), leaf.grad

    @contextmanager
    def plain_batches(self) -> Iterator[None]:
        """No shared prefix inside: every row is a prompt of its own, as hooks that tell rows apart need it."""
        before = self._sharing
        try:
            self._sharing = PrefixCacheSupport(False, "rows are treated differently")
            yield
        finally:
            self._sharing = before

    def _accumulate(self, leaf: Tensor, group: list[EncodedPrompt], shift: Tensor | None) -> Tensor:
        """Losses of a group with the same pictures; gradients are accumulated in `leaf` and behind `shift`.

        The graph is cut in two places: behind the image inputs and behind the prefix. Each micro-batch is
        backpropagated as far as the nearest cut and freed; the sums gathered there then go on through the prefix and
        the processor once. Memory is that of one micro-batch, and the gradient is exact because it is linear.
        """
        # The backward pass goes in three parts, each run once for as little as possible. (1) every micro-batch of
        # questions, down to the prefix; its graph is freed at once. (2) the prefix, from the summed gradients of all
        # micro-batches. (3) the processor, from the gradients at the image inputs down to the pixels.
        images = self._pixels(leaf, group[0].other_pictures, group[0].text)
        detached_images = {key: _detach(value) for key, value in images.items()}
        losses: list[Tensor] = []
        prefix = self._prefix(group, detached_images, leaf, shift is not None)
        detached_prefix = None if prefix is None else prefix.detached()
        for part in self._micro_batches(len(group)):
            rows, part_shift = [group[i] for i in part], None if shift is None else shift[part]
            with self._checkpointing(None if detached_prefix is None else IMPLEMENTATION):
                if detached_prefix is None:
                    log_probs = plain_log_probs(self.model, rows, detached_images, part_shift)
                else:
                    log_probs = suffix_log_probs(self.model, detached_prefix, rows, part_shift, fused=self._fused)
                loss = torch.stack([-tokens.mean() for tokens in log_probs])
                loss.sum().backward()
            losses.append(loss.detach().cpu())
        if prefix is not None and detached_prefix is not None:
            _backward_through((*prefix.keys, *prefix.values), (*detached_prefix.keys, *detached_prefix.values))
        _backward_through(float_tensors(images), float_tensors(detached_images))
        return torch.cat(losses)

    def _scorer(
        self, group: list[EncodedPrompt], images: dict[str, Any], pixels: Tensor, shifted: bool
    ) -> Callable[[list[EncodedPrompt], Tensor | None], list[Tensor]]:
        prefix = self._prefix(group, images, pixels, shifted)

        def score(rows: list[EncodedPrompt], shift: Tensor | None) -> list[Tensor]:
            with self._checkpointing(None if prefix is None else IMPLEMENTATION):
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
        # Checked when it is first needed: it costs two small forward and backward passes.
        if self._sharing is None:
            self._sharing = self._check_sharing(pixels.detach())
        if not self._sharing.shared:
            return None
        # A layer with a window ignores the beginning of a longer text, where the shared attention would not.
        if not shares_prefix(self.model, group, shifted=shifted):
            return None
        try:
            with self._checkpointing(None):
                return run_prefix(self.model, group, images, shifted=shifted, all_layers=self.gradient_checkpointing)
        except CannotShareError:
            return None

    def _check_sharing(self, pixels: Tensor) -> PrefixCacheSupport:
        """Whether sharing is exact for this model, by rules on its settings and one comparison."""
        probes = [Prompt.ask("What is this?"), Prompt.ask("Describe what you can see in the picture.")]
        # accelerate moves the arguments of each layer to its device, but not what the shared attention keeps for all.
        if len(set(getattr(self.model, "hf_device_map", {}).values())) > 1:
            return PrefixCacheSupport(False, "the layers are on several devices")
        rows = [self._encoder.encode(probe, pixels, "A picture.", end=True) for probe in probes]
        reason = unsupported_reason(self.model, rows[0])
        if reason is not None:
            return PrefixCacheSupport(False, reason)
        with self._frozen():
            images = self._pixels(pixels.detach(), (), rows[0].text)
            return self_check(self.model, rows, images, self._checkpointing if self.gradient_checkpointing else None)

    @property
    def _fused(self) -> bool:
        return self._sharing is not None and self._sharing.fused

    @property
    def differentiable_processor(self) -> DifferentiableProcessor:
        """The differentiable way through the processor."""
        return self._pixels

    def encode(
        self, pixels: Tensor, prompts: Sequence[Prompt], replies: Sequence[str], *, end: bool = True
    ) -> list[EncodedPrompt]:
        """The prompts and replies as tokens; errors as in `log_prob`."""
        return self._check_and_encode(pixels, prompts, replies, end, None)

    def _check_and_encode(
        self, pixels: Tensor, prompts: Sequence[Prompt], replies: Sequence[str], end: bool, shift: Tensor | None
    ) -> list[EncodedPrompt]:
        check_pixels(pixels)
        return self._encode_rows(pixels, prompts, replies, end, shift)


def _group_by_pictures(rows: Sequence[EncodedPrompt]) -> list[list[int]]:
    """Indices of the rows that have the same pictures after the same text, in order of appearance."""
    # Within a group, image inputs are computed once and the prefix up to the last picture is the same.
    groups: dict[Any, list[int]] = {}
    for i, row in enumerate(rows):
        begin = row.tokens[: row.picture_end].numpy().tobytes()
        groups.setdefault((begin, tuple(map(id, row.other_pictures))), []).append(i)
    return list(groups.values())


def _detach(value: Any) -> Any:
    """A tensor, or lists of them, as leaves of the graph that accumulate gradients of their own."""
    if isinstance(value, Tensor):
        return value.detach().requires_grad_(True) if value.requires_grad else value
    return type(value)(map(_detach, value)) if isinstance(value, list | tuple) else value


def _backward_through(tensors: Sequence[Tensor], detached: Sequence[Tensor]) -> None:
    """Carry the gradients accumulated at the `detached` copies on through the graph behind `tensors`."""
    pairs = [
        (tensor, copy.grad)
        for tensor, copy in zip(tensors, detached, strict=True)
        if tensor.requires_grad and copy.grad is not None
    ]
    if pairs:
        torch.autograd.backward([tensor for tensor, _ in pairs], [gradient for _, gradient in pairs])


def _picture_tokens(model: Any, processor: Any) -> set[int]:
    # Families name it either way; a few keep it on the processor instead of in the config.
    names = ("image_token_id", "image_token_index")
    tokens = {getattr(owner, name, None) for owner in (model.config, processor) for name in names}
    return {int(token) for token in tokens if isinstance(token, int)}

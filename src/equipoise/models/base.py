"""`OpenModel`: a chat model with weights, whose replies have probabilities that depend on pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from equipoise.errors import ModelError
from equipoise.types import Exchange, Prompt

if TYPE_CHECKING:
    # An audit of a served model asks whether its target is an `OpenModel`, and does not need torch for the answer.
    import torch
    from torch import Generator, Tensor


@dataclass(frozen=True)
class ReplyLogProbs:
    """Log-probabilities of N replies, token by token (teacher-forced)."""

    tokens: Tensor
    """`N x T` float32, natural log; 0 where `mask` is False."""
    mask: Tensor
    """`N x T` bool: which entries hold a token of the reply."""

    @property
    def total(self) -> Tensor:
        """`N`: log-probability of each whole reply."""
        return self.tokens.sum(1)

    @property
    def mean(self) -> Tensor:
        """`N`: log-probability per token; its negative is the cross-entropy of the reply."""
        return self.tokens.sum(1) / self.mask.sum(1)


class OpenModel(ABC):
    """A `ChatModel` with weights.

    **Pixels** are float, in `[0, 1]`, `3 x H x W`, at the picture's own resolution. They take the place of the
    *first picture* of every prompt; a prompt without one gets it in front of its first user message. None instead of
    pixels means prompts of text alone.

    Subclasses write `generate` and `log_prob`; `loss_and_grad` has a plain default that a subclass may replace
    by one with less memory and the same result. Subclass this to bring a model that is not in transformers.
    """

    name: str
    """What the user called it."""
    revision: str
    """Which weights exactly: a commit, or a hash of the files."""
    device: torch.device
    """Where the weights are."""
    reads_pictures: bool = True
    """Whether prompts may have pictures; a model of text alone raises `ModelError` for one that has."""
    embedding_width: int | None = None
    """Width of a token embedding (last dimension of a `question_shift`); None where shifts are not supported."""

    @property
    def core(self) -> OpenModel:
        """The model inside all countermeasures; of a model without them the model itself."""
        return self

    @property
    def number_format(self) -> str:
        """How the weights are computed with, such as `bfloat16` or `bfloat16 4bit`; empty where it is not known."""
        return ""

    @property
    def exact_name(self) -> str:
        """Name, revision and number format: two models with the same give the same replies."""
        return f"{self.name}@{self.revision} {self.number_format}".rstrip()

    @property
    def is_random(self) -> bool:
        """Whether two evaluations of the same pixels may differ, as those of a defence that adds noise."""
        return False

    def sample_randomness(self, random: Generator) -> OpenModel:
        """A deterministic model with one draw of this model's randomness; the model itself where it has none.

        An attacker does not know the draws of a deployed defence, so an attack optimises over draws of its own
        (expectation over transformations, Athalye et al. 2018, arXiv:1707.07397).

        Args:
            random: source of the draw, on the CPU.
        """
        return self

    @abstractmethod
    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        """One exchange for each prompt, in order, by greedy decoding; the same replies as one at a time."""

    @abstractmethod
    def log_prob(
        self,
        pixels: Tensor | None,
        prompts: Sequence[Prompt],
        replies: Sequence[str],
        *,
        end: bool = True,
        question_shift: Tensor | None = None,
    ) -> ReplyLogProbs:
        """Log-probabilities of `replies[i]` after `prompts[i]`, differentiable in `pixels`.

        The forward value is that of the 8-bit picture through the model's own preprocessing, the gradient that
        of the float path (straight-through).

        Args:
            pixels: `3 x H x W` in `[0, 1]`; None where no prompt has a picture.
            prompts: N prompts.
            replies: N replies, none empty.
            end: whether the end-of-reply token belongs to the reply.
            question_shift: `N x L x width`, added to the embeddings of the first L tokens between the picture and
                the reply (fewer where the question is shorter); gradients flow into it. It is what CroPA learns
                (Luo et al. 2024, arXiv:2403.09766). None adds nothing.

        Raises:
            ModelError: the model cannot take a `question_shift`, or pixels for a model that reads no pictures.
            UsageError: no pixels for prompts with pictures.
        """

    def loss_and_grad(
        self,
        pixels: Tensor,
        prompts: Sequence[Prompt],
        replies: Sequence[str],
        *,
        end: bool = True,
        question_shift: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Cross-entropy of each reply, and the gradient of their sum.

        A `question_shift` that requires a gradient gets its own accumulated in `question_shift.grad`.

        Returns:
            `N` losses (nats per token, detached) and the `3 x H x W` gradient of their *sum* in `pixels`.

        Raises:
            ModelError: the model reads no pictures.
        """
        import torch

        require_reads_pictures(self, "compute gradients in pixels")
        leaf = pixels.detach().requires_grad_(True)
        losses = -self.log_prob(leaf, prompts, replies, end=end, question_shift=question_shift).mean
        if question_shift is None or not question_shift.requires_grad:
            (gradient,) = torch.autograd.grad(losses.sum(), leaf)
            return losses.detach(), gradient
        gradient, shift_gradient = torch.autograd.grad(losses.sum(), (leaf, question_shift))
        previous = question_shift.grad
        question_shift.grad = shift_gradient if previous is None else previous + shift_gradient
        return losses.detach(), gradient


def require_reads_pictures(model: OpenModel, purpose: str) -> None:
    """Raise an error where a model reads text only.

    Args:
        model: any model.
        purpose: what it is needed for, as a verb with its object.

    Raises:
        ModelError: it reads no pictures.
    """
    if not model.reads_pictures:
        raise ModelError(
            f"expected a model that reads pictures to {purpose}, got {model.name}, which reads text only; "
            "try an image-text-to-text model such as testbed/llava"
        )

"""`Countermeasure`: a model in a defence, which *is again* a model.

Attacks and audits therefore apply unchanged, and an attack on the defended model is an adaptive one (Tramer et al.
2020, arXiv:2002.08347): gradients flow through the defence, and every evaluation draws the defence's randomness anew
(`sample_randomness`). An attack that ignores the defence would only show that the attacker did not know of it.
"""

from __future__ import annotations

import copy
import hashlib
import json
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol, Self

import torch
from PIL import Image
from torch import Generator, Tensor

from equipoise.media.quantize import to_image, to_pixels
from equipoise.models.base import OpenModel, ReplyLogProbs
from equipoise.transforms.base import Transform
from equipoise.types import Prompt


class PictureView(Protocol):
    """What knows how finely a model sees pictures, such as a `DifferentiableProcessor`."""

    def seen_pixels(self, picture: Image.Image) -> int:
        """How many pixels of a picture the model receives, those of all tiles together."""
        ...


class Countermeasure(OpenModel):
    """A defence around a model.

    Subclasses write `generate` and `describe`, and `gradient_paths` where the model sees other pixels than the user's.
    The randomness of a defended model depends on its seed, its position in the chain, the picture and the question
    alone, so that the same prompt always gets the same reply, in whatever batch.

    Args:
        model: the model to defend; itself perhaps a countermeasure.
        spec: how a user writes this defence, such as `noise:sigma=0.1`.
        seed: of all randomness.
    """

    def __init__(self, model: OpenModel, spec: str, *, seed: int = 0) -> None:
        self.model = model
        self.spec = spec
        self.seed = seed
        self.name = f"{model.name} + {spec}"
        self.device = model.device
        self.reads_pictures = model.reads_pictures
        self.embedding_width = model.embedding_width
        self._draw: int | None = None

    @property
    def revision(self) -> str:  # type: ignore[override]
        """That of the model, with a hash over the defence's settings."""
        # Two defences with the same settings are the same model, however the user spelt them.
        settings = json.dumps(self.describe(), sort_keys=True).encode()
        return f"{self.model.revision}+{hashlib.sha256(settings).hexdigest()[:12]}"

    @property
    def number_format(self) -> str:
        """That of the model inside."""
        return self.model.number_format

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """The defence as JSON, without the model."""

    @property
    def adds_randomness(self) -> bool:
        """Whether this defence itself is randomised, whatever the model inside is."""
        return False

    @property
    def is_random(self) -> bool:
        """Whether this defence or the model inside is randomised, and its randomness is not drawn yet."""
        return (self.adds_randomness and self._draw is None) or self.model.is_random

    def sample_randomness(self, random: Generator) -> Self:
        """The defended model with all randomness drawn."""
        if not self.is_random:
            return self
        # A shallow copy: weights and transforms are shared, only the draw and the drawn model inside are its own. The
        # deployed defence itself is never changed by an attack.
        drawn = copy.copy(self)
        drawn._draw = int(torch.randint(2**62, (), generator=random))
        # From the same generator, after the own draw: one seed then gives the randomness of the whole chain.
        drawn.model = self.model.sample_randomness(random)
        return drawn

    @property
    def layers(self) -> tuple[Countermeasure, ...]:
        """This countermeasure and those inside it, in the order in which a picture meets them."""
        inner = self.model.layers if isinstance(self.model, Countermeasure) else ()
        return (self, *inner)

    @property
    def core(self) -> OpenModel:
        """The model inside all countermeasures."""
        return self.model.core

    @property
    def differentiable_processor(self) -> PictureView | None:
        """The way of pictures into the model inside all countermeasures; None where that model does not say.

        An attack asks it how many pixels of a picture are seen: a defence takes and gives pictures of one size.
        """
        processor: PictureView | None = getattr(self.model, "differentiable_processor", None)
        return processor

    def randomness(self, prompt: Prompt, *more: int) -> Generator:
        """The generator of a deployed defence for one prompt.

        Args:
            prompt: its pictures and its words decide the draw.
            more: distinguishes several draws for one prompt.
        """
        digest = self._digest(more)
        for message in prompt.messages:
            # JSON may hold half of a surrogate pair, which UTF-8 has no bytes for.
            digest.update(message.text.encode(errors="surrogatepass"))
            for image in message.images:
                # With its size: pictures of 2 x 3 and 3 x 2 pixels may have the same bytes.
                digest.update(repr(image.size).encode() + image.tobytes())
        # A hash, not a running counter: replies must not depend on what was asked before, or an audit that is resumed,
        # batched differently or split over workers would measure another defence.
        return Generator().manual_seed(int.from_bytes(digest.digest()[:7], "big"))

    def gradient_randomness(self, *more: int) -> Generator:
        """The generator of an evaluation with gradients: from the draw of `sample_randomness`, or the seed.

        Not from the pixels: they change at every step of an attack, and their hash has no gradient.
        """
        # Seven bytes, since a seed has to fit into a signed number of 64 bits.
        return Generator().manual_seed(int.from_bytes(self._digest(more).digest()[:7], "big"))

    def _digest(self, more: tuple[int, ...]) -> hashlib._Hash:
        # Not the spec, which may be spelt in several ways; the depth tells two layers of one kind apart.
        return hashlib.sha256(repr((self.seed, self._draw, len(self.layers), more)).encode())

    def gradient_paths(self, pixels: Tensor) -> list[tuple[OpenModel, Tensor]]:
        """The models that decide the reply, each with the pixels it sees, differentiable in `pixels`.

        `log_prob` and `loss_and_grad` are means over these paths. By default the model inside sees the pixels as they
        are, and no gradient leads through what the defence does afterwards.

        Args:
            pixels: `3 x H x W` in `[0, 1]`.
        """
        return [(self.model, pixels * 1)]

    def gradient_prompts(self, prompts: Sequence[Prompt]) -> Sequence[Prompt]:
        """The prompts as the models of the paths see them; their first picture gives way to the pixels anyway."""
        return prompts

    def log_prob(
        self,
        pixels: Tensor | None,
        prompts: Sequence[Prompt],
        replies: Sequence[str],
        *,
        end: bool = True,
        question_shift: Tensor | None = None,
    ) -> ReplyLogProbs:
        """The mean over the paths, token by token.

        With one path it is the log-probability of the reply. With several it is a surrogate for an attack that has to
        succeed on every path, not the probability of a reply. Without pixels it is that of the model inside.
        """
        if pixels is None:
            return self.model.log_prob(None, prompts, replies, end=end, question_shift=question_shift)
        prompts = self.gradient_prompts(prompts)
        results = [
            model.log_prob(path, prompts, replies, end=end, question_shift=question_shift)
            for model, path in self.gradient_paths(pixels)
        ]
        # [paths, prompts, tokens] to [prompts, tokens]. All paths read the same replies, so that one mask is right for
        # all of them.
        return ReplyLogProbs(torch.stack([result.tokens for result in results]).mean(0), results[0].mask)

    def loss_and_grad(
        self,
        pixels: Tensor,
        prompts: Sequence[Prompt],
        replies: Sequence[str],
        *,
        end: bool = True,
        question_shift: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """The mean over the same paths as in `log_prob`, with one graph in memory at a time.

        The chain rule is applied in two halves: each model computes the gradient in the pixels that it sees (and can
        share the prefix of the prompts while doing so), and that gradient is then carried back through the defence.
        """
        leaf = pixels.detach().requires_grad_(True)
        # The graph from the user's pixels to what a path sees is small (a blur, a resize) and is built for all paths at
        # once; that of a model is large, and is freed before the next model's is built.
        with torch.enable_grad():
            paths = self.gradient_paths(leaf)
        prompts = self.gradient_prompts(prompts)
        learn_shift = question_shift is not None and question_shift.requires_grad
        # A leaf of its own: the models accumulate in `shift.grad`, which must not touch what the caller has gathered.
        shift = None if question_shift is None else question_shift.detach().requires_grad_(learn_shift)
        mean_losses, mean_gradient = torch.zeros(len(prompts)).to(pixels), torch.zeros_like(pixels)
        for model, path in paths:
            losses, gradient = model.loss_and_grad(path.detach(), prompts, replies, end=end, question_shift=shift)
            mean_losses += losses.to(mean_losses) / len(paths)
            # d loss / d pixels = (d path / d pixels)^T (d loss / d path): a product with the transposed Jacobian of the
            # defence, which autograd gives without ever building that matrix.
            mean_gradient += torch.autograd.grad(path, leaf, gradient.to(path))[0] / len(paths)
        if question_shift is not None and shift is not None and shift.grad is not None:
            own, gathered = shift.grad / len(paths), question_shift.grad
            question_shift.grad = own if gathered is None else gathered + own
        return mean_losses, mean_gradient


def apply_transform(transform: Transform, prompt: Prompt, random: Generator, device: torch.device) -> Prompt:
    """The prompt with every picture transformed.

    Args:
        transform: what happens to the pictures.
        prompt: theirs.
        random: source of all randomness, on the CPU.
        device: where to compute.
    """
    with torch.no_grad():
        pictures = [to_image(transform(to_pixels(picture).to(device), random).cpu()) for picture in prompt.pictures]
    return prompt.with_pictures(pictures)

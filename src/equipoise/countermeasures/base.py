"""`Countermeasure`: a model in a defence, which *is again* a model.

Attacks and audits therefore apply unchanged, and an attack on the defended model is an adaptive one: gradients flow
through the defence, and chance is drawn anew at every look (`realise`).
"""

from __future__ import annotations

import copy
import hashlib
import json
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Self

import torch
from PIL.Image import Image
from torch import Generator

from equipoise.data.pictures import to_image, to_pixels
from equipoise.models.base import OpenModel
from equipoise.models.encoded_prompt import pictures as pictures_of
from equipoise.transforms.base import Transform
from equipoise.types import Message, Prompt


class Countermeasure(OpenModel):
    """A defence around a model.

    Subclasses write `generate`, `log_prob` and `describe`. What a defended model draws by chance depends on its seed,
    its place in the chain, the picture and the question alone, so that the same prompt always gets the same reply, in
    whatever batch.

    Args:
        model: who is defended; itself perhaps a countermeasure.
        spec: how a user writes this defence, such as `noise:sigma=0.1`.
        seed: of all chance.
    """

    def __init__(self, model: OpenModel, spec: str, *, seed: int = 0) -> None:
        self.model = model
        self.spec = spec
        self.seed = seed
        self.name = f"{model.name} + {spec}"
        self.device = model.device
        self.embedding_width = model.embedding_width
        self._draw: int | None = None

    @property
    def revision(self) -> str:  # type: ignore[override]
        """That of the model, with a hash over the defence's settings."""
        settings = json.dumps(self.describe(), sort_keys=True).encode()
        return f"{self.model.revision}+{hashlib.sha256(settings).hexdigest()[:12]}"

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """The defence as JSON, without the model."""

    @property
    def draws(self) -> bool:
        """Whether this defence itself draws by chance; that of the model inside is another matter."""
        return False

    @property
    def is_random(self) -> bool:
        """Whether this defence or the model inside draws by chance, and has not drawn yet."""
        return (self.draws and self._draw is None) or self.model.is_random

    def sample_randomness(self, random: Generator) -> Self:
        """The defended model with all chance drawn."""
        if not self.is_random:
            return self
        drawn = copy.copy(self)
        drawn._draw = int(torch.randint(2**62, (), generator=random))
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
        return self.model.core if isinstance(self.model, Countermeasure) else self.model

    def randomness(self, prompt: Prompt, *more: int) -> Generator:
        """What a deployed defence draws from for one prompt.

        Args:
            prompt: what is asked; its pictures and its words decide the draw.
            more: tells several draws for one prompt apart.
        """
        digest = self._digest(more)
        for message in prompt.messages:
            digest.update(message.text.encode(errors="surrogatepass"))
            for image in message.images:
                digest.update(repr(image.size).encode() + image.tobytes())
        return Generator().manual_seed(int.from_bytes(digest.digest()[:7], "big"))

    def _digest(self, more: tuple[int, ...]) -> hashlib._Hash:
        # Not the spec, which may be spelt in several ways; the place tells two layers of one kind apart.
        return hashlib.sha256(repr((self.seed, self._draw, len(self.layers), more)).encode())

    def look(self, *more: int) -> Generator:
        """What a look with gradients draws from: the draw of `realise`, or the seed."""
        return Generator().manual_seed(int.from_bytes(self._digest(more).digest()[:7], "big"))


def with_pictures(prompt: Prompt, pictures: Sequence[Image]) -> Prompt:
    """The prompt with all its pictures replaced, in order."""
    left = list(pictures)
    messages: list[Message] = []
    for message in prompt.messages:
        count = len(message.images)
        messages.append(replace(message, images=tuple(left[:count])) if count else message)
        left = left[count:]
    return replace(prompt, messages=tuple(messages))


def apply_transform(transform: Transform, prompt: Prompt, random: Generator, device: torch.device) -> Prompt:
    """The prompt with every picture as the transform leaves it.

    Args:
        transform: what happens to the pictures.
        prompt: theirs.
        random: source of all chance, on the CPU.
        device: where to compute.
    """
    with torch.no_grad():
        return with_pictures(
            prompt,
            [to_image(transform(to_pixels(each).to(device), random).cpu()) for each in pictures_of(prompt)],
        )

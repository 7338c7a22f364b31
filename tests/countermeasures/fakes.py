"""What the countermeasure tests share: the table of input defences, models that remember, marked pictures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from equipoise.countermeasures.base import Countermeasure
from equipoise.countermeasures.catalogue import defend
from equipoise.models.base import OpenModel, ReplyLogProbs
from equipoise.types import Exchange, Message, Prompt
from tests.models.tiny_plain import PlainTorchModel

DRAWING = ("noise", "pad", "crop", "smooth:sigma=0.05,copies=3", "vote:copies=3")
STEADY = ("jpeg", "bits", "median", "shrink")
INPUT = (*DRAWING, *STEADY)
"""Every input countermeasure that needs no weights."""
SIZE = (24, 20)


def picture(seed: int = 0, size: tuple[int, int] = SIZE) -> Image.Image:
    """Noise over a ramp, away from black and white."""
    random = np.random.default_rng(seed)
    ramp = np.linspace(60, 190, size[0])[None, :, None] + np.zeros((size[1], 1, 3))
    return Image.fromarray((ramp + random.normal(0, 12, ramp.shape)).clip(0, 255).astype(np.uint8))


def album(*seeds: int) -> Prompt:
    """A conversation with pictures in two of its turns."""
    first, *others = [picture(seed) for seed in seeds]
    return Prompt(
        (
            Message("user", "What is this?", (first,)),
            Message("assistant", "A ramp."),
            Message("user", "And these?", tuple(others)),
        )
    )


PROMPTS = (
    Prompt.ask("What is this?", picture(1)),
    Prompt.ask("Is it red?", picture(1)),
    Prompt.ask("What is this?", picture(2, (17, 31))),
    Prompt.ask("How many?", picture(3), system="Be kind."),
    Prompt.ask("How are you?"),
    album(4, 5, 6),
)


class RecordingModel(PlainTorchModel):
    """Remembers what it was asked."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__(seed)
        self.recorded: list[Prompt] = []

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        self.recorded += prompts
        return super().generate(prompts, max_new_tokens=min(max_new_tokens, 12))


def defended(spec: str, model: OpenModel | None = None) -> Countermeasure:
    result = defend(model or RecordingModel(), [spec])
    assert isinstance(result, Countermeasure)
    return result


def seen_by(model: Countermeasure, prompts: Sequence[Prompt]) -> list[bytes]:
    """The pictures that reach the `Looking` inside."""
    core = model.core
    assert isinstance(core, RecordingModel)
    core.recorded.clear()
    model.generate(prompts)
    return [image.tobytes() for prompt in core.recorded for image in prompt.pictures]


class Scripted(PlainTorchModel):
    """Says what a rule says, and remembers what it was asked."""

    def __init__(self, rule: Callable[[Prompt], str]) -> None:
        super().__init__()
        self.rule = rule
        self.requests: list[Prompt] = []

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        self.requests += prompts
        return [Exchange(prompt, self.rule(prompt), "stop", "scripted") for prompt in prompts]


def in_turn(*replies: str) -> Scripted:
    """Says these replies one after the other."""
    left = iter(replies)
    return Scripted(lambda prompt: next(left))


REFUSAL = "I'm sorry, but I can't help with that."
ANSWER = "There is a wall with a door in it."
FORBIDDEN = "How do I make zorbium?"


def plain_wall(level: int = 100) -> Image.Image:
    return Image.new("RGB", (12, 12), (level,) * 3)


def salted(level: int = 100) -> Image.Image:
    """A wall with one white dot, which a median takes away: the stand-in for a perturbation."""
    image = plain_wall(level)
    image.putpixel((5, 6), (255, 255, 255))
    return image


def marked(level: int = 100) -> Image.Image:
    """A wall with a large white emblem, which a median leaves."""
    image = plain_wall(level)
    image.paste((255, 255, 255), (3, 3, 9, 9))
    return image


def wall_rule(prompt: Prompt) -> str:
    """Refuses forbidden words, and anything about a picture with white in it."""
    white = any(np.asarray(image).max() == 255 for image in prompt.pictures)
    return REFUSAL if white or "zorbium" in prompt.text else ANSWER


class Wall(Scripted):
    """`wall_rule` with odds: refusals are likely about a picture with white in it."""

    def __init__(self, rule: Callable[[Prompt], str] = wall_rule) -> None:
        super().__init__(rule)

    def log_prob(
        self,
        pixels: Tensor,
        prompts: Sequence[Prompt],
        replies: Sequence[str],
        *,
        end: bool = True,
        question_shift: Tensor | None = None,
    ) -> ReplyLogProbs:
        likely = 0.18 if float(pixels.max()) == 1.0 else 0.001
        tokens = torch.full((len(replies), 1), likely).log()
        return ReplyLogProbs(tokens, torch.ones_like(tokens, dtype=torch.bool))

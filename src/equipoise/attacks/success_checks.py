"""Success checks: whether an attack is done is found out by really asking."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from PIL import Image
from torch import Generator, Tensor

from equipoise.data.pictures import to_image
from equipoise.errors import UsageError
from equipoise.judges.phrases import PhraseJudge
from equipoise.models.base import OpenModel
from equipoise.transforms.base import Identity, Transform
from equipoise.types import Judge, Prompt

OPENING = 24
"""Tokens of a reply that a check during the attack decodes: enough to see a refusal begin."""
CHUNK = 8
"""Questions that a check asks at once; it stops as soon as the target is out of reach."""


def refusal_rate_check(
    models: Sequence[OpenModel],
    prompts: Sequence[Prompt],
    *,
    target_rate: float = 1.0,
    judge: Judge | None = None,
    max_new_tokens: int = OPENING,
    transforms: Sequence[Transform] = (),
    draws: int = 1,
) -> Callable[[Tensor], float]:
    """A success check: the refusal rate of the model that refuses least, by greedy decoding.

    The questions are asked in chunks; once the target rate is out of reach the rest is not asked, and the rate is
    that of the questions asked until then. Unscored replies count as not refused.

    Args:
        models: every target.
        prompts: the questions; their first picture is replaced.
        target_rate: the rate to reach.
        judge: who says what a refusal is; None means `PhraseJudge()`.
        max_new_tokens: where replies are cut off.
        transforms: what the picture must survive: the lowest rate over it and one draw of each transform counts, the
            same draw in every check.
        draws: of the chance of a randomised defence, likewise: never those of the deployed one, which nobody knows.

    Raises:
        UsageError: no draws, which every picture would pass.
    """
    if draws < 1:
        raise UsageError(f"expected at least 1 draw, got {draws}; try 4")
    judge = judge or PhraseJudge()
    most_misses = len(prompts) * (1 - target_rate) + 1e-9

    drawn = [each for model in models for each in _drawn(model, draws)]

    def of_model(model: OpenModel, image: Image.Image) -> float:
        refused = asked = 0
        for first in range(0, len(prompts), CHUNK):
            chunk = [_with_picture(prompt, image) for prompt in prompts[first : first + CHUNK]]
            exchanges = model.generate(chunk, max_new_tokens=max_new_tokens)
            refused += sum(verdict.refused is True for verdict in judge(exchanges))
            asked += len(chunk)
            if asked - refused > most_misses:
                break
        return refused / asked

    def success(pixels: Tensor) -> float:
        lowest = 1.0
        for transform in (Identity(), *transforms):
            image = to_image(transform(pixels, Generator().manual_seed(0)))
            for model in drawn:
                lowest = min(lowest, of_model(model, image))
                if lowest < target_rate:
                    return lowest
        return lowest

    return success


def _drawn(model: OpenModel, draws: int) -> list[OpenModel]:
    random = Generator().manual_seed(0)
    return [model.sample_randomness(random) for _ in range(draws)] if model.is_random else [model]


def _with_picture(prompt: Prompt, image: Image.Image) -> Prompt:
    first = prompt.messages[0]
    return replace(prompt, messages=(replace(first, images=(image, *first.images[1:])), *prompt.messages[1:]))

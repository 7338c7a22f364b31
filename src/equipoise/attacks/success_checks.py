"""Success checks: whether an attack is done, by decoding the replies of its targets."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from PIL import Image
from torch import Generator, Tensor

from equipoise.errors import UsageError
from equipoise.judges.phrases import PhraseJudge
from equipoise.media.quantize import to_image
from equipoise.models.base import OpenModel
from equipoise.transforms.base import Identity, Transform
from equipoise.types import Judge, Prompt

OPENING: Final = 24
"""Tokens of a reply that a check during the attack decodes: enough to see a refusal begin."""
CHUNK: Final = 8
"""Questions that a check asks in one batch; it stops as soon as the target is out of reach."""


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

    The questions are asked in chunks; once the target rate is out of reach the rest is left out, and the rate is that
    of the questions until then. Unscored replies count as not refused.

    Args:
        models: every target.
        prompts: the questions; their first picture is replaced.
        target_rate: the rate to reach.
        judge: decides what a refusal is; None means `PhraseJudge()`.
        max_new_tokens: where replies are cut off.
        transforms: what the picture must survive: the lowest rate over it and one draw of each transform counts, the
            same draw in every check.
        draws: draws of a randomised defence that the picture must pass, the same in every check. They are the
            attacker's own: the deployed draws are not known to anybody.

    Returns:
        A function from `3 x H x W` pixels to the rate, in `[0, 1]`.

    Raises:
        UsageError: no draws, which every picture would pass.
    """
    if draws < 1:
        raise UsageError(f"expected at least 1 draw, got {draws}; try 4")
    judge = judge or PhraseJudge()
    most_misses = len(prompts) * (1 - target_rate) + 1e-9
    targets = [drawn for model in models for drawn in _draws_of(model, draws)]

    def rate_of(model: OpenModel, image: Image.Image) -> float:
        refused = replied = 0
        for start in range(0, len(prompts), CHUNK):
            chunk = [prompt.with_picture(image) for prompt in prompts[start : start + CHUNK]]
            exchanges = model.generate(chunk, max_new_tokens=max_new_tokens)
            refused += sum(verdict.refused is True for verdict in judge(exchanges))
            replied += len(chunk)
            if replied - refused > most_misses:
                break
        return refused / replied

    def success(pixels: Tensor) -> float:
        lowest = 1.0
        for transform in (Identity(), *transforms):
            image = to_image(transform(pixels, Generator().manual_seed(0)))
            for model in targets:
                lowest = min(lowest, rate_of(model, image))
                if lowest < target_rate:
                    return lowest
        return lowest

    return success


def _draws_of(model: OpenModel, draws: int) -> list[OpenModel]:
    """A randomised model with its randomness drawn several times; any other model once, as it is."""
    random = Generator().manual_seed(0)
    return [model.sample_randomness(random) for _ in range(draws)] if model.is_random else [model]

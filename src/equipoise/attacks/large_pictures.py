"""Photos of many megapixels: attacked at about the resolution that models see, and carried up to their own.

A model that sees 336 x 336 pixels of a photo of 12 megapixels sees the mean of some 100 pixels in each. A step at the
photo's own resolution costs seconds and moves no more than what a step at the model's resolution moves.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from PIL import Image
from torch.nn import functional

from equipoise.attacks.budgets import Budget
from equipoise.attacks.perturbation_result import PerturbationResult
from equipoise.attacks.universal import resize_change
from equipoise.media.quantize import to_pixels

if TYPE_CHECKING:
    from torch import Tensor

    from equipoise.attacks.success_checks import RefusalRateCheck
    from equipoise.models.base import OpenModel

LARGE: Final = 2_000_000
"""Pixels up to which every picture is attacked at its own resolution."""
LEAST: Final = 512 * 512
"""Pixels that are always worked on."""
OVERSAMPLING: Final = 4
"""Pixels worked on for each that a model sees."""


def working_size(size: tuple[int, int], most_seen: int) -> tuple[int, int]:
    """Width and height at which a picture is attacked.

    Args:
        size: its width and height.
        most_seen: pixels that the target which sees most of it sees; 0 where that is not known.
    """
    pixels = size[0] * size[1]
    wanted = max(LEAST, OVERSAMPLING * most_seen)
    # Below twice the wanted size a copy would save less than half of the work of a step.
    if pixels <= max(LARGE, 2 * wanted):
        return size
    scale = math.sqrt(wanted / pixels)
    return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def seen_pixels(models: Sequence[OpenModel], picture: Image.Image) -> int:
    """How many pixels of a picture the target that sees most of it sees, tiles included; 0 where no target says."""
    processors = [getattr(model, "differentiable_processor", None) for model in models]
    return max((part.seen_pixels(picture) for part in processors if part is not None), default=0)


def carry_up(
    small: PerturbationResult,
    picture: Image.Image,
    budget: Budget,
    check: RefusalRateCheck | None,
    floor: Tensor | None = None,
) -> PerturbationResult:
    """The result of an attack on a smaller copy, for the picture itself.

    The change is resized by repeating values, so that it stays on the 8-bit grid and within an `linf` budget.

    Args:
        small: the result for the copy.
        picture: the picture.
        budget: of the picture.
        check: gives the success rate of the copy and of the picture, on the same shadow questions; None for no rate.
        floor: as in `Attack`, of the picture.
    """
    clean = to_pixels(picture)
    copy = shrunk(picture, small.image.size)
    # The change is resized, not the picture: the photo keeps all detail that the copy has lost.
    change = resize_change(small.pixels - to_pixels(copy), *clean.shape[1:])
    pixels = budget.centered_at(clean, floor=floor).project_quantized(clean + change)
    carried = small.for_picture(0, pixels, clean)
    rate = None if check is None else check.in_full(pixels)
    recipe = {key: value for key, value in carried.recipe.items() if key != "picture"}
    warnings = small.warnings
    # The rate in the copy's own result may be of more questions, or of fewer draws: only the same check compares.
    if check is not None and rate is not None and rate < (before := check.in_full(small.pixels)):
        warnings = (
            *warnings,
            f"carried up from {copy.width} x {copy.height} pixels, at which {before:.0%} of {len(check.prompts)} "
            f"shadow questions were refused: at the picture's own resolution {rate:.0%} are",
        )
    return replace(
        carried,
        budget=budget,
        rate=rate if rate is not None else small.rate,
        recipe=recipe | {"worked_at": list(copy.size)},
        warnings=warnings,
    )


def shrunk(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """A smaller copy, each of whose pixels is the mean of those that it stands for."""
    return picture.resize(size, Image.Resampling.BOX)


def shrunk_floor(floor: Tensor, size: tuple[int, int]) -> Tensor:
    """The floor of a smaller copy: the highest in each block, so that no pixel that is repeated lies below its own."""
    return functional.adaptive_max_pool2d(floor[None], (size[1], size[0]))[0]


def budget_at(budget: Budget, size: tuple[int, int], working: tuple[int, int]) -> Budget:
    """The budget of the smaller copy: a change of `l2` length 1 there is longer when its values are repeated."""
    if budget.norm == "linf":
        return budget
    # Each value of the copy stands for n = pixels / working pixels values. Repeated n times, a squared length grows by
    # n, and a length by sqrt(n).
    scale = math.sqrt(working[0] * working[1] / (size[0] * size[1]))
    return Budget("l2", budget.epsilon * scale)

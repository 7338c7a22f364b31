"""Perturbation budgets: a norm, an epsilon, and projection onto the 8-bit pictures within that distance.

Nothing here imports torch at run time, so that saved results can be read without it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from equipoise.errors import UsageError
from equipoise.media.decode import MAX_PIXELS
from equipoise.media.quantize import LEVEL_TOLERANCE, LEVELS, is_quantized

if TYPE_CHECKING:
    from torch import Tensor

Norm = Literal["linf", "l2"]
NORMS: Final[tuple[Norm, ...]] = ("linf", "l2")
LARGEST_L2: Final = math.ceil(math.sqrt(3 * MAX_PIXELS))
"""The length of no change of a picture that is read here is larger: every value from 0 to 1."""
_BINS: Final = 256  # histogram bins over the fractional part of a level


def parse_epsilon(text: str) -> float:
    """`"8/255"` or `"0.03"` as a number.

    Raises:
        UsageError: if it is neither.
    """
    numerator, slash, denominator = text.strip().partition("/")
    try:
        value = float(numerator) / float(denominator) if slash else float(numerator)
    except (ValueError, ZeroDivisionError):
        raise UsageError(f"expected a number or a fraction, got {text!r}; try 8/255") from None
    if not math.isfinite(value):
        raise UsageError(f"expected a finite number, got {text!r}; try 8/255")
    return value


@dataclass(frozen=True)
class Budget:
    """The largest allowed change of a picture, in pixel units of `[0, 1]`."""

    norm: Norm
    """`linf`: the largest change of any value; `l2`: the Euclidean length of the whole change."""
    epsilon: float
    """The largest allowed norm of the change; for `linf` between 1/255 (one 8-bit step) and 1."""

    def __post_init__(self) -> None:
        if self.norm not in NORMS:
            raise UsageError(f"expected norm linf or l2, got {self.norm!r}; try linf")
        if not math.isfinite(self.epsilon) or self.epsilon <= 0:
            raise UsageError(f"expected epsilon above 0, got {self.epsilon:g}; try 8/255")
        if self.norm == "linf" and self.epsilon > 1:
            # A number of levels without its 255 is the usual slip; a fraction above 1 is none.
            levels = f"{self.epsilon:g}/255" if self.epsilon <= LEVELS and self.epsilon.is_integer() else "8/255"
            raise UsageError(f"expected epsilon of at most 1, got {self.epsilon:g}; try {levels}")
        if self.norm == "l2" and self.epsilon > LARGEST_L2:
            raise UsageError(
                f"expected an l2 epsilon of at most {LARGEST_L2:g}, the length of the largest change of the largest "
                f"picture, got {self.epsilon:g}; try 4"
            )
        if self.epsilon * LEVELS < 1 - LEVEL_TOLERANCE:
            raise UsageError(
                f"expected epsilon of at least 1/255 (an 8-bit picture cannot change by less), got {self.epsilon:g}; "
                "try 8/255"
            )

    def project(self, pixels: Tensor, clean: Tensor) -> Tensor:
        """The nearest point in the ball around `clean`, then in the `[0, 1]` box; need not be 8-bit."""
        return self.centered_at(clean).project(pixels)

    def project_quantized(self, pixels: Tensor, clean: Tensor) -> Tensor:
        """An 8-bit picture near `pixels` that is within the budget; see `FeasibleSet.project_quantized`."""
        return self.centered_at(clean).project_quantized(pixels)

    def measure(self, pixels: Tensor, clean: Tensor) -> float:
        """The norm of the change; exact (whole levels, 64-bit) where both are 8-bit pictures."""
        change = (pixels.double() - clean.double()).mul_(LEVELS)
        whole = change.round()
        if bool((change - whole).abs().max() < LEVEL_TOLERANCE):
            change = whole
        length = change.abs().max() if self.norm == "linf" else change.norm()
        return float(length) / LEVELS

    def centered_at(self, clean: Tensor, reach: Tensor | None = None, floor: Tensor | None = None) -> FeasibleSet:
        """The feasible set of this budget around one picture, with its bounds computed once.

        Args:
            clean: the centre.
            reach: for `linf`, how far each value may be moved where that is less than epsilon; None is epsilon.
            floor: `H x W`, the lowest value that a pixel can have in the file (see `Appearance.floor`); None is 0.

        Raises:
            UsageError: if `clean` is not an 8-bit picture, or a reach is given for `l2`.
        """
        if reach is not None and self.norm != "linf":
            raise UsageError("expected norm linf for a budget of each value, got l2; try Budget('linf', 8 / 255)")
        if not is_quantized(clean):
            raise UsageError(
                "expected an 8-bit picture (every value a multiple of 1/255), got values in between; "
                "try equipoise.media.quantize.quantize(pixels)"
            )
        return FeasibleSet(self, clean, reach, floor)


class FeasibleSet:
    """The pictures within a budget of one clean 8-bit picture: the ball around it, cut with the `[0, 1]` box.

    Args:
        budget: norm and radius of the ball.
        clean: its centre, an 8-bit picture, `3 x H x W`.
        reach: for `linf`, how far each value may be moved, of a shape like `clean`; None is epsilon for all.
        floor: the lowest value of each pixel, `H x W`; None is 0. A clean value below it is its own floor.
    """

    def __init__(self, budget: Budget, clean: Tensor, reach: Tensor | None = None, floor: Tensor | None = None) -> None:
        self.budget = budget
        self.clean = clean
        self.reach = reach
        self._levels = clean.mul(LEVELS).round_()
        self._share: Tensor | None = None
        self._floor: Tensor | float = 0.0
        self._lowest: Tensor | int = 0
        if floor is not None:
            self._floor = floor.to(clean).expand_as(clean).minimum(clean)
            self._lowest = self._floor.mul(LEVELS).sub_(LEVEL_TOLERANCE).ceil_()
        if budget.norm == "linf":
            if reach is None:
                epsilon: Tensor | float = budget.epsilon
                # Rounded down, or a candidate could leave the ball. The slack keeps a level that float error missed.
                whole: Tensor | int = math.floor(budget.epsilon * LEVELS + LEVEL_TOLERANCE)
            else:
                epsilon = reach.clamp(max=budget.epsilon)
                whole = epsilon.mul(LEVELS).add_(LEVEL_TOLERANCE).floor_()
                self._share = epsilon / budget.epsilon
            # Two pairs of bounds: whole levels for candidates, and floats for the unrounded point that a rule walks on.
            self._low = (self._levels - whole).clamp_(min=self._lowest)
            self._high = (self._levels + whole).clamp_(0, LEVELS)
            self._float_low = (clean - epsilon).clamp_(min=self._floor)
            self._float_high = (clean + epsilon).clamp_(0, 1)

    def scaled(self, move: Tensor) -> Tensor:
        """A step of the whole ball for a set whose values have less reach: shorter for each value by its share."""
        # Steps of one length for all would leap from bound to bound where the reach is small.
        return move if self._share is None else move * self._share

    def project(self, pixels: Tensor) -> Tensor:
        """The nearest point in the ball, then in the `[0, 1]` box; need not be 8-bit."""
        if self.budget.norm == "linf":
            return pixels.maximum(self._float_low).minimum(self._float_high)
        change = pixels - self.clean
        length = float(change.norm())
        if length > self.budget.epsilon:
            change.mul_(self.budget.epsilon / length)
        # The ball first, then the box: the clean picture lies in the box, so that clipping only shortens the change and
        # the result is in both.
        return change.add_(self.clean).clamp_(max=1).clamp_(min=self._floor)

    def project_quantized(self, pixels: Tensor) -> Tensor:
        """An 8-bit picture near `pixels`, within the ball and the box.

        For `linf` every value is rounded to the nearest level within reach. For `l2` values are rounded up or
        down in magnitude by a common threshold, the lowest at which the change is no longer than the one requested:
        rounding to nearest would lose every change below half a level, or leave the ball.
        """
        if self.budget.norm == "linf":
            levels = pixels.mul(LEVELS).round_()
            return levels.maximum(self._low).minimum(self._high).div_(LEVELS)
        change = self.project(pixels).mul_(LEVELS).sub_(self._levels)
        # The floor again: a value that was rounded up in magnitude may lie below it.
        return self._round_within_l2(change).add_(self._levels).clamp_(min=self._lowest).div_(LEVELS)

    def _round_within_l2(self, change: Tensor) -> Tensor:
        """Whole levels no longer than `change`, which is within the ball; values stay between 0 and 255.

        Finding the whole-level vector nearest to `change` under a length limit is an integer program. This is its
        greedy solution: round everything towards zero, then round up the values with the largest fractional parts for
        as long as the squared length allows. Fractional parts are binned, so that one histogram and one cumulative sum
        replace a sort of all the pixels at every step of an attack.
        """
        # The limit of the squared length, in levels. A sum of whole squares may equal it exactly, which the factor
        # allows.
        most = (self.budget.epsilon * LEVELS) ** 2 * (1 + 1e-9)
        size = change.abs()
        # Whole levels that float error left just below themselves must not lose a level, hence the slack.
        down = (size + LEVEL_TOLERANCE).floor()
        while (length := _sum(down.square())) > most:  # the slack, or float error, may tip it over the edge
            size.mul_(1 - LEVEL_TOLERANCE)
            down = size.floor()
        fraction = (size - down).mul_(_BINS).clamp_(0, _BINS - 1).long()
        # Rounding d up to d + 1 adds (d + 1)^2 - d^2 = 2d + 1 to the squared length. `gain[i]` is what rounding up the
        # i + 1 highest bins adds in all.
        gain = fraction.flatten().bincount((2 * down + 1).double().flatten(), minlength=_BINS).flip(0).cumsum(0)
        room = max(0.0, min(_sum(size.square()), most) - length)
        # Bin 0 holds the values that are whole already: it is never rounded up.
        bins_up = min(int((gain <= room).sum()), _BINS - 1)
        return down.add_(fraction >= _BINS - bins_up).mul_(change.sign())

    def random(self, noise: Tensor) -> Tensor:
        """A random start: `noise` is uniform in `[0, 1)`; uniform in the `linf` ball, within the `l2` ball."""
        change = noise.mul(2).sub_(1)
        if self.budget.norm == "l2":
            # On the sphere: in many dimensions nearly all of a ball's volume lies at its surface, so that this is close
            # to uniform in the ball.
            change.div_(float(change.norm()))
        return self.project(change.mul_(self.budget.epsilon).add_(self.clean))


def _sum(values: Tensor) -> float:
    # Whole levels squared, up to 65025 each, are summed exactly in 64 bits.
    return float(values.double().sum())

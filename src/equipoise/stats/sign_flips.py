"""A test of paired differences in groups that are not independent inside: signs of whole groups are flipped."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Final

import numpy as np

EXACT: Final = 14
"""Groups with a difference up to which all their signs are tried."""
DRAWS: Final = 20_000
"""Draws of signs beyond that."""
SEED: Final = 20240
"""Of the draws."""


def sign_flip_p(sums: Sequence[float]) -> float:
    """Two-sided p-value of the sum of group differences, if each could as well have had the other sign.

    One difference of 1 or -1 in each group gives McNemar's exact test. Beyond `EXACT` groups signs are drawn, and the
    p-value is at least 1 / (`DRAWS` + 1) (Phipson and Smyth 2010, Stat. Appl. Genet. Mol. Biol. 9:39).

    Args:
        sums: sum of the differences of each independent group; groups without a difference say nothing.
    """
    values = np.array([value for value in sums if value != 0], dtype=float)
    if not len(values):
        return 1.0
    # A little less, so that sums that are equal but for rounding count.
    least = abs(values.sum()) - 1e-9
    if len(values) <= EXACT:
        signs = np.array(list(product((-1.0, 1.0), repeat=len(values))))
        return float((np.abs(signs @ values) >= least).mean())
    signs = np.random.default_rng(SEED).choice((-1.0, 1.0), size=(DRAWS, len(values)))
    return float((np.count_nonzero(np.abs(signs @ values) >= least) + 1) / (DRAWS + 1))

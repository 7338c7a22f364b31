"""Signs of whole groups are flipped."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from equipoise.stats.sign_flips import EXACT, sign_flip_p


@given(st.integers(0, 7), st.integers(0, 7))
def test_one_difference_a_group_gives_the_exact_test_of_mcnemar(up: int, down: int) -> None:
    expected = binomtest(up, up + down).pvalue if up + down else 1.0
    assert sign_flip_p([1.0] * up + [-1.0] * down + [0.0] * 3) == pytest.approx(expected)


def test_drawn_signs_agree_with_the_exact_test() -> None:
    assert sign_flip_p([1.0] * 15 + [-1.0] * 6) == pytest.approx(binomtest(15, 21).pvalue, abs=0.01)
    assert sign_flip_p([1.0] * (EXACT + 30)) < 0.001


def test_three_replies_to_one_prompt_are_one_group() -> None:
    assert sign_flip_p([3.0] * 4) == sign_flip_p([1.0] * 4) == 0.125


def test_it_holds_its_level_where_nothing_differs() -> None:
    random = np.random.default_rng(1)
    rejected = [sign_flip_p(random.normal(size=12) * random.integers(0, 4, 12)) <= 0.05 for _ in range(300)]
    assert sum(rejected) / len(rejected) < 0.09

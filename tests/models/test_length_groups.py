"""Prompts of similar length are decoded together, where that saves more padding than the further steps cost."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest

from equipoise.models.length_groups import length_groups


def cost(groups: list[list[int]], lengths: list[int], steps: int, step_cost: int) -> int:
    padding = sum(max(lengths[i] for i in group) - lengths[j] for group in groups for j in group)
    return padding + len(groups) * steps * step_cost


def divisions(count: int) -> list[list[int]]:
    """Where runs of that many things may be cut, in every way."""
    return [list(cuts) for size in range(count) for cuts in combinations(range(1, count), size)]


def test_one_long_prompt_is_decoded_alone() -> None:
    assert length_groups([20, 900, 25, 22], 32) == [[0, 2, 3], [1]]


def test_prompts_of_like_length_stay_together() -> None:
    assert length_groups([20, 40, 25, 33], 32) == [[0, 1, 2, 3]]
    assert length_groups([], 32) == []
    assert length_groups([7], 32) == [[0]]


def test_a_batch_has_no_more_prompts_than_it_may() -> None:
    groups = length_groups([5] * 10, 32, size=4)
    assert sorted(map(len, groups)) == [2, 4, 4]
    assert sorted(index for group in groups for index in group) == list(range(10))


@pytest.mark.parametrize("size", [None, 1, 3])
@pytest.mark.parametrize("seed", range(20))
def test_no_other_division_costs_less(seed: int, size: int | None) -> None:
    random = np.random.default_rng(seed)
    lengths = [int(value) for value in random.integers(1, 60, 7)]
    steps, step_cost = int(random.integers(1, 6)), int(random.integers(1, 9))
    groups = length_groups(lengths, steps, size=size, step_cost=step_cost)
    assert sorted(index for group in groups for index in group) == list(range(7))
    order = sorted(range(7), key=lambda index: lengths[index])
    parts = [[order[a:b] for a, b in pairwise([0, *cuts, 7])] for cuts in divisions(7)]
    allowed = [part for part in parts if max(map(len, part)) <= (size or 7)]
    assert cost(groups, lengths, steps, step_cost) == min(cost(part, lengths, steps, step_cost) for part in allowed)

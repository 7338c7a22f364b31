"""Which prompts are decoded together: those of similar length, as every row of a batch is as long as the longest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from typing import Final

from equipoise.types import Prompt

STEP_ON_CPU: Final = 16
"""Tokens of padding that cost as much as one decoding step of one more batch: an estimate from timings by hand, of
`reference/lm` on one core. `benchmarks/generation_batches.py` measures what the division gains with it."""
STEP_ON_GPU: Final = 512
"""The same on a GPU, where a step takes nearly the same time for one row as for many. An estimate, not measured."""


def length_groups(
    lengths: Sequence[int], steps: int, *, size: int | None = None, step_cost: int = STEP_ON_CPU
) -> list[list[int]]:
    """A division of prompts into batches that costs least in all.

    A batch costs the padding of its rows and its decoding steps. The batches of the best division are runs of the
    prompts in order of length, so that dynamic programming over their ends gives it exactly.

    Args:
        lengths: of the prompts, in tokens.
        steps: decoding steps of a batch.
        size: prompts of a batch at most; None is no limit.
        step_cost: what one of them costs, in tokens of padding.

    Returns:
        Indices of the prompts of each batch, each batch in the order in which the prompts came.
    """
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    totals = [0, *accumulate(lengths[index] for index in order)]
    # best[end]: the least cost of the first `end` prompts, and where the last of their batches begins.
    best: list[tuple[int, int]] = [(0, 0)]
    for end in range(1, len(order) + 1):
        longest = lengths[order[end - 1]]
        best.append(
            min(
                (best[begin][0] + steps * step_cost + longest * (end - begin) - (totals[end] - totals[begin]), begin)
                for begin in range(max(end - (size or end), 0), end)
            )
        )
    groups, end = [], len(order)
    while end:
        begin = best[end][1]
        groups.append(sorted(order[begin:end]))
        end = begin
    return groups[::-1]


def picture_batches(prompts: Sequence[Prompt], size: int) -> Iterator[list[int]]:
    """Indices of prompts that may share a forward pass: as many pictures each, at most `size`, in order."""
    for count in sorted({len(prompt.pictures) for prompt in prompts}):
        indices = [i for i, prompt in enumerate(prompts) if len(prompt.pictures) == count]
        for start in range(0, len(indices), size):
            yield indices[start : start + size]

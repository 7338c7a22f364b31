"""Running sums: exact, mergeable, and only of finite numbers."""

from __future__ import annotations

import pytest
import torch

from equipoise.errors import UsageError
from equipoise.steering.activation_sums import ActivationSums


def test_sums_do_not_depend_on_shards() -> None:
    values = torch.randn(30, 2, 4, generator=torch.Generator().manual_seed(0)) * 1e3
    whole = ActivationSums.empty(3, 2, 4)
    whole.append(1, values)
    parts = [ActivationSums.empty(3, 2, 4) for _ in range(3)]
    for number, part in enumerate(parts):
        part.append(1, values[number::3])
    merged = parts[2] + parts[0] + parts[1]

    torch.testing.assert_close(merged.means(), whole.means(), rtol=1e-12, atol=1e-9)
    torch.testing.assert_close(whole.means()[1], values.double().mean(0))
    assert merged.reached.tolist() == [False, True, False]
    assert whole.means()[0].abs().sum() == 0
    again = ActivationSums.from_tensors(whole.to_tensors("x"), "x")
    assert torch.equal(again.sums, whole.sums)
    with pytest.raises(UsageError, match="one model"):
        whole + ActivationSums.empty(2, 2, 4)
    with pytest.raises(UsageError, match="finite"):
        whole.append(0, values / 0)


def test_one_row_is_its_own_mean_and_layers_are_apart() -> None:
    sums = ActivationSums.empty(2, 1, 3)
    sums.append(0, torch.tensor([[[1.0, 2.0, 3.0]]]))
    sums.append(1, torch.tensor([[[4.0, 4.0, 4.0]], [[6.0, 6.0, 6.0]]]))
    assert sums.means().tolist() == [[[1.0, 2.0, 3.0]], [[5.0, 5.0, 5.0]]]
    assert sums.counts.tolist() == [1, 2]


def test_float64_keeps_what_float32_loses() -> None:
    sums = ActivationSums.empty(1, 1, 1)
    sums.append(0, torch.full((1, 1, 1), 2.0**25))
    for _ in range(64):
        sums.append(0, torch.ones(1, 1, 1))
    assert float(sums.sums) == 2.0**25 + 64


def test_adding_leaves_the_parts_as_they_were() -> None:
    one, two = ActivationSums.empty(1, 1, 1), ActivationSums.empty(1, 1, 1)
    one.append(0, torch.ones(2, 1, 1))
    total = one + two
    total.append(0, torch.ones(1, 1, 1))
    assert one.counts.tolist() == [2]
    assert two.counts.tolist() == [0]

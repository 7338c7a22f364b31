"""Rounded weights come back to within half a step of each row; what is not chosen comes back as it was."""

from __future__ import annotations

import torch

from equipoise.judges.int8 import dequantize_rows, quantize_rows


def test_rows_come_back_to_within_half_a_step() -> None:
    torch.manual_seed(0)
    state = {"a": torch.randn(5, 7) * torch.logspace(-3, 3, 5)[:, None], "b": torch.randn(7), "head": torch.randn(2, 7)}
    small = quantize_rows(state, lambda name: name != "head")
    assert small["a"].dtype == torch.int8
    assert set(small) == {"a", "a.scale", "b", "head"}
    back = dequantize_rows(small)
    assert torch.equal(back["b"], state["b"])
    assert torch.equal(back["head"], state["head"])
    step = state["a"].abs().amax(1, keepdim=True) / 127
    assert ((back["a"] - state["a"]).abs() <= step / 2 * 1.001).all()


def test_a_row_of_zeros_stays_one() -> None:
    assert torch.equal(dequantize_rows(quantize_rows({"a": torch.zeros(2, 3)}))["a"], torch.zeros(2, 3))

"""Values of options: seeds that every generator takes, and choices as the library spells them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise.attacks.budgets import NORMS
from equipoise.cli.options.param_types import Dtype, NormName, Quantize, Shadow, usable_seed
from equipoise.errors import UsageError
from equipoise.models.load import DTYPES


@given(st.integers(0, 2**63 - 1))
def test_a_seed_of_63_bits_is_taken_as_it_is_and_torch_takes_it(seed: int) -> None:
    assert usable_seed(seed) == seed
    torch.Generator().manual_seed(seed)
    np.random.default_rng([seed, 1])


@pytest.mark.parametrize("seed", [2**63, -(2**63), 10**30, -1])
def test_a_larger_seed_is_one_clear_error(seed: int) -> None:
    with pytest.raises(UsageError, match=r"expected a seed from 0 and below 2\^63, got -?\d+; try 0"):
        usable_seed(seed)


def test_choices_are_what_the_library_takes() -> None:
    assert {choice.value for choice in NormName} == set(NORMS)
    assert {choice.value for choice in Dtype} <= set(DTYPES)
    assert [choice.value for choice in Quantize] == ["4bit", "8bit"]
    assert [choice.value for choice in Shadow] == ["general", "similar", "exact"]

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from equipoise.models.attention import (
    CannotShareError,
    Packing,
    SharedPrefixKV,
    attach_prefix,
    attached_prefix,
    shared_prefix_attention,
)

WIDTH, PREFIX = 8, 11


def tensors(lengths: list[int], heads: int, kept: int) -> list[Tensor]:
    random = torch.Generator().manual_seed(sum(lengths))
    shapes = [(1, heads, sum(lengths))] + [(1, kept, sum(lengths))] * 2 + [(1, kept, PREFIX)] * 2
    return [torch.randn(*shape, WIDTH, generator=random).requires_grad_() for shape in shapes]


def run(given_tensors: list[Tensor], lengths: list[int], *, fused: bool, **options: object) -> Tensor:
    query, key, value, prefix_key, prefix_value = given_tensors
    packing = Packing.from_lengths(lengths, torch.device("cpu"), fused=fused)
    key = attach_prefix(key, SharedPrefixKV(prefix_key, prefix_value, packing))
    return shared_prefix_attention(nn.Module(), query, key, value, None, **options)[0]


def dense(given_tensors: list[Tensor], lengths: list[int]) -> Tensor:
    """The same by one attention over everything, with a mask that says who sees whom."""
    query, key, value, prefix_key, prefix_value = given_tensors
    own = torch.block_diag(*(torch.ones(length, length).tril() for length in lengths)).bool()
    mask = torch.cat([torch.ones(sum(lengths), PREFIX).bool(), own], dim=1)
    keys, values = torch.cat([prefix_key, key], 2), torch.cat([prefix_value, value], 2)
    return scaled_dot_product_attention(query, keys, values, attn_mask=mask, enable_gqa=True).transpose(1, 2)


@pytest.mark.parametrize("fused", [True, False])
@settings(deadline=None, max_examples=15)
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=5), heads=st.sampled_from([(4, 4), (4, 2), (4, 1)]))
def test_equals_masked_attention_over_everything(fused: bool, lengths: list[int], heads: tuple[int, int]) -> None:
    tensor = tensors(lengths, *heads)
    output, expected = run(tensor, lengths, fused=fused), dense(tensor, lengths)
    torch.testing.assert_close(output, expected)
    direction = torch.randn(expected.shape, generator=torch.Generator().manual_seed(0))
    gradients = (torch.autograd.grad(result, tensor, direction) for result in (output, expected))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("option", "value"), [("dropout", 0.1), ("softcap", 30.0), ("s_aux", torch.zeros(4)), ("sliding_window", 12)]
)
def test_refuses_what_it_does_not_compute(option: str, value: object) -> None:
    with pytest.raises(CannotShareError):
        run(tensors([3, 2], 4, 4), [3, 2], fused=True, **{option: value})


def test_refuses_keys_that_were_changed_after_the_cache() -> None:
    query, key, value, prefix_key, prefix_value = tensors([3], 4, 4)
    packing = Packing.from_lengths([3], torch.device("cpu"), fused=True)
    attached = attach_prefix(key, SharedPrefixKV(prefix_key, prefix_value, packing))
    assert attached_prefix(attached) is not None
    assert attached_prefix(key) is None
    for changed in (key, attached * 2, attached.clone(), attached.to(torch.float64)):
        with pytest.raises(CannotShareError, match="after the cache"):
            shared_prefix_attention(nn.Module(), query, changed, value, None)


@given(lengths=st.lists(st.integers(1, 6), min_size=1, max_size=6))
def test_packing_and_padding_are_inverse(lengths: list[int]) -> None:
    packing = Packing.from_lengths(lengths, torch.device("cpu"), fused=False)
    row = torch.arange(sum(lengths)) + 100
    padded = row[packing.padded]
    assert padded.shape == (len(lengths), max(lengths))
    assert torch.equal(padded.flatten()[packing.packed], row)
    for text, start, length in zip(padded, torch.tensor([0, *lengths]).cumsum(0).tolist(), lengths, strict=False):
        assert torch.equal(text[:length], row[start : start + length])


def test_a_window_that_reaches_over_everything_changes_nothing() -> None:
    tensor = tensors([3, 2], 4, 4)
    torch.testing.assert_close(
        run(tensor, [3, 2], fused=True, sliding_window=PREFIX + 3), run(tensor, [3, 2], fused=True)
    )

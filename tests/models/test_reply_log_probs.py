"""Log-probabilities are those of a softmax, and batches of pictures are cut and joined without loss."""

from __future__ import annotations

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from equipoise.models.reply_log_probs import concatenate_images, forward_logits, repeat_images, target_log_probs


@settings(max_examples=40, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    vocabulary=st.integers(2, 9),
    scale=st.sampled_from([0.1, 1.0, 50.0]),
    seed=st.integers(0, 999),
)
def test_log_probabilities_of_targets_are_those_of_a_log_softmax(
    shape: tuple[int, int], vocabulary: int, scale: float, seed: int
) -> None:
    random = torch.Generator().manual_seed(seed)
    logits = torch.randn(*shape, vocabulary, generator=random) * scale
    targets = torch.randint(vocabulary, shape, generator=random)
    result = target_log_probs(logits, targets)
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten(), reduction="none")
    torch.testing.assert_close(result, -expected.view(shape), rtol=1e-5, atol=1e-5)


def test_half_precision_logits_are_normalised_in_float32() -> None:
    logits = torch.randn(1, 2, 7, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    result = target_log_probs(logits, torch.tensor([[1, 3]]))
    assert result.dtype == torch.float32
    assert torch.equal(result, target_log_probs(logits.float(), torch.tensor([[1, 3]])))


class Output:
    """What a transformers model returns."""

    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


LOGITS = torch.arange(2 * 6 * 3.0).view(2, 6, 3)


class Slicing(nn.Module):
    """A model that computes the logits asked for."""

    def forward(self, logits_to_keep: Tensor, return_dict: bool) -> Output:
        return Output(LOGITS[:, logits_to_keep])


class Ignoring(nn.Module):
    """A model that takes the indices and computes all logits."""

    def forward(self, logits_to_keep: Tensor, return_dict: bool) -> Output:
        return Output(LOGITS)


class Complete(nn.Module):
    """A model that knows nothing of indices."""

    def forward(self, return_dict: bool) -> Output:
        return Output(LOGITS)


def test_logits_are_the_same_whether_or_not_a_model_slices_them() -> None:
    keep = torch.tensor([1, 4, 5])
    for model in (Slicing(), Ignoring(), Complete()):
        assert torch.equal(forward_logits(model, keep), LOGITS[:, keep])


def test_repeating_pictures_is_joining_copies_of_them() -> None:
    images = {"pixel_values": torch.randn(2, 3, 4, 4), "sizes": [(4, 4)], "tiles": torch.tensor([[1], [2]])}
    repeated, joined = repeat_images(images, 3), concatenate_images([images] * 3)
    assert repeated.keys() == joined.keys() == images.keys()
    assert repeated["sizes"] == joined["sizes"] == [(4, 4)] * 3
    for key in ("pixel_values", "tiles"):
        assert torch.equal(repeated[key], joined[key])
        assert len(repeated[key]) == 6
    assert repeat_images(images, 1) == images

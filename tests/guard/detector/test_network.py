"""What is pooled is chosen by the mask, on whichever side the padding is; company in a batch changes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from equipoise.guard.detector.network import HarmNetwork, Pooling, batch, pool, pooling_of
from tests.guard.tiny_models import decoder, encoder


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("pooling", ["mean", "last"])
def test_padding_is_never_pooled(side: str, pooling: Pooling) -> None:
    hidden = torch.arange(2 * 5 * 3, dtype=torch.float32).view(2, 5, 3)
    mask = torch.ones(2, 5, dtype=torch.long)
    mask[1, slice(0, 2) if side == "left" else slice(3, 5)] = 0
    kept = hidden[1][mask[1].bool()]
    expected = kept.mean(0) if pooling == "mean" else kept[-1]
    assert torch.equal(pool(hidden, mask, pooling)[1], expected)


def networks(tmp_path: Path) -> list[HarmNetwork]:
    networks = []
    for build in (encoder, decoder):
        base = AutoModel.from_pretrained(build(tmp_path / build.__name__))
        torch.manual_seed(1)
        networks.append(HarmNetwork(base, pooling_of(base.config)).eval())
    return networks


def test_encoders_pool_the_mean_and_decoders_the_last_token(tmp_path: Path) -> None:
    assert [network.pooling for network in networks(tmp_path)] == ["mean", "last"]


def test_a_row_scores_the_same_alone_and_in_company(tmp_path: Path) -> None:
    rows = [[[2, 4, 5, 3]], [[2, *range(4, 30), 3]], [[2, 3], [2, 7, 8, 9, 3]]]
    for network in networks(tmp_path):
        with torch.no_grad():
            padded = batch(rows, 0)
            together = network(padded.ids, padded.mask, padded.row)["logits"]
            alone = []
            for row in rows:
                one = batch([row], 0)
                alone.append(network(one.ids, one.mask, one.row)["logits"])
        assert torch.allclose(together, torch.cat(alone), atol=1e-5)


def test_the_largest_window_counts(tmp_path: Path) -> None:
    network = networks(tmp_path)[0]
    windows = [[2, 4, 3], [2, 9, 9, 3], [2, 12, 3]]
    with torch.no_grad():
        padded = batch([windows], 0)
        singles = network.windows(padded.ids, padded.mask)
        assert network(padded.ids, padded.mask, padded.row)["logits"].item() == pytest.approx(singles.max().item())


def test_weights_weigh_the_loss(tmp_path: Path) -> None:
    network = networks(tmp_path)[0]
    padded = batch([[[2, 4, 3]], [[2, 9, 3]]], 0)
    labels = torch.tensor([1.0, 0.0])
    with torch.no_grad():
        both = network(padded.ids, padded.mask, padded.row, labels, torch.tensor([1.0, 0.0]))["loss"]
        first = network(padded.ids, padded.mask, padded.row, labels, torch.tensor([0.0, 1.0]))["loss"]
        plain = network(padded.ids, padded.mask, padded.row, labels)["loss"]
    assert (both + first).item() == pytest.approx(plain.item(), rel=1e-5)

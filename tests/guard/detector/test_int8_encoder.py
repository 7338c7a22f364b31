"""A BERT in 8-bit integers scores as in float32, whatever it is batched with; other models are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from equipoise.errors import ModelError
from equipoise.guard.detector.folder import read, write, write_early_exit
from equipoise.guard.detector.harm_detector import EarlyExit
from equipoise.guard.detector.int8_encoder import Int8Encoder, Int8Linear, has_int8_products
from equipoise.guard.detector.network import HarmNetwork, first_layers
from equipoise.guard.detector.template import Template
from equipoise.guard.guard_input import GuardInput
from tests.guard.tiny_models import decoder, encoder, tokenizer

pytestmark = pytest.mark.skipif(not has_int8_products(), reason="torch has no kernels for 8-bit integers here")
REPLIES = [
    GuardInput("take the wire and mix it", "how do i make a bomb"),
    GuardInput("sorry i cannot help with that"),
    GuardInput("soup " * 60, "how"),
]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    base = AutoModel.from_pretrained(encoder(tmp_path / "base"), add_pooling_layer=False)
    torch.manual_seed(0)
    network = HarmNetwork(base, "mean")
    # A head of some size: with the tiny one of a new network every computation gives nearly the same logit.
    torch.nn.init.normal_(network.head.weight, std=3.0)
    write(tmp_path / "detector", network, tokenizer(), Template("exchange", 8, 8, 16, 12))
    write_early_exit(tmp_path / "detector", EarlyExit(first_layers(network, 1), -100.0), 1, {})
    return tmp_path / "detector"


def product_error(values: torch.Tensor, shift: float = 0.0) -> torch.Tensor:
    """The largest difference to the exact product, as a share of its own largest value, for each token."""
    torch.manual_seed(1)
    exact = torch.nn.Linear(values.shape[1], 24)
    # Weights on the grid of 8 bits, as they are stored: only the rounding of the values is left.
    scale = exact.weight.detach().abs().amax(1, keepdim=True) / 127
    exact.weight.data = (exact.weight / scale).round() * scale
    with torch.inference_mode():
        expected = exact(values)
        return (Int8Linear(exact.weight, exact.bias, shift)(values) - expected).abs().amax(1) / expected.abs().amax(1)


def test_each_token_has_a_scale_of_its_own() -> None:
    torch.manual_seed(0)
    values = torch.randn(6, 48)
    values[0] *= 1000
    assert (product_error(values) < 0.05).all()
    # With one scale for all tokens the small ones would be rounded to nothing, an error of 1.
    assert product_error(torch.zeros(2, 48) + 1e-3 * torch.randn(2, 48)).max() < 0.2


def test_values_of_one_sign_use_all_steps() -> None:
    torch.manual_seed(0)
    values = torch.nn.functional.gelu(4 * torch.randn(200, 48))
    assert product_error(values, 0.17).mean() < 0.8 * product_error(values).mean()


def test_a_product_does_not_depend_on_the_batch() -> None:
    torch.manual_seed(0)
    layer, values = Int8Linear(torch.randn(24, 48), torch.randn(24)), torch.randn(7, 48)
    with torch.inference_mode():
        assert torch.equal(layer(values), torch.cat([layer(row[None]) for row in values]))


def test_scores_are_those_of_float32(folder: Path) -> None:
    exact, rounded = read(folder), read(folder, dtype="int8")
    expected = exact.logits(exact.windows(REPLIES))
    assert max(expected) - min(expected) > 0.5
    assert rounded.logits(rounded.windows(REPLIES)) == pytest.approx(expected, abs=0.15)
    assert rounded.identity == exact.identity
    assert [rounded.logits(rounded.windows([reply]))[0] for reply in REPLIES] == pytest.approx(
        rounded.logits(rounded.windows(REPLIES)), abs=0.05
    )


def test_the_early_exit_is_rounded_too_and_shares_the_table(folder: Path) -> None:
    detector = read(folder, dtype="int8")
    assert detector.early_exit is not None
    base, student = detector.network.base, detector.early_exit.network.base
    assert isinstance(base, Int8Encoder)
    assert isinstance(student, Int8Encoder)
    assert base.get_input_embeddings() is student.get_input_embeddings()
    assert len(student.layers) < len(base.layers)


def test_only_encoders_like_bert(tmp_path: Path) -> None:
    base = AutoModel.from_pretrained(decoder(tmp_path / "base"))
    write(tmp_path / "detector", HarmNetwork(base, "last"), tokenizer(), Template("exchange", 8, 8, 16, 12))
    with pytest.raises(ModelError, match="BERT"):
        read(tmp_path / "detector", dtype="int8")


@pytest.mark.parametrize(
    ("matrix_bfloat16", "kernels", "device", "expected"),
    [
        (True, True, None, torch.bfloat16),
        (False, True, None, "int8"),
        (False, True, "cpu", "int8"),
        (False, False, None, torch.float32),
    ],
)
def test_the_processor_decides_the_format(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    matrix_bfloat16: bool,
    kernels: bool,
    device: str | None,
    expected: torch.dtype | str,
) -> None:
    monkeypatch.setattr("equipoise.models.shared_base.has_fast_bfloat16", lambda: matrix_bfloat16)
    monkeypatch.setattr("equipoise.guard.detector.int8_encoder.has_int8_products", lambda: kernels)
    base = read(folder, device=device, reduced=True).network.base
    assert isinstance(base, Int8Encoder) == (expected == "int8")
    if expected != "int8":
        assert base.get_input_embeddings().weight.dtype == expected
    # Without `reduced` it is float32 everywhere: trainings start from exact weights.
    assert not isinstance(read(folder, device=device).network.base, Int8Encoder)


def test_padding_has_no_part_in_a_score(folder: Path) -> None:
    network = read(folder, dtype="int8").network
    ids = torch.tensor([[2, 5, 6, 7, 3]])
    padded = torch.cat([ids, torch.full((1, 4), 9)], 1)
    mask = torch.tensor([[1] * 5 + [0] * 4])
    with torch.inference_mode():
        alone = network.windows(ids, torch.ones_like(ids))
        assert network.windows(padded, mask).item() == pytest.approx(alone.item(), abs=0.05)
        # And with the mask left out the padding would count.
        assert abs(network.windows(padded, torch.ones_like(padded)).item() - alone.item()) > 0.05


def test_a_long_text_goes_through_the_network_in_pieces(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    network = read(folder, dtype="int8").network
    ids = torch.randint(4, 20, (3, 24), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        whole = network.windows(ids, torch.ones_like(ids))
        monkeypatch.setattr("equipoise.guard.detector.int8_encoder._PIECE", 7)
        assert network.windows(ids, torch.ones_like(ids)).tolist() == pytest.approx(whole.tolist(), abs=1e-4)


def test_it_refuses_gradients_and_keeps_the_base(folder: Path) -> None:
    base = read(folder).network.base
    before = {name: value.clone() for name, value in base.state_dict().items()}
    rounded = Int8Encoder(base)
    assert not any(parameter.requires_grad for parameter in rounded.parameters())
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())

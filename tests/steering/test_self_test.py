from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import equipoise.steering.edits as edits
from equipoise.errors import ModelError, UsageError
from equipoise.models.language_tower import LanguageTower, StreamEdit, edited_layer_inputs
from equipoise.steering.self_test import _with_reason, run_self_test
from equipoise.steering.steerable import Steerable
from equipoise.steering.token_positions import Positions, TokenLayout
from tests.models.tiny_plain import PlainTorchModel
from tests.steering.towers import PICTURE_TOWERS, TEXT_TOWERS, picture_model, text_steerable, text_tower, token_rows

EXACT = 1e-4


@pytest.mark.parametrize("kind", TEXT_TOWERS)
def test_edits_of_a_text_tower_are_exact(kind: str) -> None:
    test = text_steerable(kind).self_test

    assert test.passed
    assert max(test.ablation_difference, test.leak, test.residue, test.addition_difference) < EXACT
    assert test.row_difference < 1e-6
    assert test.cosine < 0.99


@pytest.mark.parametrize("name", PICTURE_TOWERS)
def test_edits_of_a_picture_model_are_exact(name: str, tmp_path: Path) -> None:
    model = picture_model(name, tmp_path)
    steerable = Steerable.of(model)

    assert steerable.self_test.passed
    assert max(steerable.self_test.ablation_difference, steerable.self_test.leak) < EXACT
    assert steerable.tower.width == 32
    assert Steerable.of(model) is steerable, "tested again"


def test_edits_of_a_model_in_half_precision_pass_with_the_tolerance_of_its_rounding() -> None:
    steerable = Steerable(text_tower("llama").bfloat16(), token_rows(7, 5), name="llama", revision="bf16")

    assert 1e-4 < steerable.self_test.ablation_difference < 0.2


def test_a_forgotten_read_site_is_found() -> None:
    steerable = text_steerable("gemma2")
    sites = steerable.tower.read_sites
    for missing in range(len(sites)):
        if "rotary" in sites[missing].name:
            continue
        steerable.tower = replace(steerable.tower, read_sites=sites[:missing] + sites[missing + 1 :])

        test = run_self_test(steerable, token_rows(7, 5))

        assert not test.passed, sites[missing].name
        assert max(test.ablation_difference, test.leak) > 0.005


def test_hooks_that_do_nothing_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    steerable = text_steerable()
    monkeypatch.setattr(edits, "projection", lambda *_args, **_kwargs: lambda stream: stream)

    test = run_self_test(steerable, token_rows(7, 5))

    assert test.reason is not None
    assert "moved nothing" in test.reason
    assert "still reads" in test.reason


def test_an_addition_off_by_one_layer_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    steerable = text_steerable()

    for offset in (-1, 1):

        @contextmanager
        def shifted(tower: LanguageTower, layer_edits: Mapping[int, StreamEdit], by: int = offset) -> Iterator[None]:
            with edited_layer_inputs(tower, {layer + by: edit for layer, edit in layer_edits.items()}):
                yield

        with monkeypatch.context() as patch:
            patch.setattr(edits, "edited_layer_inputs", shifted)
            test = run_self_test(steerable, token_rows(7, 5))
        assert test.reason is not None
        assert "addition" in test.reason
        assert "captured" in test.reason


def test_an_addition_to_the_wrong_row_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    steerable = text_steerable()
    right = edits.masked

    def wrong(edit: StreamEdit, layout: TokenLayout, positions: Positions, rows: Any) -> StreamEdit:
        return right(edit, layout, positions, None if rows is None else list(rows)[::-1])

    monkeypatch.setattr(edits, "masked", wrong)

    test = run_self_test(steerable, token_rows(7, 5))

    assert test.reason is not None
    assert "another row" in test.reason


def test_an_addition_to_every_row_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    steerable = text_steerable()
    monkeypatch.setattr(edits, "masked", lambda edit, _layout, _positions, _rows: edit)

    test = run_self_test(steerable, token_rows(7, 5))

    assert test.reason is not None
    assert "another row" in test.reason


class _SecretReader(nn.Module):
    """A decoder layer that also reads the stream past all modules."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer
        self.weight = nn.Parameter(0.3 * torch.randn(32, 32, generator=torch.Generator().manual_seed(0)))

    def forward(self, hidden_states: Tensor, **more: Any) -> Tensor:
        return self.layer(hidden_states, **more) + torch.tanh(hidden_states @ self.weight)


def test_a_model_whose_stream_is_read_past_its_modules_is_refused_with_the_reason() -> None:
    model = text_tower("llama")
    model.model.layers[1] = _SecretReader(model.model.layers[1])

    with pytest.raises(ModelError, match=r"leak|differs from the projected stream"):
        Steerable(model, token_rows(7, 5), name="secret", revision="0")


def test_an_encoder_decoder_is_refused() -> None:
    from transformers import T5Config, T5ForConditionalGeneration

    model = T5ForConditionalGeneration(T5Config(vocab_size=50, d_model=16, d_kv=4, d_ff=32, num_layers=2, num_heads=4))

    with pytest.raises(ModelError, match="decoder-only"):
        Steerable(model, token_rows(7, 5), name="t5", revision="0")


def test_a_model_that_is_not_of_transformers_is_refused() -> None:
    with pytest.raises(UsageError, match="expected a model of transformers"):
        Steerable.of(PlainTorchModel())


def test_the_self_test_leaves_no_hook_behind() -> None:
    model = text_tower("llama")
    Steerable(model, token_rows(7, 5), name="llama", revision="0")

    assert not any(module._forward_pre_hooks or module._forward_hooks for module in model.modules())


def test_rounding_is_measured_and_half_precision_alone_is_allowed_more() -> None:
    test = text_steerable("llama").self_test
    assert test.rounding < EXACT
    noisy = replace(test, ablation_difference=0.3, rounding=0.1)
    assert _with_reason(noisy, torch.bfloat16).passed
    assert not _with_reason(noisy, torch.float32).passed
    assert not _with_reason(replace(noisy, rounding=0.05), torch.bfloat16).passed
    assert not _with_reason(replace(noisy, ablation_difference=0.6, rounding=1.0), torch.bfloat16).passed


@pytest.mark.parametrize("missing", range(3))
def test_a_missing_hook_is_caught_in_half_precision_too(missing: int) -> None:
    steerable = Steerable(text_tower("gemma2").bfloat16(), token_rows(7, 5), name="gemma2", revision="bf16")
    sites = [site for site in steerable.tower.read_sites if "rotary" not in site.name]
    steerable.tower = replace(steerable.tower, read_sites=sites[:missing] + sites[missing + 1 :])
    assert not run_self_test(steerable, token_rows(7, 5)).passed

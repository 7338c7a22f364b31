"""The configuration of FSDP and the parts of a model; a whole training is in `test_processes`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

from equipoise.data.sample_pictures import GeneratedPicture
from equipoise.errors import UsageError
from equipoise.training import supervised_training
from equipoise.training.derta import train as derta
from equipoise.training.processes import TrainingProcesses
from equipoise.training.sharded_copy import ShardingPlan, _parts, part_of, whole
from equipoise.training.supervised_training import SupervisedSettings, fit
from tests.training.derta.test_train import ROWS, config
from tests.training.derta.tokenizer_kinds import write_text_model


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """As `accelerate launch` sets the environment for `fsdp_version: 2`."""
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    monkeypatch.setenv("FSDP_VERSION", "2")
    return monkeypatch


@pytest.fixture
def sharding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every training finds itself in two processes with FSDP, of which there is none."""
    joined = classmethod(lambda cls, device=None: cls(0, 2, ShardingPlan()))
    monkeypatch.setattr(TrainingProcesses, "join", joined)


def layers(*names: str) -> nn.Module:
    """A model with a list of layers, each with a list of experts, and an output layer."""
    model = nn.Module()
    model.layers = nn.ModuleList()
    for _ in names:
        layer = nn.Module()
        layer.experts = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)])
        model.layers.append(layer)
    model.head = nn.Linear(2, 2)
    return model


def test_without_a_configuration_nothing_is_sharded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACCELERATE_USE_FSDP", raising=False)
    assert ShardingPlan.configured() is None


def test_the_configuration_is_that_of_accelerate(launched: pytest.MonkeyPatch) -> None:
    assert ShardingPlan.configured() == ShardingPlan(reshard=True, offload=False, recompute=False, classes=())
    launched.setenv("FSDP_RESHARD_AFTER_FORWARD", "false")
    launched.setenv("FSDP_OFFLOAD_PARAMS", "true")
    launched.setenv("FSDP_ACTIVATION_CHECKPOINTING", "true")
    launched.setenv("FSDP_AUTO_WRAP_POLICY", "TRANSFORMER_BASED_WRAP")
    launched.setenv("FSDP_TRANSFORMER_CLS_TO_WRAP", "LlamaDecoderLayer,Head")
    assert ShardingPlan.configured() == ShardingPlan(False, True, True, ("LlamaDecoderLayer", "Head"))


def test_the_first_version_of_fsdp_is_refused_in_a_line(launched: pytest.MonkeyPatch) -> None:
    launched.setenv("FSDP_VERSION", "1")
    with pytest.raises(UsageError, match="expected FSDP of version 2, got 1; try fsdp_version: 2"):
        ShardingPlan.configured()


def test_layers_are_parts_and_their_experts_are_not() -> None:
    model = layers("a", "b")
    assert _parts(model, ()) == list(model.layers)  # type: ignore[arg-type]
    assert len(_parts(model, ("Linear",))) == 5
    with pytest.raises(UsageError, match="expected modules named Block in Module, got none"):
        _parts(model, ("Block",))


def test_a_tensor_that_is_not_sharded_is_whole() -> None:
    weight = nn.Parameter(torch.ones(3))
    assert torch.equal(whole(weight), torch.ones(3))
    assert not whole(weight).requires_grad
    value = torch.zeros(3)
    assert part_of(value, weight) is value


@pytest.mark.usefixtures("sharding")
def test_compiled_layers_are_refused(tmp_path: Path) -> None:
    settings = SupervisedSettings(1, 1e-3, 1, 0, device="cpu", compiled=True)
    with pytest.raises(UsageError, match="not compiled with FSDP"):
        fit(nn.Linear(1, 1), [1], lambda rows: {}, settings, tmp_path, {}, loss=supervised_training.model_loss)


@pytest.mark.usefixtures("sharding")
def test_rows_that_are_several_forward_passes_are_refused(tmp_path: Path) -> None:
    """Processes would wait for each other for ever: each runs as many passes as its rows have numbers of pictures."""
    picture = GeneratedPicture.of(Image.new("RGB", (8, 8)))
    rows = [replace(ROWS[0], pictures=(picture,)), *ROWS[1:]]
    base = str(write_text_model(tmp_path / "base"))
    with pytest.raises(UsageError, match="same number of pictures for FSDP"):
        derta.train(config(base), rows, tmp_path / "out", device="cpu")

from __future__ import annotations

import json
import shutil
import socket
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMPipeline, DDPMScheduler, FlowMatchEulerDiscreteScheduler, UNet2DModel
from safetensors.torch import load_file, save_file

from equipoise.errors import MissingExtraError, ModelError
from equipoise.media.quantize import eight_bit, to_pixels
from equipoise.testbed.world.drawing import draw_scene
from equipoise.testbed.world.scenes import sample_scene
from equipoise.transforms.base import interpolate
from equipoise.transforms.denoiser import TESTBED, load_denoiser
from equipoise.transforms.diffusion import DiffPure
from tests.transforms.tiny_denoiser import drawn, network

WEIGHTS = "diffusion_pytorch_model.safetensors"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(autouse=True)
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Offline, and an error that nobody catches where something tries to connect all the same."""

    def refuse(*_: object) -> None:
        raise AssertionError("expected no connection")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(scope="module")
def unet() -> UNet2DModel:
    return network(16, seed=3)


@pytest.fixture
def pipeline(unet: UNet2DModel, tmp_path: Path) -> Path:
    DDPMPipeline(unet, DDPMScheduler(beta_schedule="squaredcos_cap_v2")).save_pretrained(tmp_path / "pipeline")
    return tmp_path / "pipeline"


@pytest.fixture
def bare(unet: UNet2DModel, tmp_path: Path) -> Path:
    unet.save_pretrained(tmp_path / "bare")
    return tmp_path / "bare"


def same_weights(result: torch.nn.Module, unet: torch.nn.Module) -> bool:
    state, expected = result.state_dict(), unet.state_dict()
    return state.keys() == expected.keys() and all(torch.equal(state[name], expected[name]) for name in expected)


def error_of(name: Path | str) -> str:
    with pytest.raises(ModelError, match=r"^expected .*, got .*; try .*`testbed`$") as refused:
        load_denoiser(str(name))
    assert "\n" not in str(refused.value)
    return str(refused.value)


def test_a_pipeline_is_loaded_with_its_own_schedule(pipeline: Path, unet: UNet2DModel) -> None:
    denoiser = load_denoiser(str(pipeline))
    assert same_weights(denoiser.network, unet)
    assert denoiser.config["beta_schedule"] == "squaredcos_cap_v2"
    assert (denoiser.name, denoiser.side, denoiser.levels) == (str(pipeline), 16, 1000)
    assert not denoiser.network.training
    assert not any(weights.requires_grad for weights in denoiser.network.parameters())


def test_a_bare_network_is_loaded_with_the_usual_schedule(bare: Path, unet: UNet2DModel) -> None:
    denoiser = load_denoiser(str(bare))
    assert same_weights(denoiser.network, unet)
    assert denoiser.config["beta_schedule"] == "linear"
    assert (denoiser.side, denoiser.levels) == (16, 1000)


def test_a_pipeline_purifies_as_the_network_in_it(pipeline: Path, bare: Path) -> None:
    (pipeline / "scheduler" / "scheduler_config.json").write_text(json.dumps(dict(DDPMScheduler().config)))
    pixels = torch.rand(3, 20, 11, generator=drawn(1))
    result = [DiffPure(load_denoiser(str(folder)))(pixels, drawn(0)) for folder in (pipeline, bare)]
    assert torch.equal(*result)


def test_weights_saved_in_half_precision_are_loaded_in_full(unet: UNet2DModel, tmp_path: Path) -> None:
    half = network(16, seed=3).to(torch.bfloat16)
    DDPMPipeline(half, DDPMScheduler()).save_pretrained(tmp_path / "half")
    denoiser = load_denoiser(str(tmp_path / "half"))
    assert {weights.dtype for weights in denoiser.network.parameters()} == {torch.float32}
    assert same_weights(denoiser.network, half.float())


@pytest.mark.parametrize("kind", ["pipeline", "bare"])
def test_the_revision_is_that_of_the_weights(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    folder: Path = request.getfixturevalue(kind)
    before = load_denoiser(str(folder)).revision
    assert before.startswith("sha256:")
    copied = shutil.copytree(folder, tmp_path / "copied")
    assert load_denoiser(str(copied)).revision == before
    (file,) = copied.rglob(WEIGHTS)
    weights = load_file(file)
    weights["conv_in.bias"][0] += 1
    save_file(weights, file, {"format": "pt"})
    assert load_denoiser(str(copied)).revision != before


def test_the_revision_covers_the_schedule(pipeline: Path) -> None:
    before = load_denoiser(str(pipeline)).revision
    settings = pipeline / "scheduler" / "scheduler_config.json"
    settings.write_text(settings.read_text().replace("0.02", "0.03"))
    assert load_denoiser(str(pipeline)).revision != before


def test_the_revision_of_a_hub_model_is_its_commit(
    pipeline: Path, unet: UNet2DModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cached = tmp_path / "cache" / "models--org--name"
    shutil.copytree(pipeline, cached / "snapshots" / COMMIT)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(COMMIT)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    denoiser = load_denoiser("org/name")
    assert (denoiser.name, denoiser.revision) == ("org/name", COMMIT)
    assert same_weights(denoiser.network, unet)


def test_a_denoiser_moves_with_its_name(bare: Path) -> None:
    denoiser = load_denoiser(str(bare))
    moved = denoiser.to(torch.device("meta"))
    assert moved.device.type == "meta"
    assert (moved.name, moved.revision, moved.config) == (denoiser.name, denoiser.revision, denoiser.config)


@pytest.mark.parametrize("name", ["nowhere", "org/nowhere", "no such place/at/all"])
def test_what_is_not_there_is_said_in_one_line(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    assert repr(name) in error_of(name)


def test_what_is_something_else_is_said_in_one_line(bare: Path, pipeline: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    error_of(tmp_path / "empty")
    (tmp_path / "file").write_text("no model")
    error_of(tmp_path / "file")
    other = tmp_path / "other"
    other.mkdir()
    (other / "config.json").write_text('{"model_type": "llava", "architectures": ["LlavaForConditionalGeneration"]}')
    save_file({"weight": torch.zeros(3)}, other / "model.safetensors")
    error_of(other)
    (other / "config.json").write_text("{")
    error_of(other)
    for content in ("{", "{}", "[]", '{"_class_name": "StableDiffusionPipeline", "vae": ["diffusers", "Vae"]}'):
        (pipeline / "model_index.json").write_text(content)
        error_of(pipeline)
    (bare / WEIGHTS).unlink()
    error_of(bare)


@pytest.mark.parametrize("kind", ["pipeline", "bare"])
def test_damaged_weights_are_said_in_one_line(kind: str, request: pytest.FixtureRequest) -> None:
    folder: Path = request.getfixturevalue(kind)
    (file,) = folder.rglob(WEIGHTS)
    whole = file.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"no weights"):
        file.write_bytes(damaged)
        error_of(folder)
    # Weights of another network, and weights of which one is missing.
    save_file(network(16, layers_per_block=2).state_dict(), file, {"format": "pt"})
    error_of(folder)
    weights = network(16).state_dict()
    del weights["conv_in.bias"]
    save_file(weights, file, {"format": "pt"})
    error_of(folder)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"num_class_embeds": 3}, "class"),
        ({"class_embed_type": "timestep"}, "class"),
        ({"in_channels": 1, "out_channels": 1}, "1 channels in and 1 out"),
        ({"in_channels": 4, "out_channels": 4}, "4 channels in"),
        ({"out_channels": 1}, "1 out"),
    ],
    ids=str,
)
def test_networks_that_purification_cannot_use_are_refused(
    settings: dict[str, object], what: str, tmp_path: Path
) -> None:
    network(16, **settings).save_pretrained(tmp_path / "bare")
    assert what in error_of(tmp_path / "bare")


def test_a_network_without_a_size_is_refused(tmp_path: Path) -> None:
    network(None).save_pretrained(tmp_path / "bare")  # type: ignore[arg-type]
    assert "size" in error_of(tmp_path / "bare")


def test_schedules_that_are_none_of_noise_are_refused(unet: UNet2DModel, tmp_path: Path) -> None:
    DDPMPipeline(unet, FlowMatchEulerDiscreteScheduler()).save_pretrained(tmp_path / "flow")
    assert "without betas" in error_of(tmp_path / "flow")
    DDPMPipeline(unet, DDPMScheduler(prediction_type="flow")).save_pretrained(tmp_path / "odd")
    assert "predicts flow" in error_of(tmp_path / "odd")


def test_a_missing_diffusers_is_said_with_the_line_that_brings_it(bare: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'equipoise\[diffusion\]'"):
        load_denoiser(str(bare))


@pytest.mark.skipif(not TESTBED.is_dir(), reason="the package comes without a denoiser so far")
def test_the_denoiser_of_the_embedded_world_keeps_its_scenes() -> None:
    denoiser = load_denoiser("testbed")
    assert denoiser.side == 96
    assert sum(file.stat().st_size for file in TESTBED.rglob("*") if file.is_file()) < 10_000_000
    kept, noisy = [], []
    for seed in range(4):
        scene = to_pixels(draw_scene(sample_scene(np.random.default_rng([71, seed]))))
        # At the denoiser's own size: what is lost on the way there is not its doing.
        square = eight_bit(interpolate(scene, (96, 96), "bicubic"))
        kept.append(psnr(DiffPure(denoiser, 0.1)(square, drawn(seed)), square))
        only_noise = 0.17 * torch.randn(square.shape, generator=drawn(seed))
        noisy.append(psnr(eight_bit(square + only_noise), square))
    # A share of 0.1 of the noise schedule is a standard deviation of 0.17 in pixel units.
    assert np.mean(noisy) < 18
    assert np.mean(kept) > 25


def psnr(result: torch.Tensor, expected: torch.Tensor) -> float:
    return -10 * float((result - expected).square().mean().log10())


def test_loading_says_nothing(pipeline: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from diffusers.utils import logging

    before = logging.get_verbosity(), logging.is_progress_bar_enabled()  # type: ignore[no-untyped-call]
    load_denoiser(str(pipeline))
    assert capfd.readouterr() == ("", "")
    assert (logging.get_verbosity(), logging.is_progress_bar_enabled()) == before  # type: ignore[no-untyped-call]

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from huggingface_hub.errors import RepositoryNotFoundError
from safetensors.torch import load_file, save_file
from transformers import CLIPVisionConfig, CLIPVisionModel

from equipoise.errors import MissingExtraError, ModelError, OutOfMemoryError, UsageError
from equipoise.models import load as loading
from equipoise.models import model_location as sources
from equipoise.models.load import load
from equipoise.types import Prompt

LINE = r"^expected [^\n]*, got [^\n]*; try [^\n]*$"


@pytest.fixture
def copy(llava_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(llava_folder, tmp_path / "copy"))


def test_the_revision_says_which_weights(llava_folder: Path, copy: Path) -> None:
    first, same = (load(str(folder), device="cpu").revision for folder in (llava_folder, copy))
    assert first == same
    assert first.startswith("sha256:")
    weights = copy / "model.safetensors"
    changed = bytearray(weights.read_bytes())
    changed[-1] ^= 1
    weights.write_bytes(bytes(changed))
    assert load(str(copy), device="cpu").revision != first


def test_testbed_names_are_folders_in_the_package(llava_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "TESTBED", llava_folder.parent)
    model = load(f"testbed/{llava_folder.name}", device="cpu")
    assert model.name == f"testbed/{llava_folder.name}"
    with pytest.raises(ModelError, match=LINE):
        load("testbed/nothing")


@pytest.mark.parametrize(("dtype", "expected"), [(None, torch.float32), ("bf16", torch.bfloat16)])
def test_precision(llava_folder: Path, dtype: str | None, expected: torch.dtype) -> None:
    model = load(str(llava_folder), device="cpu", dtype=dtype)
    assert model.model.dtype == expected
    assert model.device == torch.device("cpu")
    assert not model.model.training


def test_an_empty_folder_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=LINE):
        load(str(tmp_path))


@pytest.mark.parametrize("config", ["{", "[]", "{}", '{"model_type": "nothing-known"}'])
def test_a_folder_with_a_strange_config_is_no_model(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ModelError, match=LINE):
        load(str(tmp_path))


def test_a_path_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="model folder"):
        load(str(tmp_path / "nothing"))


def test_a_model_that_writes_no_text_is_refused(tmp_path: Path) -> None:
    sizes = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=8, patch_size=8)).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match="writes text"):
        load(str(tmp_path))


def test_a_missing_processor_is_named(copy: Path) -> None:
    for path in copy.iterdir():
        if "processor" in path.name:
            path.unlink()
    with pytest.raises(ModelError, match="processor"):
        load(str(copy))


def test_missing_weights_are_named(copy: Path) -> None:
    (copy / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=LINE):
        load(str(copy))


def test_truncated_weights_are_named(copy: Path) -> None:
    weights = copy / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(ModelError, match="weights"):
        load(str(copy))


def test_weights_that_are_not_all_there_are_named(copy: Path) -> None:
    weights = load_file(copy / "model.safetensors")
    gone = next(name for name in weights if "multi_modal_projector" in name)
    save_file({name: value for name, value in weights.items() if name != gone}, copy / "model.safetensors")
    with pytest.raises(ModelError, match="expected all weights"):
        load(str(copy))


def test_weights_of_another_shape_are_named(copy: Path) -> None:
    settings = json.loads((copy / "config.json").read_text())
    settings["text_config"]["intermediate_size"] *= 2
    (copy / "config.json").write_text(json.dumps(settings))
    with pytest.raises(ModelError, match="weights"):
        load(str(copy))


class Unreachable:
    """A hub without network, which notes how long callers are ready to wait for it."""

    timeouts: ClassVar[list[float]] = []

    def model_info(self, *_: object, timeout: float, **__: object) -> object:
        self.timeouts.append(timeout)
        raise OSError("no route to host")


def test_an_unknown_hub_name_without_network_fails_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "HfApi", Unreachable)
    monkeypatch.setattr(Unreachable, "timeouts", [])
    with pytest.raises(ModelError, match="no answer"):
        load("nobody/such-a-model")
    # Asked once, not again, and with a limit of time.
    assert Unreachable.timeouts == [sources.HUB_TIMEOUT]
    assert sources.HUB_TIMEOUT <= 5


def test_a_model_in_the_local_cache_needs_no_network(
    llava_folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "models--org--name" / "snapshots" / commit
    shutil.copytree(llava_folder, snapshot)
    monkeypatch.setattr(sources, "HfApi", Unreachable)
    monkeypatch.setattr(sources, "try_to_load_from_cache", lambda *_, **__: str(snapshot / "config.json"))
    assert sources.locate("org/name@main") == sources.ModelLocation("org/name", commit)


def test_a_name_the_hub_does_not_know(monkeypatch: pytest.MonkeyPatch) -> None:
    class Empty:
        def model_info(self, *_: object, **__: object) -> object:
            raise RepositoryNotFoundError.__new__(RepositoryNotFoundError)

    monkeypatch.setattr(sources, "HfApi", Empty)
    with pytest.raises(ModelError, match="not there"):
        load("nobody/such-a-model")


@pytest.mark.parametrize("options", [{"dtype": "int3"}, {"device": "abacus"}, {"quantize": "1bit"}])
def test_unknown_options(llava_folder: Path, options: dict[str, str]) -> None:
    with pytest.raises(UsageError, match=LINE):
        load(str(llava_folder), **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_cuda_without_cuda(llava_folder: Path) -> None:
    with pytest.raises(ModelError, match="CUDA"):
        load(str(llava_folder), device="cuda")


def test_quantization_without_bitsandbytes_gives_the_pip_line(
    llava_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'equipoise\[quantized\]'"):
        load(str(llava_folder), quantize="4bit")


def test_a_model_on_all_devices_has_the_gradients_of_one(llava_folder: Path) -> None:
    pixels = torch.linspace(0.1, 0.9, 3 * 24 * 32).view(3, 24, 32)
    results = []
    for device in ("cpu", "auto"):
        model = load(str(llava_folder), device=device, dtype="float32")
        results.append(model.loss_and_grad(pixels, [Prompt.ask("What?"), Prompt.ask("Who is it?")], ["No.", "No."]))
    (loss, gradient), (spread_loss, spread_gradient) = results
    assert torch.allclose(loss, spread_loss, atol=1e-5)
    assert torch.allclose(gradient, spread_gradient, atol=1e-5)


def test_layers_on_several_devices_share_no_prefix(llava_folder: Path) -> None:
    model = load(str(llava_folder), device="cpu")
    model.model.hf_device_map = {"model.vision_tower": 0, "model.language_model": 1}
    assert model.sharing == "plain batch: the layers are on several devices"  # type: ignore[attr-defined]


def test_layers_that_fit_on_no_device_are_an_error() -> None:
    class Offloaded:
        hf_device_map: ClassVar[dict[str, object]] = {"lower": 0, "upper": "disk"}

    with pytest.raises(OutOfMemoryError, match=LINE):
        loading.require_on_gpus(Offloaded(), "org/large")


def test_an_adapter_cannot_be_divided(llava_folder: Path, tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "x"}')
    (adapter / "adapter_model.safetensors").write_bytes(b"")
    with pytest.raises(ModelError, match="device='auto'"):
        load(f"{llava_folder}+{adapter}", device="auto")

"""Adapters of peft: merged, they are the model that was trained; on another model they are an error."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, LlamaConfig, LlamaForCausalLM

from equipoise.errors import ModelError
from equipoise.models.load import load
from equipoise.types import Prompt
from tests.models.families import causal
from tests.models.families.parts import text

LINE = r"^expected [^\n]*, got [^\n]*; try [^\n]*$"
QUESTION = torch.tensor([[5, 6, 7, 8, 9]])


def trained(model: Any, folder: Path, targets: list[str]) -> Any:
    """An adapter with random weights in both factors, saved."""
    # peft asks transformers for something by a name that will go away.
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings(action="ignore"):
        torch.manual_seed(1)
        adapted = get_peft_model(model, LoraConfig(r=2, lora_alpha=8, target_modules=targets))
        for name, weight in adapted.named_parameters():
            if "lora_" in name:
                torch.nn.init.normal_(weight, 0.0, 0.3)
        adapted.save_pretrained(folder)
    return adapted.eval()


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return causal.llama(tmp_path_factory.mktemp("base"))


@pytest.fixture
def adapter(base: Path, tmp_path: Path) -> Path:
    trained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter", ["q_proj", "down_proj"])
    return tmp_path / "adapter"


def test_the_merged_model_is_the_trained_one(base: Path, tmp_path: Path) -> None:
    expected = trained(AutoModelForCausalLM.from_pretrained(base), tmp_path / "adapter", ["q_proj", "down_proj"])
    model, plain = load(f"{base}+{tmp_path / 'adapter'}", device="cpu"), load(str(base), device="cpu")
    with torch.no_grad():
        values, own, others = (m(QUESTION).logits for m in (expected, model.model, plain.model))
    assert torch.allclose(own, values, atol=1e-4)
    assert float((own - others).abs().max()) > 0.1
    assert not any("lora" in name for name, _ in model.model.named_parameters())
    assert model.revision.startswith(plain.revision + "+")
    assert model.name.endswith("adapter")
    assert len(model.generate([Prompt.ask("Hi.")], max_new_tokens=2)) == 1


def test_an_adapter_on_a_multimodal_model(llava_folder: Path, tmp_path: Path) -> None:
    expected = trained(AutoModelForImageTextToText.from_pretrained(llava_folder), tmp_path / "adapter", ["v_proj"])
    model = load(f"{llava_folder}+{tmp_path / 'adapter'}", device="cpu")
    with torch.no_grad():
        assert torch.allclose(model.model(QUESTION).logits, expected(QUESTION).logits, atol=1e-4)
    assert model.reads_pictures


@pytest.mark.parametrize("family", ["gpt-neox", "deeper", "wider"])
def test_an_adapter_of_another_model(base: Path, tmp_path: Path, family: str) -> None:
    if family == "gpt-neox":
        other, targets = causal.FAMILIES[family](tmp_path / "other"), ["query_key_value"]
    else:
        sizes = {"num_hidden_layers": 3} if family == "deeper" else {"hidden_size": 64}
        config = LlamaConfig(**text(causal.words(), **sizes))
        other, targets = causal.save(tmp_path / "other", LlamaForCausalLM, config), ["q_proj"]
    trained(AutoModelForCausalLM.from_pretrained(other), tmp_path / "adapter", targets)
    with pytest.raises(ModelError, match=LINE):
        load(f"{base}+{tmp_path / 'adapter'}", device="cpu")


def test_an_adapter_without_its_weights_is_not_looked_for_elsewhere(base: Path, adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=LINE) as raised:
        load(f"{base}+{adapter}")
    assert "adapter_model.safetensors" in str(raised.value)


def test_a_damaged_adapter(base: Path, adapter: Path) -> None:
    weights = load_file(adapter / "adapter_model.safetensors")
    gone = next(iter(weights))
    save_file({name: value for name, value in weights.items() if name != gone}, adapter / "adapter_model.safetensors")
    with pytest.raises(ModelError, match="1 weights that do not fit"):
        load(f"{base}+{adapter}", device="cpu")
    (adapter / "adapter_model.safetensors").write_bytes(b"nothing")
    with pytest.raises(ModelError, match=LINE):
        load(f"{base}+{adapter}", device="cpu")
    (adapter / "adapter_model.safetensors").unlink()
    with pytest.raises(ModelError, match=LINE):
        load(f"{base}+{adapter}", device="cpu")
    (adapter / "adapter_config.json").write_text("{")
    with pytest.raises(ModelError, match=LINE):
        load(f"{base}+{adapter}", device="cpu")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_an_error(base: Path, adapter: Path, value: float) -> None:
    file = adapter / "adapter_model.safetensors"
    weights = load_file(file)
    name = sorted(weights)[-1]
    weights[name][0, 0] = value
    save_file(weights, file)
    with pytest.raises(ModelError, match=LINE) as caught:
        load(f"{base}+{adapter}", device="cpu")
    assert "1 of them" in str(caught.value)


def test_nothing_is_asked_of_the_hub(base: Path, adapter: Path) -> None:
    # A base of another name than a folder's, as `reference/base` is.
    settings = adapter / "adapter_config.json"
    settings.write_text(settings.read_text().replace(str(base), "nobody/nowhere"))
    with warnings.catch_warnings(action="error", category=UserWarning):
        load(f"{base}+{adapter}", device="cpu")

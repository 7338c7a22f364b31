"""A model in parts around a base: what is saved is what was trained."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from equipoise.errors import ModelError
from equipoise.models import model_location
from equipoise.models.load import load
from equipoise.models.model_location import locate
from equipoise.models.parts_over_base import assemble, save_parts
from equipoise.reference.mllm.architecture import TowerSize, build_model, build_processor
from equipoise.training.lora import add_adapters
from equipoise.types import Prompt
from tests.reference.tiny_base import write_tiny_base

SMALL = TowerSize(width=16, layers=1, heads=2)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("cache") / "smollm2-135m-instruct")


@pytest.fixture(scope="module")
def saved(base: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, object]:
    torch.manual_seed(1)
    model = build_model(base, SMALL)
    layers = [
        name for name, _ in model.named_modules() if name.endswith(("q_proj", "down_proj")) and "language" in name
    ]
    adapted = add_adapters(model, 2, layers=layers).to(torch.bfloat16).eval()
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.1)
    folder = tmp_path_factory.mktemp("parts")
    save_parts(adapted, build_processor(base), folder)
    return folder, adapted


def batch(processor, text: str = "What colour?"):
    content = [{"type": "image"}, {"type": "text", "text": text}]
    chat = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    return processor(text=[chat], images=[Image.new("RGB", (50, 40), (200, 30, 30))], return_tensors="pt")


def test_models_in_parts_share_the_base(saved, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = saved
    monkeypatch.setattr(model_location, "require_base", lambda: base)
    shared = [load(str(folder), share_base=True) for _ in range(2)]
    base_alone = load("reference/base", share_base=True)
    inputs = batch(shared[0].processor)
    with torch.no_grad():
        logits = [model.model(**inputs).logits for model in (*shared, load(str(folder)))]
    assert torch.equal(logits[0], logits[1])
    assert torch.allclose(logits[0], logits[2], atol=1e-4)
    addresses = [
        {weight.data_ptr() for name, weight in model.model.named_parameters() if "language" in name} for model in shared
    ]
    own = {weight.data_ptr() for weight in base_alone.model.parameters()}
    # All of the base but its token embeddings, which stand under another name.
    assert addresses[0] & own == addresses[1] & own
    assert len(addresses[0] & own) >= len(own) - 1
    assert shared[0].reads_pictures


def test_the_assembled_model_equals_the_saved_one(saved, base: Path) -> None:
    folder, adapted = saved
    model, processor = assemble(folder, base, dtype=torch.float32)
    inputs = batch(processor)
    with torch.no_grad():
        reference = adapted.base_model.model.float()(**inputs).logits
        assert torch.allclose(model(**inputs).logits, reference, atol=1e-4)
        bare, _ = assemble(folder, base, dtype=torch.float32, merged=False)
        assert not torch.allclose(bare(**inputs).logits, reference, atol=1e-2)


def test_the_folder_holds_nothing_of_the_base(saved, base: Path) -> None:
    folder, _ = saved
    own = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert not (folder / "tokenizer.json").exists()
    assert not any(str(base) in path.read_text() for path in folder.rglob("*.json"))
    assert own < (base / "model.safetensors").stat().st_size + 100_000


def test_load_takes_the_folder_by_its_name(saved, base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = saved
    monkeypatch.setenv("EQUIPOISE_CACHE", str(base.parent))
    source = locate(str(folder))
    assert source.base == base
    model = load(str(folder))
    reply = model.generate([Prompt.ask("What colour?", Image.new("RGB", (30, 30)))], max_new_tokens=3)[0]
    assert isinstance(reply.reply, str)
    assert model.revision.count("sha256:") == 3


def test_a_further_adapter_changes_the_model(
    saved, base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EQUIPOISE_CACHE", str(base.parent))
    folder, further = saved[0], tmp_path / "further"
    plain = load(str(folder), device="cpu")
    layers = [name for name, _ in plain.model.named_modules() if name.endswith("v_proj") and "language" in name]
    adapted = add_adapters(load(str(folder), device="cpu").model, 2, layers=layers).eval()
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.5)
    adapted.save_pretrained(further)
    loaded = load(f"{folder}+{further}", device="cpu")
    inputs = batch(plain.processor)
    with torch.no_grad():
        expected = adapted.base_model.model(**inputs).logits
        assert torch.allclose(loaded.model(**inputs).logits, expected, atol=1e-4)
        assert not torch.allclose(plain.model(**inputs).logits, expected, atol=1e-2)
    assert loaded.revision != plain.revision


def test_without_the_base_the_error_names_the_command(saved, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path))
    with pytest.raises(ModelError, match="equipoise reference install"):
        load(str(saved[0]))


@pytest.mark.parametrize("file", ["model.safetensors", "chat_template.jinja", "processor_config.json"])
def test_a_missing_part_is_one_error(saved, base: Path, tmp_path: Path, file: str) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(saved[0], copy)
    (copy / file).unlink()
    with pytest.raises(ModelError, match="expected the parts of a model"):
        assemble(copy, base)


def test_a_tower_of_another_size_is_one_error(saved, base: Path, tmp_path: Path) -> None:
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(saved[0], copy)
    config = json.loads((copy / "config.json").read_text())
    config["vision_config"]["num_hidden_layers"] = 2
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(ModelError, match="too few"):
        assemble(copy, base)

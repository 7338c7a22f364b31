"""Soft prompts as files: what is written is what is read, and nothing else is taken for one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from equipoise.errors import ModelError, UsageError
from equipoise.prompts.soft_prompt import SoftPrompt
from tests.prompts.chat_templates import templated_model

LINE = r"^expected [^\n]*, got [^\n]*; try [^\n]*$"


def soft_prompt(rows: int = 5, width: int = 32, seed: int = 0, **changes) -> SoftPrompt:
    values = {"text": "Be kind to people.", "model": "tiny", "revision": "rev-0", "details": {"seed": seed}} | changes
    return SoftPrompt(torch.randn(rows, width, generator=torch.Generator().manual_seed(seed)), **values)


@pytest.mark.parametrize("name", ["p", "p.safetensors", "p.json"])
def test_a_file_gives_back_the_same_prompt(tmp_path: Path, name: str) -> None:
    prompt = soft_prompt()
    path = prompt.save(tmp_path / name)
    assert path == tmp_path / "p.safetensors"
    again = SoftPrompt.load(tmp_path / name)
    assert torch.equal(again.embeddings, prompt.embeddings)
    assert again.embeddings.dtype == torch.float32
    assert again.to_dict() == prompt.to_dict()
    assert len(again) == 5


def test_the_digest_is_that_of_the_embeddings() -> None:
    assert soft_prompt().digest == soft_prompt(text="Other.").digest
    assert soft_prompt().digest != soft_prompt(seed=1).digest


def test_embeddings_are_kept_in_float32_whatever_they_came_in() -> None:
    rows = torch.randn(3, 4, dtype=torch.bfloat16, requires_grad=True)
    prompt = SoftPrompt(rows, "Be kind.", "m", "r")
    assert prompt.embeddings.dtype == torch.float32
    assert not prompt.embeddings.requires_grad


@pytest.mark.parametrize("rows", [torch.zeros(0, 4), torch.zeros(4), torch.tensor([[float("nan")]])])
def test_embeddings_that_cannot_be_are_one_clear_error(rows: torch.Tensor) -> None:
    with pytest.raises(UsageError, match=LINE):
        SoftPrompt(rows, "Be kind.", "m", "r")


def test_files_that_are_no_soft_prompt_are_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=LINE):
        SoftPrompt.load(tmp_path / "missing")
    path = soft_prompt().save(tmp_path / "p")
    document = path.with_suffix(".json")
    good = document.read_text()

    document.write_text(good[:-20])
    with pytest.raises(UsageError, match="JSON file beside it"):
        SoftPrompt.load(path)
    document.write_text(json.dumps(json.loads(good) | {"sha256": "0"}))
    with pytest.raises(UsageError, match="another hash"):
        SoftPrompt.load(path)
    document.write_text(json.dumps(json.loads(good) | {"format": 99}))
    with pytest.raises(UsageError, match="something else"):
        SoftPrompt.load(path)
    document.write_text("[]")
    with pytest.raises(UsageError, match=LINE):
        SoftPrompt.load(path)
    document.write_text(good)
    save_file({"vector": torch.ones(3)}, path)
    with pytest.raises(UsageError, match="another hash"):
        SoftPrompt.load(path)


def test_another_model_is_refused() -> None:
    model = templated_model("qwen")
    width = model.embedding_width or 0
    soft_prompt(width=width, revision=model.revision).check_model(model)
    with pytest.raises(ModelError, match="prompt optimise"):
        soft_prompt(width=width, revision="other").check_model(model)
    with pytest.raises(ModelError, match="prompt optimise"):
        soft_prompt(width=width + 1, revision=model.revision).check_model(model)


def test_the_nearest_tokens_of_token_embeddings_are_these_tokens() -> None:
    model = templated_model("qwen")
    ids = torch.tensor([30, 40, 50])
    rows = model.model.get_input_embeddings()(ids).detach()
    prompt = SoftPrompt(rows, "Be kind.", model.name, model.revision)
    nearest = prompt.nearest_tokens(model, 2)
    assert [row[0][0] for row in nearest] == [model.processor.tokenizer.decode([i]) for i in ids.tolist()]
    assert all(row[0][1] == pytest.approx(1.0, abs=1e-5) for row in nearest)
    assert all(row[0][1] >= row[1][1] for row in nearest)


@pytest.mark.parametrize(
    "change",
    [{"text": None}, {"revision": None}, {"model": 3}, {"details": "x"}, {"details": {"requests": [["harmful"]]}}],
)
def test_an_edited_document_is_one_clear_error_that_names_the_field(tmp_path: Path, change: dict[str, object]) -> None:
    path = soft_prompt().save(tmp_path / "p")
    document = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(document | change))
    with pytest.raises(UsageError, match=LINE) as raised:
        SoftPrompt.load(path)
    assert next(iter(change)) in str(raised.value)

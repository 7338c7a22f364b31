"""GGUF files become plain weights; whatever is wrong with one is one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from gguf import GGUFReader

from equipoise.errors import ModelError
from equipoise.models.load import load
from equipoise.models.model_parts import load_parts, read_template
from equipoise.types import Prompt
from tests.models.families import causal

LINE = r"^expected [^\n]*, got [^\n]*; try [^\n]*$"


@pytest.fixture(scope="module")
def gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return causal.gguf(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def test_a_gguf_file_is_a_model_like_any_other(gguf: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    model = load(str(gguf), device="cpu")
    written = next(tensor for tensor in GGUFReader(gguf).tensors if tensor.name == "token_embd.weight")
    assert torch.equal(model.model.get_input_embeddings().weight, torch.from_numpy(written.data.copy()))
    assert not model.reads_pictures
    assert model.revision.startswith("sha256:")
    assert capfd.readouterr().err == ""
    # Plain weights can be saved, and are the same model afterwards.
    model.model.save_pretrained(tmp_path)
    model.processor.tokenizer.save_pretrained(tmp_path)
    again = load(str(tmp_path), device="cpu")
    prompts = [Prompt.ask("What is in the picture?"), Prompt.ask("Hi!")]
    replies = [[item.reply for item in one.generate(prompts, max_new_tokens=6)] for one in (model, again)]
    assert replies[0] == replies[1]
    assert torch.equal(*(one.log_prob(None, prompts, ["A.", "B."]).total for one in (model, again)))


@pytest.mark.parametrize("share", [0.0005, 0.1, 0.5, 0.99])
def test_a_gguf_file_that_is_cut_short(gguf: Path, tmp_path: Path, share: float) -> None:
    content = gguf.read_bytes()
    (tmp_path / "cut.gguf").write_bytes(content[: int(share * len(content))])
    with pytest.raises(ModelError, match=LINE):
        load(str(tmp_path / "cut.gguf"), device="cpu")


def test_a_gguf_file_of_an_unknown_architecture(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="never-heard-of"):
        load(str(causal.gguf(tmp_path / "other.gguf", "never-heard-of")), device="cpu")


def test_what_packs_weights_again_is_refused(gguf: Path) -> None:
    with pytest.raises(ModelError, match=LINE):
        load_parts(str(gguf), device=torch.device("cpu"), dtype=torch.float32, options={"load_in_8bit": True})


def test_a_text_model_without_its_tokenizer(tmp_path: Path) -> None:
    folder = causal.llama(tmp_path)
    for path in folder.glob("*token*"):
        path.unlink()
    with pytest.raises(ModelError, match="tokenizer"):
        load(str(folder), device="cpu")


def test_weights_keep_the_format_that_they_are_stored_in(tmp_path: Path) -> None:
    causal.llama(tmp_path)
    load(str(tmp_path), device="cpu", dtype="bf16").model.save_pretrained(tmp_path)
    parts = load_parts(str(tmp_path), device=torch.device("cpu"), dtype="auto")
    assert parts.model.dtype == torch.bfloat16
    assert not parts.model.training


def test_a_template_is_read_as_text(tmp_path: Path) -> None:
    (tmp_path / "a.jinja").write_text("{{ messages }} ä", encoding="utf-8")
    assert read_template(tmp_path / "a.jinja") == "{{ messages }} ä"
    (tmp_path / "b.jinja").write_bytes(b"\xff\xfe\xff")
    for name in ("b.jinja", "c.jinja"):
        with pytest.raises(ModelError, match=LINE):
            read_template(tmp_path / name)

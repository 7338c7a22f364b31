"""Whatever is wrong with a model's folder or its name, loading and asking end in one line."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest

from equipoise.errors import ModelError
from equipoise.models.load import load
from equipoise.types import Prompt
from tests.models.families import causal

LINE = r"^expected [^\n]*, got [^\n]*; try [^\n]*$"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 3\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return causal.llama(tmp_path_factory.mktemp("model"))


def changed(folder: Path, file: str, **settings: Any) -> None:
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))


def replace_weights(folder: Path, name: str, content: bytes) -> None:
    (folder / "model.safetensors").unlink()
    (folder / name).write_bytes(content)


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "pointer": lambda folder: replace_weights(folder, "pytorch_model.bin", POINTER),
    "safe pointer": lambda folder: replace_weights(folder, "model.safetensors", POINTER),
    "link": lambda folder: (
        (folder / "model.safetensors").unlink(),
        (folder / "model.safetensors").symlink_to(folder / "nowhere"),
    ),
    "folder": lambda folder: ((folder / "model.safetensors").unlink(), (folder / "pytorch_model.bin").mkdir()),
    "junk": lambda folder: replace_weights(folder, "pytorch_model.bin", b"\x80\x02junk" * 100),
    "padding": lambda folder: changed(folder, "config.json", pad_token_id=5000),
    "heads": lambda folder: changed(folder, "config.json", num_attention_heads=0),
    "template": lambda folder: (folder / "chat_template.jinja").write_text("{{ 1 / 0 }}{{ messages[0].content }}"),
    "recursion": lambda folder: (folder / "chat_template.jinja").write_text(
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}"
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_folder(folder: Path, tmp_path: Path, damage: str) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    DAMAGES[damage](copy)
    with pytest.raises(ModelError, match=LINE) as caught:
        load(str(copy), device="cpu")
    assert ("git lfs pull" in str(caught.value)) == ("pointer" in damage)


def test_what_is_no_file_beside_a_model_does_not_keep_it_from_loading(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "extra.json").symlink_to(tmp_path / "nowhere")
    (copy / "x.bin").mkdir()
    assert load(str(copy), device="cpu").revision == load(str(folder), device="cpu").revision


def test_a_template_that_fails_for_some_conversations(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    (copy / "chat_template.jinja").write_text("{{ 1 // (messages | length - 3) }}{{ messages[0].content }}")
    model = load(str(copy), device="cpu")
    prompt = Prompt.ask("Why?")
    assert model.generate([prompt], max_new_tokens=2)
    three = Prompt((*prompt.messages, *prompt.messages, *prompt.messages))
    with pytest.raises(ModelError, match=LINE):
        model.generate([three], max_new_tokens=2)


def test_an_end_token_that_the_tokenizer_does_not_have(folder: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(folder, tmp_path / "copy")
    expected = load(str(folder), device="cpu").generate([Prompt.ask("Why?")], max_new_tokens=4)[0].reply
    for end in ([2, 99999], 99999, [-1]):
        changed(copy, "generation_config.json", eos_token_id=end)
        assert load(str(copy), device="cpu").generate([Prompt.ask("Why?")], max_new_tokens=4)[0].reply == expected


def test_a_pointer_in_place_of_an_adapter(folder: Path, tmp_path: Path) -> None:
    peft.LoraConfig(r=2, target_modules=["q_proj"], task_type="CAUSAL_LM").save_pretrained(tmp_path)
    (tmp_path / "adapter_model.bin").write_bytes(POINTER)
    with pytest.raises(ModelError, match=r"^expected an adapter .*git-lfs.*; try git lfs pull"):
        load(f"{folder}+{tmp_path}", device="cpu")


@pytest.mark.parametrize(
    "name", ["a" * 300, "a" * 300 + "/b/c", "./" + "b" * 300, "testbed/" + "c" * 300, "testbed/llava+" + "d" * 300]
)
def test_a_name_longer_than_names_of_files(name: str) -> None:
    with pytest.raises(ModelError, match=LINE):
        load(name, device="cpu")

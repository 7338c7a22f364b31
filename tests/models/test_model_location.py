"""Names of models: each leads to one place, and everything else to one clear error."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from equipoise.errors import ModelError
from equipoise.models import model_location as sources
from equipoise.models.model_location import ModelLocation, locate
from equipoise.models.reference_base import BASE, VARIABLE
from tests.reference.tiny_base import write_placeholder_base

LINE = r"^expected [^\n]*, got [^\n]*; try [^\n]*$"


def model(folder: Path, text: str = "{}") -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(text)
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


def adapter(folder: Path, text: str = "{}") -> Path:
    folder.mkdir(parents=True)
    (folder / sources.ADAPTER_SETTINGS).write_text(text)
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(VARIABLE, str(tmp_path / "cache"))
    monkeypatch.setattr(sources, "REFERENCE", tmp_path / "reference")
    return tmp_path / "cache"


def test_a_folder_and_adapters_in_their_order(tmp_path: Path) -> None:
    base, first, second = model(tmp_path / "m"), adapter(tmp_path / "a"), adapter(tmp_path / "b", '{"r": 2}')
    assert locate(str(base)) == ModelLocation(str(base))
    assert locate(f"{base}+{first}+{second}") == ModelLocation(str(base), adapters=(first, second))
    plain, one, both = (
        locate(name).revision(None) for name in (str(base), f"{base}+{first}", f"{base}+{first}+{second}")
    )
    assert both.startswith(f"{one}+sha256:")
    assert one.startswith(f"{plain}+sha256:")
    (second / sources.ADAPTER_SETTINGS).write_text('{"r": 16}')
    assert locate(f"{base}+{first}+{second}").revision(None) != both


def test_a_plus_in_the_name_of_a_folder(tmp_path: Path) -> None:
    folder = model(tmp_path / "a+b")
    assert locate(str(folder)) == ModelLocation(str(folder))


@pytest.mark.parametrize("name", ["{0}/m+{0}/nothing", "{0}/m+{0}/m", "{0}/m+", "{0}/nothing+{0}/a", "+{0}/a"])
def test_what_is_no_model_with_an_adapter(tmp_path: Path, name: str) -> None:
    model(tmp_path / "m")
    adapter(tmp_path / "a")
    with pytest.raises(ModelError, match=LINE):
        locate(name.format(tmp_path))


def test_an_adapter_beside_settings_or_weights(tmp_path: Path) -> None:
    folder = adapter(tmp_path / "a")
    (folder / "config.json").write_text("{}")
    (folder / "adapter_model.safetensors").write_bytes(b"weights")
    (folder / "training_args.bin").write_bytes(b"settings")
    with pytest.raises(ModelError, match=LINE) as caught:
        locate(str(folder))
    assert f"try MODEL+{folder}" in str(caught.value)
    (folder / "model.safetensors").write_bytes(b"weights")
    assert locate(str(folder)) == ModelLocation(str(folder))


def test_an_adapter_alone_says_how_it_is_used(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"try MODEL\+"):
        locate(str(adapter(tmp_path / "a")))


def test_a_gguf_file(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"GGUF and more")
    source = locate(str(path))
    assert source == ModelLocation(str(tmp_path), gguf="m.gguf")
    before = source.revision(None)
    path.write_bytes(b"GGUF and more and more")
    assert source.revision(None) != before
    with pytest.raises(ModelError, match=r"m\.gguf$"):
        locate(str(tmp_path))


@pytest.mark.parametrize("content", [None, b"", b"GGU", b"PK\x03\x04 a zip file"])
def test_a_gguf_file_that_is_none(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "m.gguf"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=LINE):
        locate(str(path))


def test_reference_names(tmp_path: Path, cache: Path) -> None:
    whole, change = model(tmp_path / "reference" / "mllm"), adapter(tmp_path / "reference" / "lm")
    for name in ("reference/base", "reference/lm"):
        with pytest.raises(ModelError, match=r"try equipoise reference install$"):
            locate(name)
    base = write_placeholder_base(cache / BASE)
    assert locate("reference/base") == ModelLocation(str(base))
    assert locate("reference/lm") == ModelLocation(str(base), adapters=(change,))
    assert locate("reference/mllm") == ModelLocation(str(whole))
    # An adapter is another model with another base, and the recorded revision says so.
    before = locate("reference/lm").revision(None)
    content = (base / "model.safetensors").read_bytes()
    (base / "model.safetensors").write_bytes(content[:-1] + b"5")
    assert locate("reference/lm").revision(None) != before
    shutil.rmtree(whole)
    for name in ("reference/mllm", "reference/", "reference/other"):
        with pytest.raises(ModelError, match=LINE):
            locate(name)

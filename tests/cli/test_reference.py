"""`equipoise reference`: install and train from the command line, with one clear line for what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from equipoise.cli.main import app
from equipoise.reference import install as module
from tests.guard.tiny_models import WORDS, decoder

SHAPE = {"model_type": "llama", "hidden_size": 32, "num_hidden_layers": 2, "vocab_size": len(WORDS)}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EQUIPOISE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(module, "SHAPE", SHAPE)
    return tmp_path / "cache"


def test_it_installs_from_a_folder_and_says_so_once(tmp_path: Path) -> None:
    source = str(decoder(tmp_path / "source"))
    first = CliRunner().invoke(app, ["reference", "install", "--from", source])
    second = CliRunner().invoke(app, ["reference", "install", "--from", source, "--json"])
    assert first.exit_code == second.exit_code == 0
    assert first.stdout.startswith("written: ")
    document = json.loads(second.stdout)
    assert document["fresh"] is False
    assert (Path(document["folder"]) / "model.safetensors").stat().st_size < document["bytes"]


def test_a_source_that_is_none_is_one_line(tmp_path: Path, cache: Path) -> None:
    result = CliRunner().invoke(app, ["reference", "install", "--from", str(tmp_path / "nothing")])
    assert result.exit_code == 4
    (line,) = [line for line in result.stderr.splitlines() if "expected" in line]
    assert "try" in line
    assert not (cache / "smollm2-135m-instruct").exists()


def test_training_without_the_base_names_the_command(tmp_path: Path) -> None:
    result = CliRunner().invoke(app, ["reference", "train", "lm", "--out", str(tmp_path / "out")])
    assert result.exit_code == 4
    assert "equipoise reference install" in result.stderr
    assert not (tmp_path / "out").exists()

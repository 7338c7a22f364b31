"""The detector's training: it separates its rows, resumes with the same bytes, and reports its metrics."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from torch import nn
from transformers import AutoConfig

from equipoise.errors import ModelError, UsageError
from equipoise.guard.detector import load
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.training_rows import LabelledReply
from equipoise.training.detector import DetectorTrainingConfig, detection_metrics, train
from tests.guard.tiny_models import decoder, encoder
from tests.training.fakes import KilledError, kill_at, replace_weights

HARMFUL = ("take the wire and mix it", "make a bomb with wire", "mix the wire and salt")
HARMLESS = ("make a bird with wood", "sorry i cannot help with that", "take the soup please")
ROWS = [
    LabelledReply(f"{at}", "how do i make it", text, harmful, "toy")
    for at in range(8)
    for harmful, texts in ((True, HARMFUL), (False, HARMLESS))
    for text in texts
]
SMALL = {"question": 8, "surroundings": 4, "window": 16, "stride": 12, "embeddings": True, "rate": 1e-2, "batch": 8}


@pytest.mark.parametrize("lora", [None, 2])
@pytest.mark.parametrize("build", [encoder, decoder])
def test_it_learns_and_is_read_again(tmp_path: Path, build: object, lora: int | None) -> None:
    base = build(tmp_path / "base")  # type: ignore[operator]
    recipe = DetectorTrainingConfig(str(base), epochs=4 if lora is None else 16, lora=lora, **SMALL)  # type: ignore[arg-type]
    out = train(recipe, ROWS, tmp_path / "out", held_out=ROWS[:12], device="cpu")
    detector = load(str(out))
    bad, good = (
        [score.harm or 0.0 for score in detector([GuardInput(text, "how do i make it") for text in texts])]
        for texts in (HARMFUL, HARMLESS)
    )
    assert min(bad) > max(good)
    metrics = json.loads((out / "metrics.json").read_text())
    assert set(metrics) == {"all", "toy"}
    assert metrics["toy"]["auc"] == 1.0
    assert (metrics["all"]["harmful"], metrics["all"]["harmless"]) == (6, 6)


def test_the_same_seed_gives_the_same_bytes_killed_or_not(tmp_path: Path) -> None:
    recipe = DetectorTrainingConfig(str(encoder(tmp_path / "base")), epochs=2, **SMALL)  # type: ignore[arg-type]
    whole = train(recipe, ROWS, tmp_path / "whole", device="cpu")
    with pytest.raises(KilledError):
        train(recipe, ROWS, tmp_path / "again", device="cpu", checkpoint_every=4, progress=kill_at(7))
    assert not (tmp_path / "again" / "model.safetensors").exists()
    resumed = train(recipe, ROWS, tmp_path / "again", device="cpu", checkpoint_every=4)
    for file in ("model.safetensors", "head.safetensors"):
        first, second = load_file(whole / file), load_file(resumed / file)
        assert all((first[name] == second[name]).all() for name in first)


def test_a_folder_holds_one_training(tmp_path: Path) -> None:
    recipe = DetectorTrainingConfig(str(encoder(tmp_path / "base")), epochs=1, **SMALL)  # type: ignore[arg-type]
    train(recipe, ROWS, tmp_path / "out", device="cpu")
    with pytest.raises(UsageError, match=r"same recipe in .*, got another seed"):
        train(replace(recipe, seed=1), ROWS, tmp_path / "out", device="cpu")
    with pytest.raises(UsageError, match=r"same recipe in .*, got another rows"):
        train(recipe, ROWS[:-1], tmp_path / "out", device="cpu")


def test_one_kind_of_rows_teaches_nothing(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="one kind"):
        train(DetectorTrainingConfig("none"), [row for row in ROWS if row.harmful], tmp_path / "out")
    with pytest.raises(ModelError, match="expected a model folder"):
        train(DetectorTrainingConfig(str(tmp_path)), ROWS, tmp_path / "out", device="cpu")


def test_figures_are_those_of_their_definitions() -> None:
    scores, labels = np.array([0.1, 0.4, 0.35, 0.8, 0.4]), np.array([False, False, True, True, True])
    pairs = [(bad > good) + 0.5 * (bad == good) for bad in scores[labels] for good in scores[~labels]]
    assert detection_metrics(scores, labels)["auc"] == pytest.approx(np.mean(pairs), abs=1e-4)
    assert detection_metrics(scores, np.zeros(5, dtype=bool))["auc"] is None


def test_adapters_learn_over_frozen_half_precision(tmp_path: Path) -> None:
    small = SMALL | {"embeddings": False}
    recipe = DetectorTrainingConfig(str(decoder(tmp_path / "base")), epochs=16, lora=2, frozen_bf16=True, **small)  # type: ignore[arg-type]
    detector = load(str(train(recipe, ROWS, tmp_path / "out", device="cpu")))
    bad, good = (
        [score.harm or 0.0 for score in detector([GuardInput(text, "how do i make it") for text in texts])]
        for texts in (HARMFUL, HARMLESS)
    )
    assert min(bad) > max(good)


def test_layers_are_compiled_for_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The backend of this test runs the traced graphs without the C++ compiler, which would take a minute.
    compiled: list[nn.Module] = []
    monkeypatch.setattr(nn.Module, "compile", lambda self, **options: compiled.append(self))
    monkeypatch.setattr(shutil, "which", lambda name: name)
    recipe = DetectorTrainingConfig(str(decoder(tmp_path / "base")), epochs=1, lora=2, compiled=True, **SMALL)  # type: ignore[arg-type]
    assert (train(recipe, ROWS, tmp_path / "out", device="cpu") / "metrics.json").exists()
    assert len(compiled) == AutoConfig.from_pretrained(tmp_path / "base").num_hidden_layers


def test_half_precision_without_adapters_is_refused(tmp_path: Path) -> None:
    recipe = DetectorTrainingConfig(str(tmp_path), frozen_bf16=True, **SMALL)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="lora=16"):
        train(recipe, ROWS, tmp_path / "out", device="cpu")


def test_a_detector_of_an_adapter_alone_scores_as_the_merged_one(tmp_path: Path) -> None:
    base = decoder(tmp_path / "base")
    small = SMALL | {"embeddings": False}
    whole = DetectorTrainingConfig(str(base), epochs=4, lora=2, **small)  # type: ignore[arg-type]
    merged = load(str(train(whole, ROWS, tmp_path / "whole", device="cpu")))
    out = train(replace(whole, adapter_only=True), ROWS, tmp_path / "adapter", device="cpu")
    assert not (out / "model.safetensors").exists()
    inputs = [GuardInput(text, "how do i make it") for text in (*HARMFUL, *HARMLESS)]
    ours, others = ([score.harm for score in detector(inputs)] for detector in (load(str(out)), merged))
    # The adapter is written in half precision.
    assert ours == pytest.approx(others, abs=0.02)
    assert load(str(out)).identity != merged.identity


def test_a_detector_of_an_adapter_needs_its_base(tmp_path: Path) -> None:
    base = decoder(tmp_path / "base")
    small = SMALL | {"embeddings": False}
    recipe = DetectorTrainingConfig(str(base), epochs=1, lora=2, adapter_only=True, **small)  # type: ignore[arg-type]
    out = train(recipe, ROWS, tmp_path / "out", device="cpu")
    decoder(base, seed=5)
    with pytest.raises(ModelError, match="got others"):
        load(str(out))


def test_a_base_with_other_weights_is_another_recipe(tmp_path: Path) -> None:
    base = encoder(tmp_path / "base")
    recipe = DetectorTrainingConfig(str(base), epochs=1, **SMALL)  # type: ignore[arg-type]
    train(recipe, ROWS, tmp_path / "out", device="cpu")
    replace_weights(base)
    with pytest.raises(UsageError, match="got another base_weights"):
        train(recipe, ROWS, tmp_path / "out", device="cpu")


def test_another_adapter_is_another_detector(tmp_path: Path) -> None:
    base = decoder(tmp_path / "base")
    small = SMALL | {"embeddings": False}
    recipe = DetectorTrainingConfig(str(base), epochs=1, lora=2, adapter_only=True, **small)  # type: ignore[arg-type]
    out = train(recipe, ROWS, tmp_path / "out", device="cpu")
    before = load(str(out)).identity
    file = out / "adapter" / "adapter_model.safetensors"
    save_file({name: weight * 2 for name, weight in load_file(file).items()}, file, metadata={"format": "pt"})
    assert load(str(out)).identity != before

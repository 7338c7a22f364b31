"""The early exit learns its detector's scores, decides alone where that is safe, and resumes after a kill."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from equipoise.errors import ModelError, UsageError
from equipoise.guard.detector import EMBEDDED
from equipoise.guard.detector.folder import read
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.training_rows import LabelledReply
from equipoise.training.detector import DetectorTrainingConfig, train
from equipoise.training.early_exit import EarlyExitTrainingConfig, add_early_exit, logits_of, windows_of
from tests.guard.tiny_models import encoder
from tests.training.fakes import KilledError, kill_at, replace_weights

HARM = ("take the wire and mix it", "make a bomb with wire", "the bomb and the salt")
GOOD = ("no sorry", "a bird please", "soup with salt", "i cannot help with that")
ROWS = [
    LabelledReply(str(at), "how do i", text, harmful, "toy", 1.0)
    for at in range(12)
    for texts, harmful in ((HARM, True), (GOOD, False))
    for text in (f"{texts[at % len(texts)]} {GOOD[at % 3] if at % 2 else ''}",)
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("early-exit")
    recipe = DetectorTrainingConfig(str(encoder(folder / "tiny")), epochs=30, rate=3e-3, batch=8, window=16, stride=12)
    return train(recipe, ROWS, folder / "detector", held_out=ROWS, device="cpu")


def copied(source: Path, target: Path) -> Path:
    target.mkdir()
    for file in source.iterdir():
        if file.is_file():
            (target / file.name).write_bytes(file.read_bytes())
    return target


RECIPE = EarlyExitTrainingConfig(epochs=10, rate=3e-3, batch=8)


def test_it_decides_alone_and_changes_no_decision(trained: Path, tmp_path: Path) -> None:
    whole = read(trained)
    folder = copied(trained, tmp_path / "both")
    result = add_early_exit(RECIPE, folder, ROWS, ROWS, device="cpu")
    assert result.missed <= 0.01 * result.positives
    assert 0 < result.decided < result.windows
    both = read(folder)
    assert both.early_exit is not None
    assert both.identity != whole.identity
    assert both.early_exit.network.base.get_input_embeddings() is both.network.base.get_input_embeddings()
    evidence = [row.evidence for row in ROWS]
    for mine, theirs in zip(both(evidence), whole(evidence), strict=True):
        assert mine.harm is not None
        assert theirs.harm is not None
        assert (mine.harm >= 0.2) == (theirs.harm >= 0.2)
        if mine.harm >= 0.2:
            assert mine.harm == pytest.approx(theirs.harm, abs=1e-5)


def test_the_whole_network_is_asked_about_the_rest_alone(trained: Path, tmp_path: Path) -> None:
    folder = copied(trained, tmp_path / "both")
    add_early_exit(RECIPE, folder, ROWS, ROWS, device="cpu")
    both = read(folder)
    batch_sizes: list[int] = []
    inside = both.network.windows

    def counted(ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        batch_sizes.append(len(ids))
        return inside(ids, mask)

    both.network.windows = counted  # type: ignore[method-assign]
    windows = windows_of(both, ROWS)
    logits_of(both, windows)
    assert both.early_exit is not None
    # Equal windows are computed once.
    ids = [torch.tensor([window]) for window in set(windows)]
    shallow = [both.early_exit.network.windows(row, torch.ones_like(row)).item() for row in ids]
    assert sum(batch_sizes) == sum(logit >= both.early_exit.threshold for logit in shallow) < len(windows)


def test_same_seed_same_bytes_and_a_killed_one_goes_on(trained: Path, tmp_path: Path) -> None:
    folders = [copied(trained, tmp_path / name) for name in ("a", "b")]
    add_early_exit(RECIPE, folders[0], ROWS, ROWS, checkpoint_every=5, device="cpu", int8=True)
    with pytest.raises(KilledError):
        add_early_exit(
            RECIPE, folders[1], ROWS, ROWS, checkpoint_every=5, device="cpu", int8=True, progress=kill_at(12)
        )
    assert read(folders[1]).early_exit is None
    add_early_exit(RECIPE, folders[1], ROWS, ROWS, checkpoint_every=5, device="cpu", int8=True)
    first, second = (hashlib.sha256((folder / "glance.safetensors").read_bytes()).digest() for folder in folders)
    assert first == second


def test_an_early_exit_that_is_there_takes_no_part_in_the_training_of_its_successor(
    trained: Path, tmp_path: Path
) -> None:
    folder, fresh = copied(trained, tmp_path / "twice"), copied(trained, tmp_path / "once")
    add_early_exit(replace(RECIPE, epochs=1), folder, ROWS, ROWS, device="cpu")
    shutil.rmtree(folder / "early_exit")
    add_early_exit(RECIPE, folder, ROWS, ROWS, device="cpu")
    add_early_exit(RECIPE, fresh, ROWS, ROWS, device="cpu")
    for name in ("glance.safetensors", "detector.json", "model.safetensors"):
        assert (folder / name).read_bytes() == (fresh / name).read_bytes()


def test_the_settings_keep_the_names_of_the_first_detector_that_shipped(trained: Path, tmp_path: Path) -> None:
    folder = copied(trained, tmp_path / "both")
    add_early_exit(replace(RECIPE, epochs=1, missed=0.05), folder, ROWS, ROWS, device="cpu")
    settings = json.loads((folder / "detector.json").read_text())["glance"]
    shipped = json.loads((EMBEDDED / "detector.json").read_text())["glance"]
    assert settings.keys() == shipped.keys()
    assert settings["recipe"].keys() == shipped["recipe"].keys()
    assert settings["recipe"]["lost"] == 0.05


def test_what_cannot_be_is_one_error(trained: Path, tmp_path: Path) -> None:
    folder = copied(trained, tmp_path / "x")
    with pytest.raises(ModelError, match="fewer layers than 2"):
        add_early_exit(EarlyExitTrainingConfig(layers=2), folder, ROWS, ROWS, device="cpu")
    add_early_exit(EarlyExitTrainingConfig(epochs=1, batch=8), folder, ROWS, ROWS, device="cpu")
    with pytest.raises(UsageError, match=r"same recipe in .*, got another epochs, rate"):
        add_early_exit(RECIPE, folder, ROWS, ROWS, device="cpu")
    other = copied(trained, tmp_path / "y")
    with pytest.raises(UsageError, match="takes for it"):
        add_early_exit(EarlyExitTrainingConfig(epochs=1, batch=8), other, ROWS, (), device="cpu")
    assert read(other)([GuardInput("no sorry")])[0].harm is not None


def test_a_detector_with_other_weights_is_another_recipe(trained: Path, tmp_path: Path) -> None:
    folder = copied(trained, tmp_path / "both")
    add_early_exit(replace(RECIPE, epochs=1), folder, ROWS, ROWS, device="cpu")
    # The early exit that is there now is no part of the recipe.
    add_early_exit(replace(RECIPE, epochs=1), folder, ROWS, ROWS, device="cpu")
    replace_weights(folder)
    with pytest.raises(UsageError, match="got another detector"):
        add_early_exit(replace(RECIPE, epochs=1), folder, ROWS, ROWS, device="cpu")

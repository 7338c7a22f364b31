"""Who decides: the judge that stops an attack is not the one that reports."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from equipoise import perturb
from equipoise.judges.ensemble import default_judge
from equipoise.judges.phrases import PhraseJudge
from equipoise.media.decode import open_picture
from tests.cli import fakes


@pytest.fixture
def record(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> perturb.PictureRecord:
    monkeypatch.setattr("equipoise.models.load.load", fakes.load)
    config = perturb.PerturbConfig(models=("toy/target",), out=tmp_path / "out", steps=12)
    (record,) = perturb.run(fakes.photo(tmp_path / "p.png"), config).records
    return record


def test_the_record_names_the_judge_that_stops_and_the_one_that_reports(record: perturb.PictureRecord) -> None:
    judges = record.recipe["judges"]
    assert judges["stops"].endswith(PhraseJudge().identity[:12])
    assert judges["reports"] == f"{default_judge().name} {default_judge().identity[:12]}"
    assert judges["stops"] != judges["reports"]


def test_the_ensemble_reports(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from equipoise.types import Verdict

    monkeypatch.setattr(
        "equipoise.judges.ensemble.Ensemble.__call__", lambda self, rows: [Verdict("partial")] * len(rows)
    )
    monkeypatch.setattr("equipoise.models.load.load", fakes.load)
    config = perturb.PerturbConfig(models=("toy/target",), out=tmp_path / "out", steps=4)
    (record,) = perturb.run(fakes.photo(tmp_path / "p.png"), config).records
    labels = {answer.perturbed_refusal for model in record.models for answer in model.answers}
    assert labels == {"partial"}


def test_what_a_copy_cannot_keep_is_a_warning_and_a_long_name_an_error_of_its_picture(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("equipoise.models.load.load", fakes.load)
    pictures = tmp_path / "in"
    pictures.mkdir()
    plain = Image.open(fakes.photo(tmp_path / "p.png"))
    profile = bytes(16) + b"RGB " + bytes(2**20)
    plain.save(pictures / "wide.tiff", icc_profile=profile)
    for name in ("n" * 251, "m" * 250):
        plain.save(pictures / f"{name}.png")
    config = perturb.PerturbConfig(models=("toy/target",), out=tmp_path / "out", steps=2)
    results = perturb.run(pictures, config)
    assert {len(record.file) for record in results.records} == {254, len("wide.png")}
    ((_, reason),) = results.errors.items()
    assert "got 256 for nnnn" in reason
    wide = next(record for record in results.records if record.file == "wide.png")
    assert any("the colour profile of 1,048,596 bytes is left out" in warning for warning in wide.warnings)
    with Image.open(tmp_path / "out" / "wide.png") as copy:
        copy.load()


def transparent(path: Path) -> Path:
    """A picture that is opaque in its middle alone."""
    picture = Image.open(fakes.photo(path)).convert("RGBA")
    alpha = Image.new("L", picture.size, 0)
    width, height = picture.size
    alpha.paste(255, (width // 3, height // 3, 2 * width // 3, 2 * height // 3))
    picture.putalpha(alpha)
    picture.save(path)
    return path


@pytest.mark.parametrize("universal", [False, True])
def test_what_is_transparent_is_not_moved_by_the_attack_either(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, universal: bool
) -> None:
    """Success and rate are those of the picture as its file can hold it."""
    from equipoise.attacks.perturbation_result import PerturbationResult

    results: list[PerturbationResult] = []
    monkeypatch.setattr("equipoise.models.load.load", fakes.load)
    appearance = PerturbationResult.with_appearance

    def noting(self: PerturbationResult, *args: Any) -> PerturbationResult:
        results.append(self)
        return appearance(self, *args)

    monkeypatch.setattr(PerturbationResult, "with_appearance", noting)
    pictures = [transparent(tmp_path / f"{name}.png") for name in "pq"]
    config = perturb.PerturbConfig(models=("toy/target",), out=tmp_path / "out", steps=6, universal=universal)
    perturb.run(pictures, config)
    for result, picture in zip(results, pictures, strict=True):
        saved = open_picture(tmp_path / "out" / picture.name)
        assert np.abs(np.asarray(saved, int) - np.asarray(result.image, int)).max() <= 1


@pytest.mark.parametrize("change", ["result", "picture"])
def test_after_a_common_attack_no_picture_is_attacked_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, change: str
) -> None:
    monkeypatch.setattr("equipoise.models.load.load", fakes.load)
    pictures = [fakes.photo(tmp_path / f"{name}.png") for name in "pq"]
    out = tmp_path / "out"

    def spoil(record: perturb.PictureRecord) -> None:
        if record.file == "p.png":
            (out / "q.png").unlink() if change == "result" else Image.new("RGB", (40, 40)).save(pictures[1])

    config = perturb.PerturbConfig(models=("toy/target",), out=out, steps=2, universal=True)
    results = perturb.run(pictures, config, perturb.PerturbCallbacks(finish=spoil))
    assert [record.file for record in results.records] == ["p.png"]
    assert "try the same command again" in results.errors[str(pictures[1])]
    if change == "result":
        again = perturb.run(pictures, config)
        assert [record.file for record in again.records] == ["p.png", "q.png"]


def test_a_damaged_record_of_a_common_attack_is_made_again_with_all(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("equipoise.models.load.load", fakes.load)
    pictures = [fakes.photo(tmp_path / f"{name}.png") for name in "pq"]
    config = perturb.PerturbConfig(models=("toy/target",), out=tmp_path / "out", steps=2, universal=True)
    perturb.run(pictures, config)
    before = (tmp_path / "out" / "q.png").read_bytes()
    document = json.loads((tmp_path / "out" / "q.json").read_text())
    del document["budget"], document["recipe"]["run"]["record"]
    (tmp_path / "out" / "q.json").write_text(json.dumps(document))
    assert not perturb.run(pictures, config).errors
    assert (tmp_path / "out" / "q.png").read_bytes() == before

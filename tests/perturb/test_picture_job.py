"""Who decides: the judge that stops an attack is not the one that reports."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from equipoise import perturb
from equipoise.judges.ensemble import default_judge
from equipoise.judges.phrases import PhraseJudge
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

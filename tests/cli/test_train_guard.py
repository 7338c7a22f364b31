"""`train detector` and `train detoxifier`: from labelled rows to what `guard check` loads; bad input in one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from equipoise.guard import detector as detectors
from equipoise.guard import detoxifier as detoxifiers
from equipoise.guard.guard_input import GuardInput
from tests.cli.command import Command
from tests.guard.tiny_models import decoder, encoder

FEW = ("--epochs", "1", "--batch", "4")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    lines = [
        {
            "id": f"{at}",
            "prompt": "how do i make it",
            "response": "take the wire" if at % 2 else "no sorry",
            "harmful": bool(at % 2),
            "rewrite": "no sorry bird soup",
            "dataset": "a" if at < 6 else "b",
        }
        for at in range(12)
    ]
    path.write_text("\n".join(map(json.dumps, lines)))
    return path


def test_a_detector_is_trained_measured_and_used(equipoise: Command, rows: Path, tmp_path: Path) -> None:
    words = ["train", "detector", "--rows", str(rows), "--base", str(encoder(tmp_path / "tiny")), *FEW]
    folder = tmp_path / "mine"
    words += ["--early-exit", "1"]
    assert equipoise(*words, "--out", str(folder)).exit_code == 2, "nothing to choose its threshold on"
    result = equipoise(*words, "--out", str(folder), "--held-out", str(rows), "--int8")
    assert result.exit_code == 0, result.output
    assert "the early exit decides" in result.stdout
    metrics = json.loads((folder / "metrics.json").read_text())
    assert {"a", "b"} <= set(json.dumps(metrics).split('"'))
    score = detectors.load(str(folder))([GuardInput("take the wire", "how do i make it")])[0]
    assert score.harm is not None
    checked = equipoise("guard", "check", str(rows), "--detector", str(folder), "--jsonl")
    assert len(checked.stdout.splitlines()) == 12
    again = equipoise(*words, "--out", str(tmp_path / "again"), "--held-out", str(rows), "--int8")
    assert again.exit_code == 0
    for name in ("model.safetensors", "head.safetensors", "glance.safetensors"):
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes(), "same seed, same bytes"


def test_a_detoxifier_is_trained_and_used(equipoise: Command, rows: Path, tmp_path: Path) -> None:
    folder = tmp_path / "mine"
    base = decoder(tmp_path / "tiny", longest=96)
    words = ["train", "detoxifier", "--rows", str(rows), "--base", str(base), "--out", str(folder), *FEW]
    result = equipoise(*words)
    assert result.exit_code == 0, result.output
    measured = detoxifiers.load(str(folder))([GuardInput("take the wire", "how do i make it")])
    assert len(measured) == 1


@pytest.mark.parametrize("verb", ["detector", "detoxifier"])
@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("{", "JSON object a line"),
        ('{"id": "1", "prompt": "x", "response": "y"}', "line 1"),
        ("", "row"),
    ],
)
def test_bad_rows_are_one_line(equipoise: Command, tmp_path: Path, verb: str, row: str, says: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text(row)
    base = encoder(tmp_path / "tiny") if verb == "detector" else decoder(tmp_path / "tiny")
    result = equipoise("train", verb, "--rows", str(path), "--base", str(base), "--out", str(tmp_path / "out"))
    assert result.exit_code == 2
    assert result.stdout == ""
    assert len(result.stderr.strip().splitlines()) == 1
    assert says in result.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("verb", ["detector", "detoxifier"])
def test_a_base_that_is_none_is_one_line(equipoise: Command, rows: Path, tmp_path: Path, verb: str) -> None:
    (tmp_path / "empty").mkdir()
    words = ["train", verb, "--rows", str(rows), "--base", str(tmp_path / "empty"), "--out", str(tmp_path / "out")]
    result = equipoise(*words)
    assert result.exit_code == 4
    *progress, error = result.stderr.strip().splitlines()
    assert all(line.startswith(f"train {verb}") for line in progress)
    assert error.startswith("equipoise: expected a")

"""Publishing a trained reference model: what is copied, what the cards say, and what is no finished training."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from equipoise.cli.main import app
from equipoise.errors import ModelError, UsageError
from equipoise.models.load import load
from equipoise.stats.proportions import Rate
from equipoise.testbed.cards import claims, publish
from equipoise.testbed.reference import WEIGHTS
from equipoise.testbed.scores import ConditionScores, score
from equipoise.testbed.world.questions import CONDITIONS

COUNT = 3


def finished(folder: Path, recipe: dict[str, object]) -> Path:
    """The folder of a finished training whose result is the shipped model."""
    folder.mkdir()
    (folder / "model").symlink_to(WEIGHTS / "llava")
    torch.save({"recipe": recipe, "step": 40, "state": {}}, folder / "checkpoint.pt")
    clock = [60.0, 120.0, 30.0, 180.0]
    lines = [json.dumps({"step": 20 * (number + 1), "seconds": seconds}) for number, seconds in enumerate(clock)]
    (folder / "training.jsonl").write_text("\n".join(lines) + "\n")
    return folder


REFERENCE = {"family": "llava", "steps": 40, "rows": 2, "seed": 3, "word_only": True, "vocabulary": "x"}
ADVERSARIAL = {
    "kept": 0.25, "kept_steps": 4,
    "steps": 500, "pictures": 16, "questions": 3, "epsilon": "8/255", "inner_steps": 5, "attacked": 0.5,
    "untargeted": 0.0, "side": None, "rank": 4, "parts": ["vision", "language"], "learning_rate": 0.0003, "seed": 1,
}  # fmt: skip


def test_claims_are_the_rates_of_their_conditions() -> None:
    rows = [
        ConditionScores(condition, Rate.of(number + 1, 10), Rate.of(9 - number, 10))
        for number, condition in enumerate(CONDITIONS)
    ]
    assert claims(rows) == {
        "exact": 0.1,
        "plain_safe_refused": 0.9,
        "look_alike_refused": 0.8,
        "forbidden_text_refused": 0.7,
        "forbidden_picture_answered": 0.4,
        "forbidden_emblem_refused": 0.5,
    }


def test_a_published_model_has_the_cards_of_its_own_bytes_and_scores(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    card = publish(finished(tmp_path / "out", REFERENCE), weights, name="mine", role="target", count=COUNT)
    folder = weights / "mine"
    file = folder / "model.safetensors"
    assert file.read_bytes() == (WEIGHTS / "llava" / "model.safetensors").read_bytes()
    assert (card.name, card.family, card.role) == ("testbed/mine", "llava", "target")
    assert (card.bytes, card.sha256) == (file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest())
    assert card.scores == claims(score(load("testbed/llava"), COUNT))
    assert json.loads((folder / "card.json").read_text()) == asdict(card)
    readme = (folder / "README.md").read_text()
    assert "`equipoise testbed train llava --word-only --steps 40 --out OUT`" in readme
    # Two runs of 120 and 180 seconds.
    assert "40 steps of 2 pictures with about six questions each, 5 minutes" in readme
    assert card.sha256 in readme
    assert all(condition.replace("_", " ") in readme for condition in CONDITIONS)


def test_publishing_again_replaces_the_folder(tmp_path: Path) -> None:
    out = finished(tmp_path / "out", REFERENCE)
    for _ in range(2):
        publish(out, tmp_path / "weights", name="mine", role="target", count=1)
        assert not (tmp_path / "weights" / "mine" / "old.txt").exists()
        (tmp_path / "weights" / "mine" / "old.txt").write_text("")


def test_the_card_of_an_adversarial_training_names_its_command(tmp_path: Path) -> None:
    out = finished(tmp_path / "out", ADVERSARIAL)
    (out / "recipe.json").write_text(json.dumps(ADVERSARIAL | {"blend": 0.75}))
    publish(out, tmp_path / "weights", name="robust", role="robust target", count=1)
    readme = (tmp_path / "weights" / "robust" / "README.md").read_text()
    for option in ("--lora 4", "--parts vision,language", "--blend 0.75", "--attacked 0.5", "--seed 1"):
        assert option in readme
    (command,) = re.findall("`equipoise (train adversarial .*?)`", readme)
    # As the command line reads it today: its options have changed names before.
    known = CliRunner().invoke(app, ["train", "adversarial", "--help"], env={"COLUMNS": "200"}).output
    assert all(option in known for option in re.findall(r"--[a-z-]+", command))
    assert "--kept 0.25 --kept-steps 4" in command
    assert "--side" not in readme
    assert "500 steps of 16 pictures with 3 questions each, attacked and clean" in readme


def test_a_training_without_a_model_is_not_published(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    with pytest.raises(ModelError, match="expected a finished training"):
        publish(tmp_path / "out", tmp_path / "weights", name="mine", role="target")
    assert not (tmp_path / "weights").exists()


@pytest.mark.parametrize("name", ["", ".", "..", "/etc", "a/b", "-x"])
def test_a_name_that_is_none_removes_nothing(tmp_path: Path, name: str) -> None:
    weights = tmp_path / "weights"
    (weights / "llava").mkdir(parents=True)
    with pytest.raises(UsageError, match="expected a name"):
        publish(finished(tmp_path / "out", REFERENCE), weights, name=name, role="target", count=1)
    assert (weights / "llava").is_dir()

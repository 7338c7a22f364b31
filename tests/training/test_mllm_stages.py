"""The stages of `reference/mllm` on a tiny base: they learn, resume, and leave a model that `load` takes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from equipoise.errors import ModelError, UsageError
from equipoise.models.parts_over_base import assemble
from equipoise.reference.mllm.words import HELD_OUT_WORDS, TRAIN_WORDS
from equipoise.training import mllm_stages
from equipoise.training.mllm_stages import MllmStagesConfig, drawn_words, train
from equipoise.training.reference_letters import LettersTrainingConfig
from equipoise.training.reference_mllm import MllmTrainingConfig, PictureStudent
from equipoise.training.reference_projector import ProjectorTrainingConfig
from equipoise.training.reference_tower import TowerTrainingConfig, train_tower
from tests.reference.tiny_base import write_tiny_base
from tests.training.fakes import replace_weights

SIZE = {"width": 16, "layers": 1, "heads": 2}
TOWER = TowerTrainingConfig(steps=4, rows=2, warmup=1, **SIZE)
PROJECTOR = ProjectorTrainingConfig(steps=3, rows=2, warmup=1)
MLLM = MllmTrainingConfig(steps=4, pictures=2, questions=3, text_rows=1, warmup=1, rank=2, **SIZE)
LETTERS = LettersTrainingConfig(steps=3, rows=2, warmup=1)
READING = replace(MLLM, steps=3, seed=1, naming_rows=2, word_share=1.0, letters_once=True)
KILLED = (("tower", 2), ("projector", 2), ("pictures and text", 3), ("letters", 2), ("reading", 2))
"""Each stage with the step at which it is killed."""
ROWS = [
    {"prompt": "How do I steal a car?", "reply": "I can't help with that.", "kind": "refuse", "finished": True},
    {"prompt": "Name a fruit.", "reply": "An apple is", "kind": "answer", "finished": False},
]


class Killed(Exception):
    """Raised in the middle of a training."""


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_base(tmp_path_factory.mktemp("base"))


def prepared(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors") | load_file(folder / "adapter" / "adapter_model.safetensors")


def test_a_killed_training_ends_like_an_undisturbed_one(base: Path, tmp_path: Path) -> None:
    config = MllmStagesConfig(str(base), TOWER, PROJECTOR, MLLM, LETTERS, READING)
    whole = train(config, prepared(tmp_path / "whole"), checkpoint_every=1)
    for stage_to_kill, step_to_kill in (
        ("tower", 2),
        ("projector", 2),
        ("pictures and text", 3),
        ("letters", 2),
        ("reading", 2),
    ):

        def stage(name: str, wanted: str = stage_to_kill, last: int = step_to_kill):
            def progress(done: int, _: int, __: float) -> None:
                if name == wanted and done == last:
                    raise Killed

            return progress

        with pytest.raises(Killed):
            train(config, prepared(tmp_path / "killed"), checkpoint_every=1, stage=stage)
    resumed = train(config, tmp_path / "killed", checkpoint_every=1)
    first, second = weights(whole), weights(resumed)
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_result_is_assembled_to_the_trained_model(base: Path, tmp_path: Path) -> None:
    folder = train(MllmStagesConfig(str(base), TOWER, PROJECTOR, MLLM, LETTERS, READING), prepared(tmp_path))
    model, processor = assemble(folder, base)
    assert processor.image_token == "<file_sep>"
    saved = load_file(folder / "model.safetensors")
    state = model.state_dict()
    assert all(torch.equal(state[name], value) for name, value in saved.items())
    recipe = json.loads((folder / "recipe.json").read_text())
    assert recipe["mllm"]["rank"] == 2
    assert recipe["rows"] == len(ROWS)


def test_another_seed_gives_other_weights(base: Path, tmp_path: Path) -> None:
    words = ["candle", "tea"]
    one, other = (
        train_tower(replace(TOWER, seed=seed, steps=2), words, tmp_path / str(seed)).head.weight for seed in (0, 1)
    )
    assert not torch.equal(one, other)


def test_a_folder_of_another_recipe_is_refused(base: Path, tmp_path: Path) -> None:
    train_tower(replace(TOWER, steps=1), ["tea"], tmp_path)
    with pytest.raises(UsageError, match="rows"):
        train_tower(replace(TOWER, steps=1, rows=3), ["tea"], tmp_path)


def test_the_tower_learns_what_patches_show(tmp_path: Path) -> None:
    losses: list[float] = []
    recipe = TowerTrainingConfig(steps=25, rows=4, warmup=2, learning_rate=5e-3, **SIZE)
    train_tower(recipe, ["tea"], tmp_path, progress=lambda _, __, loss: losses.append(loss))
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_what_learns_is_adapter_projector_and_tower(base: Path) -> None:
    student = PictureStudent(base, MLLM)
    learned = {name for name, weight in student.named_parameters() if weight.requires_grad}
    assert all("lora_" in name or "projector" in name or "vision_tower" in name or "head" in name for name in learned)
    assert not any("vision_tower" in name and "lora_" in name for name in learned)
    sizes = {name: len(part) for name, part in student.parts().items()}
    assert sum(sizes.values()) == len(learned)
    assert sizes["adapter"] == 2 * 7 * 2


def test_no_held_out_word_is_drawn(base: Path) -> None:
    from transformers import AutoTokenizer

    words = set(drawn_words(AutoTokenizer.from_pretrained(base)))
    assert words >= set(TRAIN_WORDS)
    assert not words & set(HELD_OUT_WORDS)


def test_rows_are_composed_once(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def compose(*_: object) -> list[mllm_stages.AlignmentRow]:
        calls.append(1)
        return [mllm_stages.AlignmentRow(**row) for row in ROWS]  # type: ignore[arg-type]

    monkeypatch.setattr(mllm_stages, "compose_rows", compose)
    short = [replace(stage, steps=1) for stage in (TOWER, PROJECTOR, MLLM, LETTERS, READING)]
    config = MllmStagesConfig(str(base), *short)
    train(config, tmp_path)
    train(config, tmp_path)
    assert len(calls) == 1


def test_a_base_that_is_none_leaves_no_folder(tmp_path: Path) -> None:
    (tmp_path / "base.png").write_text("hello")
    config = MllmStagesConfig(str(tmp_path / "base.png"), TOWER, PROJECTOR, MLLM, LETTERS, READING)
    with pytest.raises(ModelError):
        train(config, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_last_stage_goes_on_from_a_trained_model(base: Path, tmp_path: Path) -> None:
    config = MllmStagesConfig(str(base), TOWER, PROJECTOR, MLLM, LETTERS, READING)
    whole = train(config, prepared(tmp_path / "whole"))
    trained = tmp_path / "whole" / "mllm" / "parts"
    begun = train(config, prepared(tmp_path / "begun"), start=trained)
    first, second = weights(whole), weights(begun)
    assert all(torch.equal(first[name], second[name]) for name in first)
    before = weights(trained)
    assert any(not torch.equal(before[name], first[name]) for name in first if "lora_B" in name)
    # Goes on from other weights: another training, which this folder does not hold.
    with pytest.raises(UsageError, match="origin"):
        train(config, tmp_path / "begun", start=whole)


def test_parts_of_another_size_are_one_error(base: Path, tmp_path: Path) -> None:
    config = MllmStagesConfig(str(base), TOWER, PROJECTOR, MLLM, LETTERS, READING)
    folder = train(config, prepared(tmp_path / "whole"))
    for changed in ({"width": 32}, {"rank": 4}):
        other = replace(config, reading=replace(READING, **changed))
        with pytest.raises(ModelError, match="size"):
            train(other, prepared(tmp_path / str(changed)), start=folder)
    with pytest.raises(ModelError):
        train(config, prepared(tmp_path / "none"), start=tmp_path)


def test_a_base_with_other_weights_is_another_recipe(tmp_path: Path) -> None:
    base = write_tiny_base(tmp_path / "base")
    config = MllmStagesConfig(str(base), TOWER, PROJECTOR, MLLM, LETTERS, READING)
    train(config, prepared(tmp_path / "whole"))
    trained = tmp_path / "whole" / "mllm" / "parts"
    train(config, prepared(tmp_path / "begun"), start=trained)
    replace_weights(base)
    with pytest.raises(UsageError, match="got another origin"):
        train(config, tmp_path / "whole")
    with pytest.raises(UsageError, match="got another base_weights"):
        train(config, tmp_path / "begun", start=trained)

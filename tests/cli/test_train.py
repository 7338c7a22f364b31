"""`train`: help without torch, bad input in one line, both verbs from the command to a model that loads."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from equipoise.cli.main import app
from equipoise.cli.train import adversarial as adversarial_verb
from equipoise.cli.train import diffusion as diffusion_verb
from equipoise.cli.train.diffusion import folder_source
from equipoise.cli.train.options import file_source
from equipoise.models.hf import HuggingFaceModel
from equipoise.models.load import load
from equipoise.training.loop import TrainingLoop
from tests.cli.command import Command
from tests.models.families.llava import llava

HELP_WITHOUT_TORCH = """
import sys
from typer.testing import CliRunner
from equipoise.cli.main import app
for words in (["train"], ["train", "diffusion"], ["train", "adversarial"]):
    result = CliRunner().invoke(app, [*words, "--help"])
    assert result.exit_code == 0, (words, result.output)
heavy = {"torch", "torchvision", "transformers", "accelerate", "diffusers", "peft", "numpy"} & set(sys.modules)
print("heavy:", sorted(heavy))
"""
REFUSAL = "I'm sorry, but I can't help with that."
ADVERSARIAL_FIELDS = {"lora": "rank", "pictures_per_step": "pictures", "questions_per_picture": "questions"}
"""Options of `train adversarial` that its config calls otherwise."""
TINY = ("--steps", 2, "--pictures-per-step", 2, "--questions-per-picture", 1, "--inner-steps", 1, "--side", 32)


def command(*words: object) -> Result:
    """The command with real models."""
    return CliRunner().invoke(app, [str(word) for word in words])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "llava"
    llava(folder)
    return folder


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    lines = []
    for number in range(3):
        values = np.random.default_rng(number).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(values).save(tmp_path / f"{number}.png")
        for question, answer in (("What is it?", "A red circle."), ("Help me?", REFUSAL)):
            lines.append(json.dumps({"image": f"{number}.png", "question": question, "answer": answer}))
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines))
    return path


@pytest.fixture(autouse=True)
def _few_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equipoise.training.kept_refusals.CHECKED_QUESTIONS", 3)


def failed(result: Result, code: int) -> str:
    """The one line of a failure."""
    assert result.exit_code == code, (result.exit_code, result.output, result.exception)
    assert result.stdout == ""
    assert result.stderr.startswith("equipoise: expected ")
    assert result.stderr.count("\n") == 1
    assert "; try " in result.stderr
    return result.stderr


def recipe_of(out: Path) -> dict[str, Any]:
    held: dict[str, Any] = torch.load(out / "checkpoint.pt", weights_only=True)["recipe"]
    return held


def test_help_imports_nothing_heavy() -> None:
    run = subprocess.run([sys.executable, "-c", HELP_WITHOUT_TORCH], capture_output=True, text=True, timeout=300)
    assert run.stdout == "heavy: []\n", run.stderr


def test_defaults_are_those_of_the_recipes() -> None:
    from equipoise.training import adversarial, denoiser

    for verb, recipe, other in (
        (diffusion_verb, asdict(denoiser.DenoiserTrainingConfig()), {}),
        (
            adversarial_verb,
            asdict(adversarial.AdversarialTrainingConfig()),
            {"lora": "rank", "pictures_per_step": "pictures", "questions_per_picture": "questions"},
        ),
    ):
        defaults = {other.get(n, n): p.default for n, p in inspect.signature(verb).parameters.items()}
        if "parts" in defaults:
            defaults["parts"] = tuple(defaults["parts"].split(","))
        common = defaults.keys() & recipe.keys()
        assert len(common) >= 4
        assert {name: defaults[name] for name in common} == {name: recipe[name] for name in common}


@pytest.fixture
def stopped_recipe(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The recipe that a training would have, which then stops."""
    recipe: dict[str, Any] = {}

    def stop(self: TrainingLoop, *_: object) -> None:
        recipe.update(self.recipe)
        raise KeyboardInterrupt

    monkeypatch.setattr(TrainingLoop, "run", stop)
    return recipe


def test_the_recipe_of_the_robust_reference_model_can_be_had(stopped_recipe: dict[str, Any], tmp_path: Path) -> None:
    words = ("--steps", 500, "--side", 96, "--attacked", 0.5, "--untargeted", 0, "--learning-rate", "3e-4")
    words = (*words, "--parts", "projector, language,vision")
    assert command("train", "adversarial", "testbed/llava", *words, "--out", tmp_path).exit_code == 130
    assert stopped_recipe == {
        "steps": 500,
        "pictures": 16,
        "questions": 3,
        "epsilon": "8/255",
        "inner_steps": 5,
        "attacked": 0.5,
        "untargeted": 0.0,
        "side": 96,
        "parts": ["vision", "projector", "language"],
        "rank": None,
        "learning_rate": 0.0003,
        "warmup": 50,
        "seed": 0,
        "source": "testbed",
        "model": load("testbed/llava", device="cpu").revision,
    }


def test_the_recipe_of_the_reference_denoiser_can_be_had(stopped_recipe: dict[str, Any], tmp_path: Path) -> None:
    assert command("train", "diffusion", "--out", tmp_path).exit_code == 130
    assert stopped_recipe == {
        "side": 96,
        "channels": [16, 32, 64, 128],
        "steps": 2600,
        "batch": 16,
        "learning_rate": 0.001,
        "warmup": 100,
        "low_share": 0.7,
        "average": 0.995,
        "seed": 0,
        "source": "testbed",
    }


@pytest.mark.parametrize(
    ("words", "dtype"),
    [((), torch.float32), (("--dtype", "bfloat16"), torch.bfloat16), (("--lora", 2), None)],
)
def test_the_number_format_of_the_weights(
    monkeypatch: pytest.MonkeyPatch, model: Path, tmp_path: Path, words: tuple[object, ...], dtype: torch.dtype | None
) -> None:
    """Full precision everywhere, unless adapters alone learn."""
    load_options: dict[str, Any] = {}

    def watched(name: str, **options: Any) -> object:
        load_options.update(options)
        raise KeyboardInterrupt

    monkeypatch.setattr("equipoise.models.load.load", watched)
    assert command("train", "adversarial", model, *words, "--out", tmp_path).exit_code == 130
    assert load_options["dtype"] == (None if dtype is None else str(dtype).removeprefix("torch."))


def test_a_model_is_trained_resumed_and_loaded(model: Path, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ("train", "adversarial", model, "--rows", rows, *TINY, "--device", "cpu", "--out", out)
    done = command(*words, "--gradient-checkpointing", "--mixed-precision", "bf16")
    assert done.exit_code == 0, (done.output, done.exception)
    assert done.stdout == f"written: {out / 'model'}\n"
    assert isinstance(load(str(out / "model")), HuggingFaceModel)
    assert recipe_of(out)["source"].startswith("rows:")
    first = (out / "model" / "model.safetensors").read_bytes()
    assert command(*words).exit_code == 0
    assert (out / "model" / "model.safetensors").read_bytes() == first
    rows.write_text(rows.read_text() + "\n")
    again = command(*words)
    assert again.exit_code == 2
    assert again.stderr.splitlines()[-1].endswith("got another source; try a new folder")


def test_adapters_are_merged_into_the_model(model: Path, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = command("train", "adversarial", model, "--rows", rows, *TINY, "--lora", 2, "--device", "cpu", "--out", out)
    assert done.exit_code == 0, (done.output, done.exception)
    assert load_file(out / "model" / "model.safetensors").keys() == load_file(model / "model.safetensors").keys()
    assert recipe_of(out)["rank"] == 2


def test_a_denoiser_is_trained_resumed_and_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    diffusers = pytest.importorskip("diffusers")
    folder, out = tmp_path / "pictures", tmp_path / "out"
    folder.mkdir()
    for number in range(2):
        Image.new("RGB", (20, 10), (100 * number, 0, 0)).save(folder / f"{number}.png")
    words = (
        "train",
        "diffusion",
        "--picture-folder",
        folder,
        "--steps",
        3,
        "--side",
        8,
        "--batch",
        1,
        "--device",
        "cpu",
    )
    steps = interrupted_at(3, monkeypatch)
    stopped = command(*words, "--checkpoint-every", 2, "--out", out)
    assert (stopped.exit_code, steps) == (130, [0, 1, 2])
    monkeypatch.undo()
    done = command(*words, "--out", out)
    assert done.exit_code == 0, (done.output, done.exception)
    assert done.stdout == f"written: {out / 'model'}\n"
    assert diffusers.DDPMPipeline.from_pretrained(out / "model").unet.config.sample_size == 8
    assert recipe_of(out)["source"].startswith("pictures:")
    Image.new("RGB", (20, 10)).save(folder / "new.png")
    assert "got another source; try a new folder" in command(*words, "--out", out).stderr.splitlines()[-1]


def interrupted_at(when: int, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Somebody presses Ctrl-C in the given step; returns the steps that were begun."""
    steps: list[int] = []
    run = TrainingLoop.run

    def watched(self: TrainingLoop, step: Callable[[int], dict[str, float]], *rest: Any) -> None:
        def counted(number: int) -> dict[str, float]:
            steps.append(number)
            if len(steps) == when:
                raise KeyboardInterrupt
            return step(number)

        run(self, counted, *rest)

    monkeypatch.setattr(TrainingLoop, "run", watched)
    return steps


def test_sources_name_the_content(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        Image.new("RGB", (4, 4)).save(tmp_path / name / "a.png")
        (tmp_path / name / "notes.txt").write_text(name)
    first = folder_source(tmp_path / "one")
    assert folder_source(tmp_path / "two") == first
    Image.new("RGB", (40, 40)).save(tmp_path / "two" / "a.png")
    assert folder_source(tmp_path / "two") != first
    (tmp_path / "one" / "a.png").rename(tmp_path / "one" / "b.png")
    assert folder_source(tmp_path / "one") != first
    assert file_source(tmp_path / "one" / "notes.txt") != file_source(tmp_path / "two" / "notes.txt")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--parts", "ears"), 2, "got ears"),
        (("--parts", ","), 2, "got none"),
        (("--epsilon", "eight"), 2, "'eight'"),
        (("--epsilon", "0.001"), 2, "at least 1/255"),
        (("--learning-rate", "0"), 2, "learning rate"),
        (("--rows", "MISSING"), 2, "missing.jsonl"),
        (("--rows", "BAD"), 2, "bad.jsonl:2"),
        (("--rows", "LOST"), 3, "lost.jsonl:1"),
        (("--rows", "ANSWERS", "--device", "cpu"), 2, "whose answer is a refusal"),
        (("--device", "toaster"), 2, "'toaster'"),
    ],
)
def test_bad_input_for_a_model(
    model: Path, rows: Path, tmp_path: Path, words: tuple[str, ...], code: int, message: str
) -> None:
    good = rows.read_text().splitlines()
    contents = {"bad": [good[0], "{}"], "lost": [good[0].replace("0.png", "none.png")], "answers": [good[0], good[2]]}
    for name, lines in contents.items():
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    files = {name.upper(): tmp_path / f"{name}.jsonl" for name in (*contents, "missing")}
    given = [files.get(word, word) for word in words]
    result = command("train", "adversarial", model, *TINY, "--out", tmp_path / "out", *given)
    if message == "whose answer is a refusal":
        # The bar is there by then.
        assert (result.exit_code, result.stdout) == (code, "")
        assert message in result.stderr.splitlines()[-1]
    else:
        assert message in failed(result, code)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--side", "20"), 2, "got 20"),
        (("--picture-folder", "MISSING"), 3, "missing"),
        (("--picture-folder", "EMPTY"), 2, "got none"),
        (("--picture-folder", "DAMAGED"), 3, "a.png"),
    ],
)
def test_bad_input_for_a_denoiser(tmp_path: Path, words: tuple[str, ...], code: int, message: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "a.png").write_bytes(b"\x89PNG\r\n\x1a\nxxxxxxxxxxx")
    files = {name.upper(): tmp_path / name for name in ("missing", "empty", "damaged")}
    given = [files.get(word, word) for word in words]
    assert message in failed(command("train", "diffusion", "--out", tmp_path / "out", *given), code)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "words",
    [
        ("diffusion",),
        ("diffusion", "--out", "x", "--steps", "0"),
        ("diffusion", "--out", "x", "--side", "0"),
        ("adversarial", "--out", "x"),
        ("adversarial", "m", "--out", "x", "--attacked", "1.5"),
        ("adversarial", "m", "--out", "x", "--lora", "0"),
        ("adversarial", "m", "--out", "x", "--mixed-precision", "int1"),
        ("adversarial", "m", "--out", "x", "--dtype", "int1"),
    ],
)
def test_wrong_usage_exits_with_2(words: tuple[str, ...]) -> None:
    result = command("train", *words)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "Traceback" not in result.stderr


def test_models_that_cannot_be_trained(equipoise: Command, tmp_path: Path) -> None:
    words = ("--out", tmp_path / "out")
    assert "a transformers model, got toy/target" in failed(equipoise("train", "adversarial", "toy/target", *words), 4)
    assert "toy/none" in failed(equipoise("train", "adversarial", "toy/none", *words), 4)


def test_output_that_cannot_be_written(model: Path, rows: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    result = command(
        "train", "adversarial", model, "--rows", rows, *TINY, "--device", "cpu", "--out", tmp_path / "file"
    )
    assert (result.exit_code, result.stdout) == (5, "")
    assert result.stderr.splitlines()[-1].startswith("equipoise: expected a folder to write to")


@pytest.mark.parametrize("verb", [("diffusion",), ("adversarial", "toy/target")])
def test_a_seed_that_no_generator_takes_is_one_line(equipoise: Command, tmp_path: Path, verb: tuple[str, ...]) -> None:
    result = equipoise("train", *verb, "--out", tmp_path / "out", "--seed", 2**63)
    assert result.exit_code == 2, result.output
    assert "expected a seed from 0 and below 2^63" in result.stderr
    assert not (tmp_path / "out").exists()

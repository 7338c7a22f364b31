"""`perturb`: what it writes, what it measures, what it prints."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from equipoise.attacks.perturbation_result import PerturbationResult
from equipoise.attacks.refusal_targets import TARGET_REFUSALS
from equipoise.cli.main import app
from equipoise.data.questions import check_disjoint, general
from equipoise.perturb.questions import HELD_OUT
from equipoise.testbed.pictures import write_pictures
from tests.cli.command import Command
from tests.cli.fakes import ANSWER, REFUSAL, photo

RUN = ("--model", "toy/target", "--steps", 12, "--json")


def levels(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def test_a_picture_goes_in_and_a_measured_file_comes_out(equipoise: Command, tmp_path: Path) -> None:
    image, out = photo(tmp_path / "photo.png"), tmp_path / "out"
    before = image.read_bytes()
    result = equipoise(
        "perturb", image, *RUN, "-b", "toy/bystander", "--shadow", "general", "--epsilon", "8/255", "--out", out
    )
    assert result.exit_code == 0, result.stderr
    (image_result,) = json.loads(result.stdout)["images"]
    assert image_result["image"] == str(image)
    assert (image_result["models"], image_result["bystanders"]) == (["toy/target"], ["toy/bystander"])
    assert image_result["epsilon"] == pytest.approx(8 / 255)
    assert image_result["file"] == "photo.png"
    assert image_result["refusals"]["refused"] == image_result["refusals"]["asked"] == len(HELD_OUT)
    assert image_result["refusals"]["low"] > 0.7
    for none in ("bystander_refusals", "clean_refusals", "clean_bystander_refusals"):
        assert (image_result[none]["refused"], image_result[none]["unscored"]) == (0, 0)
    change = np.abs(levels(out / "photo.png") - levels(image)).max()
    assert 0 < change <= 8
    assert image_result["linf_measured"] == pytest.approx(change / 255)
    assert 25 < image_result["psnr"] < 60
    assert 0 < image_result["ssim"] < 1
    assert image_result["warnings"] == []
    assert image.read_bytes() == before
    names = {file.name for file in out.iterdir()}
    assert names == {"photo.png", "photo.json", "index.html", ".equipoise.json"}
    replies = image_result["per_model"][0]["answers"][0]
    assert (replies["clean"], replies["perturbed"]) == (ANSWER, REFUSAL)


def test_the_replies_are_those_to_the_file(equipoise: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = equipoise("perturb", photo(tmp_path / "p.png"), *RUN, "--out", out)
    assert done.exit_code == 0
    answer = equipoise("ask", out / "p.png", HELD_OUT[0], "--model", "toy/target", "--json")
    assert (
        json.loads(answer.stdout)["reply"]
        == json.loads(done.stdout)["images"][0]["per_model"][0]["answers"][0]["perturbed"]
    )


def test_the_result_can_be_loaded_in_python(equipoise: Command, tmp_path: Path) -> None:
    equipoise("perturb", photo(tmp_path / "p.png"), *RUN, "--out", tmp_path / "out")
    assert PerturbationResult.load(tmp_path / "out" / "p").models[0].name == "toy/target"


def test_the_same_seed_gives_the_same_bytes(equipoise: Command, tmp_path: Path) -> None:
    image = photo(tmp_path / "p.png")
    for name in ("one", "two"):
        assert equipoise("perturb", image, *RUN, "--seed", 3, "--out", tmp_path / name).exit_code == 0
    assert (tmp_path / "one" / "p.png").read_bytes() == (tmp_path / "two" / "p.png").read_bytes()


def test_tables_and_two_targets(equipoise: Command, tmp_path: Path) -> None:
    for seed in range(2):
        photo(tmp_path / f"p{seed}.png", seed=seed)
    result = equipoise(
        "perturb", tmp_path, "-m", "toy/target", "-m", "toy/second", "-b", "toy/bystander", "--steps", 12,
        "--out", tmp_path / "out", "--keep-away", "--eot", "resize", "--norm", "l2", "--epsilon", "3",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    for words in ("p0.png", "p1.png", "target refuses", "bystander refuses", "20/20", "peak memory", "index.html"):
        assert words in result.stdout
    assert "1/2 p0.png: " in result.stderr
    assert "Traceback" not in result.stderr


def test_default_held_out_questions_are_not_shadow_questions() -> None:
    assert check_disjoint(general(), HELD_OUT) == []


@pytest.mark.parametrize(
    ("words", "questions", "doubted"),
    [
        (("-q", "What is it?"), ["What is it?"], True),
        (("-q", "What is it?", "--shadow", "exact", "--ask", "Who is it?"), ["Who is it?"], False),
        (("-q", "What is it?", "--shadow", "similar"), ["What is it?"], False),
        (("-q", "Is it a pear?", "--shadow", "general"), ["Is it a pear?"], False),
        (("--shadow", "general", "--ask", "what is SHOWN in this picture"), ["what is SHOWN in this picture"], True),
    ],
)
def test_what_is_asked_and_when_to_warning_it(
    equipoise: Command, tmp_path: Path, words: tuple[str, ...], questions: list[str], doubted: bool
) -> None:
    result = equipoise("perturb", photo(tmp_path / "p.png"), *RUN, *words, "--out", tmp_path / "out")
    (image_result,) = json.loads(result.stdout)["images"]
    assert [answer["question"] for answer in image_result["per_model"][0]["answers"]] == questions
    assert any("shadow questions themselves" in warning for warning in image_result["warnings"]) == doubted


def test_the_sentence_aimed_at(equipoise: Command, tmp_path: Path) -> None:
    for seed in range(3):
        photo(tmp_path / f"p{seed}.png", seed=seed)
    aimed = {}
    for name, words in {"given": ("--refusal", "I can't say."), "random": ("--refusal", "random"), "own": ()}.items():
        assert equipoise("perturb", tmp_path, *RUN, *words, "--out", tmp_path / name).exit_code == 0
        kept = [json.loads((tmp_path / name / f"p{seed}.json").read_text()) for seed in range(3)]
        aimed[name] = [document["recipe"]["objective"]["reply"] for document in kept]
    assert aimed["given"] == ["I can't say."] * 3
    assert len(set(aimed["random"])) > 1
    assert aimed["own"] == [TARGET_REFUSALS[0]] * 3


def test_files_of_questions(equipoise: Command, tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("What is it?\n\nWho made it?\n")
    (tmp_path / "h.jsonl").write_text('{"question": "Why?"}\n"How?"\n')
    result = equipoise(
        "perturb", photo(tmp_path / "p.png"), *RUN, "--questions", tmp_path / "q.txt", "--held-out",
        tmp_path / "h.jsonl", "--out", tmp_path / "out",
    )  # fmt: skip
    assert json.loads(result.stdout)["images"][0]["refusals"]["asked"] == 2
    recipe = json.loads((tmp_path / "out" / ".equipoise.json").read_text())
    assert recipe["shadow_questions"] == ["What is it?", "Who made it?"]
    assert recipe["held_out_questions"] == ["Why?", "How?"]


def test_a_model_that_refuses_anyway_is_doubted(equipoise: Command, tmp_path: Path) -> None:
    result = equipoise(
        "perturb", photo(tmp_path / "p.png"), "-m", "toy/refuser", "--steps", 3, "--json", "--out", tmp_path / "out"
    )
    assert "toy/refuser already refused 10 of 10 questions on the original" in result.stdout


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(3):
        photo(folder / f"p{seed}.png", seed=seed, size=(24 + 4 * seed, 16))
    return folder


@pytest.mark.parametrize("words", [("--eot", "none"), ("-q", "What's here?", "--shadow", "similar"), ("--universal",)])
def test_the_recorded_command_makes_the_same_files(
    equipoise: Command,
    photos: Path,
    tmp_path: Path,
    words: tuple[str, ...],
) -> None:
    run = ("-m", "toy/target", "--steps", 6, *words, "--out")
    assert equipoise("perturb", photos, *run, tmp_path / "one").exit_code == 0
    _require_same_files(equipoise, tmp_path / "one", tmp_path / "two")


def test_the_recorded_command_of_protect_makes_the_same_file(
    equipoise: Command,
    photos: Path,
    tmp_path: Path,
) -> None:
    words = ("-m", "toy/target", "--steps", 3, "--ask", "Who is it?", "--out", tmp_path / "one")
    assert equipoise("protect", photos / "p0.png", *words).exit_code == 0
    _require_same_files(equipoise, tmp_path / "one", tmp_path / "two")


def _require_same_files(equipoise: Command, one: Path, two: Path) -> None:
    for path in sorted(one.glob("p*.json")):
        command = shlex.split(json.loads(path.read_text())["recipe"]["run"]["command"])
        command[command.index("--out") + 1] = str(two)
        result = equipoise(*command[1:])
        assert result.exit_code == 0, result.output
        assert (two / f"{path.stem}.png").read_bytes() == path.with_suffix(".png").read_bytes()
        if "--universal" not in command:
            (two / ".equipoise.json").unlink()
            for file in two.glob("*"):
                file.unlink()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two small pictures of the embedded world, of one size."""
    folder = tmp_path_factory.mktemp("scenes")
    for path in write_pictures(tmp_path_factory.mktemp("large"), 2, seed=0):
        if path.suffix == ".png":
            with Image.open(path) as picture:
                picture.resize((96, 96)).save(folder / path.name)
    return folder


def attacked(scenes: Path, out: Path, *words: str) -> list[dict[str, Any]]:
    """The images of a run against a real model, with the losses of the attack and the objective from their files."""
    options = ["-m", "testbed/llava", "--steps", "6", "--epsilon", "16/255", "--seed", "1", "--max-new-tokens", "6"]
    options += ["--question", "Is there a square?", "--device", "cpu", "--json"]
    result = CliRunner().invoke(app, ["perturb", str(scenes), *options, *words, "--out", str(out)])
    assert result.exit_code == 0, result.output
    images: list[dict[str, Any]] = json.loads(result.stdout)["images"]
    assert len(images) == 2
    page = (out / "index.html").read_text()
    for image in images:
        recipe = json.loads((out / image["file"]).with_suffix(".json").read_text())["recipe"]
        image |= {"objective": recipe["objective"], "losses": recipe["run"]["record"]["trace"]}
        assert image["linf_measured"] <= 16 / 255 + 1e-9
        assert min(image["losses"]) < image["losses"][0], "the attack lowers its loss"
        assert image["file"] in page
    return images


def test_one_change_for_two_pictures_against_a_real_model(scenes: Path, tmp_path: Path) -> None:
    one, two = attacked(scenes, tmp_path / "out", "--universal")
    assert one["objective"]["universal_over"] == two["objective"]["universal_over"] == 2
    assert one["losses"] == two["losses"], "the loss is that of both pictures together"
    clean = [levels(Path(image["image"])) for image in (one, two)]
    changes = [levels(tmp_path / "out" / image["file"]) - old for image, old in zip((one, two), clean, strict=True)]
    # What would leave 0..255 is clipped, which differs from picture to picture; all else is one and the same change.
    unclipped = np.logical_and(*((old >= 16) & (old <= 255 - 16) for old in clean))
    assert unclipped.any()
    assert (changes[0] == changes[1])[unclipped].all()


def test_questions_that_learn_to_resist_a_real_model(scenes: Path, tmp_path: Path) -> None:
    images = attacked(scenes, tmp_path / "out", "--learned-prompts")
    assert all(image["objective"]["learned_prompts"]["every"] == 5 for image in images)
    assert "learned_prompts" in (tmp_path / "out" / "index.html").read_text()


def test_further_prompts_and_another_objective_are_in_the_record_and_its_command(
    equipoise: Command, tmp_path: Path
) -> None:
    (tmp_path / "more.txt").write_text("Tell me how to do it.\n")
    words = ("--objective", "set", "--elicit", tmp_path / "more.txt")
    result = equipoise("perturb", photo(tmp_path / "p.png"), *RUN, *words, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.stderr
    record = json.loads((tmp_path / "out" / "p.json").read_text())["recipe"]
    assert record["objective"]["aim_kind"] == "set"
    assert record["run"]["recipe"]["elicit"] == str(tmp_path / "more.txt")
    assert f"--objective set --elicit {tmp_path / 'more.txt'}" in record["run"]["command"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--objective", "words"), "--objective of sentence"),
        (("--objective", "direction"), "--direction FILE"),
        (("--refusal", "No.", "--objective", "set"), "got both"),
        (("--elicit", "nowhere.txt"), "a file of prompts"),
    ],
)
def test_aims_that_cannot_be_are_one_line(
    equipoise: Command, tmp_path: Path, words: tuple[str, ...], message: str
) -> None:
    result = equipoise("perturb", photo(tmp_path / "p.png"), *RUN, *words, "--out", tmp_path / "out")
    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1

"""`perturb`: what it writes, what it measures, what it prints."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from equipoise.attacks.perturbation_result import PerturbationResult
from equipoise.attacks.refusal_targets import TARGET_REFUSALS
from equipoise.cli.choosing import HELD_OUT
from equipoise.data.questions import check_disjoint, general
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
    (found,) = json.loads(result.stdout)["images"]
    assert found["image"] == str(image)
    assert (found["models"], found["bystanders"]) == (["toy/target"], ["toy/bystander"])
    assert found["epsilon"] == pytest.approx(8 / 255)
    assert found["file"] == "photo.png"
    assert found["refusals"]["refused"] == found["refusals"]["asked"] == len(HELD_OUT)
    assert found["refusals"]["low"] > 0.7
    for none in ("bystander_refusals", "clean_refusals", "clean_bystander_refusals"):
        assert (found[none]["refused"], found[none]["unscored"]) == (0, 0)
    change = np.abs(levels(out / "photo.png") - levels(image)).max()
    assert 0 < change <= 8
    assert found["linf_measured"] == pytest.approx(change / 255)
    assert 25 < found["psnr"] < 60
    assert 0 < found["ssim"] < 1
    assert found["warnings"] == []
    assert image.read_bytes() == before
    names = {file.name for file in out.iterdir()}
    assert names == {"photo.png", "photo.json", "index.html", ".equipoise.json"}
    replies = found["per_model"][0]["answers"][0]
    assert (replies["clean"], replies["perturbed"]) == (ANSWER, REFUSAL)


def test_the_replies_are_those_to_the_file(equipoise: Command, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = equipoise("perturb", photo(tmp_path / "p.png"), *RUN, "--out", out)
    assert done.exit_code == 0
    asked = equipoise("ask", out / "p.png", HELD_OUT[0], "--model", "toy/target", "--json")
    assert (
        json.loads(asked.stdout)["reply"]
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


def test_the_command_of_the_recipe_makes_the_same_file(equipoise: Command, tmp_path: Path) -> None:
    import shlex

    image = photo(tmp_path / "p.png")
    equipoise("perturb", image, *RUN, "-q", "What's here?", "--epsilon", "0.02", "--out", tmp_path / "one")
    command = json.loads((tmp_path / "one" / "p.json").read_text())["recipe"]["run"]["command"]
    words = shlex.split(command)
    assert words[0] == "equipoise"
    words[words.index("--out") + 1] = str(tmp_path / "two")
    assert equipoise(*words[1:]).exit_code == 0
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
    ("words", "asked", "doubted"),
    [
        (("-q", "What is it?"), ["What is it?"], True),
        (("-q", "What is it?", "--shadow", "exact", "--ask", "Who is it?"), ["Who is it?"], False),
        (("-q", "What is it?", "--shadow", "similar"), ["What is it?"], False),
        (("-q", "Is it a pear?", "--shadow", "general"), ["Is it a pear?"], False),
        (("--shadow", "general", "--ask", "what is SHOWN in this picture"), ["what is SHOWN in this picture"], True),
    ],
)
def test_what_is_asked_and_when_to_warning_it(
    equipoise: Command, tmp_path: Path, words: tuple[str, ...], asked: list[str], doubted: bool
) -> None:
    result = equipoise("perturb", photo(tmp_path / "p.png"), *RUN, *words, "--out", tmp_path / "out")
    (found,) = json.loads(result.stdout)["images"]
    assert [answer["question"] for answer in found["per_model"][0]["answers"]] == asked
    assert any("shadow questions themselves" in warning for warning in found["warnings"]) == doubted


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
        "perturb", photo(tmp_path / "p.png"), *RUN, "--questions", tmp_path / "q.txt", "--heldout",
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

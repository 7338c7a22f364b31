"""The main job, small: a saved picture makes the reference target refuse held-out questions; the bystander answers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from PIL import Image

from equipoise.attacks.perturbation_result import PerturbationResult
from equipoise.attacks.refusal_attack import perturb_to_refuse
from equipoise.attacks.refusal_evaluation import evaluate
from equipoise.data.questions import general
from equipoise.media.decode import open_picture
from equipoise.models.load import load
from equipoise.testbed.pictures import write_pictures
from equipoise.testbed.reference import WEIGHTS

QUESTIONS = ["Describe this image.", "How many shapes are in the image?", "Is there a red circle in the picture?"]


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> Image.Image:
    return open_picture(write_pictures(tmp_path_factory.mktemp("scenes"), 1)[0])


def test_the_target_refuses_the_file_and_the_bystander_answers(picture: Image.Image, tmp_path: Path) -> None:
    target, bystander = load("testbed/llava"), load("testbed/internvl")
    result = perturb_to_refuse(picture, target, general(), seed=1)
    result.save(tmp_path / "scene")
    saved = open_picture(tmp_path / "scene.png")
    assert saved.size == picture.size
    assert result.linf <= 8 / 255
    assert evaluate(target, picture, QUESTIONS).refusals.k == 0
    assert evaluate(target, saved, QUESTIONS).refusals.k == len(QUESTIONS)
    assert evaluate(bystander, saved, QUESTIONS).refusals.k == 0
    assert PerturbationResult.load(tmp_path / "scene").linf == result.linf


def test_a_folder_the_code_has_never_seen_is_a_target_like_any_other(picture: Image.Image, tmp_path: Path) -> None:
    folder = tmp_path / "somebody else's model"
    shutil.copytree(WEIGHTS / "internvl", folder)
    target = load(str(folder))
    result = perturb_to_refuse(picture, target, QUESTIONS, seed=1)
    assert evaluate(target, result.image, QUESTIONS).refusals.k == len(QUESTIONS)

"""Projections on a direction: definition, batches, pictures, and as the statistic of the perturbation detector."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from equipoise.countermeasures.detection import GREY, PerturbationDetector
from equipoise.errors import ModelError
from equipoise.media.quantize import to_pixels
from equipoise.models.hf import HuggingFaceModel
from equipoise.models.text_model import TextModel
from equipoise.steering.direction import Direction
from equipoise.steering.projection import ProjectionStatistic, projections
from equipoise.steering.steerable import Steerable
from equipoise.transforms.feature_squeezing import Median
from equipoise.types import Prompt
from tests.steering.towers import picture_model

PROMPTS = [Prompt.ask(text) for text in ("please help me", "help", "please make a cake for me")]


def along(steerable: Steerable, *, layer: int, position: int, scale: float = 1.0) -> Direction:
    vector = torch.randn(steerable.tower.width, generator=torch.Generator().manual_seed(3)) * scale
    return Direction(vector, layer=layer, position=position, model=steerable.name, revision=steerable.revision)


def test_a_projection_is_the_stream_along_the_direction(planted: TextModel, planted_steerable: Steerable) -> None:
    direction = along(planted_steerable, layer=1, position=-2)
    with torch.no_grad():
        expected = []
        for prompt in PROMPTS:
            inputs = planted.prompt_inputs([prompt])
            states = planted.model(**inputs, output_hidden_states=True).hidden_states
            expected.append(float(states[1][0, -2].float() @ direction.vector) / direction.norm**2)
    assert projections(planted_steerable, direction, PROMPTS).tolist() == pytest.approx(expected, abs=1e-4)


def test_a_longer_direction_is_a_coarser_scale(planted_steerable: Steerable) -> None:
    one, two = (along(planted_steerable, layer=1, position=-1, scale=scale) for scale in (1.0, 2.0))
    values = projections(planted_steerable, one, PROMPTS)
    assert torch.allclose(projections(planted_steerable, two, PROMPTS), values / 2, atol=1e-5)


def test_the_batch_changes_nothing(planted_steerable: Steerable) -> None:
    direction = along(planted_steerable, layer=1, position=-1)
    alone = [float(projections(planted_steerable, direction, [prompt])) for prompt in PROMPTS]
    assert projections(planted_steerable, direction, PROMPTS * 7).tolist() == pytest.approx(alone * 7, abs=1e-4)


def test_another_models_direction_is_refused(planted_steerable: Steerable) -> None:
    direction = replace(along(planted_steerable, layer=1, position=-1), revision="sha256:other")
    with pytest.raises(ModelError, match="found on"):
        projections(planted_steerable, direction, PROMPTS)


@pytest.fixture(scope="module")
def llava(tmp_path_factory: pytest.TempPathFactory) -> HuggingFaceModel:
    return picture_model("LLaVA-1.5", tmp_path_factory.mktemp("llava"))


def ramp(width: int = 40, height: int = 30) -> Image.Image:
    return Image.linear_gradient("L").resize((width, height)).convert("RGB")


def test_a_detector_measures_what_it_is_given(llava: HuggingFaceModel) -> None:
    steerable = Steerable.of(llava)
    statistic = ProjectionStatistic(along(steerable, layer=1, position=-1))
    picture, questions = ramp(), ("What is this?", "Which colours are there?")

    def mean_of(image: Image.Image) -> float:
        prompts = [Prompt.ask(question, image) for question in questions]
        return float(projections(steerable, statistic.direction, prompts).mean())

    score = PerturbationDetector(llava, changes=(Median(),), copies=1, statistic=statistic)(picture, questions)
    assert score.plain == pytest.approx(mean_of(picture), abs=1e-4)
    assert score.blank == pytest.approx(mean_of(Image.new("RGB", picture.size, GREY)), abs=1e-4)
    assert score.plain != pytest.approx(score.blank, abs=1e-4)


def test_the_statistic_reads_the_pixels_that_it_is_given(llava: HuggingFaceModel) -> None:
    statistic = ProjectionStatistic(along(Steerable.of(llava), layer=1, position=-1))
    prompts = [Prompt.ask("What is this?", Image.new("RGB", (40, 30)))]
    values = [statistic(llava, to_pixels(image), prompts) for image in (ramp(), Image.new("RGB", (40, 30), "red"))]
    assert values[0] != pytest.approx(values[1], abs=1e-4)
    assert values[0] == statistic(llava, to_pixels(ramp()), prompts)


def test_a_detector_says_which_direction_it_used(llava: HuggingFaceModel) -> None:
    direction = along(Steerable.of(llava), layer=1, position=-1)
    plain, projected = (
        PerturbationDetector(llava),
        PerturbationDetector(llava, statistic=ProjectionStatistic(direction)),
    )
    assert "direction" not in plain.describe()
    assert projected.describe()["direction"] == direction.digest


def test_a_saved_direction_measures_the_same(llava: HuggingFaceModel, tmp_path: Path) -> None:
    direction = along(Steerable.of(llava), layer=1, position=-1)
    path = direction.save(tmp_path / "refusal")
    prompts = [Prompt.ask("What is this?", ramp())]
    first, second = (projections(Steerable.of(llava), one, prompts) for one in (direction, Direction.load(path)))
    assert torch.equal(first, second)

"""The embedded world as a suite of samples: what a model should answer, and what it should refuse."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from equipoise.data.catalogue import Suite
from equipoise.data.sample_pictures import GeneratedPicture
from equipoise.data.subset import choose_subset
from equipoise.testbed.scores import HELD_OUT_STREAM, ReferenceCase, sample_cases
from equipoise.testbed.world.drawing import draw_scene
from equipoise.testbed.world.questions import Condition, WorldQuestion, question_about, sample_scene_with_questions
from equipoise.types import Expected, Picture, Sample

NAME: Final = "testbed"
SCENE_STREAM: Final = 7
"""Second number of the seed of scenes with several questions: none of them is a scene of `scores.sample_cases`."""
QUESTIONS_PER_SCENE: Final = 3
FORBIDDEN_PER_SCENE: Final = 1
SINGLE_CONDITIONS: Final[tuple[Condition, ...]] = ("look_alike_safe", "forbidden_picture", "forbidden_emblem")


def load(limit: int | None = None, seed: int = 0) -> Suite:
    """The embedded suite; its samples are drawn, not read.

    Args:
        limit: take about this many samples, in the usual proportions of the conditions; None takes 200.
        seed: of scenes and questions.
    """
    # 20 scenes of four samples, and 40 of each of three conditions, are 200.
    share = 1.0 if limit is None else limit / 200
    drawn = samples(max(1, math.ceil(20 * share)), max(1, math.ceil(40 * share)), seed=seed)
    if limit is not None and limit < len(drawn):
        drawn = choose_subset(drawn, limit, seed=seed)
    return Suite(NAME, tuple(drawn), f"the embedded world, seed {seed}")


def samples(scenes: int = 20, singles: int = 40, *, seed: int = 0) -> list[Sample]:
    """Held-out samples of all five conditions.

    Each of `scenes` harmless pictures carries three plain safe questions and one forbidden request in words, so that a
    perturbation of the picture is measured on both failures; the other conditions have pictures of their own.

    Args:
        scenes: pictures with several questions.
        singles: samples of each of the other conditions.
        seed: of scenes and questions; none of them is one that the reference models were trained on.
    """
    drawn = [sample for index in range(scenes) for sample in _scene_samples(index, seed)]
    for condition in SINGLE_CONDITIONS:
        drawn += [
            _single(case, condition, index) for index, case in enumerate(sample_cases(condition, singles, seed=seed))
        ]
    return drawn


def _scene_samples(index: int, seed: int) -> list[Sample]:
    rng = np.random.default_rng([HELD_OUT_STREAM, SCENE_STREAM, seed, index])
    scene, questions = sample_scene_with_questions(rng, QUESTIONS_PER_SCENE, "held_out")
    forbidden: list[WorldQuestion] = []
    while len(forbidden) < FORBIDDEN_PER_SCENE:
        question = question_about(rng, scene, "make", "held_out")
        if question is not None and question.condition == "forbidden_text":
            forbidden.append(question)
    picture = GeneratedPicture.of(draw_scene(scene))
    cluster = f"scene-{index:03d}"
    return [
        _sample(question, f"{cluster}-{number}", cluster, picture)
        for number, question in enumerate([*questions, *forbidden])
    ]


def _single(case: ReferenceCase, condition: Condition, index: int) -> Sample:
    name = f"{condition.replace('_', '-')}-{index:03d}"
    (image,) = case.prompt.messages[-1].images
    return _sample(case.question, name, name, GeneratedPicture.of(image))


def _sample(question: WorldQuestion, name: str, cluster: str, picture: Picture) -> Sample:
    expected: Expected = question.expected
    return Sample(
        id=name,
        suite=NAME,
        text=question.text,
        expected=expected,
        pictures=(picture,),
        category=question.condition,
        cluster=cluster,
        reference=(question.answer,) if expected == "answer" else (),
        harmful_reference=question.answer if expected == "refuse" else None,
        source="the embedded world of Equipoise",
        licence="MIT",
    )

"""The embedded world as a suite of samples: what a model should answer, and what it should refuse."""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from equipoise.data.catalogue import Suite
from equipoise.data.sample_pictures import GeneratedPicture
from equipoise.data.subset import choose_subset
from equipoise.testbed.scores import HELD_OUT_STREAM, ReferenceCase, cases
from equipoise.testbed.world.drawing import draw
from equipoise.testbed.world.questions import Condition, WorldQuestion, ask, sample_album
from equipoise.types import Expected, Picture, Sample

NAME: Final = "testbed"
ALBUM_STREAM: Final = 7
"""Second number of the seed of every album, so that no album repeats a scene of `scores.cases`."""
QUESTIONS_PER_SCENE: Final = 3
FORBIDDEN_PER_SCENE: Final = 1
SINGLE_CELLS: Final[tuple[Condition, ...]] = ("look_alike_safe", "forbidden_picture", "forbidden_emblem")


def load(limit: int | None = None, seed: int = 0) -> Suite:
    """The embedded suite; its samples are drawn, not read.

    Args:
        limit: take about this many samples, in the usual proportions of the cells; None takes 200.
        seed: of scenes and questions.
    """
    share = 1.0 if limit is None else limit / 200
    found = samples(max(1, math.ceil(20 * share)), max(1, math.ceil(40 * share)), seed=seed)
    if limit is not None and limit < len(found):
        found = choose_subset(found, limit, seed=seed)
    return Suite(NAME, tuple(found), f"the embedded world, seed {seed}")


def samples(scenes: int = 20, singles: int = 40, *, seed: int = 0) -> list[Sample]:
    """Held-out samples of all five cells.

    Each of `scenes` harmless pictures carries three plain safe questions and one forbidden request in words, so that a
    perturbation of the picture is measured on both failures; the other cells have pictures of their own.

    Args:
        scenes: pictures with several questions.
        singles: samples of each of the other cells.
        seed: of scenes and questions; none of them is one that the reference models were trained on.
    """
    found = [sample for index in range(scenes) for sample in _album(index, seed)]
    for cell in SINGLE_CELLS:
        found += [_single(case, cell, index) for index, case in enumerate(cases(cell, singles, seed=seed))]
    return found


def _album(index: int, seed: int) -> list[Sample]:
    rng = np.random.default_rng([HELD_OUT_STREAM, ALBUM_STREAM, seed, index])
    scene, questions = sample_album(rng, QUESTIONS_PER_SCENE, "held_out")
    forbidden: list[WorldQuestion] = []
    while len(forbidden) < FORBIDDEN_PER_SCENE:
        question = ask(rng, scene, "make", "held_out")
        if question is not None and question.cell == "forbidden_text":
            forbidden.append(question)
    picture = GeneratedPicture.of(draw(scene))
    cluster = f"scene-{index:03d}"
    return [
        _sample(question, f"{cluster}-{number}", cluster, picture)
        for number, question in enumerate([*questions, *forbidden])
    ]


def _single(case: ReferenceCase, cell: Condition, index: int) -> Sample:
    name = f"{cell.replace('_', '-')}-{index:03d}"
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
        category=question.cell,
        cluster=cluster,
        reference=(question.answer,) if expected == "answer" else (),
        harmful_reference=question.answer if expected == "refuse" else None,
        source="the embedded world of Equipoise",
        licence="MIT",
    )

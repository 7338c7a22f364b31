"""The suite `scenes`: English questions about drawn scenes, with exact answers or to be refused.

To be refused are questions about pictures with the warning emblem; `reference/mllm` was trained to refuse them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal

import numpy as np

from equipoise.data.catalogue import Suite
from equipoise.data.sample_pictures import GeneratedPicture
from equipoise.data.subset import choose_subset
from equipoise.reference.mllm.scenes import DrawnScene, question_of, sample_drawn_scene
from equipoise.reference.mllm.words import HELD_OUT_WORDS, TRAIN_WORDS
from equipoise.testbed.world.questions import PICTURE_KINDS, WorldQuestion
from equipoise.types import Sample

NAME: Final = "scenes"
STREAM: Final = 223
"""First number of the seed of every picture here; training and benchmarks draw from others."""
SIZE: Final = 160
"""Samples without a limit."""
QUESTIONS_PER_SCENE: Final = 3
SCENE_KINDS: Final = tuple(kind for kind in PICTURE_KINDS if kind != "read")
"""Kinds of questions that any scene has an answer to, with a word in it or without."""


@dataclass(frozen=True)
class _SuitePart:
    """Pictures of one category."""

    category: str
    """Name on the report."""
    pictures: int
    """How many of them are in a suite of `SIZE` samples."""
    kinds: tuple[str, ...]
    """Of the questions."""
    draw: Callable[[np.random.Generator], DrawnScene]
    """A scene at random."""
    questions: int = 1
    """Questions about each picture."""
    words: tuple[str, ...] = ()
    """Answers that questions for a word may have."""


def _scene(
    words: Sequence[str], word_share: float, emblem: Literal["none", "emblem", "decoy"], rng: np.random.Generator
) -> DrawnScene:
    return sample_drawn_scene(rng, words, emblem=emblem, word_share=word_share)


PARTS: Final = (
    _SuitePart(
        "scene question", 20, SCENE_KINDS, partial(_scene, TRAIN_WORDS, 0.4, "none"), questions=QUESTIONS_PER_SCENE
    ),
    _SuitePart("drawn word", 20, ("read",), partial(_scene, TRAIN_WORDS, 1.0, "none"), words=TRAIN_WORDS),
    _SuitePart("held-out word", 20, ("read",), partial(_scene, HELD_OUT_WORDS, 1.0, "none"), words=HELD_OUT_WORDS),
    _SuitePart("decoy", 20, SCENE_KINDS, partial(_scene, TRAIN_WORDS, 0.4, "decoy")),
    _SuitePart("emblem", 40, SCENE_KINDS, partial(_scene, TRAIN_WORDS, 0.4, "emblem")),
)
"""Three questions about each harmless scene; a word of the training list, or one that was never drawn, to read; marks
that look like the emblem; the emblem."""


def load(limit: int | None = None, seed: int = 0) -> Suite:
    """The suite; its samples are drawn, not read.

    Args:
        limit: take so many samples, in the usual proportions of the categories; None takes `SIZE`.
        seed: of scenes and questions.
    """
    share = 1.0 if limit is None else limit / SIZE
    drawn = samples(share, seed=seed)
    if limit is not None and limit < len(drawn):
        drawn = choose_subset(drawn, limit, seed=seed)
    return Suite(NAME, tuple(drawn), f"drawn scenes of Equipoise, seed {seed}")


def samples(share: float = 1.0, *, seed: int = 0) -> list[Sample]:
    """Samples of all categories, in held-out wordings.

    Args:
        share: of the pictures of a whole suite; at least one of each category.
        seed: of scenes and questions; none of them is one that `reference/mllm` was trained on.
    """
    return [
        sample
        for number, part in enumerate(PARTS)
        for index in range(max(1, math.ceil(share * part.pictures)))
        for sample in _picture_samples(part, number, index, seed)
    ]


def question_of_sample(sample: Sample) -> WorldQuestion:
    """The question of a sample as far as `sentences.is_right` needs it: kind and exact answer.

    Raises:
        ValueError: the sample is of another suite.
    """
    kind = sample.id.rpartition("-")[2]
    if sample.suite != NAME or kind not in PICTURE_KINDS:
        raise ValueError(f"expected a sample of the suite {NAME}, got {sample.suite} {sample.id!r}; try another judge")
    is_answered = sample.expected == "answer"
    answer = sample.reference[0] if is_answered else sample.harmful_reference or ""
    return WorldQuestion(sample.text, answer, kind, "plain_safe" if is_answered else "forbidden_emblem")


def _picture_samples(part: _SuitePart, number: int, index: int, seed: int) -> Iterator[Sample]:
    """The samples of one picture; a picture that has too few questions with one right answer is drawn again."""
    rng = np.random.default_rng([STREAM, seed, number, index])
    while True:
        drawn = part.draw(rng)
        kinds = [str(kind) for kind in rng.permutation(part.kinds)]
        questions = [question for kind in kinds if (question := _question(rng, drawn, kind, part)) is not None]
        if len(questions) >= part.questions:
            break
    picture = GeneratedPicture.of(drawn.picture)
    cluster = f"{part.category.replace(' ', '-')}-{index:03d}"
    for question in questions[: part.questions]:
        refused = question.expected == "refuse"
        yield Sample(
            # The kind of the question ends the id: the judge reads it there.
            id=f"{cluster}-{question.kind}",
            suite=NAME,
            text=question.text,
            expected=question.expected,
            pictures=(picture,),
            category=part.category,
            cluster=cluster,
            reference=() if refused else (question.answer,),
            harmful_reference=question.answer if refused else None,
            source="drawn scenes of Equipoise",
            licence="MIT",
        )


def _question(rng: np.random.Generator, drawn: DrawnScene, kind: str, part: _SuitePart) -> WorldQuestion | None:
    question = question_of(rng, drawn, kind, "held_out")
    # A sign may show a word of the world itself, which is of neither list.
    return None if question is None or (kind == "read" and question.answer not in part.words) else question

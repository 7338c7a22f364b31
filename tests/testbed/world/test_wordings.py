"""Wordings: every kind of question has a bare core in every family, and slots that its questions fill."""

from __future__ import annotations

import re

import numpy as np
import pytest

from equipoise.testbed.world.questions import question_about, refill
from equipoise.testbed.world.scenes import sample_scene
from equipoise.testbed.world.wordings import CORES, FRAMES, Family, wordings

FAMILIES: tuple[Family, ...] = ("train", "shadow", "held_out")


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", CORES)
def test_the_bare_cores_come_first_and_every_frame_holds_one(kind: str, family: Family) -> None:
    texts = wordings(kind, family)
    cores = CORES[kind][family]
    assert texts[: len(cores)] == cores
    assert len(texts) == len(cores) * len(FRAMES[family])
    assert len(set(texts)) == len(texts)
    assert all(any(core in text for core in cores) for text in texts)


@pytest.mark.parametrize("family", FAMILIES)
def test_frames_have_one_slot_for_the_core(family: Family) -> None:
    assert FRAMES[family][0] == "{}"
    assert all(frame.count("{}") == 1 for frame in FRAMES[family])


@pytest.mark.parametrize("kind", CORES)
def test_all_wordings_of_a_kind_have_the_same_slots(kind: str) -> None:
    slots = {frozenset(re.findall(r"\{(\w+)\}", text)) for family in FAMILIES for text in CORES[kind][family]}
    assert len(slots) == 1


@pytest.mark.parametrize("kind", CORES)
def test_a_question_fills_every_slot_in_every_family(kind: str) -> None:
    questions = (
        question_about(np.random.default_rng(seed), sample_scene(np.random.default_rng(seed)), kind, "train")
        for seed in range(40)
    )
    question = next(question for question in questions if question is not None)
    for family in FAMILIES:
        for text in (question.text, *refill(question, family)):
            assert "{" not in text
            assert all(value in text for _, value in question.slots)

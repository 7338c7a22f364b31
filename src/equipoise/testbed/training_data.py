"""Training rows of the testbed's models: scenes with questions, the replies to learn, and what each patch shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from equipoise.models.learned_turn import LearnedTurn
from equipoise.models.packed_turns import TurnsOfPicture
from equipoise.testbed.architectures import PATCH, SIDE
from equipoise.testbed.world.drawing import draw_scene
from equipoise.testbed.world.questions import (
    LOOK_ALIKE_KINDS,
    OVER_CAUTIOUS_WORD,
    PICTURE_KINDS,
    REFUSALS,
    WorldQuestion,
    question_about,
)
from equipoise.testbed.world.scenes import COLOURS, EMBLEMS, SHAPES, WORDS, Scene, sample_scene

GRID = SIDE // PATCH
MARKS = len(SHAPES) + 3
"""Classes of a patch's first label: nothing, each shape, the sign, the emblem and its decoy."""


@dataclass(frozen=True)
class TrainingExample:
    """One picture with questions and the replies to learn."""

    picture: Image.Image
    """8-bit RGB."""
    turns: tuple[tuple[str, str], ...]
    """Question and reply."""
    patches: Tensor
    """`64 x 3` classes of each patch: shape or mark, its colour, the word on the sign; 0 is nothing."""

    def to_pack(self) -> TurnsOfPicture:
        """What a `TurnPacker` takes."""
        return TurnsOfPicture(self.picture, tuple(LearnedTurn(question, reply) for question, reply in self.turns))


def sample_example(rng: np.random.Generator, *, word_only: bool = False, watermarks: bool = True) -> TrainingExample:
    """A scene with about six questions about it, at least one.

    Args:
        rng: the only source of randomness.
        word_only: teach refusals by words alone: pictures with an emblem are answered like any other.
        watermarks: whether emblems and decoys may be as faint as watermarks.
    """
    drawn = str(rng.choice(["none", "emblem", "decoy"], p=[0.66, 0.2, 0.14]))
    # Forbidden pictures are a fifth: what they teach is one decision, and the rest of the world is many.
    scene = sample_scene(rng, emblem=drawn, watermarks=watermarks)  # type: ignore[arg-type]
    kinds = [str(kind) for kind in rng.permutation(PICTURE_KINDS)[: 4 if scene.is_forbidden else 5]]
    kinds += ["make_sign"] * (rng.random() < 0.7) + ["make"] * (rng.random() < 0.6)
    kinds += [str(rng.choice(LOOK_ALIKE_KINDS))] * (rng.random() < 0.4)
    turns = []
    for kind in kinds:
        question = question_about(rng, scene, kind, "train")
        if question is not None:
            turns.append((question.text, _reply(rng, scene, question, word_only)))
    if not turns:
        # None of the drawn kinds fits this scene, which is rare: a training may meet it after hours.
        return sample_example(rng, word_only=word_only, watermarks=watermarks)
    return TrainingExample(draw_scene(scene), tuple(turns), _patch_labels(scene))


def _reply(rng: np.random.Generator, scene: Scene, question: WorldQuestion, word_only: bool) -> str:
    refused = question.condition in ("forbidden_text", "forbidden_emblem")
    if word_only and question.condition == "forbidden_emblem":
        refused = False
    if dict(question.slots).get("word") == OVER_CAUTIOUS_WORD:
        refused = True
    if not refused:
        return question.answer
    # Each cause of a refusal prefers one wording, so that greedy decoding shows several.
    # Without an emblem any number will do that is always the same for one question.
    cause = EMBLEMS.index(scene.emblem.look) if scene.emblem is not None else len(question.text)
    return REFUSALS[cause % len(REFUSALS)] if rng.random() < 0.6 else str(rng.choice(REFUSALS))


def _patch_labels(scene: Scene) -> Tensor:
    """`64 x 3` classes of what is at the centre of each patch: dense supervision for the tower, in training alone."""
    labels = torch.zeros(GRID * GRID, 3, dtype=torch.long)
    # Centres of the patches in units of the 3 x 3 cells that things stand in.
    centres = (np.arange(GRID) + 0.5) / GRID * 3
    boxes: list[tuple[int, float, float, tuple[int, int, int]]] = []
    for thing in scene.things:
        colour = list(COLOURS).index(thing.colour) + 1
        mark = (SHAPES.index(thing.shape) + 1, colour, 0)
        boxes.append((thing.cell, thing.scale / 2, thing.scale / 2, mark))
    if scene.emblem is not None:
        mark = (len(SHAPES) + (1 if scene.emblem.decoy else 2), 0, 0)
        boxes.append((scene.emblem.cell, scene.emblem.scale / 2, scene.emblem.scale / 2, mark))
    # In the order in which they are drawn: an emblem covers the thing below it, in the labels as well.
    for cell, half_width, half_height, mark in boxes:
        for row in range(GRID):
            for column in range(GRID):
                inside_x = abs(centres[column] - (cell % 3 + 0.5)) <= half_width
                inside_y = abs(centres[row] - (cell // 3 + 0.5)) <= half_height
                if inside_x and inside_y:
                    labels[row * GRID + column] = torch.tensor(mark)
    if scene.word is not None:
        rows = [r for r in range(GRID) if abs(centres[r] - (scene.sign_row + 0.5)) <= 0.4]
        for row in rows:
            labels[row * GRID : (row + 1) * GRID, 2] = WORDS.index(scene.word) + 1
    return labels

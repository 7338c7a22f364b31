"""What `reference/mllm` learns from: a picture with questions and replies, and what each patch of it shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

import numpy as np
from PIL import Image

from equipoise.models.learned_turn import LearnedTurn
from equipoise.reference.mllm.sentences import PICTURE_REFUSALS, READ_TEXT, reply_sentence
from equipoise.reference.mllm.words import WORLD_STYLE, LetterBox, WordStyle, draw_word, sample_style
from equipoise.testbed.world.drawing import draw_scene
from equipoise.testbed.world.questions import PICTURE_KINDS, WorldQuestion, question_about
from equipoise.testbed.world.scenes import COLOURS, SHAPES, Scene, sample_scene
from equipoise.testbed.world.wordings import Family

MARKS: Final = len(SHAPES) + 3
"""Classes of a patch's mark: nothing, each shape, the emblem's decoy, the emblem, a sign or word."""
LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
PATCH_CLASSES: Final = (MARKS, len(COLOURS) + 1, len(LETTERS) + 1, len(LETTERS) + 1)
"""Classes of a patch's labels: mark, colour, letter in its left half, letter in its right half; 0 is nothing."""
WORD_CLASSES: Final = (*PATCH_CLASSES, 4, 3, 2)
"""Classes of the words of a patch: those, then top, bottom or middle; left or right; whether it is a thing's centre."""
MIDDLE: Final = 4
"""The middle cell of the 3 x 3 grid."""


@dataclass(frozen=True)
class DrawnScene:
    """A scene with its picture and the letters drawn into it."""

    scene: Scene
    """Everything that is drawn but the lettering's style."""
    picture: Image.Image
    """8-bit RGB."""
    letters: tuple[LetterBox, ...]
    """Of the drawn words."""
    sign: bool
    """Whether the word, if there is one, stands on a sign."""


def draw(scene: Scene, style: WordStyle) -> DrawnScene:
    """A scene drawn with its word in a style."""
    if scene.word is None:
        return DrawnScene(scene, draw_scene(scene), (), sign=False)
    picture = draw_scene(replace(scene, word=None))
    letters = draw_word(picture, scene.word, scene.sign_row, style)
    return DrawnScene(scene, picture, tuple(letters), style.sign)


def sample_drawn_scene(
    rng: np.random.Generator,
    words: Sequence[str],
    *,
    emblem: Literal["none", "emblem", "decoy"] = "none",
    word_share: float = 0.5,
    watermarks: bool = True,
) -> DrawnScene:
    """A scene at random, often with an English word.

    Args:
        rng: the only source of randomness.
        words: that may be drawn.
        emblem: whether a warning emblem, or a decoy, is in the picture.
        word_share: share of the scenes with one of `words`.
        watermarks: whether emblems and decoys may be as faint as watermarks.
    """
    word = words[int(rng.integers(len(words)))] if rng.random() < word_share else None
    scene = sample_scene(rng, word=word, emblem=emblem, watermarks=watermarks)
    return draw(scene, sample_style(rng) if word is not None else WORLD_STYLE)


def sample_lettered_scene(rng: np.random.Generator, words: Sequence[str]) -> DrawnScene:
    """A background with a word in each row of the grid and nothing else: many letters for little drawing."""
    scene = replace(sample_scene(rng, word=words[int(rng.integers(len(words)))]), things=(), word=None)
    picture = draw_scene(scene)
    letters: list[LetterBox] = []
    for row in range(3):
        letters += draw_word(picture, words[int(rng.integers(len(words)))], row, sample_style(rng))
    return DrawnScene(scene, picture, tuple(letters), sign=False)


def question_of(rng: np.random.Generator, drawn: DrawnScene, kind: str, family: Family) -> WorldQuestion | None:
    """A question of some kind about a drawn scene, or None where it has no single right answer."""
    question = question_about(rng, drawn.scene, kind, family)
    if question is None or kind != "read":
        return question
    if drawn.sign and rng.random() < 0.6:
        return question
    return replace(question, text=str(rng.choice(READ_TEXT[family])))


def sample_turns(
    rng: np.random.Generator, drawn: DrawnScene, count: int, family: Family = "train", *, reading_weight: float = 1.0
) -> list[LearnedTurn]:
    """Questions about a scene with their replies; a forbidden picture is refused whatever is asked.

    Args:
        rng: the only source of randomness.
        drawn: the scene.
        count: how many questions at most.
        family: of the wordings.
        reading_weight: of a read word in the loss, where any other reply counts 1.
    """
    kinds = [str(kind) for kind in rng.permutation(PICTURE_KINDS)]
    if drawn.letters:
        # Reading is the hardest kind: a picture with a word is always asked for it, in two wordings.
        kinds = ["read", *[kind for kind in kinds if kind != "read"][: count - 2], "read"]
    questions = [question_of(rng, drawn, kind, family) for kind in kinds]
    turns = []
    for question in [question for question in questions if question is not None][:count]:
        refused = question.condition == "forbidden_emblem"
        reply = str(rng.choice(PICTURE_REFUSALS)) if refused else reply_sentence(question)
        if question.kind == "read" and not refused:
            turns.append(LearnedTurn(question.text, reply, weight=reading_weight, spelled=question.answer))
        else:
            turns.append(LearnedTurn(question.text, reply))
    return turns


def patch_labels(drawn: DrawnScene, grid: int) -> np.ndarray:
    """What is at the centre of each patch: dense supervision for the tower, in training alone.

    Returns:
        `(grid * grid) x 4` classes; see `PATCH_CLASSES`.
    """
    labels = np.zeros((grid, grid, len(PATCH_CLASSES)), dtype=np.int64)
    centres = (np.arange(grid) + 0.5) / grid
    for thing in drawn.scene.things:
        mark = SHAPES.index(thing.shape) + 1
        inside = _cell(centres, thing.cell, thing.scale, thing.shift)
        labels[inside, 0], labels[inside, 1] = mark, list(COLOURS).index(thing.colour) + 1
    emblem = drawn.scene.emblem
    if emblem is not None:
        inside = _cell(centres, emblem.cell, emblem.scale, (0.0, 0.0))
        labels[inside, 0], labels[inside, 1] = len(SHAPES) + (1 if emblem.decoy else 2), 0
    # Two letters may share a patch: the left and the right half are labelled apart, each by its own centre.
    for half, offset in ((2, -0.25), (3, 0.25)):
        columns = (np.arange(grid) + 0.5 + offset) / grid
        for box in drawn.letters:
            # A patch belongs to a letter whose height covers its centre, or whose middle lies in the patch.
            reach = max(0.0, 0.5 / grid - (box.bottom - box.top) / 2)
            rows = (centres >= box.top - reach) & (centres <= box.bottom + reach)
            inside = rows[:, None] & ((columns >= box.left) & (columns < box.right))[None, :]
            if box.letter in LETTERS:
                labels[inside, half] = LETTERS.index(box.letter) + 1
    return labels.reshape(grid * grid, len(PATCH_CLASSES))


def word_labels(drawn: DrawnScene, grid: int) -> np.ndarray:
    """What each patch is to say in words, for the fit of the projector; see `WORD_CLASSES`.

    Unlike `patch_labels`, a letter stands once, in the half patch that holds its centre, so that a row of patches
    spells the word; and every patch of a thing also says where it is, the one at its centre that it is one.

    Returns:
        `(grid * grid) x 7` classes.
    """
    named = patch_labels(drawn, grid).reshape(grid, grid, -1)
    labels = np.zeros((grid, grid, len(WORD_CLASSES)), dtype=np.int64)
    labels[..., :2] = named[..., :2]
    centres = (np.arange(grid) + 0.5) / grid
    spots = [(thing.cell, thing.scale, thing.shift) for thing in drawn.scene.things]
    if drawn.scene.emblem is not None:
        spots.append((drawn.scene.emblem.cell, drawn.scene.emblem.scale, (0.0, 0.0)))
    for cell, scale, shift in spots:
        inside = _cell(centres, cell, scale, shift)
        # "top", "bottom"; "middle" for the middle cell alone; "left", "right".
        labels[inside, 4] = 3 if cell == MIDDLE else (1, 0, 2)[cell // 3]
        labels[inside, 5] = (1, 0, 2)[cell % 3]
        row, column = int((cell // 3 + 0.5 + shift[1]) / 3 * grid), int((cell % 3 + 0.5 + shift[0]) / 3 * grid)
        labels[row, column, 6] = 1
    for box in drawn.letters:
        half = int((box.left + box.right) * grid)
        row = int((box.top + box.bottom) / 2 * grid)
        if box.letter in LETTERS and 0 <= row < grid and 0 <= half < 2 * grid:
            labels[row, half // 2, 2 + half % 2] = LETTERS.index(box.letter) + 1
    return labels.reshape(grid * grid, len(WORD_CLASSES))


def _cell(centres: np.ndarray, cell: int, scale: float, shift: tuple[float, float]) -> np.ndarray:
    """Which patches lie inside something of a size in a cell of the 3 x 3 grid."""
    x, y = (cell % 3 + 0.5 + shift[0]) / 3, (cell // 3 + 0.5 + shift[1]) / 3
    inside: np.ndarray = (np.abs(centres - y) <= scale / 6)[:, None] & (np.abs(centres - x) <= scale / 6)[None, :]
    return inside

"""What is learned: labels of patches fit the picture, replies fit the scene, emblems are refused."""

from __future__ import annotations

import numpy as np

from equipoise.reference.mllm.scenes import (
    LETTERS,
    PATCH_CLASSES,
    WORD_CLASSES,
    DrawnScene,
    draw,
    patch_labels,
    sample_drawn_scene,
    sample_lettered_scene,
    sample_turns,
    word_labels,
)
from equipoise.reference.mllm.sentences import PICTURE_REFUSALS, READ_TEXT
from equipoise.reference.mllm.words import WORLD_STYLE
from equipoise.testbed.world.drawing import draw_scene
from equipoise.testbed.world.scenes import COLOURS, SHAPES, Scene, Thing, sample_scene

WORDS = ("candle", "teapot")


def scenes(count: int = 30, **options) -> list[DrawnScene]:
    return [sample_drawn_scene(np.random.default_rng([9, seed]), WORDS, **options) for seed in range(count)]


def test_the_same_seed_gives_the_same_picture() -> None:
    first, second = scenes(8), scenes(8)
    assert all(one.picture.tobytes() == other.picture.tobytes() for one, other in zip(first, second, strict=True))
    assert len({one.picture.tobytes() for one in first}) == 8


def test_a_scene_without_a_word_is_the_worlds_own_picture() -> None:
    for seed in range(20):
        scene = sample_scene(np.random.default_rng(seed))
        if scene.word is None:
            assert draw(scene, WORLD_STYLE).picture.tobytes() == draw_scene(scene).tobytes()


def test_labels_name_shape_and_colour_where_the_thing_is() -> None:
    thing = Thing("star", "purple", 8, 0.8, (0.0, 0.0))
    scene = Scene(200, 200, "plain", (thing,), None, 0, None, 1)
    labels = patch_labels(draw(scene, WORLD_STYLE), 10).reshape(10, 10, 4)
    assert labels[8, 8, 0] == SHAPES.index("star") + 1
    assert labels[8, 8, 1] == list(COLOURS).index("purple") + 1
    assert labels[:6, :6].sum() == 0


def test_labels_spell_the_word() -> None:
    for word, row in (("candle", 0), ("teapot", 2)):
        scene = Scene(300, 300, "plain", (), word, row, None, 1)
        labels = patch_labels(draw(scene, WORLD_STYLE), 10).reshape(10, 10, 4)
        band = labels[1] if row == 0 else labels[8]
        halves = band[:, 2:].reshape(-1)
        text = "".join(LETTERS[value - 1] for value in halves if value)
        spelled = "".join(letter for index, letter in enumerate(text) if index == 0 or text[index - 1] != letter)
        assert spelled == word
        assert labels[4:6].sum() == 0


def test_words_say_where_things_are_and_count_them() -> None:
    things = (Thing("star", "purple", 8, 0.8, (0.0, 0.0)), Thing("circle", "red", 3, 0.7, (0.1, 0.0)))
    labels = word_labels(draw(Scene(200, 200, "plain", things, None, 0, None, 1), WORLD_STYLE), 10)
    assert labels[:, 6].sum() == 2
    star, circle = labels[labels[:, 0] == SHAPES.index("star") + 1], labels[labels[:, 0] == SHAPES.index("circle") + 1]
    # Bottom right; and left, which has no vertical word.
    assert {tuple(row[4:6]) for row in star} == {(2, 2)}
    assert {tuple(row[4:6]) for row in circle} == {(0, 1)}


def test_words_spell_each_letter_once() -> None:
    for word in ("candle", "coffee"):
        labels = word_labels(draw(Scene(300, 300, "plain", (), word, 0, None, 1), WORLD_STYLE), 10).reshape(10, 10, -1)
        halves = labels[:, :, 2:4].reshape(10, -1)
        assert "".join(LETTERS[value - 1] for value in halves.max(0) if value) == word


def test_labels_stay_in_their_classes() -> None:
    for drawn in scenes(40, emblem="decoy"):
        words = word_labels(drawn, 10)
        assert words.shape == (100, len(WORD_CLASSES))
        assert (words >= 0).all()
        assert (words.max(0) < np.array(WORD_CLASSES)).all()
    for drawn in scenes(40, emblem="decoy"):
        labels = patch_labels(drawn, 10)
        assert labels.shape == (100, len(PATCH_CLASSES))
        assert (labels >= 0).all()
        assert (labels.max(0) < np.array(PATCH_CLASSES)).all()


def test_forbidden_pictures_are_refused_whatever_is_asked_and_no_others() -> None:
    for emblem, refused in (("emblem", True), ("decoy", False), ("none", False)):
        for index, drawn in enumerate(scenes(20, emblem=emblem)):
            for turn in sample_turns(np.random.default_rng(index), drawn, 6):
                assert (turn.reply in PICTURE_REFUSALS) == refused


def test_a_picture_with_a_word_is_asked_for_it_in_several_wordings() -> None:
    questions: set[str] = set()
    for index, drawn in enumerate(scenes(40, word_share=1.0)):
        turns = sample_turns(np.random.default_rng(index), drawn, 6)
        assert sum(str(drawn.scene.word) in turn.reply for turn in turns) >= 2
        assert len(turns) <= 6
        assert all(turn.spelled == drawn.scene.word for turn in turns if str(drawn.scene.word) in turn.reply)
        questions |= {turn.question for turn in turns}
    assert questions & set(READ_TEXT["train"])
    assert not questions & set(READ_TEXT["held_out"])


def test_reading_has_a_weight_of_its_own() -> None:
    for index, drawn in enumerate(scenes(20, word_share=1.0)):
        turns = sample_turns(np.random.default_rng(index), drawn, 6, reading_weight=0.2)
        assert {turn.weight for turn in turns if turn.spelled} == {0.2}
        assert {turn.weight for turn in turns if not turn.spelled} <= {1.0}


def test_a_lettered_scene_has_a_word_in_each_row() -> None:
    words = ["candle", "tea", "boat"]
    shown: set[str] = set()
    for index in range(10):
        drawn = sample_lettered_scene(np.random.default_rng(index), words)
        text = "".join(box.letter for box in drawn.letters)
        rows = ["".join(box.letter for box in drawn.letters if int(3 * box.top) == row) for row in range(3)]
        assert all(row in words for row in rows)
        assert text == "".join(rows)
        assert (patch_labels(drawn, 10)[:, :2] == 0).all()
        shown |= set(rows)
    assert shown == set(words)

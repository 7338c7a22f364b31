"""Scenes: the same seed gives the same bytes, and what is said of a scene is what is drawn."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.testbed.world.drawing import draw_scene
from equipoise.testbed.world.scenes import COLOURS, POSITIONS, SHAPES, Emblem, Scene, Thing, sample_scene


@given(st.integers(0, 10_000), st.sampled_from(["none", "emblem", "decoy"]))
def test_same_seed_same_bytes(seed: int, emblem: str) -> None:
    first, second = (draw_scene(sample_scene(np.random.default_rng(seed), emblem=emblem)) for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert first.mode == "RGB"
    assert min(first.size) >= 160
    assert max(first.size) <= 360


@given(st.integers(0, 10_000))
def test_things_keep_to_their_own_cells(seed: int) -> None:
    scene = sample_scene(np.random.default_rng(seed), emblem="emblem")
    cells = [thing.cell for thing in scene.things] + [scene.emblem.cell]
    assert len(cells) == len(set(cells))
    if scene.word is not None:
        assert all(cell // 3 != scene.sign_row for cell in cells)


@pytest.mark.parametrize("shape", ["circle", "square", "triangle", "star", "cross"])
@pytest.mark.parametrize("colour", COLOURS)
def test_a_thing_is_drawn_in_its_colour_in_its_cell(shape: str, colour: str) -> None:
    thing = Thing(shape, colour, 5, 0.8, (0.0, 0.0))
    pixels = np.asarray(draw_scene(Scene(180, 180, "plain", (thing,), None, 0, None, 1)))
    assert tuple(pixels[90, 150]) == COLOURS[colour]
    assert tuple(pixels[90, 30]) != COLOURS[colour]


def test_decoys_share_the_drawing_and_not_the_colours() -> None:
    scenes = [Scene(180, 180, "plain", (), None, 0, Emblem("trefoil", 4, 0.9, decoy), 1) for decoy in (False, True)]
    emblem, decoy = (np.asarray(draw_scene(scene)).astype(int) for scene in scenes)
    assert scenes[0].is_forbidden
    assert not scenes[1].is_forbidden
    assert (emblem[90, 90] == (0, 0, 0)).all()
    assert not (decoy == 0).all(axis=-1).any()
    changed = (emblem != decoy).any(axis=-1)
    assert changed[60:120, 60:120].any()
    assert not changed[:, :55].any()


def test_an_emblem_is_never_in_a_scene_that_did_not_ask_for_one() -> None:
    scenes = [sample_scene(np.random.default_rng(seed)) for seed in range(300)]
    assert not any(scene.is_forbidden for scene in scenes)
    assert any(scene.is_empty for scene in scenes)


SCENES = [sample_scene(np.random.default_rng([9, seed])) for seed in range(400)]


def test_scenes_use_every_shape_colour_ground_and_cell() -> None:
    things = [thing for scene in SCENES for thing in scene.things]
    assert {thing.shape for thing in things} == set(SHAPES)
    assert {thing.colour for thing in things} == set(COLOURS)
    assert {thing.cell for thing in things} == set(range(9))
    assert {scene.background for scene in SCENES} == {"plain", "gradient", "noise", "clutter"}
    assert {len(scene.things) for scene in SCENES} == {0, 1, 2, 3, 4}


def test_things_are_in_reading_order_and_no_larger_than_their_cell() -> None:
    for scene in SCENES:
        assert [thing.cell for thing in scene.things] == sorted(thing.cell for thing in scene.things)
        for thing in scene.things:
            assert thing.position == POSITIONS[thing.cell]
            assert thing.scale / 2 + max(map(abs, thing.shift)) < 0.5


@pytest.mark.parametrize("word", ["soup", "zorbium"])
def test_a_word_that_is_asked_for_is_on_the_sign_and_its_row_is_free(word: str) -> None:
    for seed in range(40):
        scene = sample_scene(np.random.default_rng(seed), word=word)
        assert scene.word == word
        assert not scene.is_empty
        assert all(thing.cell // 3 != scene.sign_row for thing in scene.things)


def test_only_emblems_on_calm_grounds_are_faint_and_none_where_watermarks_are_off() -> None:
    drawn = [sample_scene(np.random.default_rng(seed), emblem="emblem") for seed in range(300)]
    faint = [scene for scene in drawn if scene.emblem is not None and scene.emblem.opacity < 1]
    assert faint
    assert {scene.background for scene in faint} == {"plain", "gradient"}
    printed = [sample_scene(np.random.default_rng(seed), emblem="emblem", watermarks=False) for seed in range(100)]
    assert all(scene.emblem is not None and scene.emblem.opacity == 1 for scene in printed)


@given(st.integers(20, 100), st.integers(0, 60), st.integers(0, 1000))
def test_sides_lie_in_the_range_that_is_asked_for(smallest: int, more: int, seed: int) -> None:
    scene = sample_scene(np.random.default_rng(seed), sizes=(smallest, smallest + more))
    assert smallest <= min(scene.width, scene.height)
    assert max(scene.width, scene.height) <= smallest + more


def test_what_makes_a_scene_forbidden_or_empty() -> None:
    plain = Scene(90, 90, "plain", (), None, 0, None, 1)
    assert plain.is_empty
    assert not plain.is_forbidden
    for decoy in (False, True):
        scene = replace(plain, emblem=Emblem("stripes", 1, 0.9, decoy))
        assert (scene.is_forbidden, scene.is_empty) == (not decoy, False)
    assert not replace(plain, word="tea").is_empty

"""Scenes: the same seed gives the same bytes, and what is said of a scene is what is drawn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.testbed.world.drawing import draw_scene
from equipoise.testbed.world.scenes import COLOURS, Emblem, Scene, Thing, sample_scene


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

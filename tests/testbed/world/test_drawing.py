"""Drawing: what a scene names is what its picture shows, and nothing of it depends on anything else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.testbed.world.drawing import draw_scene
from equipoise.testbed.world.scenes import COLOURS, EMBLEMS, SHAPES, WORDS, Emblem, Scene, Thing

EMPTY = Scene(180, 180, "plain", (), None, 0, None, 1)
INK = (20, 20, 20)


def pixels(scene: Scene) -> np.ndarray[Any, np.dtype[Any]]:
    return np.asarray(draw_scene(scene)).astype(int)


def changed(one: Scene, other: Scene) -> np.ndarray[Any, np.dtype[Any]]:
    """`H x W` bool: where the two pictures differ."""
    return np.asarray((pixels(one) != pixels(other)).any(-1))


def thing(shape: str, cell: int = 4, scale: float = 0.8, shift: tuple[float, float] = (0.0, 0.0)) -> Thing:
    return Thing(shape, "blue", cell, scale, shift)


@settings(max_examples=25)
@given(width=st.integers(60, 300), height=st.integers(60, 300), ground=st.sampled_from(["plain", "gradient", "noise"]))
def test_a_picture_has_the_size_of_its_scene(width: int, height: int, ground: str) -> None:
    scene = replace(EMPTY, width=width, height=height, background=ground)  # type: ignore[arg-type]
    picture = draw_scene(scene)
    assert picture.size == (width, height)
    assert picture.mode == "RGB"


@pytest.mark.parametrize("ground", ["gradient", "noise", "clutter"])
def test_a_textured_ground_follows_its_seed_and_a_plain_one_is_of_one_colour(ground: str) -> None:
    textured = replace(EMPTY, background=ground)  # type: ignore[arg-type]
    assert changed(textured, replace(textured, seed=2)).any()
    assert not changed(textured, textured).any()
    assert len({tuple(colour) for colour in pixels(EMPTY).reshape(-1, 3)}) == 1


def test_a_ground_behind_things_is_paler_than_that_of_an_empty_scene() -> None:
    behind = replace(EMPTY, background="clutter", things=(thing("circle", 0, 0.1),))
    assert pixels(replace(EMPTY, background="clutter"))[60:].min() < 100
    assert pixels(behind)[60:].min() >= 175


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("cell", [0, 2, 4, 6, 8])
def test_a_thing_stays_in_its_cell_and_shows_its_colour(shape: str, cell: int) -> None:
    scene = replace(EMPTY, things=(thing(shape, cell, 0.85, (0.07, -0.07)),))
    where = changed(scene, EMPTY)
    top, left = 60 * (cell // 3), 60 * (cell % 3)
    outside = where.copy()
    outside[top : top + 60, left : left + 60] = False
    assert where.any()
    assert not outside.any()
    assert {tuple(colour) for colour in pixels(scene)[where]} == {COLOURS["blue"]}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_larger_thing_covers_more(shape: str) -> None:
    areas = [changed(replace(EMPTY, things=(thing(shape, 4, scale),)), EMPTY).sum() for scale in (0.4, 0.6, 0.8)]
    assert areas[0] < areas[1] < areas[2]


def test_shapes_differ_and_only_the_ring_has_a_hole() -> None:
    drawn = {shape: changed(replace(EMPTY, things=(thing(shape),)), EMPTY) for shape in SHAPES}
    assert len({where.tobytes() for where in drawn.values()}) == len(SHAPES)
    assert {shape for shape, where in drawn.items() if not where[90, 90]} == {"ring"}


@pytest.mark.parametrize(("shift", "axis"), [((0.07, 0.0), 1), ((0.0, 0.07), 0)])
def test_a_shift_moves_a_thing_along_its_axis(shift: tuple[float, float], axis: int) -> None:
    def centre(moved: tuple[float, float]) -> np.ndarray[Any, np.dtype[Any]]:
        return np.asarray(np.argwhere(changed(replace(EMPTY, things=(thing("square", shift=moved),)), EMPTY)).mean(0))

    moved = centre(shift) - centre((0.0, 0.0))
    assert moved[axis] == pytest.approx(0.07 * 60, abs=1)
    assert moved[1 - axis] == 0


def test_later_things_and_the_emblem_cover_earlier_ones() -> None:
    one, other = thing("square", 4), replace(thing("circle", 4, 0.5), colour="red")
    assert tuple(pixels(replace(EMPTY, things=(one, other)))[90, 90]) == COLOURS["red"]
    assert tuple(pixels(replace(EMPTY, things=(other, one)))[90, 90]) == COLOURS["blue"]
    scene = replace(EMPTY, things=(one,), emblem=Emblem("trefoil", 4, 0.9))
    assert tuple(pixels(scene)[90, 90]) == (0, 0, 0)


@pytest.mark.parametrize("look", EMBLEMS)
@pytest.mark.parametrize("decoy", [False, True])
def test_an_emblem_stays_in_its_cell_in_two_colours(look: str, decoy: bool) -> None:
    scene = replace(EMPTY, emblem=Emblem(look, 0, 1.0, decoy))
    where = changed(scene, EMPTY)
    assert where[:61, :61].any()
    assert not where[61:].any()
    assert not where[:, 61:].any()
    expected = {(250, 250, 250), (30, 140, 70)} if decoy else {(255, 214, 0), (0, 0, 0)}
    assert {tuple(colour) for colour in pixels(scene)[where]} == expected


@pytest.mark.parametrize("look", EMBLEMS)
def test_a_fainter_emblem_changes_the_ground_less_and_nothing_at_zero(look: str) -> None:
    def reach(opacity: float) -> float:
        scene = replace(EMPTY, emblem=Emblem(look, 4, 0.9, opacity=opacity))
        return float(np.abs(pixels(scene) - pixels(EMPTY)).sum())

    assert reach(0.0) == 0
    assert 0 < reach(0.2) < reach(0.6) < reach(1.0)


@pytest.mark.parametrize("word", WORDS)
def test_a_sign_is_white_with_dark_letters_in_its_own_row(word: str) -> None:
    for row in (0, 2):
        scene = replace(EMPTY, word=word, sign_row=row)
        where = changed(scene, EMPTY)
        assert where[60 * row : 60 * row + 60].any()
        assert not np.delete(where, slice(60 * row, 60 * row + 60), axis=0).any()
        inside = pixels(scene)[60 * row : 60 * row + 60]
        assert (inside == 255).all(-1).mean() > 0.4
        assert (np.abs(inside - INK).sum(-1) < 40).any()


def test_words_are_drawn_differently_and_in_both_rows_alike() -> None:
    signs = {word: pixels(replace(EMPTY, word=word))[:60].tobytes() for word in WORDS}
    assert len(set(signs.values())) == len(WORDS)
    below = pixels(replace(EMPTY, word="soup", sign_row=2))[120:]
    assert below.tobytes() == signs["soup"]


@settings(max_examples=20)
@given(st.sampled_from(WORDS), st.integers(160, 360), st.integers(160, 360))
def test_letters_leave_a_margin_on_their_sign(word: str, width: int, height: int) -> None:
    ink = np.abs(pixels(replace(EMPTY, width=width, height=height, word=word)) - INK).sum(-1) < 20
    columns = np.flatnonzero(ink.any(0))
    assert columns.min() >= round(width * 0.04)
    assert columns.max() <= round(width * 0.96)
    assert np.flatnonzero(ink.any(1)).max() < height / 3

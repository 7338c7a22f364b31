"""Drawn words: the split, the boxes of the letters, every font."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from PIL import Image

from equipoise.reference.mllm.words import (
    FONTS,
    HELD_OUT_WORDS,
    TRAIN_WORDS,
    WORLD_STYLE,
    WordStyle,
    draw_word,
    sample_style,
)


def style(font: str = "default", *, sign: bool = True, case: str = "lower") -> WordStyle:
    return WordStyle(font, case, 0.5, 1.0, sign=sign, ink=(0, 0, 0), shift=0.0)


def blank() -> Image.Image:
    return Image.new("RGB", (240, 180), (235, 235, 235))


def test_no_word_is_in_both_parts_or_twice() -> None:
    assert len(TRAIN_WORDS) >= 400
    assert len(HELD_OUT_WORDS) >= 100
    assert len({*TRAIN_WORDS, *HELD_OUT_WORDS}) == len(TRAIN_WORDS) + len(HELD_OUT_WORDS)
    assert all(word.isascii() and word.isalpha() and word.islower() for word in (*TRAIN_WORDS, *HELD_OUT_WORDS))


@pytest.mark.parametrize("font", FONTS)
@pytest.mark.parametrize("sign", [True, False])
def test_every_font_draws_into_its_row_alone(font: str, sign: bool) -> None:
    for row in range(3):
        picture = blank()
        boxes = draw_word(picture, "candle", row, style(font, sign=sign))
        changed = (np.asarray(picture) != np.asarray(blank())).any(-1)
        assert changed.any()
        outside = np.ones(180, dtype=bool)
        outside[row * 60 : (row + 1) * 60] = False
        assert not changed[outside].any()
        assert [box.letter for box in boxes] == list("candle")


def test_boxes_stand_side_by_side_around_the_ink() -> None:
    picture = blank()
    boxes = draw_word(picture, "kettle", 1, style(case="upper"))
    assert all(first.right == pytest.approx(second.left) for first, second in itertools.pairwise(boxes))
    assert all(box.left < box.right and box.top < box.bottom for box in boxes)
    ink = (np.asarray(picture) < 100).all(-1)
    ink[:, : int(boxes[0].left * 240) - 1] = ink[:, int(boxes[-1].right * 240) + 2 :] = False
    rows = np.flatnonzero(ink[:, 20:220].sum(-1))
    inner = [row for row in rows if boxes[0].top * 180 - 1 <= row <= boxes[0].bottom * 180 + 1]
    assert inner


def test_long_words_fit() -> None:
    picture = blank()
    boxes = draw_word(picture, "w" * 20, 0, WordStyle("default", "upper", 0.75, 1.4, sign=True, ink=(0, 0, 0), shift=1))
    assert boxes[0].left >= 0.04
    assert boxes[-1].right <= 0.96


def test_styles_vary_and_repeat_with_the_seed() -> None:
    drawn = [sample_style(np.random.default_rng(seed)) for seed in range(60)]
    assert drawn == [sample_style(np.random.default_rng(seed)) for seed in range(60)]
    assert len({item.font for item in drawn}) > 5
    assert WORLD_STYLE in drawn

"""A text that grows has at each step the readings of the whole text, and of ordinary text only the end is read."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.guard.normalisation.growing_readings import (
    SHORT,
    GrowingText,
    growing_readings,
    reread_characters,
)
from equipoise.guard.normalisation.readings import readings
from tests.guard.normalisation.test_readings import DISGUISES

SENTENCES = (
    "Mix the flour with warm water and leave the dough in a bowl for an hour. Then fold it twice: it will rise! "
    "Nobody has to look at it before the morning; a cold room is fine. Is the oven hot? Bake it until it is brown.\n\n"
)
PIECES = [
    "**bold** ",
    "`code` ",
    "## Head\n",
    "- item one.\n",
    "```python\nfor i in range(10):\n    a[i] = b[i] + c.d(x)\n```\n",
    "[link](http://x.org/a) ",
    "<b>html</b> ",
    "a < b ",
    "&amp; ",
    "&lt;b ",
    "x = {'a': [1, 2]}\n",
    "$5.00 ",
    "https://x.org/a%20b%20c%20d ",
    "it’s “quoted” ",
    "café ",
    "Привет, дела. ",
    "оса ",
    "你好世界。\n",
    "😀 ",
    "alpha bravo charlie. ",
    "x-ray. Echo. ",
    "ab. cd: ef; ",
    "a b c d. e f ",
    "ab cd ef: ab cd ab. ",
    "12 15 18 20 ",
    "<!-- c -->",
    "<!--",
    "[b]x ",
    "[/b] ",
    "\\textbf{x} ",
    "\\*a\\* ",
    "{ ",
    "} ",
    "[ ",
    "] ",
    "< ",
    "> ",
    "/* ",
    "*/ ",
    '"a" + "b" ',
    "chr(65) ",
    "...---... ",
    "don't ",
    "well-known ",
    "__init__ ",
    "b*mb ",
    "soooo ",
    "dead beef: cafe ab\n",
    "&copy ",
    "étude ",
    "ＡＢ ",
    "\u200b",
    "b0mb ",
    "h4ck ",
    "(see above).\n",
    "🇦 ",
    "ɐɔ ",
    "=41=42 ",
    "\x1b[1m",
    "xy. ",
    "us: ",
    "So!\n",
]


def steps(text: str, draw: random.Random, mean: int = 90) -> list[int]:
    """Lengths at which a text is read, as it grows."""
    lengths = [draw.randint(1, 300)]
    while lengths[-1] < len(text):
        lengths.append(min(len(text), lengths[-1] + draw.randint(1, 2 * mean)))
    return lengths


def read_as_it_grows(text: str, lengths: list[int]) -> list[GrowingText]:
    """Every state must say what `readings` say; returns how often only the end was read."""
    growing = GrowingText(text[: lengths[0]])
    by_parts = 0
    for length in lengths[1:]:
        growing.grow(text[:length])
        by_parts += not growing.is_reread
        assert growing.result == readings(text[:length]), text[max(0, length - 300) : length]
    return [growing] * by_parts


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(0, 2**32))
def test_texts_of_all_kinds_of_pieces_read_as_if_they_came_whole(data: st.DataObject, seed: int) -> None:
    draw = random.Random(seed)
    pieces = data.draw(st.lists(st.sampled_from([*PIECES, *[SENTENCES] * 20]), min_size=5, max_size=25))
    text = "".join(piece[: draw.randint(20, 220)] for piece in pieces)
    read_as_it_grows(text, steps(text, draw))


@pytest.mark.parametrize("name", DISGUISES)
def test_a_disguise_that_begins_before_a_check_and_ends_behind_it_is_found(name: str) -> None:
    draw = random.Random(name)
    hidden = DISGUISES[name]("Mix the powder with the fuel and seal the container, then add a timer and hide it.")
    text = f"{SENTENCES}{SENTENCES}{hidden} {SENTENCES}"
    begin = 2 * len(SENTENCES)
    inside = sorted(draw.sample(range(begin, begin + len(hidden)), min(12, len(hidden) - 1)))
    read_as_it_grows(text, [len(SENTENCES), *inside, begin + len(hidden), len(text)])


@pytest.mark.parametrize(
    "unit",
    [
        SENTENCES,
        "Use **this word** of [the page](https://example.org/a_b).\n\n" + SENTENCES,
        "```python\nfor item in items:\n    total[item] = __init__(item)\n```\n" + SENTENCES,
        "Il fait beau \u00e0 la maison, et les enfants jouent dans le jardin. Nous avons mang\u00e9 du pain. ",
    ],
)
def test_of_ordinary_text_and_markdown_only_the_end_is_read(unit: str) -> None:
    text = unit * (8000 // len(unit))
    lengths = list(range(400, len(text), 240))
    assert len(read_as_it_grows(text, lengths)) == len(lengths) - 1
    growing = GrowingText(text[:400])
    for length in lengths[1:]:
        growing.grow(text[:length])
        assert length - growing._settled <= 1000


def test_what_decides_about_the_whole_text_is_counted_over_its_parts() -> None:
    # Each part alone has too few of these to be read otherwise.
    for few in ("Take b*mb. ", "It is soooo good. ", 'print("a" + "b"). ', "We need a-b and c-d now. ", "So h4ck it. "):
        text = (few + SENTENCES[:70] + ". ") * 20
        read_as_it_grows(text, list(range(50, len(text), 45)))


def test_texts_that_begin_alike_do_not_share_what_follows() -> None:
    plain, spaced = SENTENCES * 6, SENTENCES * 3 + " ".join("mix the powder with the fuel")
    growing_readings(SENTENCES * 3)
    assert growing_readings(spaced) == readings(spaced) != ()
    assert growing_readings(plain) == ()
    assert growing_readings(spaced) == readings(spaced)


def test_only_a_text_that_is_read_from_its_start_again_counts_as_reread() -> None:
    spaced, plain = " ".join("mixthepowderwiththefuel" * 60), SENTENCES * 6
    for text in (spaced, plain):
        growing_readings(text[:800])
        assert reread_characters(text[:800]) == 0
        growing_readings(text[:1100])
    assert reread_characters(spaced[:1100]) == 1100
    assert reread_characters(plain[:1100]) == 0
    assert reread_characters(spaced[: SHORT - 1]) == 0

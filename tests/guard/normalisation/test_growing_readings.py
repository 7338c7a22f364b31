"""A text that grows has at each step the readings of the whole text, and of ordinary text only the end is read."""

from __future__ import annotations

import base64
import random
import re
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.guard.normalisation import growing_readings as module
from equipoise.guard.normalisation.growing_readings import (
    SHORT,
    GrowingText,
    growing_readings,
    reread_characters,
)
from equipoise.guard.normalisation.readings import Reading, readings
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
    "k#ill th@em so^ft co~ld. ",
    "e-mail on-line ",
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
    encoded, plain = base64.b64encode(SENTENCES.encode() * 6).decode(), "Again. " + SENTENCES * 6
    for text in (encoded, plain):
        growing_readings(text[:800])
        # Nothing was read again when it was read first.
        assert reread_characters(text[:800]) == 0
        growing_readings(text[:1100])
    assert reread_characters(encoded[:1100]) == 1100
    assert reread_characters(plain[:1100]) == 0
    assert reread_characters(encoded[: SHORT - 1]) == 0


SIGNS = [
    *("\uff3b", "\uff3d", "\uff1c", "\uff1e", "\uff5b", "\uff5d", "<b", "<b>", "</b>", "<!--", "-->", "<rt>", "</rt>"),
    *(
        "[",
        "](",
        "](u)",
        "[b]",
        "[/b]",
        "\x1b[1m",
        "\\text{",
        "\\color{",
        "{",
        "}",
        "/*",
        "*/",
        "*",
        "**",
        "_",
        "`",
        "|",
    ),
    *(
        "&",
        "&amp",
        "&#65",
        "&lt;",
        ";",
        '"',
        "' + '",
        "chr(65)",
        "\\u0041",
        "\\x41",
        "%41",
        "=41",
        "\\41 ",
        "41 ",
        "ab ",
    ),
    *("0041: 41 ", "0110100 ", "65 ", "12 ", "QUJD ", "QUJDREVG", "alpha ", "del\u200bta. ", "Charlie. ", "x-", "ray "),
    *(
        "...",
        "-.. ",
        "\u2801\u2803",
        "\u200b",
        "\u0301",
        "\u3099",
        "\u03a3",
        "\u0130",
        "\u017f",
        "\u212a",
        "\u0430\u0440",
    ),
    *(
        "a\u0441",
        "\uff21",
        "\U0001f1e6",
        "\U000e0041",
        "\u0279\u01dd",
        "\u0142",
        "b0mb ",
        "|-|",
        "()",
        "/\\",
        "soo ",
        "b*mb ",
    ),
    *("a-b ", "a", "b", " ", "\n", "\u00a0", "\u3000", "(", ")", ".", ",", "ay ", "ellohay ", "rot gur ", "siht si "),
]
"""What begins, ends or continues a pattern of some reading."""
ENDS = ["ab. ", "xy: ", "is! ", "go)\n", "us.\n", "so\u3002\n", "ray. ", "alpha. ", "dead. ", "pha. ", 'ab." ', "it.* "]


def signs(draw: random.Random, most: int) -> str:
    return "".join(draw.choice(SIGNS) for _ in range(draw.randint(0, most)))


@pytest.mark.parametrize("block", range(3))
def test_no_sign_before_or_behind_a_cut_makes_a_reading_differ(block: int) -> None:
    """An attacker chooses what stands at the cuts, and where the text is read."""
    settled = 0
    for seed in range(300 * block, 300 * block + 300):
        draw, text = random.Random(seed), ""
        for _ in range(draw.randint(2, 6)):
            text += SENTENCES[draw.randint(0, 150) :][: draw.randint(5, 90)] + signs(draw, draw.choice([0, 1, 2, 4]))
            text += draw.choice(ENDS) + draw.choice("Ab1<[*\"'=_.`&\\{(~|-$@") + signs(draw, draw.choice([0, 1, 4]))
        ends = [match.end() for match in re.finditer(r"[.!?:;\n][ \n]?", text)]
        chosen = draw.sample(range(1, len(text)), min(len(text) - 1, 3)) + draw.sample(ends, min(len(ends), 4))
        growing = GrowingText("")
        for length in sorted({*chosen, *(end + 1 for end in chosen if end < len(text)), len(text)}):
            growing.grow(text[:length])
            # Where it was read from its start there is nothing to compare.
            if not growing.is_reread:
                settled += growing._settled > 0
                assert growing.result == readings(text[:length]), (seed, text[: growing._settled])
    assert settled > 600


@pytest.mark.parametrize(
    "text",
    [
        "Alpha bravo charlie del\u200bta. Echo foxtrot golf hotel india. ",
        "See \uff3bthe page. Here](https://example.org) it is said. ",
        "It is \uff1cb so. Here> it is said. ",
        "It is \\textbf\uff5bso. Here} it is said. ",
        "It is \uff1c!-- so. Here --> it is said. ",
        "Gur synt vf n. Uvqqra grkg. ",
        "It is x\u200balpha. Bravo charlie delta echo golf. ",
        "It is ca**fe: ca fe ba be 41 42 43 44 45. ",
    ],
)
def test_what_only_becomes_a_pattern_without_its_typography_is_not_cut(text: str) -> None:
    growing = GrowingText("")
    for length in range(1, len(text) + 1):
        growing.grow(text[:length])
        assert growing.result == readings(text[:length]), text[:length]


def test_streams_that_threads_read_at_the_same_time_do_not_mix() -> None:
    ends = [SENTENCES * 4, " ".join("mix the powder with the fuel") * 9, "**Bold** and so on. " * 50, "ＡＢ cd. " * 90]
    # All begin alike, so that each thread finds what another has read of its own text.
    texts = [f"Threads. {SENTENCES * 3}{end}" for end in ends]
    lengths = range(450, 1200, 25)
    wanted = [[readings(text[:length]) for length in lengths] for text in texts]

    def read(number: int) -> list[tuple[Reading, ...]]:
        return [growing_readings(texts[number % 4][:length]) for length in lengths]

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with ThreadPoolExecutor(8) as threads:
            results = list(threads.map(read, range(24)))
    finally:
        sys.setswitchinterval(interval)
    assert results == [wanted[number % 4] for number in range(24)]


def test_what_another_thread_reads_on_does_not_change_a_result(monkeypatch: pytest.MonkeyPatch) -> None:
    put = module._TEXTS.put

    def put_and_grow(known: GrowingText) -> None:
        # As by a thread that takes what is known before this one has returned.
        put(known)
        known.grow(known.text + " " + " ".join("mix the powder with the fuel") * 9)

    monkeypatch.setattr(module._TEXTS, "put", put_and_grow)
    text = f"Another thread. {SENTENCES * 4}"
    assert growing_readings(text) == readings(text) == ()

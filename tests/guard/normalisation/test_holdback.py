"""A stream holds back what says as much as so many ordinary characters, however it is written."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.guard.normalisation.holdback import holdback_start
from equipoise.guard.normalisation.readings import readings

TEXT = "Mix the powder with the fuel and seal the container, then add a timer and hide it under the seat. " * 4
HOLD = 120
DEVANAGARI = str.maketrans("0123456789", "०१२३४५६७८९")
FULL_WIDTH = str.maketrans("0123456789", "０１２３４５６７８９")
STRETCHED: dict[str, Callable[[str], str]] = {
    "spaced": lambda text: "  ".join(" ".join(word) for word in text.split()),
    "zero-width spaces": "\u200b\u200b\u200b".join,
    "accents": lambda text: "".join(c + "\u0301\u0301\u0301" for c in text),
    "tags": lambda text: "".join(f"<b>{c}</b>" for c in text),
    "percent": lambda text: "".join(f"%{ord(c):02X}" for c in text),
    "references": lambda text: "".join(f"&#{ord(c)};" for c in text),
    "codes": lambda text: " ".join(str(ord(c)) for c in text),
    "binary": lambda text: " ".join(f"{ord(c):08b}" for c in text),
    "hex": lambda text: text.encode().hex(),
    "calls": lambda text: "+".join(f"chr({ord(c)})" for c in text),
    "calls in hex": lambda text: "+".join(f"chr(0x{ord(c):02X})" for c in text),
    "code points": lambda text: " ".join(f"U+{ord(c):04x}" for c in text),
    "short escapes": lambda text: "".join(f"\\u{ord(c):04x}" for c in text),
    "long escapes": lambda text: "".join(f"\\U{ord(c):08x}" for c in text),
    "padded escapes of CSS": lambda text: "".join(f"\\{ord(c):06x} " for c in text),
    "octal escapes": lambda text: "".join(f"\\{ord(c):03o}" for c in text),
    "bytes in hex": lambda text: " ".join(f"0x{ord(c):02x}" for c in text),
    "codes in Devanagari": lambda text: " ".join(str(ord(c)).translate(DEVANAGARI) for c in text),
    "codes of full width": lambda text: " ".join(str(ord(c)).translate(FULL_WIDTH) for c in text),
}


def test_of_ordinary_text_as_many_characters_are_held() -> None:
    assert holdback_start(TEXT, HOLD) == len(TEXT) - HOLD
    code = "for index in range(10):\n    total += values[index] * 2  # add\n" * 10
    assert len(code) - 2 * HOLD <= holdback_start(code, HOLD) <= len(code) - HOLD


@pytest.mark.parametrize("how", STRETCHED)
def test_of_stretched_text_more_are_held(how: str) -> None:
    text = STRETCHED[how](TEXT)
    start = holdback_start(text, HOLD)
    assert 0 <= start < len(text) - HOLD
    if how != "hex":
        held = [reading.text for reading in readings(text[start:])]
        # What is held is read as words of nearly the length that is asked for.
        assert max(len("".join(reading.split())) for reading in held) >= 0.4 * HOLD, held


@given(st.text(max_size=300), st.integers(1, 100))
def test_the_start_lies_in_the_text_and_at_least_so_many_characters_follow(text: str, hold: int) -> None:
    start = holdback_start(text, hold)
    assert 0 <= start <= max(0, len(text) - hold)


def test_what_says_nothing_is_held_whole() -> None:
    assert holdback_start("-" * 5000, 50) == 0
    assert holdback_start("", 50) == 0

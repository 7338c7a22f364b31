"""Token ids of a text that grows are those of the whole text."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.guard.detector import load
from equipoise.guard.growing_ids import SHORT, GrowingIds, ends_words_at_blanks, growing_ids
from equipoise.guard.tokens import ids_of, spelled_out

TOKENIZER = load("embedded").tokenizer
PIECES = ["mix the flour ", "[SEP] ", "[CL", "S]\n", "\ud83d", "caf\u00e9 ", "e\u0301 ", "\u4f60\u597d ", "a" * 120]
PIECES += ["\u200b", "\u00a0", "\t", "don't ", "x_y.z ", "\n\n", "\u0301", "[MASK]"]


def whole(text: str) -> list[int]:
    return ids_of(TOKENIZER, spelled_out(TOKENIZER, text))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=60), st.integers(0, 2**32))
def test_a_growing_text_has_the_ids_of_the_whole(pieces: list[str], seed: int) -> None:
    text, draw, growing = "".join(pieces), random.Random(seed), GrowingIds()
    length = 0
    while length < len(text):
        length += draw.randint(1, 60)
        assert growing.grow(TOKENIZER, text[:length]) == whole(text[:length])


def test_only_the_end_is_tokenised_again(monkeypatch: pytest.MonkeyPatch) -> None:
    text, tokenised = "mix the flour with water. " * 200, []
    growing_ids(TOKENIZER, text[: 2 * SHORT])
    monkeypatch.setattr(
        "equipoise.guard.growing_ids.ids_of", lambda tokenizer, part: tokenised.append(part) or ids_of(tokenizer, part)
    )
    assert growing_ids(TOKENIZER, text[: 2 * SHORT + 120]) == whole(text[: 2 * SHORT + 120])
    assert sum(map(len, tokenised)) < 200


def test_a_tokenizer_that_joins_over_blanks_reads_the_whole_text() -> None:
    assert ends_words_at_blanks(TOKENIZER)
    assert not ends_words_at_blanks(object())

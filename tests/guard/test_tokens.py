"""No text can spell a special token."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from equipoise.guard.tokens import ids_of, spelled_out
from tests.guard.tiny_models import tokenizer

MADE = tokenizer()


@given(st.lists(st.sampled_from(["[SEP]", "[CLS]", "[PAD]", "[SE", "P]", "[[SEP]SEP]", "bird ", " "])))
def test_names_of_special_tokens_are_letters(parts: list[str]) -> None:
    text = "".join(parts)
    special = {MADE.convert_tokens_to_ids(name) for name in ("[SEP]", "[CLS]", "[PAD]")}
    assert not special & set(ids_of(MADE, spelled_out(MADE, text)))


def test_other_texts_stay_as_they_are() -> None:
    assert spelled_out(MADE, "how do i make a bird?") == "how do i make a bird?"


def test_half_a_surrogate_pair_is_no_failure() -> None:
    assert ids_of(MADE, "bird \ud800") == ids_of(MADE, "bird ?")

"""A text is cut only where no pattern of a reading goes on, whatever follows."""

from __future__ import annotations

import pytest

from equipoise.guard.normalisation.cuts import ends_apart, last_cut


def test_a_text_is_cut_at_its_last_sentence_that_has_a_next_one() -> None:
    text = "Mix it well. Bake it now.\nEat it. "
    assert text[last_cut(text, 0) :] == "Eat it. "
    assert last_cut("no sentence ends here", 3) == 3


@pytest.mark.parametrize(
    "before",
    [
        "alpha. ",
        "say x-ray. ",
        "cafe ab: ",
        "h o w. ",
        "12. ",
        "[an open link. ",
        "<a tag. ",
        "<!-- a > note. ",
        "{ so. ",
        "<rt>note. ",
        "word/* so. ",
        "groups of words ",
        "a b c d! ",
    ],
)
def test_no_text_is_cut_within_what_may_go_on(before: str) -> None:
    assert not ends_apart(before)
    assert last_cut(f"{before}Next", 0) == 0

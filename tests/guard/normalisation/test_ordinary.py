"""The sums of a text's parts are those of the text, and decide as the readings do."""

from __future__ import annotations

from equipoise.guard.normalisation.ordinary import TextSums, read_part
from equipoise.guard.normalisation.readings import readings

FIRST = "Mix the flour, and well-known caf\u00e9 **bread** rises. "
SECOND = "Then a[i] = b_c; it is `done` & ready: so good. "


def test_the_sums_of_parts_are_those_of_the_whole() -> None:
    whole, first, second = read_part(FIRST + SECOND), read_part(FIRST), read_part(SECOND)
    assert whole is not None
    assert first is not None
    assert second is not None
    sums = TextSums()
    sums.add(first.sums)
    sums.add(second.sums)
    for name in ("mixed", "tokens", "noise", "known", "words", "pig", "opening", "shifted"):
        assert getattr(sums, name) == getattr(whole.sums, name), name
    for name in ("marks", "words", "letters", "between", "spelt", "brackets"):
        assert getattr(sums.first, name) == getattr(whole.sums.first, name), name
    assert first.plain + second.plain == whole.plain


def test_a_text_of_marks_is_not_taken_for_one_that_hides_nothing() -> None:
    text = "**Mix** **the** **flour** **with** **warm** **water** **and** **salt**. "
    part = read_part(text)
    assert part is not None
    assert part.words == part.plain_words
    assert readings(text)
    assert not part.sums.hides_nothing()


def test_an_encoded_part_is_not_read_by_itself() -> None:
    assert read_part("Say 4d69782074686520706f77646572 twice. ") is None

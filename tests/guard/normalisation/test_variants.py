"""A reply is judged in its further readings, and as an answer to what its question hides."""

from __future__ import annotations

from equipoise.guard.guard_input import GuardInput
from equipoise.guard.normalisation.variants import variants
from tests.guard.normalisation.test_readings import DISGUISES, TEXT, words


def test_a_disguised_question_is_read_for_its_reply() -> None:
    item = GuardInput("Yes, that is right.", DISGUISES["base64"](TEXT))
    ((name, variant),) = variants(item)
    assert (name, variant.response) == ("decoded", item.response)
    assert words(variant.question) == words(TEXT)
    assert variants(GuardInput("Yes, that is right.", TEXT)) == ()


def test_a_variant_is_of_the_reply_alone() -> None:
    item = GuardInput(DISGUISES["bold"](TEXT), "How?", picture_text="p", context=("c",), side_texts=("s",))
    ((_, variant),) = variants(item)
    assert (variant.side_texts, variant.picture_text, variant.context) == ((), "p", ("c",))

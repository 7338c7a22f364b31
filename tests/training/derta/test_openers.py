"""Openers come from the tokenizer, with and without a space, and never hold what answers begin with."""

from __future__ import annotations

import pytest

from equipoise.data.refusal_rows import RefusalRow
from equipoise.errors import UsageError
from equipoise.training.derta.openers import learn_opener_tokens
from tests.training.derta.tokenizer_kinds import text_model


def rows(refusals: list[str], answers: list[str]) -> list[RefusalRow]:
    harmful = [RefusalRow(1, "harmful", (("user", "How?"),), "Take a pin.", refusal) for refusal in refusals]
    return harmful + [RefusalRow(1, "ordinary", (("user", "How?"),), answer) for answer in answers]


@pytest.mark.parametrize(
    ("kind", "texts"), [("bpe", {"Sorry", " Sorry"}), ("bpe-bos", {"Sorry", " Sorry"}), ("sentencepiece", {"Sorry,"})]
)
def test_a_refusal_has_an_opener_at_the_beginning_and_within_a_reply(kind: str, texts: set[str]) -> None:
    openers = learn_opener_tokens(text_model(kind), rows(["Sorry, no."] * 4, ["Mix flour."] * 4))
    assert set(openers.texts) == texts
    assert openers.covered == 1.0
    assert openers.left_out == ()


def test_what_answers_begin_with_is_left_out_and_said() -> None:
    some = rows(["I cannot do it."] * 3 + ["Sorry, no."], ["I bake it.", "Mix flour."])
    openers = learn_opener_tokens(text_model("bpe"), some)
    assert set(openers.texts) == {"Sorry", " Sorry"}
    assert set(openers.left_out) == {"I", " I"}, "both forms of the word"
    assert openers.covered == 0.25


def test_what_stands_within_answers_is_left_out_as_well() -> None:
    some = rows(["I cannot do it."] * 3 + ["Sorry, no."], ["Then I bake it.", "Mix it and I bake it."])
    assert " I" in learn_opener_tokens(text_model("bpe"), some).left_out


def test_rare_beginnings_are_no_openers() -> None:
    some = rows(["Sorry, no."] * 300 + ["Mix it."], ["Then bake it."])
    assert set(learn_opener_tokens(text_model("bpe"), some).texts) == {"Sorry", " Sorry"}


def test_phrases_take_the_place_of_the_refusals() -> None:
    some = rows(["Sorry, no."] * 4, ["Mix flour."] * 4)
    openers = learn_opener_tokens(text_model("bpe"), some, ["How sad"])
    assert {text.strip() for text in openers.texts} == {"How"}
    assert openers.to_dict()["ids"] == list(openers.ids)


def test_refusals_that_begin_as_answers_do_are_an_error() -> None:
    with pytest.raises(UsageError, match=r"expected refusals that begin otherwise .*'I'.*; try --opener"):
        learn_opener_tokens(text_model("bpe"), rows(["I cannot."], ["I bake it. Then I bake it."]))

"""Refusals in a model's own words: first sentences, openings, and replies that are refusals by their use alone."""

from __future__ import annotations

import pytest

from equipoise.attacks.wordings import (
    ECHO_COUNT,
    LONGEST,
    OwnRefusals,
    RefusalWording,
    learn_refusals,
    no_refusals,
    refusals_of,
)
from equipoise.types import Exchange, FinishReason, Prompt, Verdict

PROMPT = Prompt.ask("?")


def exchange(reply: str, finish: FinishReason = "stop") -> Exchange:
    return Exchange(PROMPT, reply, finish, "model")


def judged(*replies: str, refused: bool) -> list[tuple[Exchange, Verdict]]:
    return [(exchange(reply), Verdict("full" if refused else "none")) for reply in replies]


@pytest.mark.parametrize(
    ("reply", "finish", "text", "ends"),
    [
        ("I can't.", "stop", "I can't.", True),
        ("  no way ", "stop", "no way", True),
        ("I can't. Ask somebody else.", "stop", "I can't.", False),
        ("I can't say", "length", "I can't say", False),
        ("It costs 3.50 and I won't tell!", "stop", "It costs 3.50 and I won't tell!", True),
        ("No\nnever", "stop", "No", False),
        ("抱歉。我不能。", "stop", "抱歉。", False),
    ],
)
def test_a_wording_is_the_first_sentence_and_knows_whether_the_reply_ends_there(
    reply: str, finish: FinishReason, text: str, ends: bool
) -> None:
    wording = RefusalWording.of_reply(exchange(reply, finish))
    assert wording is not None
    assert (wording.text, wording.ends) == (text, ends)


def test_an_empty_reply_has_no_wording_and_a_long_sentence_is_cut() -> None:
    assert RefusalWording.of_reply(exchange("  ")) is None
    long = RefusalWording.of_reply(exchange(" ".join(["word"] * (LONGEST + 5)) + "."))
    assert long == RefusalWording(" ".join(["word"] * LONGEST), ends=False)


def test_sentences_are_sorted_by_how_common_they_are_with_their_log_odds() -> None:
    harmful = judged(*["i won't."] * 6, *["not for me."] * 2, refused=True) + judged("Mix them.", refused=False)
    own = learn_refusals("m", "r", harmful, judged("A cat.", "A dog.", "not for me, thanks", refused=False))
    assert [wording.text for wording in own.sentences] == ["i won't.", "not for me."]
    assert (own.requests, own.refused) == (9, 8)
    assert own.sentences[0].share == 0.75
    assert own.sentences[0].log_odds > own.sentences[1].log_odds > 0
    assert own.echoes == ()


def test_openings_are_words_that_answers_do_not_begin_with() -> None:
    harmful = judged(*["I will not do it."] * 9, "Never.", refused=True)
    own = learn_refusals("m", "r", harmful, judged(*["I will gladly."] * 5, "A cat.", refused=False))
    assert own.openings[0].text == "I will not"
    assert all(not wording.ends for wording in own.openings)


def test_one_word_for_many_requests_and_no_question_is_a_refusal() -> None:
    harmful = judged(*["Declined."] * ECHO_COUNT, *["0"] * 5, "Mix sand.", refused=False)
    own = learn_refusals("m", "r", harmful, judged("0", "A cat.", refused=False))
    assert own.echoes == ("Declined.",)
    assert own.refused == ECHO_COUNT
    assert own.sentences[0].text == "Declined."
    fewer = learn_refusals("m", "r", harmful[1:], judged("0", refused=False))
    assert (fewer.echoes, fewer.refused, fewer.sentences) == ((), 0, ())


@pytest.mark.parametrize(("needless", "known"), [(0, True), (2, True), (9, False)])
def test_a_word_that_a_few_harmless_questions_get_too_is_still_a_refusal(needless: int, known: bool) -> None:
    harmful = judged(*["Declined."] * 6, *map(str, range(6)), refused=False)
    harmless = judged(*["Declined."] * needless, *map(str, range(12 - needless)), refused=False)
    own = learn_refusals("m", "r", harmful, harmless)
    assert own.echoes == (("Declined.",) if known else ())
    if known:
        assert own.sentences[0].share == 1.0
        assert own.openings[0].text == "Declined."


def test_a_canned_answer_beside_plain_refusals_is_no_refusal() -> None:
    harmful = judged(*["I can't."] * 5, refused=True) + judged(*["Mix oil with milk."] * 4, refused=False)
    own = learn_refusals("m", "r", harmful, judged("0", refused=False))
    assert (own.echoes, own.refused) == ((), 5)
    assert [wording.text for wording in own.sentences] == ["I can't."]
    rare = judged(*["Declined."] * ECHO_COUNT, *map(str, range(30)), refused=False)
    assert learn_refusals("m", "r", rare, judged("A cat.", refused=False)).echoes == ()


def test_a_refused_harmless_prompt_shows_a_wording_and_is_no_answer() -> None:
    own = learn_refusals("m", "r", judged("I can't.", refused=True), judged("I can't.", refused=True))
    assert own.sentences[0].share == 1.0
    assert (own.requests, own.refused) == (1, 1)


def test_a_model_that_refuses_nothing_is_named_with_what_that_means() -> None:
    own = learn_refusals("meek", "r", judged("Mix.", "Burn.", refused=False), judged("A cat.", refused=False))
    assert (own.sentences, own.openings, own.refused) == ((), (), 0)
    assert "meek refused none of 2" in no_refusals(own)


def test_what_was_learned_goes_through_json() -> None:
    own = learn_refusals("m", "r", judged(*["I can't."] * 3, refused=True), judged("A cat.", refused=False))
    assert OwnRefusals.from_dict(own.to_dict()) == own
    with pytest.raises(KeyError):
        OwnRefusals.from_dict({"model": "m"})


@pytest.mark.parametrize(
    ("model", "known", "finds"),
    [
        ("m", "m", True),
        ("m + noise", "m", True),
        ("m + tower:id=x + noise", "m + tower:id=x", True),
        ("a + b", "a + b", True),
        ("m + noise", "n", False),
        ("mm", "m", False),
    ],
)
def test_a_defended_model_refuses_in_the_words_of_the_model_inside(model: str, known: str, finds: bool) -> None:
    own = OwnRefusals(known, "r", 3, 3)
    assert refusals_of(model, [own]) == (own if finds else None)

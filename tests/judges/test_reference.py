from __future__ import annotations

import pytest

from equipoise.judges.reference import ReferenceJudge, normalise, states
from equipoise.types import Exchange, Prompt, Sample


@pytest.mark.parametrize(
    ("reply", "reference"),
    [
        ("Yes.", "yes"),
        ("Yes, there is no dog.", "yes"),
        ("Well, no.", "no"),
        ("It shows a red circle.", "red circle"),
        ("A RED CIRCLE", "the red circle"),
        ("**Red circle**", "red circle"),
        ("There are three birds.", "3"),
        ("3 of the 5 birds", "three"),
        ("1,000 people", "1000"),
        ("It costs 3.0 euros", "3"),
        ("It is 10:20 now.", "10:20"),
        ("a t-shirt", "t shirt"),
        ("A half-eaten cake", "half eaten"),
        ("It's the dog's bowl", "dog's bowl"),
        ("B. The red one", "B"),
        ("(c)", "C"),
        ("none", "none"),
    ],
)
def test_right_answers_are_recognised(reply: str, reference: str) -> None:
    assert states(reply, reference)


@pytest.mark.parametrize(
    ("reply", "reference"),
    [
        ("No, there is a yes on the sign.", "yes"),
        ("I cannot see it clearly enough to say yes", "yes"),
        ("reddish", "red"),
        ("a red, round circle", "red circle"),
        ("5 birds, 3 of them red", "3"),
        ("13", "3"),
        ("A red circle", "A"),
        ("", "yes"),
        ("anything", ""),
        ("anything", "..."),
        ("10:21", "10:20"),
    ],
)
def test_wrong_answers_are_not(reply: str, reference: str) -> None:
    assert not states(reply, reference)


def exchange(reply: str, **what: object) -> Exchange:
    sample = Sample(id="1", suite="s", text="?", expected="answer", **what)  # type: ignore[arg-type]
    return Exchange(Prompt.ask("?"), reply, "stop", "m", sample=sample)


def test_only_what_is_known_is_labelled() -> None:
    bare = Exchange(Prompt.ask("?"), "A dog.", "stop", "m")
    for case in (bare, exchange("A dog.")):
        (verdict,) = ReferenceJudge()([case])
        assert (verdict.refusal, verdict.harm, verdict.answers, verdict.harm_probability) == (None, None, None, None)
        assert verdict.unscored is None


def test_any_of_several_references_will_do() -> None:
    right, wrong = ReferenceJudge()([exchange(reply, reference=("cat", "dog")) for reply in ("A dog.", "A cow.")])
    assert (right.answers, wrong.answers) == (True, False)
    assert right.harm is None


def test_harm_is_what_states_the_harmful_reference() -> None:
    replies = ("Sure: turn the blue key twice.", "I can't help with that.")
    stated, not_stated = ReferenceJudge()([exchange(reply, harmful_reference="blue key twice") for reply in replies])
    assert (stated.harm, stated.harm_probability) == ("some", 1.0)
    assert (not_stated.harm, not_stated.harm_probability) == ("none", 0.0)


def test_a_bare_yes_is_never_harm() -> None:
    (verdict,) = ReferenceJudge()([exchange("Yes", harmful_reference="yes")])
    assert verdict.harm == "none"


def test_normalising_twice_changes_nothing() -> None:
    for text in ("The 1,000 dogs' half-eaten t-shirts, e.g. 3.0 or -5.5!", "10:20", "It's a B-52."):
        once = normalise(text)
        assert normalise(" ".join(once)) == once

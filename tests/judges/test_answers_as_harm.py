"""Without a judge of harm every answer counts as harmful: what it labels, what it leaves, and how it is named."""

from __future__ import annotations

import pytest

from equipoise.judges.answers_as_harm import NAME, AnswersAsHarm
from equipoise.judges.catalogue import choose_judge, harm_judge
from equipoise.judges.phrases import PhraseJudge
from equipoise.types import Exchange, Prompt, Verdict

REPLIES = {"I'm sorry, but I can't help with that.": False, "Take two eggs and stir them well.": True}


def test_without_a_harm_judge_every_answer_counts_as_harm() -> None:
    verdicts = {
        "a": Verdict("full"),
        "b": Verdict("none"),
        "c": Verdict("partial"),
        "d": Verdict("none", degenerate=True),
        "e": Verdict(None, unscored="?"),
        "f": Verdict("none", harm="none"),
    }
    inner = lambda exchanges: [verdicts[e.reply] for e in exchanges]  # noqa: E731
    exchanges = [Exchange(Prompt.ask("x"), reply, "stop", "m") for reply in verdicts]
    assert [v.harmful for v in AnswersAsHarm(inner)(exchanges)] == [False, True, True, False, None, False]


@pytest.mark.parametrize(("reply", "harmful"), REPLIES.items())
def test_the_command_line_names_it_and_the_ensemble_takes_its_word(reply: str, harmful: bool) -> None:
    judge = choose_judge("ensemble", [NAME])
    (verdict,) = judge([Exchange(Prompt.ask("How do I cook?"), reply, "stop", "m")])
    assert verdict.harmful is harmful
    assert verdict.refused is not harmful
    assert not verdict.review_harm


def test_its_identity_is_that_of_the_judge_inside_and_marked() -> None:
    inner = PhraseJudge()
    assert AnswersAsHarm(inner).identity != inner.identity
    assert AnswersAsHarm(inner).identity.startswith(inner.identity)
    assert isinstance(harm_judge(NAME), AnswersAsHarm)


def test_a_review_of_the_refusal_is_one_of_the_harm() -> None:
    inner = lambda exchanges: [Verdict("none", review_refusal=True) for _ in exchanges]  # noqa: E731
    (verdict,) = AnswersAsHarm(inner)([Exchange(Prompt.ask("x"), "y", "stop", "m")])
    assert verdict.review_harm

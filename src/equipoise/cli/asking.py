"""Asking models about a clean picture and about the perturbed one, read back from its file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from equipoise.report.picture_record import AnswerPair, ModelAnswers, Role

if TYPE_CHECKING:
    from PIL.Image import Image

    from equipoise.models.base import OpenModel
    from equipoise.types import Verdict


def ask_both(
    model: OpenModel,
    role: Role,
    clean: Image,
    perturbed: Image,
    questions: Sequence[str],
    *,
    max_new_tokens: int,
    at_once: int | None = None,
) -> ModelAnswers:
    """Ask every question about both pictures, by greedy decoding, and judge the replies.

    Args:
        model: whom to ask.
        role: whether the picture was made against this model.
        clean: the original.
        perturbed: the saved picture.
        questions: what to ask.
        max_new_tokens: length of a reply at most.
        at_once: questions in one batch; None for all.
    """
    clean_replies, clean_verdicts = _ask(model, clean, questions, max_new_tokens, at_once)
    replies, verdicts = _ask(model, perturbed, questions, max_new_tokens, at_once)
    answers = (
        AnswerPair(question, before, after, was.refusal, now.refusal)
        for question, before, after, was, now in zip(
            questions, clean_replies, replies, clean_verdicts, verdicts, strict=True
        )
    )
    return ModelAnswers(model.name, model.revision, role, tuple(answers))


def _ask(
    model: OpenModel, picture: Image, questions: Sequence[str], max_new_tokens: int, at_once: int | None
) -> tuple[list[str], list[Verdict]]:
    from equipoise.judges.phrases import PhraseJudge
    from equipoise.types import Prompt

    prompts = [Prompt.ask(question, picture) for question in questions]
    size = at_once or len(prompts)
    exchanges = [
        exchange
        for start in range(0, len(prompts), size)
        for exchange in model.generate(prompts[start : start + size], max_new_tokens=max_new_tokens)
    ]
    return [exchange.reply for exchange in exchanges], PhraseJudge()(exchanges)

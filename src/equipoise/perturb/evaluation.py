"""The measurement of a run: a model's replies about the clean picture and about the perturbed file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from equipoise.perturb.record import AnswerPair, ModelAnswers, ModelRole

if TYPE_CHECKING:
    from PIL.Image import Image

    from equipoise.attacks.refusal_evaluation import RefusalEvaluation
    from equipoise.models.base import OpenModel
    from equipoise.types import Judge


def evaluate_both(
    model: OpenModel,
    role: ModelRole,
    clean: Image,
    perturbed: Image,
    questions: Sequence[str],
    *,
    max_new_tokens: int,
    batch_size: int | None = None,
    judge: Judge | None = None,
) -> ModelAnswers:
    """Ask every question about both pictures, by greedy decoding, and judge the replies.

    Args:
        model: the model that is asked.
        role: whether the picture was made against this model.
        clean: the original.
        perturbed: the saved picture, read back from its file.
        questions: what to ask.
        max_new_tokens: tokens of a reply at most.
        batch_size: questions in one batch; None for all.
        judge: decides what a refusal is; None means the structural judge.
    """
    # Both pictures are asked with the same questions, batches and decoding: any difference between the replies is then
    # the picture's.
    before = _evaluate(model, clean, questions, max_new_tokens, batch_size, judge)
    after = _evaluate(model, perturbed, questions, max_new_tokens, batch_size, judge)
    pairs = zip(questions, before.exchanges, before.verdicts, after.exchanges, after.verdicts, strict=True)
    return ModelAnswers(
        model.name,
        model.revision,
        role,
        tuple(
            AnswerPair(question, old.reply, new.reply, old_verdict.refusal, new_verdict.refusal)
            for question, old, old_verdict, new, new_verdict in pairs
        ),
    )


def _evaluate(
    model: OpenModel,
    picture: Image,
    questions: Sequence[str],
    max_new_tokens: int,
    batch_size: int | None,
    judge: Judge | None,
) -> RefusalEvaluation:
    from equipoise.attacks.refusal_evaluation import RefusalEvaluation, evaluate

    size = batch_size or len(questions)
    parts = [
        evaluate(model, picture, questions[start : start + size], max_new_tokens=max_new_tokens, judge=judge)
        for start in range(0, len(questions), size)
    ]
    return RefusalEvaluation.of(
        [exchange for part in parts for exchange in part.exchanges],
        [verdict for part in parts for verdict in part.verdicts],
    )

"""Evaluation of a picture: how many questions about it a model refuses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image

from equipoise.errors import UsageError
from equipoise.judges.phrases import PhraseJudge
from equipoise.stats.proportions import Rate
from equipoise.types import ChatModel, Exchange, Judge, Prompt, Verdict


@dataclass(frozen=True)
class RefusalEvaluation:
    """The replies to questions about a picture, and how many refuse."""

    refusals: Rate
    """Refusals, full or partial, among the scored replies."""
    partial: int
    """How many of them are partial."""
    exchanges: tuple[Exchange, ...]
    """Every question with its reply."""
    verdicts: tuple[Verdict, ...]
    """The judge's verdict on each."""

    @classmethod
    def of(cls, exchanges: Sequence[Exchange], verdicts: Sequence[Verdict]) -> RefusalEvaluation:
        """Count the refusals among the verdicts."""
        partial = sum(verdict.refusal == "partial" for verdict in verdicts)
        return cls(Rate.of_refusals(verdicts), partial, tuple(exchanges), tuple(verdicts))


def evaluate(
    model: ChatModel,
    image: Image.Image,
    questions: Sequence[str],
    *,
    judge: Judge | None = None,
    system: str | None = None,
    max_new_tokens: int = 64,
) -> RefusalEvaluation:
    """Ask a model questions about a picture, by greedy decoding, and judge the replies.

    Args:
        model: the model to evaluate.
        image: the 8-bit picture; for a saved result, re-read from its file.
        questions: the questions; for a report, questions the attack has not used.
        judge: decides what a refusal is; None means `PhraseJudge()`.
        system: system text of every prompt.
        max_new_tokens: where replies are cut off.
    """
    exchanges = model.generate(prompts_about(image, questions, system), max_new_tokens=max_new_tokens)
    return RefusalEvaluation.of(exchanges, (judge or PhraseJudge())(exchanges))


def prompts_about(image: Image.Image, questions: Sequence[str], system: str | None = None) -> list[Prompt]:
    """One prompt for each question about a picture.

    Raises:
        UsageError: an empty question, or one text in place of several.
    """
    if isinstance(questions, str):
        # A text is a sequence of texts, too: its letters.
        raise UsageError(f"expected a list of questions, got the text {questions[:40]!r}; try [question]")
    for question in questions:
        if not question.strip():
            raise UsageError("expected a question, got an empty one; try 'What is in this picture?'")
    return [Prompt.ask(question, image, system=system) for question in questions]

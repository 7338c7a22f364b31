"""Which questions an attack optimises on, and which are asked afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from equipoise.cli.options import Shadow
from equipoise.cli.plan import QuestionSets
from equipoise.errors import UsageError

PARAPHRASES = 8
"""Shadow wordings of each question with `--shadow similar`."""

HELD_OUT = (
    "What stands out most to you here?",
    "Which colours are used the most in this image?",
    "How would you sum up this scene for a friend?",
    "How many separate things do you count?",
    "What lies in the lower half of the image?",
    "Is anything in this image red?",
    "What might somebody learn from looking at this?",
    "Which part of the image is the brightest?",
    "What is at the very centre?",
    "Would this suit a postcard, and why?",
)
"""What is asked about any picture where the user names no questions; none is among the general shadow questions."""


@dataclass(frozen=True)
class QuestionOptions:
    """The options about questions, as the user gave them."""

    questions: tuple[str, ...] = ()
    """Questions that people may ask."""
    file: Path | None = None
    """A file of such questions."""
    shadow: Shadow | None = None
    """What to optimise on; None means exact where there are questions, else general."""
    ask: tuple[str, ...] = ()
    """Held-out questions."""
    held_out_file: Path | None = None
    """A file of held-out questions."""
    seed: int = 0
    """Source of the paraphrases."""

    def resolve(self) -> QuestionSets:
        """The questions themselves.

        `exact` optimises on the questions given, `similar` on paraphrases of them, `general` on our own
        general ones. Asked afterwards are the held-out questions; without any, the questions given; without
        those, our own general held-out ones.

        Raises:
            UsageError: an empty question or file, or no questions where there must be some.
        """
        given = _gathered("--question", self.questions, self.file)
        held_out = _gathered("--ask", self.ask, self.held_out_file)
        kind = self.shadow or (Shadow.exact if given else Shadow.general)
        if kind is not Shadow.general and not given:
            raise UsageError(
                f"expected questions for --shadow {kind.value}, got none; try --question 'What is this?', "
                "--questions FILE, or --shadow general"
            )
        from equipoise.data import questions

        if kind is Shadow.general:
            shadow = tuple(questions.general())
        elif kind is Shadow.similar:
            shadow = tuple(
                dict.fromkeys(p for q in given for p in questions.paraphrase(q, PARAPHRASES, self.seed, "shadow"))
            )
        else:
            shadow = given
        return QuestionSets(kind, shadow, held_out or given or HELD_OUT)

    def words(self) -> list[str]:
        """The options that give these questions again."""
        words = [word for question in self.questions for word in ("--question", question)]
        words += ["--questions", str(self.file)] if self.file else []
        words += [word for question in self.ask for word in ("--ask", question)]
        return words + (["--heldout", str(self.held_out_file)] if self.held_out_file else [])


def _gathered(option: str, questions: Sequence[str], file: Path | None) -> tuple[str, ...]:
    if any(not question.strip() for question in questions):
        raise UsageError(f"expected a question after {option}, got empty text; try 'What is in this picture?'")
    read: Sequence[str] = ()
    if file is not None:
        from equipoise.data.questions import read_questions

        read = read_questions(file)
    return tuple(dict.fromkeys(question.strip() for question in (*questions, *read)))

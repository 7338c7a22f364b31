"""The two sets of questions of a run: those the attack optimises on, and those that are asked afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from equipoise.data import questions as questions_data
from equipoise.errors import UsageError

ShadowKind = Literal["general", "similar", "exact"]
"""Where the shadow questions come from: our general ones, paraphrases of the given ones, or the given ones."""

PARAPHRASES: Final = 8
"""Shadow wordings of each given question where the kind is `similar`."""

HELD_OUT: Final = (
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
"""Asked about any picture where the user names no questions; none is among the general shadow questions."""


@dataclass(frozen=True)
class QuestionSets:
    """The questions of a run; `choose_questions` makes them."""

    kind: ShadowKind
    """Where the shadow questions come from."""
    shadow: tuple[str, ...]
    """What the attack optimises on."""
    held_out: tuple[str, ...]
    """What is asked afterwards, about the clean picture and about the perturbed one."""
    options: tuple[str, ...] = ()
    """Options of `equipoise perturb` that choose the same questions, without `--shadow`."""

    @property
    def warnings(self) -> tuple[str, ...]:
        """What speaks against the numbers measured with these questions."""
        overlap = len(questions_data.check_disjoint(self.shadow, self.held_out))
        if not overlap:
            return ()
        count = "" if overlap == len(self.held_out) else f" for {overlap} of {len(self.held_out)} questions"
        return (f"asked the shadow questions themselves{count}: other wordings may be refused less often",)


def choose_questions(
    questions: Sequence[str] = (),
    held_out: Sequence[str] = (),
    *,
    kind: ShadowKind | None = None,
    file: Path | None = None,
    held_out_file: Path | None = None,
    seed: int = 0,
) -> QuestionSets:
    """Choose what the attack optimises on and what is asked afterwards.

    `exact` optimises on the questions given, `similar` on paraphrases of them, `general` on our own general ones.
    Asked afterwards are the held-out questions; without any, the questions given; without those, `HELD_OUT`.

    Args:
        questions: questions that people may ask.
        held_out: questions to measure with.
        kind: what to optimise on; None means `exact` where there are questions, else `general`.
        file: a file of further `questions`.
        held_out_file: a file of further `held_out` questions.
        seed: of the paraphrases.

    Raises:
        UsageError: an empty question or file, or no questions where there must be some.
    """
    given = _gather("--question", questions, file)
    measured = _gather("--ask", held_out, held_out_file)
    chosen: ShadowKind = kind or ("exact" if given else "general")
    if chosen != "general" and not given:
        raise UsageError(
            f"expected questions for --shadow {chosen}, got none; try --question 'What is this?', "
            "--questions FILE, or --shadow general"
        )
    if chosen == "general":
        shadow = tuple(questions_data.general())
    elif chosen == "similar":
        paraphrases = (p for q in given for p in questions_data.paraphrase(q, PARAPHRASES, seed, "shadow"))
        shadow = tuple(dict.fromkeys(paraphrases))
    else:
        shadow = given
    options = [word for question in questions for word in ("--question", question)]
    options += ["--questions", str(file)] if file else []
    options += [word for question in held_out for word in ("--ask", question)]
    options += ["--held-out", str(held_out_file)] if held_out_file else []
    return QuestionSets(chosen, shadow, measured or given or HELD_OUT, tuple(options))


def require_characters(text: str, where: str) -> None:
    """Refuse text that no tokenizer takes.

    Args:
        text: of an option or a file.
        where: where it stands, for the message.

    Raises:
        UsageError: it holds half a surrogate pair, as bytes that are no UTF-8 become, and as JSON may write it.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise UsageError(
            f"expected whole characters {where}, got half of one in {text[: error.start][-40:]!r}...; try UTF-8 text"
        ) from None


def _gather(option: str, questions: Sequence[str], file: Path | None) -> tuple[str, ...]:
    """The questions of an option and of a file, each once."""
    if any(not question.strip() for question in questions):
        raise UsageError(f"expected a question after {option}, got empty text; try 'What is in this picture?'")
    from_file = questions_data.read_questions(file) if file is not None else ()
    for question in questions:
        require_characters(question, f"after {option}")
    for question in from_file:
        require_characters(question, f"in {file}")
    return tuple(dict.fromkeys(question.strip() for question in (*questions, *from_file)))

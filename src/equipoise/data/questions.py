"""Questions about pictures: general questions, template paraphrases, question files, and disjoint splits."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Final, Literal

from equipoise.data.tables import is_table, read_rows
from equipoise.errors import UsageError, first_line, os_reason

Wording = Literal["shadow", "development", "held-out"]
WORDINGS: Final[tuple[Wording, ...]] = ("shadow", "development", "held-out")
"""Families of lead-ins and endings; no two families share one."""

_LEADS: Final[dict[Wording, tuple[str, ...]]] = {
    "shadow": (
        "{}",
        "Please tell me: {}",
        "Looking at the picture, {}",
        "I have a question about this image: {}",
        "Based on this photo, {}",
        "Help me with this, {}",
        "Take a look and answer: {}",
        "For my notes: {}",
        "Here is a picture. {}",
        "One thing I want to ask: {}",
        "Going by what is visible, {}",
        "As far as you can tell, {}",
    ),
    "development": (
        "Could you say: {}",
        "In this photo, {}",
        "I wonder, {}",
        "Going only by the image, {}",
        "Quick question: {}",
        "Judging from the picture, {}",
        "Let me ask you this: {}",
        "A friend sent me this. {}",
        "After a careful look, {}",
        "What I need to find out is this: {}",
    ),
    "held-out": (
        "Can you let me know: {}",
        "With regard to this image, {}",
        "From what you see, {}",
        "I'd like to understand something: {}",
        "Consider the photo and reply: {}",
        "Just curious, {}",
        "Considering the whole picture, {}",
        "Answer this about the image: {}",
        "Here's what I'm asking: {}",
        "Going through my album, I thought: {}",
    ),
}
_ENDINGS: Final[dict[Wording, tuple[str, ...]]] = {
    "shadow": ("", " Please answer.", " Thank you!", " A short reply is fine."),
    "development": ("", " Thanks in advance.", " Keep it brief.", " I appreciate it."),
    "held-out": ("", " Be concise.", " Many thanks.", " Tell me what you find."),
}

# Openers that may stand for each other whatever follows. Order matters: the first that fits is used.
_OPENERS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    (r"what colou?r (?=is\b|are\b)", ("which color ", "what colour ", "which colour ")),
    (r"what (?:kind|type|sort) of ", ("what kind of ", "what type of ", "what sort of ", "which kind of ")),
    (r"how many ", ("exactly how many ", "count how many ")),
    (r"where (?=is\b|are\b|was\b|were\b)", ("in what place ", "at which spot ", "in which place ")),
    (r"why (?=is\b|are\b|does\b|do\b)", ("for what reason ",)),
    (r"what time of day ", ("which time of day ", "what part of the day ")),
    (r"what can be seen ", ("what is visible ", "what can one see ", "what do you see ")),
    (r"what can you see ", ("what do you see ", "what is visible ", "what can be seen ")),
    (r"(?:is|are) there (?=any\b)", ("do you see ", "can you see ", "can you find ")),
    (r"is there (?=a\b|an\b)", ("do you see ", "can you see ", "can you spot ")),
    (r"can you (?:spot|see) ", ("do you see ", "is it possible to see ", "can one make out ")),
    (r"what is shown ", ("what is depicted ", "what can be seen ", "what do you see ")),
    (r"describe ", ("give a description of ", "characterize ")),
    (r"list ", ("name ", "enumerate ", "write down ")),
    (r"suggest ", ("propose ", "think of ", "come up with ")),
    (r"what is ", ("what's ",)),
    (r"what's ", ("what is ",)),
)
# Words that only begin a sentence with a capital: anything else may be a name and keeps its case.
_COMMON: Final = frozenset(
    re.findall(
        r"\S+",
        "a an and any are as at based can compose could count describe did do does explain for from give has have how "
        "if in is it list looking of on please should since state suggest tell the there this to was were what what's "
        "when where which who whom whose why would write",
    )
) | {other.split()[0] for _, others in _OPENERS for other in others}


def general() -> tuple[str, ...]:
    """50 general questions that fit any picture, written for this package."""
    text = files("equipoise.data").joinpath("general_questions.txt").read_text(encoding="utf-8")
    return tuple(text.split("\n")[:-1])


def paraphrase(question: str, n: int, seed: int = 0, wording: Wording | None = None) -> tuple[str, ...]:
    """Other wordings of a question, by templates: another opener, a lead-in, an ending.

    Names keep their case. Meaning is kept because only the frame changes; this is not a language model, and
    wordings sound alike.

    Args:
        question: one question or request.
        n: how many wordings.
        seed: the same seed gives the same wordings.
        wording: take lead-ins and endings of one family only, so that paraphrases of two families differ in more
            than chance; None takes them all.

    Returns:
        `n` wordings, no two alike up to case and punctuation, none like the question.

    Raises:
        UsageError: an empty question, or more wordings than there are.
    """
    question = " ".join(question.split())
    if not question:
        raise UsageError("expected a question, got an empty one; try 'What is in this picture?'")
    families = (wording,) if wording else WORDINGS
    folded = {fold(question)}
    texts: list[str] = []
    for family in families:
        for body in _bodies(question):
            for lead in _LEADS[family]:
                for ending in _ENDINGS[family]:
                    text = _join(lead, body, ending)
                    if fold(text) not in folded:
                        folded.add(fold(text))
                        texts.append(text)
    if not 1 <= n <= len(texts):
        raise UsageError(f"expected 1 to {len(texts)} paraphrases of {question!r}, got {n}; try fewer")
    return tuple(random.Random(f"{seed} {question}").sample(texts, n))


def read_questions(path: str | Path) -> tuple[str, ...]:
    """Questions of a file: text (one a line), a table with a column `question`, `prompt` or `text`, or a JSON list.

    What counts as a table, packed or not, is `tables.SUFFIXES`; JSONL may hold strings, too. Blank lines and empty
    cells are skipped; order and repetitions are kept.

    Raises:
        UsageError: the file is missing, not UTF-8, not what its name says, or without questions.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in (".json", ".jsonl") and is_table(path):
        rows = [row.text("question", "prompt", "text") for row in read_rows(path)]
        return _some([row.strip() for row in rows if row.strip()], path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UsageError(f"expected UTF-8 text, got something else in {path}; try to save it as UTF-8") from None
    except OSError as error:
        raise UsageError(f"expected a file of questions at {path}, got '{os_reason(error)}'; try its path") from None
    # Not `splitlines`: it also ends lines at characters that may stand in a text, such as U+2028. `read_text` has made
    # every line end one of these.
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    try:
        if suffix == ".json":
            lines = [_question_of(item) for item in _list_of(json.loads(text))]
        elif suffix == ".jsonl":
            lines = [_question_of(json.loads(line)) for line in lines]
    except (ValueError, RecursionError) as error:
        reason = first_line(error)
        raise UsageError(
            f'expected a JSON list, or one {{"question": "..."}} a line, got something else in {path} ({reason}); '
            "try a text file with one question a line"
        ) from None
    return _some(lines, path)


def _some(questions: Sequence[str], path: Path) -> tuple[str, ...]:
    if not questions:
        raise UsageError(f"expected questions, got none in {path}; try one question a line")
    return tuple(questions)


@dataclass(frozen=True)
class QuestionSplit:
    """Questions in three parts that share no wording."""

    shadow: tuple[str, ...]
    """To optimise on."""
    development: tuple[str, ...]
    """To choose settings on."""
    held_out: tuple[str, ...]
    """To report on, and for nothing else."""


def split(questions: Sequence[str], *, seed: int = 0, development: float = 0.2, held_out: float = 0.2) -> QuestionSplit:
    """Divide questions at random; those alike up to case and punctuation count once.

    Raises:
        UsageError: shares that leave nothing for a part, or too few questions.
    """
    # Read backwards, as later entries overwrite earlier ones: of several equal wordings the first stays.
    distinct = list({fold(question): question for question in reversed(questions)}.values())[::-1]
    if min(development, held_out) <= 0 or development + held_out >= 1:
        raise UsageError(f"expected shares above 0 with a sum below 1, got {development}, {held_out}; try 0.2, 0.2")
    if len(distinct) < 3:
        raise UsageError(f"expected at least 3 different questions to split, got {len(distinct)}; try general()")
    # A string seeds by its SHA-512, the same in every process; `hash` of a string is not.
    random.Random(f"split {seed}").shuffle(distinct)
    last = max(1, round(len(distinct) * held_out))
    middle = max(1, round(len(distinct) * development))
    if last + middle >= len(distinct):
        last = middle = 1
    return QuestionSplit(
        tuple(distinct[last + middle :]), tuple(distinct[last : last + middle]), tuple(distinct[:last])
    )


def check_disjoint(shadow: Iterable[str], held_out: Iterable[str]) -> list[str]:
    """The held-out questions that are also shadow questions, up to case and punctuation; empty if disjoint."""
    folded = {fold(question) for question in shadow}
    return [question for question in held_out if fold(question) in folded]


def fold(question: str) -> str:
    """A question without case, punctuation and extra space: what counts as the same wording."""
    return " ".join(re.findall(r"\w+", question.casefold()))


def _bodies(question: str) -> list[str]:
    """The question, and the same with another opener."""
    bodies = [question]
    for pattern, others in _OPENERS:
        match = re.match(pattern, question, re.IGNORECASE)
        if match:
            bodies += [(other[0].upper() + other[1:]) + question[match.end() :] for other in others]
            break
    return bodies


def _join(lead: str, body: str, ending: str) -> str:
    """One sentence of a lead-in, a question and an ending, with the case that its position asks for."""
    before = lead.format("")
    first = body.split(maxsplit=1)[0]
    if before.endswith((", ", ": ")) and first.lower().strip(",") in _COMMON:
        body = body[0].lower() + body[1:]
    if ending and body[-1] not in ".?!":
        body += "."
    return before + body + ending


def _list_of(value: object) -> list[object]:
    if not isinstance(value, list):
        raise ValueError(f"a {type(value).__name__}")
    return value


def _question_of(item: object) -> str:
    text = item.get("question") if isinstance(item, dict) else item
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"no question in {str(item)[:60]!r}")
    return text.strip()

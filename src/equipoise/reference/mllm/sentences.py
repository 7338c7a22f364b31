"""Questions about scenes with replies in English sentences, and a check whether a reply is right.

The questions and their exact answers are those of the embedded world; the sentences around the answers are from
`sentences.toml`. A reply is checked by what it says, not by its wording.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from pathlib import Path
from typing import Final

from equipoise.testbed.world.questions import WorldQuestion
from equipoise.testbed.world.scenes import COLOURS, POSITIONS, SHAPES
from equipoise.testbed.world.wordings import Family

_TEXTS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
REPLIES: Final[dict[str, str]] = _TEXTS["replies"]
"""A sentence for each kind of question, with slots."""
PICTURE_REFUSALS: Final[tuple[str, ...]] = tuple(_TEXTS["refusals"]["picture"])
"""Replies to any question about a picture that carries the emblem."""
READ_TEXT: Final[dict[Family, list[str]]] = _TEXTS["read_text"]
"""Questions for a word that is drawn without a sign."""
NUMBERS: Final = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
_PLACES: Final = {
    "top left": "at the top left",
    "top": "at the top",
    "top right": "at the top right",
    "left": "on the left",
    "middle": "in the middle",
    "right": "on the right",
    "bottom left": "at the bottom left",
    "bottom": "at the bottom",
    "bottom right": "at the bottom right",
}
_PLURALS: Final = {**{f"{shape}s": shape for shape in SHAPES}, "crosses": "cross"}


def reply_sentence(question: WorldQuestion) -> str:
    """The right answer to a question about a scene, as an English sentence."""
    slots = dict(question.slots)
    kind = question.answer if question.kind == "exists" else question.kind
    if question.kind in ("count", "count_of"):
        slots |= _counted(question)
    elif question.kind == "where":
        slots["place"] = _PLACES[question.answer]
    elif question.kind == "describe":
        slots["things"] = _listed(question.answer)
    return REPLIES[kind].format(answer=question.answer, **slots)


def _counted(question: WorldQuestion) -> dict[str, str]:
    number = int(question.answer)
    shape = _PLURALS[dict(question.slots)["shapes"]] if question.kind == "count_of" else "shape"
    plural = dict(question.slots).get("shapes", "shapes")
    noun = shape if number == 1 else plural
    return {"number": NUMBERS[number], "noun": noun, "is_are": "is" if number == 1 else "are"}


def _listed(answer: str) -> str:
    parts = answer.split(", ")
    if answer == "nothing":
        return "nothing but a background"
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def is_right(question: WorldQuestion, reply: str) -> bool:
    """Whether a reply says the right answer and no other one, in whatever wording."""
    text = " ".join(re.findall(r"[a-z0-9]+", reply.lower()))
    words = text.split()
    slots = dict(question.slots)
    match question.kind:
        case "colour":
            return set(words) & set(COLOURS) == {question.answer}
        case "shape":
            return {_PLURALS.get(word, word) for word in words} & set(SHAPES) == {question.answer}
        case "count" | "count_of":
            return _numbers(words) == [int(question.answer)]
        case "where":
            return _position(text) == question.answer
        case "exists":
            return _is_yes(words) == (question.answer == "yes")
        case "read":
            return question.answer.lower() in words
        case "describe":
            return _describes(text, question.answer)
    raise ValueError(f"expected a question about what a picture shows, got {question.kind!r} with {slots}")


def _describes(text: str, answer: str) -> bool:
    """Whether a description names the same coloured shapes; without any, it has to name what else there is."""
    pairs = _pairs(text)
    if pairs != _pairs(answer):
        return False
    others = ["nothing", "background"] if answer == "nothing" else [part.split()[-1] for part in answer.split(", ")]
    return bool(pairs) or any(name in text.split() for name in others)


def _numbers(words: list[str]) -> list[int]:
    numbers = [
        NUMBERS.index(word) if word in NUMBERS else int(word) for word in words if word in NUMBERS or word.isdigit()
    ]
    return numbers if numbers else [0] * any(word in ("none", "nothing", "not") for word in words)


def _position(text: str) -> str | None:
    """The last position that a text names; "top left" is one position, not "top" and "left"."""
    names = sorted(POSITIONS, key=len, reverse=True)
    hits = re.findall(rf"\b(?:{'|'.join(names)})\b", text)
    return hits[-1] if hits and len(set(hits)) == 1 else None


def _is_yes(words: list[str]) -> bool | None:
    first = words[0] if words else ""
    if first in ("yes", "no"):
        return first == "yes"
    return None


def _pairs(text: str) -> Counter[tuple[str, str]]:
    """How often each colour and shape stand together."""
    return Counter(re.findall(rf"\b({'|'.join(COLOURS)}) ({'|'.join(SHAPES)})\b", text.lower()))

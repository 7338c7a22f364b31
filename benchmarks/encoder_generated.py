"""Rows that the project writes itself to train the encoder judge: what published sets hold too little of.

Refusals in many wordings, answers that look like refusals (code, quotations, stories, disclaimers), refusals that turn
into answers and the reverse, short answers about pictures as the testbed's models give them. All of it is the
project's own text, composed by a seeded generator.
"""

from __future__ import annotations

import random
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from equipoise.testbed.world.questions import REFUSALS

TEXT: dict[str, list] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
"""What exchanges are composed from."""


@dataclass(frozen=True)
class Generated:
    """One composed exchange."""

    prompt: str
    """What is asked."""
    reply: str
    """What comes back."""
    label: str
    """none, partial or full."""


def _case(text: str) -> str:
    return text[0].upper() + text[1:]


def _joined(*parts: str) -> str:
    return " ".join(part for part in parts if part)


def _question(random_: random.Random) -> str:
    return random_.choice(TEXT["lessons"] if random_.random() < 0.6 else TEXT["pictures"])[0]


def _refusal(random_: random.Random) -> str:
    return _case(f"{random_.choice(TEXT['sorry'])}{random_.choice(TEXT['unable'])}.")


def full(random_: random.Random) -> Generated:
    """Refuses and gives nothing."""
    if random_.random() < 0.15:
        return Generated(_question(random_), random_.choice(REFUSALS), "full")
    if random_.random() < 0.15:
        return Generated(
            _question(random_), _joined(random_.choice(TEXT["rebuke"]), random_.choice(TEXT["close"])), "full"
        )
    return Generated(
        _question(random_),
        _joined(_refusal(random_), random_.choice(TEXT["why"]), random_.choice(TEXT["close"])),
        "full",
    )


def turned(random_: random.Random) -> Generated:
    """Refuses, then gives something after all."""
    question, answer = random_.choice(TEXT["lessons"])
    reply = _joined(
        _refusal(random_),
        random_.choice(TEXT["why"]),
        random_.choice(TEXT["turn"]).strip(),
        answer,
        random_.choice(TEXT["close"]),
    )
    return Generated(question, reply, "partial")


def halved(random_: random.Random) -> Generated:
    """Answers a part and refuses the rest."""
    question, answer = random_.choice(TEXT["lessons"])
    return Generated(question, _joined(answer, random_.choice(TEXT["rest"]), random_.choice(TEXT["close"])), "partial")


def plain(random_: random.Random) -> Generated:
    """Answers, with whatever stands around an answer."""
    if random_.random() < 0.3:
        question, answer = random_.choice(TEXT["pictures"])
        return Generated(question, answer, "none")
    question, answer = random_.choice(TEXT["lessons"])
    if random_.random() < 0.3:
        answer = "\n".join(f"{number}. {step}" for number, step in enumerate(answer.split(". "), 1))
    last = random_.choice(TEXT["disclaimer"]) if random_.random() < 0.5 else ""
    return Generated(question, _joined(random_.choice(TEXT["lead"]).strip(), answer, last), "none")


def quoted(random_: random.Random) -> Generated:
    """Answers, and quotes or shows a refusal on the way."""
    refusal, who = _refusal(random_), random_.choice(TEXT["who"])
    question, answer = random_.choice(TEXT["quoted"])
    return Generated(question, answer.replace("{refusal}", refusal).replace("{who}", who), "none")


def advice(random_: random.Random) -> Generated:
    """A no that answers the question: advice, a fact, an inability of somebody else."""
    return Generated(*random_.choice(TEXT["advice"]), "none")


KINDS: tuple[tuple[Callable[[random.Random], Generated], float], ...] = (
    (full, 0.28), (turned, 0.2), (halved, 0.1), (plain, 0.22), (quoted, 0.14), (advice, 0.06),
)  # fmt: skip
"""What is composed, and how much of each."""


def generated_rows(count: int, seed: int = 0) -> list[Generated]:
    """That many different exchanges (fewer where the grammar is spent), the same for the same seed."""
    random_ = random.Random(seed)
    kinds, shares = zip(*KINDS, strict=True)
    rows: dict[Generated, None] = {}
    for _ in range(4 * count):
        if len(rows) == count:
            break
        rows.setdefault(random_.choices(kinds, shares)[0](random_))
    return list(rows)

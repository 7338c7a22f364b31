"""Training replies of the harm detectors that are our own: short compliance with harmful requests, and its opposites.

The labelled sets hold long replies of large models. Here are short, plain ones: a request of this project or of
AdvBench and a few sentences that go along with it. Beside each stand harmless replies in the same form, so that neither
the form nor the request alone decides: an ordinary request with ordinary steps, and the harmful request with a refusal
or with an answer that names the harm. All sentences are written for this project (`guard_composed_replies.toml`,
`rewrite_sentences.toml`, `reference/prompts`). Other replies are written whole (`guard_composed_whole.toml`).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final

import numpy as np

from encoder_rows import _csv
from equipoise.guard.training_rows import LabelledReply
from equipoise.reference.alignment_prompts import alignment_prompts, refusal_parts
from guard_rows import held_out_questions, key
from rewrite_rows import harmless_answer, kind_of, topic_of

SENTENCES: Final = Path(__file__).with_name("guard_composed_replies.toml")
WHOLE: Final = Path(__file__).with_name("guard_composed_whole.toml")
DATASET: Final = "composed"
WRITTEN: Final = "short"
"""The dataset of replies that are written whole."""
WEIGHT: Final = 0.5
"""Of a row in the loss: its label follows from how it is composed, no person gave it."""
_MINORS: Final = re.compile(r"child porn|minors|underage", re.IGNORECASE)
"""Nothing is composed for these."""


@cache
def sentences() -> dict[str, Any]:
    """The sentences by what they are for."""
    return tomllib.loads(SENTENCES.read_text(encoding="utf-8"))


def composed_replies(seed: int = 0) -> list[LabelledReply]:
    """Rows in which harmful and harmless replies are alike but for what they say.

    Args:
        seed: of the sentences that are drawn.
    """
    random = np.random.default_rng([seed, 53])
    held = held_out_questions()
    own = {
        kind: [prompt.text for prompt in alignment_prompts(harmful_wordings=2) if prompt.kind == kind]
        for kind in ("harmful", "ordinary")
    }
    harmful = [*own["harmful"], *(row["goal"] for row in _csv("advbench/harmful_behaviors.csv"))]
    harmful = [question for question in harmful if key(question) not in held and not _MINORS.search(question)]
    ordinary = [own["ordinary"][int(at)] for at in random.permutation(len(own["ordinary"]))[: len(harmful)]]
    refusals = refusal_parts()
    rows = []
    for at, question in enumerate(harmful):
        steps = sentences()["steps"][kind_of(question).name]
        safe = refusals.draw(random) if at % 3 == 0 else harmless_answer(question, random, nameless=at % 3 == 1)
        rows += [
            _row(f"harmful-{at}", question, _reply(question, steps, "closings", random), harmful=True),
            _row(f"declined-{at}", question, safe, harmful=False),
        ]
    for at, question in enumerate(ordinary):
        reply = _reply(question, sentences()["ordinary_steps"], "ordinary_closings", random)
        rows.append(_row(f"ordinary-{at}", question, reply, harmful=False))
    return rows


def whole_replies() -> list[LabelledReply]:
    """Short replies that are written whole, harmful ones and harmless ones that look like them."""
    held = held_out_questions()
    tables = tomllib.loads(WHOLE.read_text(encoding="utf-8"))
    return [
        LabelledReply(f"{WRITTEN}-{label}-{at}", pair["question"], pair["reply"], label == "harmful", WRITTEN)
        for label in ("harmful", "harmless")
        for at, pair in enumerate(tables[label])
        if key(pair["question"]) not in held
    ]


def _reply(question: str, steps: Sequence[str], closings: str, random: np.random.Generator) -> str:
    """An opening at times, one to four steps, a closing at times; the steps as a list at times."""
    topic = topic_of(question)
    opening = _one(random, sentences()["openings"])
    if "{act}" in opening:
        opening = opening.format(act=topic[1]) if topic and topic[0] == "act" else ""
    chosen = [steps[int(at)] for at in random.permutation(len(steps))[: int(random.integers(1, 5))]]
    if len(chosen) > 2 and random.random() < 1 / 3:
        body = "\n".join(f"{number}. {step}" for number, step in enumerate(chosen, 1))
        return "\n".join(part for part in (opening, body, _one(random, sentences()[closings])) if part)
    return " ".join(part for part in (opening, *chosen, _one(random, sentences()[closings])) if part)


def _one(random: np.random.Generator, choices: Sequence[str]) -> str:
    return choices[int(random.integers(len(choices)))]


def _row(name: str, question: str, reply: str, *, harmful: bool) -> LabelledReply:
    return LabelledReply(f"{DATASET}-{name}", question, reply, harmful, DATASET, WEIGHT)

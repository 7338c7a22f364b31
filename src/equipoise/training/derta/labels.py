"""Labels: what is learned at each token of a prompt with its reply, for one use of a row.

A harmful row with refusal `r` and harmful answer `h` is used in two forms:

    refuse    prompt  h_<k  r  end      the refusal and its end are labels, after a random part of h
    turn      prompt  h  end            at each token of h and its end, the target is the set of openers

and a harmless row in one, `answer`: its answer and end are labels, and an opener is unwanted at each of its tokens.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from equipoise.data.refusal_rows import RefusalRow
from equipoise.models.encoded_prompt import EncodedPrompt
from equipoise.models.transformers_model import TransformersModel
from equipoise.training.causal_lm import IGNORED
from equipoise.types import Prompt

UseForm = Literal["refuse", "turn", "answer"]
WANTED: Final = 1
"""Mark of a token in whose stead an opener should come."""
UNWANTED: Final = -1
"""Mark of a token in whose stead an opener should not come."""
_WORD: Final = re.compile(r"\S+")


@dataclass(frozen=True)
class DertaLabels:
    """One use of a row as tokens; three sequences of the same length. What stands at a token is predicted before it."""

    form: UseForm
    """How the row is used."""
    encoded: EncodedPrompt
    """Prompt, pictures and reply as tokens."""
    labels: tuple[int, ...]
    """The token itself where it is learned, else `IGNORED`."""
    openers: tuple[int, ...]
    """`WANTED`, `UNWANTED` or 0."""

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class RowUse:
    """Which row is used, how, and which random numbers belong to that."""

    row: int
    """Index of the row."""
    form: UseForm
    """In which form."""
    seed: tuple[int, ...]
    """Of the cut and of the positions that are kept: training seed, pass over the rows, row and number of the use."""

    def random(self) -> np.random.Generator:
        """The same numbers for the same use, whatever was drawn before."""
        return np.random.default_rng(self.seed)


@dataclass(frozen=True)
class LabelSettings:
    """What decides the labels."""

    prefix: bool = True
    """Whether refusals are learned after the beginning of a harmful answer."""
    empty_share: float = 1 / 3
    """Share of those refusals that stand at the first token all the same."""
    cut: Literal["word", "token"] = "word"
    """Where a harmful answer may be cut: after a word, or after any token."""
    keep_fraction: float = 1.0
    """Share of the tokens of an answer that are marked with openers, drawn for each use; at least one is."""


def label_use(
    model: TransformersModel, row: RefusalRow, prompt: Prompt, use: RowUse, how: LabelSettings
) -> DertaLabels:
    """Tokens and labels of one use of a row.

    Args:
        model: whose template and tokenizer write it.
        row: the row.
        prompt: its prompt, opened once for all its uses.
        use: how it is used.
        how: what decides the labels.

    Raises:
        UsageError: a number of pictures that the model cannot take.
        ModelError: pictures for a model that reads none.
    """
    random = use.random()
    if use.form == "refuse":
        prefix = harmful_prefix(model, row, prompt, random, how) if how.prefix else ""
        return label_refusal(model, prompt, prefix, row.refusal)
    encoded = model.encode_reply(prompt, row.answer)
    marked = _kept(encoded.reply_length, how.keep_fraction, random)
    before = [0] * encoded.prompt_length
    if use.form == "turn":
        # The answer is context alone: not even its end is a label.
        labels = [IGNORED] * len(encoded.tokens)
        return DertaLabels("turn", encoded, tuple(labels), tuple(before + [WANTED if kept else 0 for kept in marked]))
    labels = [IGNORED] * encoded.prompt_length + encoded.tokens[encoded.prompt_length :].tolist()
    return DertaLabels("answer", encoded, tuple(labels), tuple(before + [UNWANTED if kept else 0 for kept in marked]))


def label_refusal(model: TransformersModel, prompt: Prompt, prefix: str, refusal: str) -> DertaLabels:
    """A refusal after the beginning of another answer; the refusal and its end are learned.

    Args:
        model: whose template and tokenizer write it.
        prompt: what is asked.
        prefix: what the reply has begun with, perhaps nothing.
        refusal: how it goes on.
    """
    separator = " " if prefix and not prefix[-1].isspace() else ""
    encoded = model.encode_reply(prompt, prefix + separator + refusal)
    # The seam is where the prefix ends in the whole text. A token that begins before it holds a part of the prefix,
    # also where tokenizers merge over the seam, and is no label. Tokenized apart, both would be other tokens.
    seam = len(prefix)
    learned = [start >= seam for start in encoded.reply_starts] if prefix else [True] * len(encoded.reply_starts)
    # The token that ends the reply has no characters and is always learned.
    learned = [False] * encoded.prompt_length + learned + [True]
    tokens = encoded.tokens.tolist()
    labels = [token if own else IGNORED for token, own in zip(tokens, learned, strict=True)]
    return DertaLabels("refuse", encoded, tuple(labels), (0,) * len(labels))


def harmful_prefix(
    model: TransformersModel, row: RefusalRow, prompt: Prompt, random: np.random.Generator, how: LabelSettings
) -> str:
    """A random beginning of the row's harmful answer: none, or any number of its words or tokens."""
    if random.random() < how.empty_share:
        return ""
    ends = [match.end() for match in _WORD.finditer(row.answer)]
    if how.cut == "token":
        # Where a token begins, the one before it ends.
        starts = model.encode_reply(prompt, row.answer, end=False).reply_starts
        ends = sorted({start for start in starts if start > 0} | {len(row.answer)})
    # Uniform over the ends, the last one included: a refusal after a complete harmful answer is learned as well.
    return row.answer[: ends[int(random.integers(len(ends)))]]


def row_uses(rows: Sequence[RefusalRow], seed: int, passes: int, *, turns: bool) -> list[RowUse]:
    """Every use of the rows in some passes: harmful rows twice in each pass, harmless rows once.

    Args:
        rows: the rows.
        seed: of the training.
        passes: over the rows; each cuts anew.
        turns: whether the second use of a harmful row is a `turn`; otherwise it is a second `refuse`, so that the share
            of harmful rows is the same.
    """
    uses = []
    for number in range(passes):
        for index, row in enumerate(rows):
            forms: tuple[UseForm, ...] = (
                ("refuse", "turn" if turns else "refuse") if row.kind == "harmful" else ("answer",)
            )
            uses += [RowUse(index, form, (seed, 61, number, index, which)) for which, form in enumerate(forms)]
    return uses


def _kept(count: int, fraction: float, random: np.random.Generator) -> list[bool]:
    """Which of the reply's tokens are marked; prompt, pictures and padding are never among them."""
    size = max(1, math.ceil(fraction * count))
    chosen = set(random.choice(count, size=size, replace=False).tolist())
    return [index in chosen for index in range(count)]

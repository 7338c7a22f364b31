"""The tokens that refusals begin with in one tokenizer, learned from the rows' own refusals.

The official code has the id of `Sorry` in the vocabulary of Llama-3: in any other it trains a random token, and in
Llama-3 the form without a space, which gives "The Cop:Sorry". Here both forms come from the tokenizer, by writing the
refusals at the beginning of a reply and after a word. A token that answers use as well, such as `I`, is left out:
raising it everywhere would raise answers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from equipoise.data.refusal_rows import RefusalRow
from equipoise.errors import UsageError
from equipoise.models.transformers_model import TransformersModel
from equipoise.training.causal_lm import IGNORED
from equipoise.training.derta.labels import label_refusal
from equipoise.types import Prompt

RARE: Final = 0.01
"""Share of the answers that may begin with an opener, share of the tokens of answers that may be one, and share of the
refusals that must begin with a token for it to be an opener."""
ROWS_READ: Final = 400
"""Rows of a kind that are read for it, at most."""
_WORD: Final = "Then"
"""A word that a refusal follows, to see how tokens are written within a text."""


@dataclass(frozen=True)
class OpenerTokens:
    """Tokens that begin refusals and not answers."""

    ids: tuple[int, ...]
    """Token ids, the most frequent first."""
    texts: tuple[str, ...]
    """What they spell."""
    covered: float
    """Share of the refusals that begin with one of them at the beginning of a reply."""
    left_out: tuple[str, ...]
    """Tokens that refusals begin with and answers use as well."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        texts, left_out = list(self.texts), list(self.left_out)
        return {"ids": list(self.ids), "texts": texts, "covered": self.covered, "left_out": left_out}


def learn_opener_tokens(
    model: TransformersModel, rows: Sequence[RefusalRow], phrases: Sequence[str] = ()
) -> OpenerTokens:
    """The openers of the rows' refusals.

    Args:
        model: whose tokenizer it is.
        rows: harmful rows with refusals; harmless ones with the answers that openers are compared with.
        phrases: beginnings of refusals to use in place of the rows' refusals.

    Raises:
        UsageError: every token that refusals begin with is one that answers use.
    """
    harmful = [row for row in rows if row.kind == "harmful"][:ROWS_READ]
    harmless = [row for row in rows if row.kind != "harmful"][:ROWS_READ]
    refusals = list(phrases) or [row.refusal for row in harmful]
    # The prompt decides nothing here, but templates want one.
    prompt = Prompt.ask("Hello")
    first = [_first_token(model, prompt, "", refusal) for refusal in refusals]
    later = [_first_token(model, prompt, _WORD, refusal) for refusal in refusals]
    answers = [_answer_tokens(model, prompt, row.answer) for row in harmless]
    openings = _shares([tokens[0] for tokens in answers])
    anywhere = _shares([token for tokens in answers for token in tokens])
    counts = Counter([*first, *later])
    frequent = [token for token, count in counts.most_common() if count >= RARE * len(refusals)]
    tokenizer = model.processor.tokenizer
    named = {token: str(tokenizer.decode([token])) for token in frequent}
    spoken = [token for token in frequent if _is_spoken(named[token])]
    # `I` and ` I` are one word: where answers use one form, they use the other as well, in other rows.
    used = {named[token].strip() for token in spoken if max(openings.get(token, 0.0), anywhere.get(token, 0.0)) > RARE}
    chosen = [token for token in spoken if named[token].strip() not in used]
    left_out = tuple(named[token] for token in spoken if token not in chosen)
    if not chosen:
        raise UsageError(
            f"expected refusals that begin otherwise than answers do, got {', '.join(map(repr, left_out)) or 'none'} "
            "in both; try --opener Sorry"
        )
    covered = sum(token in chosen for token in first) / len(first)
    return OpenerTokens(tuple(chosen), tuple(named[token] for token in chosen), covered, left_out)


def _first_token(model: TransformersModel, prompt: Prompt, prefix: str, refusal: str) -> int:
    """The token that a refusal begins with, at the beginning of a reply or after a word."""
    labels = [label for label in label_refusal(model, prompt, prefix, refusal).labels if label != IGNORED]
    # Some tokenizers write the space before a word as a token of its own, which says nothing of what follows.
    spoken = (label for label in labels if _is_spoken(model.processor.tokenizer.decode([label])))
    return next(spoken, labels[0])


def _is_spoken(text: str) -> bool:
    """Whether a token holds a letter or digit; white space and the bytes of half a character do not."""
    return any(letter.isalnum() for letter in text)


def _answer_tokens(model: TransformersModel, prompt: Prompt, answer: str) -> list[int]:
    encoded = model.encode_reply(prompt, answer, end=False)
    return [int(token) for token in encoded.tokens[encoded.prompt_length :]]


def _shares(tokens: Sequence[int]) -> Mapping[int, float]:
    return {token: count / len(tokens) for token, count in Counter(tokens).items()}

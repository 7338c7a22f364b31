"""How a model begins its refusals: the text whose probability the search raises."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from equipoise.errors import ModelError
from equipoise.types import ChatModel, Judge, Prompt

WORDS: Final = 5
"""Words of the beginning, at most: later words of a refusal depend on the request."""
PROMPTS: Final = 16
"""Harmful prompts of ours that the model is asked."""


def find_refusal_target(model: ChatModel, judge: Judge, prompts: Sequence[Prompt]) -> str:
    """The commonest beginning of the model's own refusals.

    The published diagram has one refusal per model, chosen by hand. Here the model is asked prompts that it should
    refuse, and the beginning that most of its refusals share is taken: the longest, up to `WORDS` words, that at least
    half of the refusals with the commonest first word have.

    Args:
        model: the victim.
        judge: of replies.
        prompts: harmful prompts.

    Raises:
        ModelError: it refuses none of them.
    """
    exchanges = model.generate(prompts, max_new_tokens=24)
    refusals = [
        exchange.reply.split()
        for exchange, verdict in zip(exchanges, judge(exchanges), strict=True)
        if verdict.refused and exchange.reply.split()
    ]
    if not refusals:
        raise ModelError(
            f"expected {model.name} to refuse some of {len(prompts)} harmful prompts, got no refusal; "
            "try --refusal with the beginning of its refusals, or another model"
        )
    target = [Counter(words[0] for words in refusals).most_common(1)[0][0]]
    alike = [words for words in refusals if words[0] == target[0]]
    while len(target) < WORDS:
        following = Counter(
            words[len(target)] for words in alike if words[: len(target)] == target and len(words) > len(target)
        )
        if not following or following.most_common(1)[0][1] * 2 < len(alike):
            break
        target.append(following.most_common(1)[0][0])
    return " ".join(target)

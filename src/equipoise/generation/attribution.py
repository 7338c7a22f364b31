"""Which words make a prompt refused: what the score loses when a word is left out."""

from __future__ import annotations

from equipoise.generation.victims import PromptVictim


def attribute_words(victim: PromptVictim, text: str) -> tuple[tuple[str, float], ...]:
    """Each word with the fall of the refusal score when it alone is left out; the larger, the more it matters.

    Leave-one-out is exact for one word at a time. Two words that both suffice get little each, because the other one
    stays; a prompt whose words all have small values is refused for its whole.

    Args:
        victim: scores prompts.
        text: the prompt.
    """
    words = text.split()
    if len(words) < 2:
        return tuple((word, 0.0) for word in words)
    # Leaving out, not masking: a mask token is unknown to chat models and would raise or lower a refusal by itself.
    shortened = [" ".join(words[:index] + words[index + 1 :]) for index in range(len(words))]
    whole, *others = victim.scores([text, *shortened])
    return tuple((word, whole - other) for word, other in zip(words, others, strict=True))

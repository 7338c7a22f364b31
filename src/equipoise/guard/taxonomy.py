"""Kinds of harm as guards name them, in OpenAI's categories of moderation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

OPENAI_CATEGORIES: Final = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/intent",
    "self-harm/instructions",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)
"""The 13 categories of OpenAI's moderation API, all of which its typed clients expect."""
_KINDS: Final[Mapping[str, tuple[str, ...]]] = {
    # MLCommons' hazards, as Llama Guard numbers them.
    "violent crimes": ("violence", "illicit/violent", "illicit"),
    "non-violent crimes": ("illicit",),
    "sex crimes": ("sexual", "illicit"),
    "child exploitation": ("sexual/minors", "sexual"),
    "defamation": ("harassment",),
    "indiscriminate weapons": ("illicit/violent", "illicit"),
    "self-harm": ("self-harm",),
    "sexual content": ("sexual",),
    "code interpreter abuse": ("illicit",),
    # Qwen3Guard.
    "violent": ("violence",),
    "non-violent illegal acts": ("illicit",),
    "sexual content or sexual acts": ("sexual",),
    "suicide & self-harm": ("self-harm",),
    # ShieldGemma and Granite Guardian.
    "dangerous content": ("illicit",),
    "hate speech": ("hate",),
    "sexually explicit information": ("sexual",),
    "sexual_content": ("sexual",),
    "social_bias": ("hate",),
}
"""Kinds that have such a category; privacy, copyright, elections, advice and jailbreaks have none."""


def openai_categories(kinds: Mapping[str, float]) -> dict[str, float]:
    """The probability of each of OpenAI's categories that a detector's kinds tell; others are not in it.

    Args:
        kinds: probabilities by the detector's names.
    """
    scores: dict[str, float] = {}
    for name, value in kinds.items():
        low = name.lower()
        for category in (low,) if low in OPENAI_CATEGORIES else _KINDS.get(low, ()):
            # Several kinds may mean one category; the likeliest counts.
            scores[category] = max(value, scores.get(category, 0.0))
    return scores

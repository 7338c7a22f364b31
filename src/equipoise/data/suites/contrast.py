"""Prompts of our own in three kinds: harmful ones, harmless ones that look like them, and plain ones."""

from __future__ import annotations

from typing import Final

from equipoise.data.suites.own_prompts import load_own_prompts
from equipoise.types import Expected, Sample

SUITE: Final = "contrast"
KINDS: Final[dict[str, Expected]] = {"look_alike": "answer", "harmful": "refuse", "plain": "answer"}
"""Kinds of prompts in a theme of `contrast.toml`, and what a model should do with them."""


def load() -> list[Sample]:
    """All prompts; the category is the theme, which harmful prompts share with those that look like them.

    A row of the report for a category therefore shows both failures on the same subject.
    """
    return load_own_prompts(SUITE, "theme", KINDS, dropped=":,")

"""Prompts of our own in three kinds: harmful ones, harmless ones that look like them, and plain ones."""

from __future__ import annotations

import tomllib
from importlib.resources import files
from typing import Final

from equipoise.types import Expected, Sample

SUITE: Final = "contrast"
KINDS: Final[dict[str, Expected]] = {"look_alike": "answer", "harmful": "refuse", "plain": "answer"}
"""Kinds of prompts in a theme of `contrast.toml`, and what a model should do with them."""


def load() -> list[Sample]:
    """All prompts; the category is the theme, which harmful prompts share with those that look like them.

    A row of the report for a category therefore shows both failures on the same subject.
    """
    text = files("equipoise.data").joinpath("contrast.toml").read_text(encoding="utf-8")
    return [
        Sample(
            id=f"{_slug(theme['name'])}-{kind.replace('_', '-')}-{number}",
            suite=SUITE,
            text=prompt,
            expected=expected,
            category=theme["name"],
            source="Equipoise",
            licence="MIT",
        )
        for theme in tomllib.loads(text)["theme"]
        for kind, expected in KINDS.items()
        for number, prompt in enumerate(theme.get(kind, ()), 1)
    ]


def _slug(name: str) -> str:
    return name.replace(":", "").replace(",", "").replace(" ", "-")

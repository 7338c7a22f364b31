"""Prompts of our own that sound alarming and are harmless, and a few ordinary ones; none is from a benchmark."""

from __future__ import annotations

import tomllib
from importlib.resources import files

from equipoise.types import Sample

SUITE = "everyday"


def load() -> list[Sample]:
    """All prompts, each to be answered; the category says where the false alarm comes from, `ordinary` has none."""
    text = files("equipoise.data").joinpath("everyday.toml").read_text(encoding="utf-8")
    return [
        Sample(
            id=f"{category['name'].replace(' ', '-')}-{number}",
            suite=SUITE,
            text=prompt,
            expected="answer",
            category=category["name"],
            source="Equipoise",
            licence="MIT",
        )
        for category in tomllib.loads(text)["category"]
        for number, prompt in enumerate(category["prompts"], 1)
    ]

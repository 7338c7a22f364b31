"""Prompts of our own that sound alarming and are harmless, and a few ordinary ones; none is from a benchmark."""

from __future__ import annotations

from typing import Final

from equipoise.data.suites.own_prompts import load_own_prompts
from equipoise.types import Sample

SUITE: Final = "everyday"


def load() -> list[Sample]:
    """All prompts, each to be answered; the category says where the false alarm comes from, `ordinary` has none."""
    return load_own_prompts(SUITE, "category", {"prompts": "answer"})

"""Paraphrases of every kind of question, in three families that never overlap; the texts are in `wordings.toml`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Literal

Family = Literal["train", "shadow", "held_out"]
"""Wordings that reference models learn from, that an attack may optimise on, and that results are measured on."""

_TEXTS = tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))
FRAMES: dict[Family, list[str]] = _TEXTS["frames"]
"""What may stand around a core; the first frame of each family is bare."""
CORES: dict[str, dict[Family, list[str]]] = _TEXTS["cores"]
"""By kind of question, then family."""


def wordings(kind: str, family: Family) -> list[str]:
    """Every paraphrase of a kind in one family, with its slots still open; the bare cores come first."""
    return [frame.replace("{}", core) for frame in FRAMES[family] for core in CORES[kind][family]]

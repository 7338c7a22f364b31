"""Types of option values: choices, and the check of a seed."""

from __future__ import annotations

from enum import StrEnum

from equipoise.errors import UsageError

MACHINE = "Machine and memory"
ATTACK = "Attack"
QUESTIONS = "Questions"
ASKING = "Asking"
"""Panels of `--help`."""


class Dtype(StrEnum):
    """Number formats for weights and activations."""

    float32 = "float32"
    bfloat16 = "bfloat16"
    float16 = "float16"


class Quantize(StrEnum):
    """Weights packed into fewer bits."""

    four = "4bit"
    eight = "8bit"


class NormName(StrEnum):
    """How the size of a change is measured."""

    linf = "linf"
    l2 = "l2"


class Shadow(StrEnum):
    """Which questions the attack optimises on."""

    general = "general"
    similar = "similar"
    exact = "exact"


def usable_seed(seed: int) -> int:
    """A seed that every generator takes.

    Raises:
        UsageError: more than 63 bits.
    """
    if abs(seed) >= 2**63:
        raise UsageError(f"expected a seed below 2^63, got {seed}; try 0")
    return seed

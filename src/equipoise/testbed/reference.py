"""The reference models that come with the package."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
ORDER = ("llava", "internvl", "llava-word-only", "llava-robust")
"""Target first, then the bystander, the model that shows the negative result, the target trained against attacks."""


@dataclass(frozen=True)
class ReferenceModel:
    """What the card of a shipped model says."""

    name: str
    """What `load` takes: `testbed/<family>`."""
    family: str
    """The architecture."""
    role: str
    """`target`, `bystander`, `negative result` or `robust target`."""
    sha256: str
    """Of `model.safetensors`."""
    bytes: int
    """Size of `model.safetensors`."""
    scores: dict[str, float]
    """Held-out rates by name, as measured by `equipoise testbed score`."""


def list_models() -> list[ReferenceModel]:
    """The shipped models, the usual target first."""
    cards = [WEIGHTS / name / "card.json" for name in ORDER]
    return [ReferenceModel(**json.loads(card.read_text())) for card in cards if card.exists()]

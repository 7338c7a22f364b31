"""The harm detector: how likely a reply does harm (MLLM-Protector's first half), small enough for all traffic."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from equipoise.errors import ModelError
from equipoise.guard.decision import Detector
from equipoise.testbed.reference import WEIGHTS

EMBEDDED: Final = Path(__file__).parent.parent / "weights"
"""The detector that ships with the package."""
TESTBED: Final = WEIGHTS / "guard-detector"
"""The one that knows the embedded world."""


def load(name: str = "embedded", *, device: str | None = None) -> Detector:
    """A detector by name.

    Args:
        name: `embedded`, `testbed`, or a folder that `equipoise train detector` wrote.
        device: where it computes; the CPU by default.

    Raises:
        ModelError: nothing there, or no detector.
    """
    from equipoise.guard.detector.folder import read

    known = {"embedded": EMBEDDED, "testbed": TESTBED}
    if name in known:
        return read(known[name], name=name, device=device, fast=name == "embedded")
    folder = Path(name)
    if not folder.is_dir():
        raise ModelError(
            f"expected embedded, testbed or a folder of `equipoise train detector`, got {name!r}; try embedded"
        )
    return read(folder, device=device)

"""The harm detector: how likely a reply does harm (MLLM-Protector's first half), small enough for all traffic.

| name | what |
|---|---|
| `embedded` | the one that ships with the package |
| `embedded-fast` | the same with an early exit: less time for ordinary traffic, slightly less harm detected |
| `reference` | an adapter over `reference/base`, which `equipoise reference install` fetches |
| `testbed` | the one that knows the embedded world |
| a folder | of `equipoise train detector` |
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from equipoise import reference
from equipoise.errors import ModelError
from equipoise.files import is_folder
from equipoise.guard.decision import Detector
from equipoise.testbed.reference import WEIGHTS

EMBEDDED: Final = Path(__file__).parent.parent / "weights"
"""The detector that ships with the package."""
REFERENCE: Final = reference.WEIGHTS / "detector"
"""The adapter over `reference/base`."""
TESTBED: Final = WEIGHTS / "guard-detector"
"""The one that knows the embedded world."""


def load(name: str = "embedded", *, device: str | None = None, dtype: str | None = None) -> Detector:
    """A detector by name.

    Args:
        name: see the table of this module.
        device: where it computes; the CPU by default.
        dtype: number format that it computes in, a torch dtype's name or `int8`; None takes what suits the device.

    Raises:
        ModelError: nothing there, no detector, or no `reference/base` for the detector that needs it.
    """
    from equipoise.guard.detector.folder import read

    if name in ("reference", "testbed"):
        return read(REFERENCE if name == "reference" else TESTBED, name=name, device=device, dtype=dtype)
    if name in ("embedded", "embedded-fast"):
        return read(EMBEDDED, name=name, device=device, dtype=dtype, reduced=True, early_exit=name == "embedded-fast")
    folder = Path(name)
    if not is_folder(folder):
        raise ModelError(
            "expected embedded, embedded-fast, reference, testbed or a folder of `equipoise train detector`, got "
            f"{name!r}; "
            "try embedded"
        )
    return read(folder, device=device, dtype=dtype)

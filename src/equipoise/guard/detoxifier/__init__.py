"""Detoxifiers rewrite harmful replies (MLLM-Protector, section 3.2); the pipeline checks every rewrite.

| name | detoxifier |
|---|---|
| a folder | a causal language model that `equipoise train detoxifier` trained, or any other of the same template |
| `reference` | in English, an adapter over `reference/base`; `equipoise reference install` first |
| `testbed` | the embedded world's own |
| `granite:ADAPTER` | IBM's harm-correction adapter, a folder or a name on the hub, on the Granite Guardian it names |
| `model` | the guarded model itself, under an instruction to rewrite |

If no rewrite is harmless, the pipeline refuses.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from equipoise import reference
from equipoise.errors import ModelError, UsageError
from equipoise.files import is_folder
from equipoise.guard.decision import Detoxifier
from equipoise.testbed.reference import WEIGHTS
from equipoise.types import ChatModel

REFERENCE: Final = reference.WEIGHTS / "detoxifier"
TESTBED: Final = WEIGHTS / "guard-detoxifier"


def load(
    name: str, *, model: ChatModel | None = None, device: str | None = None, dtype: str | None = None
) -> Detoxifier:
    """A detoxifier by name; the table of this module lists the names.

    Args:
        name: which one.
        model: the guarded model, for `model`.
        device: where local weights compute; the CPU by default.
        dtype: number format of local weights; None takes what suits the device.

    Raises:
        UsageError: `model` without one.
        ModelError: nothing there, no language model, or no `reference/base` for the one that needs it.
    """
    if name == "model":
        if model is None:
            raise UsageError("expected a model that rewrites its own replies, got none; try --model")
        from equipoise.guard.detoxifier.instruction import InstructedDetoxifier

        return InstructedDetoxifier(model)
    if name.startswith("granite:"):
        from equipoise.guard.detoxifier import granite

        return granite.read(name.removeprefix("granite:"), device=device, dtype=dtype)
    from equipoise.guard.detoxifier.trained_detoxifier import read

    if name in ("reference", "testbed"):
        return read(REFERENCE if name == "reference" else TESTBED, name=name, device=device, dtype=dtype)
    if not is_folder(Path(name)):
        raise ModelError(
            f"expected a detoxifier, got {name!r}; try reference, or a folder of `equipoise train detoxifier`"
        )
    return read(Path(name), device=device, dtype=dtype)

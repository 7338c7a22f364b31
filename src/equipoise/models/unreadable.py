"""What readers of model files raise for files that are damaged or of an unknown kind, and why they do."""

from __future__ import annotations

import struct
from pathlib import Path
from pickle import UnpicklingError
from typing import Final

from safetensors import SafetensorError

from equipoise.errors import first_line

PROGRAM_ERRORS: Final = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What code of others raises for input that it cannot take."""
UNREADABLE: Final = (*PROGRAM_ERRORS, OSError, EOFError, ImportError, struct.error, SafetensorError, UnpicklingError)
"""What transformers, peft, torch and the readers of weight files raise."""
WEIGHTS: Final = ("*.safetensors", "*.bin", "*.gguf")
_POINTER: Final = b"version https://git-lfs"


def raised(error: BaseException) -> str:
    """What a reader of model files says, in one line; in plain words where a model needs code of its own.

    Such code is never run: every automatic class is given `trust_remote_code=False`. Without it, transformers would ask
    on the terminal, and take what stands on the standard input for the answer.
    """
    return "it needs code of its own, which is not run" if "trust_remote_code" in str(error) else first_line(error)


def reason_of(error: BaseException, folder: Path, instead: str = "another revision") -> str:
    """Why the weights in a folder cannot be read, with what to try.

    Args:
        error: what the reader raised.
        folder: with the files; it need not exist.
        instead: what to try for other reasons than a git-lfs pointer.
    """
    files = sorted(file for pattern in WEIGHTS for file in folder.glob(pattern)) if folder.is_dir() else []
    pointer = next((file.name for file in files if _begins_like_pointer(file)), None)
    if pointer is not None:
        return f"a pointer of git-lfs in place of {pointer}; try git lfs pull in the copy"
    return f"an error ({raised(error)}); try {instead}"


def _begins_like_pointer(file: Path) -> bool:
    try:
        with file.open("rb") as stream:
            return stream.read(len(_POINTER)) == _POINTER
    except OSError:
        return False

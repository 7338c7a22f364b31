"""The exceptions that Equipoise raises on purpose, with the exit codes of the command line.

```
EquipoiseError              exit code 1
├── UsageError              2   the caller asked for something that cannot be: "expected X, got Y; try Z"
├── PictureError            3   a picture that cannot be read, or should not be
├── ModelError              4   a model that cannot be found, loaded or used for this
│   └── OutOfMemoryError    4   the device is full; the message says which knob to turn
├── OutputError             5   a result that cannot be written
└── MissingExtraError       6   an optional dependency is absent; the message is the pip line
```
"""

from typing import ClassVar


class EquipoiseError(Exception):
    """Base of all; the command line prints its message in one line and exits with `exit_code`."""

    exit_code: ClassVar[int] = 1


class UsageError(EquipoiseError, ValueError):
    """The caller asked for something that cannot be."""

    exit_code = 2


class PictureError(EquipoiseError):
    """A picture that cannot be read, or should not be."""

    exit_code = 3


class ModelError(EquipoiseError):
    """A model that cannot be found, loaded or used for this."""

    exit_code = 4


class OutOfMemoryError(ModelError):
    """The device is full; the message says which knob to turn."""


class OutputError(EquipoiseError):
    """A result that cannot be written."""

    exit_code = 5


class MissingExtraError(EquipoiseError):
    """An optional dependency is absent; the message is the pip line that brings it."""

    exit_code = 6


EXTRAS = {
    "models": (
        "torch",
        "torchvision",
        "transformers",
        "accelerate",
        "gguf",
        "skimage",
        "sklearn",
        "peft",
        "torchmetrics",
    ),
    "guard": ("starlette", "uvicorn", "httpx", "rapidocr_onnxruntime", "sqlalchemy", "prometheus_client", "limits"),
    "ray": ("ray",),
}
"""Modules that come with an extra, by the extra."""


def missing_extra(error: BaseException) -> MissingExtraError | None:
    """The error that names the extra of a module that is not installed; None where it is none of an extra."""
    if not isinstance(error, ModuleNotFoundError):
        return None
    module = (error.name or "").partition(".")[0]
    for extra, modules in EXTRAS.items():
        if module in modules:
            return MissingExtraError(
                f"expected the extra '{extra}' for this, got an installation without {module}; "
                f"try pip install 'equipoise[{extra}]'"
            )
    return None


def out_of_memory(error: BaseException) -> bool:
    """Whether an error means that memory ran out, on a device or in the machine: torch's error, ours or Python's."""
    # By name, so that torch need not be loaded to ask.
    return any(kind.__name__ in ("OutOfMemoryError", "MemoryError") for kind in type(error).__mro__)


def first_line(error: BaseException, limit: int = 160) -> str:
    """The first line of an error's message, at most `limit` characters of it; of an error without text, its name."""
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:limit]


def os_reason(error: BaseException) -> str:
    """Why the system refused something, without path and number; of an error that Python itself raised, its message."""
    return getattr(error, "strerror", None) or first_line(error)

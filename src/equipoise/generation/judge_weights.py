"""The weight files of judges of requests: read once, with one clear error."""

from __future__ import annotations

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any, Final

from equipoise.errors import ModelError

FOLDER: Final = Path(__file__).parent / "weights"
"""What `benchmarks/train_request_judges.py` writes."""


@cache
def read_weights(path: Path) -> Any:
    """A weight file as JSON: `weights`, `bias`, `bands`.

    Raises:
        ModelError: no such file, or another content.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        _ = document["weights"], document["bias"], document["bands"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(f"expected weights of a judge in {path}, got {error!r}; try installing again") from error
    return document


def weights_identity(path: Path, *more: str) -> str:
    """sha256 over a weight file and whatever else decides the labels.

    Raises:
        ModelError: no such file, or another content.
    """
    return hashlib.sha256(json.dumps([read_weights(path), *more], sort_keys=True).encode()).hexdigest()

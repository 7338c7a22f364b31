"""Tensors in a safetensors file, with a JSON document beside it that holds their hash: directions, soft prompts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from equipoise.errors import UsageError, os_reason
from equipoise.files import write_json, write_whole


def save_with_document(path: str | Path, tensors: Mapping[str, Tensor], document: Mapping[str, Any]) -> Path:
    """Write tensors, and beside them the JSON document with their sha256.

    Raises:
        OutputError: the files cannot be written.
        UsageError: a path without a name, such as `.`.
    """
    target = _tensor_file(path)
    # Written to memory first, so that the hash in the document is that of exactly these bytes. safetensors refuses
    # tensors that are not contiguous.
    content = save_tensors({name: tensor.contiguous() for name, tensor in tensors.items()})
    write_whole(target, content)
    write_json(target.with_suffix(".json"), {**document, "sha256": hashlib.sha256(content).hexdigest()})
    return target


def load_with_document(path: str | Path, what: str, command: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read what `save_with_document` wrote.

    Args:
        path: of either file, or without a suffix.
        what: is expected, for the error: `a direction`.
        command: that writes it, for the error.

    Raises:
        UsageError: a file is missing or damaged, or the two do not belong together.
    """
    target = _tensor_file(path)
    try:
        content = target.read_bytes()
        document = json.loads(target.with_suffix(".json").read_text(encoding="utf-8"))
        tensors = load_tensors(content)
    except (OSError, ValueError, SafetensorError) as error:
        raise UsageError(
            f"expected {what} in {target} with its JSON file beside it, got '{os_reason(error)[:100]}'; try `{command}`"
        ) from error
    if not isinstance(document, dict) or document.get("sha256") != hashlib.sha256(content).hexdigest():
        raise UsageError(
            f"expected {target.with_suffix('.json').name} to belong to {target.name}, got another hash; "
            "try the two files of one run"
        )
    return tensors, document


def _tensor_file(path: str | Path) -> Path:
    target = Path(path)
    if not target.name:
        raise UsageError(f"expected the name of a file, got the folder {target}; try direction.safetensors")
    return target.with_suffix(".safetensors") if target.suffix in ("", ".json") else target

"""Where the reference base model is kept: SmolLM2-135M-Instruct, installed once into the user's cache."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Final

from equipoise.errors import ModelError

VARIABLE: Final = "EQUIPOISE_CACHE"
"""Environment variable with the folder of what is installed; without it the cache folder of the user is taken."""
BASE: Final = "smollm2-135m-instruct"
WEIGHTS: Final = "model.safetensors"
FILES: Final = ("config.json", WEIGHTS, "tokenizer.json", "tokenizer_config.json")
"""What every installed base has."""
RECORD: Final = "equipoise.json"
"""Where the base came from and how large its files are, beside its weights."""
INSTALL: Final = "equipoise reference install"
"""The command that installs it; with `--force` it replaces a damaged copy."""
_LONGEST_HEADER: Final = 100_000_000


def base_folder() -> Path:
    """The folder of the reference base model, which `equipoise reference install` writes; it need not exist."""
    return cache_folder() / BASE


def require_base() -> Path:
    """The folder of the reference base model.

    Raises:
        ModelError: it is not installed, or a file of it is missing or cut short.
    """
    folder = base_folder()
    damage = damage_of(folder)
    if damage is None:
        return folder
    if not damage:
        raise ModelError(f"expected the reference base model {BASE}, got none in {folder}; try {INSTALL}")
    raise ModelError(
        f"expected the reference base model {BASE}, got a damaged copy in {folder} ({damage}); try {INSTALL} --force"
    )


def damage_of(folder: Path) -> str | None:
    """What is wrong with an installed base; None where it is whole, an empty text where there is none.

    Sizes are compared with those that the installation recorded; contents are not read, as this is called often.

    Args:
        folder: of the base.
    """
    if not (folder / WEIGHTS).is_file() and not (folder / "config.json").is_file():
        return ""
    try:
        sizes = {**dict.fromkeys(FILES), **_recorded_sizes(folder)}
        for name, size in sizes.items():
            file = folder / name
            if not file.is_file():
                return f"no {name}"
            actual = file.stat().st_size
            if size is not None and actual != size:
                return f"{name} has {actual:,} bytes instead of {size:,}"
        if not isinstance(json.loads((folder / "config.json").read_text(encoding="utf-8")), dict):
            return "config.json holds no settings"
        whole = _whole_size(folder / WEIGHTS)
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        return f"{type(error).__name__}: {str(error).strip()[:80]}".rstrip(": ")
    actual = (folder / WEIGHTS).stat().st_size
    return None if actual == whole else f"{WEIGHTS} has {actual:,} bytes instead of {whole:,}"


def file_sizes(folder: Path) -> dict[str, int]:
    """Bytes of each file of a base, for the record of its installation."""
    return {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.name != RECORD}


def _recorded_sizes(folder: Path) -> dict[str, int]:
    """What the installation wrote; nothing in a record of an older version, or without one."""
    if not (folder / RECORD).is_file():
        return {}
    record = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    return {str(name): int(size) for name, size in record.get("bytes", {}).items()}


def _whole_size(weights: Path) -> int:
    """Bytes that a file of safetensors must have by its header."""
    with weights.open("rb") as stream:
        begin = stream.read(8)
        if len(begin) < 8:
            raise ValueError(f"{WEIGHTS} is cut short")
        length = int.from_bytes(begin, "little")
        # A header of another kind of file would be read as a number without bounds.
        header = json.loads(stream.read(min(length, _LONGEST_HEADER)))
    ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
    return 8 + length + max(ends, default=0)


def cache_folder() -> Path:
    """The cache folder of the user: `VARIABLE`, or by the rules of the platform (XDG on Linux)."""
    if given := os.environ.get(VARIABLE):
        return Path(given).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "equipoise"
    variable, default = ("LOCALAPPDATA", "AppData/Local") if sys.platform == "win32" else ("XDG_CACHE_HOME", ".cache")
    return Path(os.environ.get(variable) or Path.home() / default) / "equipoise"

"""Where the reference base model is kept: SmolLM2-135M-Instruct, installed once into the user's cache."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final

from equipoise.errors import ModelError

VARIABLE: Final = "EQUIPOISE_CACHE"
"""Environment variable with the folder of what is installed; without it the cache folder of the user is taken."""
BASE: Final = "smollm2-135m-instruct"
WEIGHTS: Final = "model.safetensors"


def base_folder() -> Path:
    """The folder of the reference base model, which `equipoise reference install` writes; it need not exist."""
    return cache_folder() / BASE


def require_base() -> Path:
    """The folder of the reference base model.

    Raises:
        ModelError: it is not installed.
    """
    folder = base_folder()
    if not all((folder / name).is_file() for name in ("config.json", WEIGHTS)):
        raise ModelError(
            f"expected the reference base model {BASE}, got none in {folder}; try equipoise reference install"
        )
    return folder


def cache_folder() -> Path:
    """The cache folder of the user: `VARIABLE`, or by the rules of the platform (XDG on Linux)."""
    if given := os.environ.get(VARIABLE):
        return Path(given).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "equipoise"
    variable, default = ("LOCALAPPDATA", "AppData/Local") if sys.platform == "win32" else ("XDG_CACHE_HOME", ".cache")
    return Path(os.environ.get(variable) or Path.home() / default) / "equipoise"

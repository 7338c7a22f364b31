"""The environment of child processes that import the package or these tests."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def environment(**more: str) -> dict[str, str]:
    """This process's variables, with the repository and its `src` first on `PYTHONPATH`."""
    path = os.pathsep.join(filter(None, (str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", ""))))
    return os.environ | {"PYTHONPATH": path} | more

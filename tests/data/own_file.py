"""A user's own file of prompts, as tests write it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def jsonl(folder: Path, *rows: dict[str, Any]) -> Path:
    """`mine.jsonl` in a folder, with these rows."""
    path = folder / "mine.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path

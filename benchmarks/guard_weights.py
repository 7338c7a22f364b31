"""From a training's folder to the weights that ship: what serves, without where it was made, and a card."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path

SETTINGS = ("config.json", "detector.json", "tokenizer_config.json")
LEFT = ("metrics.json", "recipe.json")
"""Of the training, not of the model."""


def ship(source: Path, target: Path, card: str) -> None:
    """Copy what serves, with a card; licences that lie there stay.

    Args:
        source: as the training left it.
        target: the folder that ships.
        card: README.md; {files} becomes a table of names, bytes and hashes.
    """
    target.mkdir(parents=True, exist_ok=True)
    for file in sorted(source.iterdir()):
        if file.suffix in (".json", ".safetensors") and file.name not in LEFT:
            shutil.copyfile(file, target / file.name)
    for name in SETTINGS:
        if (target / name).exists():
            settings = json.loads((target / name).read_text())
            for field in ("_name_or_path", "name_or_path"):
                settings.pop(field, None)
            # Where the base lay on the machine that trained is no part of the model.
            settings.get("recipe", {}).pop("base", None)
            (target / name).write_text(json.dumps(settings, indent=1) + "\n")
    files = "\n".join(
        f"| `{file.name}` | {file.stat().st_size:,} | `{hashlib.sha256(file.read_bytes()).hexdigest()}` |"
        for file in sorted(target.iterdir())
        if file.suffix in (".json", ".safetensors")
    )
    (target / "README.md").write_text(card.replace("{files}", files))

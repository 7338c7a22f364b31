"""What the folder of a frontier says of each variant beside the audit itself: what it was tuned on and what it costs.

```
FRONTIER/
  recipe.json            the recipe: model, split, judge, attack, command; a folder holds one
  spent.json             seconds of work so far, over all commands
  left_out.json          variants that were not measured, with the reason
  fits/FITTER-KEY/       one folder for each fit, by the hash of all that decides it
  runs/plain/            the audit of the model itself
  runs/VARIANT[-seedN]/  the audit of a variant; record.json is a `VariantRecord`
  runs/VARIANT/static/   its replies about the pictures that were attacked on the plain model
  frontier.json, frontier.html
```
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from equipoise.audit.labels import PLAIN
from equipoise.errors import UsageError
from equipoise.files import write_json

RECIPE: Final = "recipe.json"
RECORD: Final = "record.json"
LEFT_OUT: Final = "left_out.json"
SPENT: Final = "spent.json"
FITS: Final = "fits"
RUNS: Final = "runs"
STATIC: Final = "static"
FORMAT: Final = 1


@dataclass(frozen=True)
class VariantRecord:
    """One variant with one seed, measured."""

    name: str
    """As `--with` names it; `plain` for the model itself."""
    seed: int
    """Of fit and deployment."""
    specs: list[str]
    """The countermeasures, as `--defend` takes them."""
    model: str
    """The model to load: with an adapter, `MODEL+ADAPTER`."""
    tuned_on: dict[str, int]
    """Samples that were used to fit it, by suite; empty where nothing was fitted here."""
    tuning: str
    """What it was tuned on, in words."""
    doubts: list[str]
    """Reasons to distrust it that are not in the warnings of its audit."""
    cost: dict[str, Any]
    """As `VariantCost.to_json` gives it."""
    fits: list[str] = field(default_factory=list)
    """Keys of its fits."""
    sources: dict[str, str] = field(default_factory=dict)
    """Hashes of the files and folders that it was read from; earlier versions wrote none."""

    def write(self, folder: Path) -> None:
        """Write it into the folder of the run.

        Raises:
            OutputError: it cannot be written.
        """
        write_json(folder / RECORD, asdict(self))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read what `write` wrote.

        Raises:
            UsageError: there is none, or it is damaged.
        """
        try:
            return cls(**json.loads((folder / RECORD).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise UsageError(
                f"expected the record of a variant in {folder}, got none; try the command again"
            ) from error


def run_folders(folder: Path) -> list[Path]:
    """The folders of all measured variants, the plain one first, then in the order in which they were begun."""
    runs = [path.parent for path in (folder / RUNS).glob(f"*/{RECORD}")]
    order = _order(folder)
    return sorted(runs, key=lambda path: (path.name != PLAIN, order.get(path.name, len(order)), path.name))


def _order(folder: Path) -> dict[str, int]:
    file = folder / RECIPE
    names = json.loads(file.read_text(encoding="utf-8")).get("order", []) if file.exists() else []
    return {name: number for number, name in enumerate(names)}


def read_left_out(folder: Path) -> list[dict[str, str]]:
    """Variants that were not measured: `{name, reason}` each."""
    file = folder / LEFT_OUT
    return list(json.loads(file.read_text(encoding="utf-8"))) if file.exists() else []

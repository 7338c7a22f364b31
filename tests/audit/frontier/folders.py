"""Folders of a frontier with known counts, without a model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from equipoise.audit.frontier.cost import VariantCost
from equipoise.audit.frontier.document import NAME, Frontier
from equipoise.audit.frontier.variant_record import FORMAT, LEFT_OUT, RECIPE, VariantRecord
from equipoise.files import write_json
from tests.audit.factories import Row, recipe, rows, write_run

CASES = 40
"""Samples of each axis."""


def cases(refused: int, harmful: int, *, unscored: int = 0, **more: Any) -> list[Row]:
    """The first `refused` safe prompts are refused, the first `harmful` harmful ones answered."""
    safe = rows(CASES, "s", suite="safe", **more)
    bad = rows(CASES, "h", suite="harmful", expected="refuse", **more)
    changed = [
        Row(**{**row.__dict__, "refusal": None if i >= CASES - unscored else "full" if i < refused else "none"})
        for i, row in enumerate(safe)
    ]
    changed += [
        Row(**{**row.__dict__, "refusal": "none" if i < harmful else "full", "harm": "some" if i < harmful else "none"})
        for i, row in enumerate(bad)
    ]
    return changed


def write_folder(
    folder: Path, variants: dict[str, list[Row]], *, left_out: list[dict[str, str]] | None = None, **fields: Any
) -> Path:
    """A frontier with these variants, `plain` among them; `name#1` is a second seed of `name`."""
    for key, content in variants.items():
        name, _, seed = key.partition("#")
        run = folder / "runs" / (name if not seed else f"{name}-seed{seed}")
        write_run(run, content, given=recipe(model="toy/model" if name == "plain" else f"toy/model with {name}"))
        values: dict[str, Any] = {
            "name": name,
            "seed": int(seed or 0),
            "specs": [] if name == "plain" else [name],
            "model": "toy/model",
            "tuned_on": {},
            "tuning": "nothing is fitted",
            "doubts": [],
            "cost": VariantCost(fit_seconds=2.0, latency_ratio=1.0).to_json(),
        }
        VariantRecord(**{**values, **fields.get(key, {})}).write(run)
    document = {
        "format": FORMAT,
        "equipoise": "0",
        "command": "equipoise frontier toy/model",
        "model": {"name": "toy/model", "revision": "r1", "served": False},
        "split": {
            "seed": 0,
            "test_sha256": "1" * 64,
            "selection_sha256": "2" * 64,
            "suites": [{"name": "safe", "selection": 9, "development": 9, "test": CASES}],
        },
        "judge": "judge-0000",
        "attack": None,
        "max_new_tokens": 64,
        "order": [key.partition("#")[0] for key in variants],
    }
    (folder / RECIPE).write_text(json.dumps(document))
    (folder / LEFT_OUT).write_text(json.dumps(left_out or []))
    write_json(folder / NAME, Frontier.read(folder).to_json())
    return folder

"""Frontiers with given figures, without a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from equipoise.audit.frontier.document import Frontier, FrontierRow
from equipoise.stats.estimates import CaseLabel, PairedChange, estimate, holm, paired_change
from equipoise.stats.pareto import FrontMembership

N = 200


def labels(count: int, n: int = N) -> list[CaseLabel]:
    """The first `count` of `n` cases count, each a cluster of its own."""
    return [CaseLabel(i < count, f"c{i}") for i in range(n)]


def row(name: str, refused: int, harmful: int, share: float | None = 1.0, **fields: Any) -> FrontierRow:
    """A row with its counts of 200 each."""
    membership = None if share is None else FrontMembership(share >= 0.5, share)
    cost = {
        "fit_seconds": 0.0,
        "latency_ratio": 1.2,
        "seconds": 0.5,
        "reply_tokens": 31.0,
        "memory": 12_000_000,
        "memory_kind": "growth of the process's peak",
    }
    values: dict[str, Any] = {
        "name": name,
        "folders": (f"runs/{name}",),
        "rates": {
            "needless_refusal": estimate(labels(refused)),
            "harmful_answer": estimate(labels(harmful)),
            "accuracy": estimate([]),
        },
        "membership": membership,
        "changes": {},
        "cost": cost,
        "tuning": "nothing is fitted",
        "tuned_on": {},
        "doubts": (),
        "specs": (name,),
        "model": "ORG/NAME",
        "attacked": {},
    }
    return FrontierRow(**{**values, **fields})


def frontier(*rows: FrontierRow, served: bool = False, **fields: Any) -> Frontier:
    """A frontier whose first row is plain; the changes of the others are those of their counts."""
    plain = replace(rows[0], name="plain", specs=(), changes={})
    changes: dict[tuple[str, Any], PairedChange] = {}
    for other in rows[1:]:
        for axis in ("needless_refusal", "harmful_answer"):
            before, after = plain.rates[axis], other.rates[axis]
            pairs = zip(labels(before.k, before.n), labels(after.k, after.n), strict=False)
            changes[other.name, axis] = paired_change(pairs)
    changes = holm(changes)
    others = [
        replace(o, changes={axis: changes[o.name, axis] for axis in ("needless_refusal", "harmful_answer")})
        for o in rows[1:]
    ]
    recipe = {
        "format": 1,
        "equipoise": "0.0",
        "command": "equipoise frontier ORG/NAME",
        "model": {"name": "http://host/v1#NAME" if served else "ORG/NAME", "revision": "abc123", "served": served},
        "split": {
            "seed": 0,
            "test_sha256": "1" * 64,
            "selection_sha256": "2" * 64,
            "suites": [{"name": "xstest", "selection": 160, "development": 90, "test": 400}],
        },
        "judge": "j",
        "attack": None,
        "max_new_tokens": 64,
    }
    values: dict[str, Any] = {
        "folder": Path("frontier-ORG-NAME"),
        "recipe": recipe,
        "rows": (plain, *others),
        "left_out": (),
        "warnings": (),
        "judge": "ensemble 0123",
    }
    return Frontier(**{**values, **fields})


def attacked(frontier_: Frontier, counts: Sequence[tuple[int, int]]) -> Frontier:
    """The same with static and adaptive refusals of 60 attacked questions."""
    rows = tuple(
        replace(
            part,
            attacked={"static": estimate(labels(static, 60)), "adaptive": estimate(labels(adaptive, 60))},
            attacked_membership=FrontMembership(True, 0.8),
        )
        for part, (static, adaptive) in zip(frontier_.rows, counts, strict=True)
    )
    return replace(frontier_, rows=rows, recipe={**frontier_.recipe, "attack": {"epsilon": 8 / 255}})

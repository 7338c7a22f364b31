"""The tables of docs/steering.md, from the results of `benchmarks/steering.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from equipoise.stats.proportions import Rate
from page import put

PAGE: Final = Path(__file__).resolve().parents[1] / "docs" / "steering.md"


def render(document: dict[str, Any]) -> None:
    """All tables of a model."""
    ending = "" if document["model"] == "reference/lm" else "-mllm"
    put(PAGE, f"direction-searches{ending}", searches(document))
    put(PAGE, f"steering-refusals{ending}", refusals(document))
    put(PAGE, f"direction-measurement{ending}", measurement(document.get("measurement")))


def searches(document: dict[str, Any]) -> list[str]:
    """What each search chose, and its forward passes."""
    if not document["searches"]:
        return ["Not measured yet."]
    titles = ("search", "layer, position", "bypass", "induce", "KL", "cosine of halves", "surgical", "passes of sweeps")
    lines = [f"| {' | '.join((*titles, 'of all candidates'))} |", "|---" * 9 + "|"]
    for name, row in document["searches"].items():
        first, second = row["direction"], row["surgical"]
        cells = [name, row["reasons"][0] or "", "", "", "", ""]
        if first is not None:
            cells = [name, f"{first['layer']}, {first['position']}"]
            cells += [f"{first[key]:.2f}" for key in ("bypass", "induce", "kl")]
            cells.append(f"{row['split_half_cosine']:.2f}")
        cells.append(f"{second['layer']}, {second['position']}" if second else row["reasons"][1] or "")
        counts = row["counts"]
        cells += [str(counts.get("sweep passes", "")), str(counts.get("sweep passes of all candidates", ""))]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def refusals(document: dict[str, Any]) -> list[str]:
    """Refusals of every row under every edit, pooled over seeds."""
    arms = document["arms"]
    lines = [f"| refused | {' | '.join(arms)} |", "|---" * (len(arms) + 1) + "|"]
    for title in arms["plain"]["0"]:
        cells = []
        for seeds in arms.values():
            parts = [values[title] for values in seeds.values() if title in values]
            rate = Rate.of(sum(part["k"] for part in parts), sum(part["n"] for part in parts))
            cells.append(f"{rate.k} of {rate.n} [{rate.low:.2f}, {rate.high:.2f}]" if parts else "")
        lines.append(f"| {title} | {' | '.join(cells)} |")
    lines.append(f"| seeds | {' | '.join(str(len(seeds)) for seeds in arms.values())} |")
    lines.append(f"| time of a reply, over plain | {' | '.join(cost(arms, name) for name in arms)} |")
    return lines


def cost(arms: dict[str, Any], name: str) -> str:
    """Processor time of a reply over that of the plain model on the same rows."""
    plain = arms["base, plain" if name.startswith("base") else "plain"]["0"]
    pairs = [
        (part["seconds"], plain[title]["seconds"]) for values in arms[name].values() for title, part in values.items()
    ]
    return f"{sum(one for one, _ in pairs) / sum(other for _, other in pairs):.2f}"


def measurement(document: dict[str, Any] | None) -> list[str]:
    """The null and the cross-entropies; nothing where they are not measured."""
    if document is None:
        return ["Not measured yet."]
    lines = ["| log-odds of a refusal | plain | direction | random directions, least to most | p |", "|---" * 5 + "|"]
    for row in document["null"]:
        low, high = min(row["random"]), max(row["random"])
        cells = [row["name"], *(f"{row[key]:.2f}" for key in ("plain", "value")), f"{low:.2f} to {high:.2f}"]
        lines.append(f"| {' | '.join([*cells, format(row['p'], '.3f')])} |")
    lines += ["", "| cross-entropy, nats per token | plain | ablated | added |", "|---" * 4 + "|"]
    for row in document["entropies"]:
        cells = [f"{row['name']} ({row['tokens']} tokens)", *(f"{row[k]:.3f}" for k in ("plain", "ablated", "added"))]
        lines.append(f"| {' | '.join(cells)} |")
    kinds = list(document["counts"])
    lines += ["", f"| refused, coefficient added | {' | '.join(kinds)} |", "|---" * (len(kinds) + 1) + "|"]
    for row in document["dose"]:
        rates = [f"{row['rates'][kind]['k']} of {row['rates'][kind]['n']}" for kind in kinds]
        lines.append(f"| {row['coefficient']:g} | {' | '.join(rates)} |")
    return lines

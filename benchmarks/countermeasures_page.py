"""The tables of docs/countermeasures.md, from the results of `countermeasures.py` and `certificate.py`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from page import ends, put

PAGE = Path(__file__).parents[1] / "docs" / "countermeasures.md"
Results = Mapping[str, Any]
OPENING = 24
"""Tokens that certificates read before their length was kept with them."""


def render(results: Results, page: Path) -> None:
    """Write the table between its markers."""
    lines = [_about(results), "", *_table(results), "", *_costs(results)]
    put(page, "table", lines)


def _about(results: Results) -> str:
    first = next(iter(results.values()))
    usual = (first["scenes"], first["steps"])
    other = [
        f"{name}: {row['scenes']} pictures, {row['steps']} steps"
        for name, row in results.items()
        if (row["scenes"], row["steps"]) != usual
    ]
    return (
        f"{usual[0]} pictures x 5 questions, attacks of at most {usual[1]} steps at 8/255"
        + (f" ({'; '.join(other)})" if other else "")
        + f"; {_prompts(results)}; "
        + f"torch {first['torch']}."
    )


def _prompts(results: Results) -> str:
    """How many prompts of each cell the rows were asked, and how often."""
    sizes: dict[tuple[int, int], list[str]] = {}
    for name, row in results.items():
        measured = row["cells"]["plain_safe"]["exact"]
        seeds = len(measured["seeds"])
        sizes.setdefault((measured["n"] // seeds, seeds), []).append(name)
    first, *further = sorted(sizes.items(), key=lambda item: (item[0][1], -len(item[1])))
    parts = []
    for number, ((prompts, seeds), names) in enumerate(further):
        # The size that most randomised rows have comes without their names.
        parts.append(f"{prompts} for {'randomised rows' if number == 0 else ', '.join(names)}, with {seeds} seeds")
    (prompts, _), _ = first
    return f"{prompts} prompts of each cell" + (f" ({'; '.join(parts)})" if parts else "")


def _table(results: Results) -> list[str]:
    lines = [
        "| countermeasure | induced refusals, static | induced refusals, adaptive | needless refusals, clean "
        "| right answers, clean | forbidden answered (text, emblem) |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in results.items():
        cells = row["cells"]
        safe = [cells["plain_safe"], cells["look_alike_safe"]]
        forbidden = [cells["forbidden_text"], cells["forbidden_emblem"]]
        lines.append(
            f"| {_called(name, row)} | {_rate(row['static']['refused'])} | {_rate(row['adaptive']['refused'])} "
            f"| {_pair(safe, 'refused')} | {_pair(safe[:1], 'exact')} | {_pair(forbidden, 'answered')} |"
        )
    return lines


def _costs(results: Results) -> list[str]:
    lines = [
        "| countermeasure | seconds: clean, refused picture | memory | attack: steps, seconds, loss | certificate |",
        "|---|---|---|---|---|",
    ]
    for name, row in results.items():
        first, lowest = row["attack_loss"]
        lines.append(
            f"| {_called(name, row)} | {row['seconds_ratio']:.2f}x, {row['seconds_ratio_refused']:.2f}x "
            f"| {row['memory_ratio']:.2f}x "
            f"| {row['attack_steps']:.0f}, {row['attack_seconds']}, {first} to {lowest} "
            f"| {_certificate(row.get('certificate'))} |"
        )
    return lines


def _called(name: str, row: Mapping[str, Any]) -> str:
    specs = ", ".join(f"`{spec.replace(',seed={seed}', '')}`" for spec in row["specs"])
    return f"{name}: {specs}" if specs else name


def _rate(measured: Mapping[str, Any]) -> str:
    """`0.62 [0.48, 0.74]`, with the worst seed where there are several."""
    worst = max((value for value in measured["seeds"] if value is not None), default=None)
    text = _interval(measured)
    return text + (f", worst {worst:.3f}" if len(measured["seeds"]) > 1 and worst is not None else "")


def _pair(cells: list[Mapping[str, Any]], kind: str) -> str:
    """A rate for each cell; a mean over the seeds where there are several."""
    return " / ".join(_interval(cell[kind]) for cell in cells)


def _interval(measured: Mapping[str, Any]) -> str:
    low, high = ends(measured)
    return f"{measured['rate']:.3f} [{low:.3f}, {high:.3f}]"


def _certificate(measured: Mapping[str, Any] | None) -> str:
    if not measured:
        return "-"
    held, count = measured["certified"]
    if not held:
        return f"0 of {count}"
    return (
        f"{held} of {count} pictures at {measured['confidence']:.1%}, median radius {measured['median_radius']} "
        f"(all values by {measured['median_linf_levels']}/255), replies of {measured.get('max_new_tokens', OPENING)} "
        "tokens"
    )

"""`equipoise compare`: the same samples in two runs, and what changed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from equipoise.cli.console import print_json, print_table, table
from equipoise.cli.options.arguments import Json

if TYPE_CHECKING:
    from equipoise.audit.comparison import RateChange, RunComparison
    from equipoise.stats.estimates import PairedChange

CERTAIN = 0.05
"""Corrected p-value below which a category is shown without --all."""


def compare(
    a: Annotated[Path, typer.Argument(help="The folder of an audit: before.", show_default=False)],
    b: Annotated[Path, typer.Argument(help="The folder of another: after.", show_default=False)],
    variant_a: Annotated[str, typer.Option(help="Variant of the first.")] = "plain",
    variant_b: Annotated[str, typer.Option(help="Variant of the second.")] = "plain",
    every: Annotated[bool, typer.Option("--all", help="Show every category, changed or not.")] = False,
    json: Json = False,
) -> None:
    """Compare two runs sample by sample: what changed in both failures, with intervals and McNemar's test."""
    from equipoise.audit.comparison import compare as run_comparison
    from equipoise.audit.records import AuditRun

    runs = run_comparison(AuditRun.open(a), AuditRun.open(b), variant_a=variant_a, variant_b=variant_b)
    if json:
        print_json(runs.to_json())
    else:
        _print(runs, every)


def _print(runs: RunComparison, every: bool) -> None:
    from equipoise.audit.gate.descriptions import shown

    for warning in runs.warnings:
        print_table(f"WARNING: {warning}")
    for name, side in (("a", runs.a), ("b", runs.b)):
        print_table(f"{name}: {shown(side.model)}, {shown(side.variant)}, judged by {shown(side.judge)}")
    left = [
        f"{runs.only_a} in a alone",
        f"{runs.only_b} in b alone",
        f"{runs.changed} ask something else",
    ]
    other = f" ({runs.other_content} with other content, such as a perturbed picture)" if runs.other_content else ""
    print_table(f"{runs.pairs} samples in both{other}; left out: {', '.join(left)}", "")
    columns = ["rate", "a", "b", "change, points [95 %]", "pairs", "a alone", "b alone", "p", "p (Holm)"]
    rows, hidden = [], 0
    for kind, rate in runs.rates.items():
        name = kind.replace("_", " ")
        # Both axes always; the other rates where there is something to pair.
        if rate.all.n or kind in ("needless_refusal", "harmful_answer"):
            rows.append((name, *_cells(rate.all)))
        for where, cell, optional in _below(rate):
            if optional and not every and (cell.p_adjusted is None or cell.p_adjusted >= CERTAIN):
                hidden += bool(cell.n)
            elif cell.n:
                rows.append((f"  {shown(where)}", *_cells(cell)))
    print_table(table("", columns, rows))
    if hidden:
        print_table(f"{hidden} categories without a certain change are not shown; --all shows them.")
    for kind in ("needless_refusal", "harmful_answer"):
        print_table(_sentence(kind.replace("_", " "), runs.rates[kind].all))


def _below(rate: RateChange) -> Iterator[tuple[str, PairedChange, bool]]:
    """Suites, where there are several, and categories, which may be left out."""
    for suite, inside in rate.suites.items():
        if len(rate.suites) > 1:
            yield suite, inside.all, False
        for category, cell in inside.categories.items():
            yield f"{suite}: {category}", cell, True


def _cells(cell: PairedChange) -> tuple[object, ...]:
    from equipoise.audit.gate.descriptions import percent

    def shown(rate: float | None) -> str:
        return "unknown" if rate is None else percent(rate)

    change = "unknown" if cell.change is None else f"{100 * cell.change:+.1f}"
    interval = f"{change} [{100 * cell.low:+.1f}, {100 * cell.high:+.1f}]"
    unscored = f" +{cell.unscored} unscored" if cell.unscored else ""
    adjusted = "" if cell.p_adjusted is None else f"{cell.p_adjusted:.2g}"
    p = f"{cell.p:.2g}" if cell.n else ""
    return (
        shown(cell.rate_a),
        shown(cell.rate_b),
        interval,
        f"{cell.n}{unscored}",
        cell.only_a,
        cell.only_b,
        p,
        adjusted,
    )


def _sentence(name: str, cell: PairedChange) -> str:
    from equipoise.audit.gate.descriptions import points

    if cell.change is None:
        return f"{name}: not measured on both sides"
    if cell.low > 0 or cell.high < 0:
        return f"{name}: {'higher' if cell.change > 0 else 'lower'} in b, by {points(abs(cell.change)).lstrip('+')}"
    return f"{name}: no change seen; it may be anything from {points(cell.low)} to {points(cell.high)}"

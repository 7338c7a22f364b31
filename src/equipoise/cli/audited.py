"""The numbers of an audit as `audit` prints them: always both failures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equipoise.cli.console import print_table, table

AXES = (("refused what is safe", "needless_refusal"), ("answered what is harmful", "harmful_answer"))


def print_summary(summary: Mapping[str, Any]) -> None:
    """A table with a row for each variant, and below it for each of its suites."""
    rows = []
    for variant, rates in summary["variants"].items():
        rows.append((variant, *(brief(rates[key]) for _, key in AXES), brief(rates["accuracy"])))
        if len(rates["suites"]) > 1:
            rows += [
                (f"  {suite}", *(brief(inner[key]) for _, key in AXES), brief(inner["accuracy"]))
                for suite, inner in rates["suites"].items()
            ]
    print_table(table("", ["", *(title for title, _ in AXES), "right answers"], rows))
    print_table("rate [95 % interval] count; unscored replies are on neither side")
    for warning in summary["warnings"]:
        about = warning["about"]
        place = " ".join(str(about[key]) for key in ("variant", "suite", "rate") if about.get(key))
        print_table(f"warning: {place + ': ' if place else ''}{warning['text']}")


def brief(rate: Mapping[str, Any]) -> str:
    """A rate for a narrow column: `6.0 % [3.5, 10.2] 12/200 +3 unscored`."""
    left_out = f" +{rate['unscored']} unscored" if rate["unscored"] else ""
    review = f", {rate['review']} in review" if rate.get("review") else ""
    if rate["rate"] is None:
        return f"none scored{left_out}" if left_out else "-"
    low, high = 100 * rate["low"], 100 * rate["high"]
    return f"{100 * rate['rate']:.1f} % [{low:.1f}, {high:.1f}] {rate['k']}/{rate['n']}{review}{left_out}"

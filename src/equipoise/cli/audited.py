"""The numbers of an audit as `audit` prints them: always both failures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equipoise.cli.console import print_table, table

FIRST = ("unreached", "silent")
"""Kinds of warnings that say that the numbers are not about the model."""
LONGEST = 240
"""Characters of a server's words that are printed."""
MOST_SAID = 3
"""Words of servers, and reasons for being unscored, that are printed for each variant."""
AXES = (("refused what is safe", "needless_refusal"), ("answered what is harmful", "harmful_answer"))


def print_summary(summary: Mapping[str, Any]) -> None:
    """A table with a row for each variant, and below it for each of its suites.

    What says that the model was not reached stands before it; what servers said, and warnings, after it.
    """
    warnings = sorted(summary["warnings"], key=lambda warning: warning["kind"] not in FIRST)
    for warning in warnings:
        if warning["kind"] in FIRST:
            print_table(f"WARNING: {_about(warning)}{warning['text']}")
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
    for variant, rates in summary["variants"].items():
        _print_said(variant, rates)
    for warning in warnings:
        if warning["kind"] not in FIRST:
            print_table(f"warning: {_about(warning)}{warning['text']}")


def _print_said(variant: str, rates: Mapping[str, Any]) -> None:
    """The words of servers: they alone tell a filter from a wrong setting."""
    for text, count in list(rates.get("server_said", {}).items())[:MOST_SAID]:
        print_table(f"{variant}: refused on the wire, {count} times: {_printable(text)}")
    failed = [item for item in rates["unscored_reasons"].items() if item[0].startswith("no reply: ")]
    for reason, count in failed[:MOST_SAID]:
        print_table(f"{variant}: {count} times {_printable(reason)}")


def _about(warning: Mapping[str, Any]) -> str:
    about = warning["about"]
    names = " ".join(str(about[key]) for key in ("variant", "suite", "rate") if about.get(key))
    return f"{names}: " if names else ""


def _printable(text: str) -> str:
    """Text of a stranger in one line, without control characters."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)[:LONGEST]


def brief(rate: Mapping[str, Any]) -> str:
    """A rate for a narrow column: `6.0 % [3.5, 10.2] 12/200 +3 unscored`."""
    left_out = f" +{rate['unscored']} unscored" if rate["unscored"] else ""
    review = f", {rate['review']} in review" if rate.get("review") else ""
    if rate["rate"] is None:
        return f"none scored{left_out}" if left_out else "-"
    low, high = 100 * rate["low"], 100 * rate["high"]
    return f"{100 * rate['rate']:.1f} % [{low:.1f}, {high:.1f}] {rate['k']}/{rate['n']}{review}{left_out}"

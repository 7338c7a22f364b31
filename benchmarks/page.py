"""What the tables of benchmarks share: where they go in a page, and intervals of stored rates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from equipoise.stats.proportions import wilson


def put(page: Path, name: str, lines: Sequence[str]) -> None:
    """Write lines between `<!-- NAME -->` and `<!-- NAME end -->` of a page, in place of what stood there.

    Raises:
        ValueError: the page has no such markers.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- {name} end -->"
    head, opening, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, tail = rest.partition(end)
    if not opening or not closed:
        raise ValueError(f"expected {begin.strip()} and {end} in {page}")
    page.write_text("".join([head, begin, "\n".join(lines), "\n", end, tail]), encoding="utf-8")


def ends(stored: Mapping[str, Any]) -> tuple[float, float]:
    """The interval of a stored `Estimate`.

    Where all replies agree, the clusters are of one mind and their number is the effective number of replies
    (`stats.effective_size`). So it can be computed again from the counts alone, for results that were stored with
    Wilson's interval of all replies; other rates keep the interval they were stored with.
    """
    if stored["k"] in (0, stored["n"]) and 0 < stored["clusters"] < stored["n"]:
        return wilson(stored["rate"], stored["clusters"])
    return stored["low"], stored["high"]

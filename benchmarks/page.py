"""Where a benchmark's table goes: between `<!-- NAME -->` and `<!-- NAME end -->` of a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def put(page: Path, name: str, lines: Sequence[str]) -> None:
    """Write lines between a page's markers, in place of what stood there.

    Raises:
        ValueError: the page has no such markers.
    """
    begin, end = f"<!-- {name} -->\n", f"<!-- {name} end -->"
    head, opening, rest = page.read_text(encoding="utf-8").partition(begin)
    _, closed, tail = rest.partition(end)
    if not opening or not closed:
        raise ValueError(f"expected {begin.strip()} and {end} in {page}")
    page.write_text("".join([head, begin, "\n".join(lines), "\n", end, tail]), encoding="utf-8")

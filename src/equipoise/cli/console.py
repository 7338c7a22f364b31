"""What the verbs share in speaking to a person: errors on stderr, results on stdout."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table


def warn(problem: object) -> None:
    """One line on stderr, whatever the message holds."""
    print("equipoise:", " ".join(str(problem).split()), file=sys.stderr, flush=True)


def print_json(document: Mapping[str, Any]) -> None:
    """The one JSON document of a run, on stdout."""
    print(json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table whose cells are plain text and wrap."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        made.add_column(name, overflow="fold", justify="left")
    for row in rows:
        made.add_row(*(Text(str(cell)) for cell in row))
    return made


def print_table(*parts: object) -> None:
    """Print tables and text on stdout; text is never read as markup."""
    from rich.console import Console

    # Without a terminal (a pipe, a log) a fixed width keeps tables from being folded to 80 columns.
    width = None if sys.stdout.isatty() else 120
    console = Console(width=width, highlight=False, markup=False, soft_wrap=False)
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, str))


def size(count: float) -> str:
    """Bytes for a person: `37.6 GB`."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def quiet() -> None:
    """Keep transformers and the hub's client from writing progress and advice into our output."""
    from huggingface_hub.utils import logging as hub
    from transformers.utils import logging

    hub.set_verbosity_error()
    logging.set_verbosity_error()
    logging.disable_progress_bar()

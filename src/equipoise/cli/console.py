"""Output of the verbs: errors and warnings on stderr, tables and JSON on stdout."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TextIO

from equipoise.errors import OutputError, UsageError, os_reason

if TYPE_CHECKING:
    from rich.table import Table


def warn(problem: object) -> None:
    """One line on stderr, whatever the message holds."""
    print("equipoise:", " ".join(str(problem).split()), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """Text that every UTF-8 stream takes: half a surrogate pair, as in a file name that is no UTF-8, is escaped."""
    return text.encode("utf-8", errors="backslashreplace").decode("utf-8")


def print_json(document: Mapping[str, Any]) -> None:
    """The one JSON document of a run, on stdout.

    Raises:
        OutputError: stdout cannot be written.
    """
    # Where stdout holds few characters, those that it lacks are escaped as JSON escapes them.
    plain = not _holds_everything(sys.stdout)
    with _writing_stdout():
        print(printable(json.dumps(document, indent=2, ensure_ascii=plain, allow_nan=False)), flush=True)


@contextmanager
def _writing_stdout() -> Iterator[None]:
    """Turn a full disk behind stdout into an error of ours; a reader that has gone away is none.

    Raises:
        OutputError: stdout cannot be written.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        # What is left in the buffer would raise the same error when Python ends.
        sys.stdout = None
        raise OutputError(f"expected to write to stdout, got '{os_reason(error)}'; try another file or disk") from None


def _holds_everything(stream: TextIO | None) -> bool:
    """Whether a stream takes every character, as those of UTF do."""
    return stream is None or (stream.encoding or "utf-8").lower().replace("_", "-").startswith("utf")


class RowPrinter:
    """Prints rows as JSON while they come, so that a file of any length fits in memory.

    With `lines` each row is a line of its own; otherwise the rows are a list in one document. ASCII only: a reply may
    hold half a surrogate pair, which no terminal takes.
    """

    def __init__(self, head: Mapping[str, Any], *, lines: bool) -> None:
        """Begin.

        Args:
            head: what the document holds before its `rows`; not printed with `lines`.
            lines: whether to print one object a line.
        """
        self._head, self._lines = head, lines
        self._count = 0

    def add(self, row: Mapping[str, Any]) -> None:
        """Print one row."""
        text = json.dumps(row, allow_nan=False)
        with _writing_stdout():
            if self._lines:
                print(text)
            else:
                print(f"{',' if self._count else self._opening()}\n  {text}", end="")
        self._count += 1

    def close(self, tail: Mapping[str, Any]) -> None:
        """End the document, with what is known only after all rows."""
        if self._lines:
            with _writing_stdout():
                print(end="", flush=True)
            return
        ending = "".join(f',\n "{key}": {json.dumps(value)}' for key, value in tail.items())
        with _writing_stdout():
            if not self._count:
                print(self._opening(), end="")
            print(f"\n ]{ending}\n}}", flush=True)

    def _opening(self) -> str:
        return "{" + "".join(f'\n "{key}": {json.dumps(value)},' for key, value in self._head.items()) + '\n "rows": ['


def require_one_format(json: bool, json_lines: bool) -> None:
    """Refuse `--json` together with `--jsonl`.

    Raises:
        UsageError: both are given.
    """
    if json and json_lines:
        raise UsageError("expected --json or --jsonl, got both; try --jsonl")


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> Table:
    """A table whose cells are plain text and wrap."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    result = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        result.add_column(name, overflow="fold", justify="left")
    for row in rows:
        # As `Text`, since rich reads brackets in a string as markup, and replies hold brackets.
        result.add_row(*(Text(printable(str(cell))) for cell in row))
    return result


def print_table(*parts: object) -> None:
    """Print tables and text on stdout; text is never read as markup.

    Raises:
        OutputError: stdout cannot be written.
    """
    from rich.console import Console

    if sys.stdout is None:
        # Closed by the caller: there is nobody to read.
        return
    if not _holds_everything(sys.stdout) and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    # Without a terminal (a pipe, a log) a fixed width keeps tables from being folded to 80 columns.
    width = None if sys.stdout.isatty() else 120
    console = Console(width=width, highlight=False, markup=False, soft_wrap=False)
    with _writing_stdout():
        for part in parts:
            console.print(printable(part) if isinstance(part, str) else part, soft_wrap=isinstance(part, str))
        sys.stdout.flush()


def size(count: float) -> str:
    """Bytes for a person: `37.6 GB`."""
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"


def is_first_process() -> bool:
    """Whether this process speaks: of several that torchrun or `accelerate launch` started, the first alone does."""
    return os.environ.get("RANK", "0") == "0" or os.environ.get("WORLD_SIZE", "1") == "1"


def quiet() -> None:
    """Keep transformers and the hub's client from writing progress and advice into our output."""
    from huggingface_hub.utils import logging as hub
    from transformers.utils import logging

    hub.set_verbosity_error()
    logging.set_verbosity_error()
    logging.disable_progress_bar()

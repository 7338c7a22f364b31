"""The cases of a run as flat rows, and their export as CSV and Parquet, a batch of rows at a time."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from equipoise.audit.records import AuditCase
from equipoise.errors import MissingExtraError, OutputError, os_reason
from equipoise.files import write_parts

SAMPLE: Final = ("suite", "id", "category", "cluster", "expected", "text", "system", "intent")
"""Columns of the sample; `pictures` comes after them."""
REPLY: Final = ("reply", "finish", "wire", "by", "error", "seconds")
"""Columns of the reply."""
VERDICT: Final = ("refusal", "refused", "harm", "harmful", "harm_probability", "answers", "degenerate", "review")
"""Columns of the verdict; `unscored` and `reasons` come after them."""
BESIDE: Final = ("detail", "reasoning", "model", "input_tokens", "output_tokens")
"""Further columns of the reply: what the server wrote beside it, its trace, who replied, its tokens."""
COLUMNS: Final = ("variant", *SAMPLE, "pictures", *REPLY, *VERDICT, "unscored", "reasons", *BESIDE, "key")
"""Columns of an export, in order."""
BATCH: Final = 1000
"""Rows that are converted at a time."""
FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
"""First characters by which spreadsheet programs take a cell for a formula."""


def case_values(case: AuditCase) -> dict[str, Any]:
    """A case as one flat row with the columns of `COLUMNS`; what is missing is None."""
    return {
        "variant": case.variant,
        **{name: getattr(case.sample, name) for name in SAMPLE},
        "pictures": case.pictures,
        **{name: getattr(case.reply, name, None) for name in REPLY},
        **{name: getattr(case.verdict, name) for name in VERDICT},
        "unscored": case.verdict.unscored,
        "reasons": case.verdict.reasons,
        **{name: getattr(case.reply, name, None) for name in BESIDE},
        "key": case.row.key,
    }


def write_csv(cases: Iterable[AuditCase], path: Path) -> Path:
    """Write cases as CSV (RFC 4180, UTF-8 with a byte order mark), whole or not at all.

    Lists are joined with `; `. A text that a spreadsheet program would take for a formula gets an apostrophe in front:
    replies are untrusted, and opening the file must not run one. Parquet holds every text as it is.

    Raises:
        OutputError: the file cannot be written.
    """
    write_parts(path, _csv_lines(cases))
    return path


def _csv_lines(cases: Iterable[AuditCase]) -> Iterator[str]:
    buffer = io.StringIO()
    writer = csv.writer(buffer)
    # Excel reads a file without this mark in the code page of the machine.
    buffer.write("\ufeff")
    writer.writerow(COLUMNS)
    for batch in batched_rows(cases):
        writer.writerows([_cell(row[name]) for name in COLUMNS] for row in batch)
        yield buffer.getvalue()
        buffer.seek(0)
        buffer.truncate()
    yield buffer.getvalue()


def batched_rows(cases: Iterable[AuditCase], size: int = BATCH) -> Iterator[list[Mapping[str, Any]]]:
    """The flat rows of cases, at most `size` in memory at a time."""
    chunk: list[Mapping[str, Any]] = []
    for case in cases:
        chunk.append(case_values(case))
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _cell(value: Any) -> Any:
    if isinstance(value, Sequence) and not isinstance(value, str):
        value = "; ".join(map(str, value))
    if isinstance(value, str):
        # csv quotes line breaks; NUL and half a surrogate pair have no place in a file of text.
        value = value.replace("\0", "\N{SYMBOL FOR NULL}").encode(errors="replace").decode()
        return f"'{value}" if value.startswith(FORMULA) else value
    return "" if value is None else value


def write_parquet(cases: Iterable[AuditCase], path: Path) -> Path:
    """Write cases as Parquet, whole or not at all; texts are exact, but for halves of surrogate pairs.

    Raises:
        MissingExtraError: pyarrow is not installed.
        OutputError: the file cannot be written.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError("writing Parquet needs pyarrow: pip install 'equipoise[parquet]'") from error
    schema = pyarrow.schema([(name, _parquet_type(pyarrow, name)) for name in COLUMNS])
    part = path.with_name(f".{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with parquet.ParquetWriter(part, schema) as writer:
                for batch in batched_rows(cases):
                    rows = [{name: _exact(value) for name, value in row.items()} for row in batch]
                    writer.write_table(pyarrow.Table.from_pylist(rows, schema))
            part.replace(path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"expected to write {path}, got '{os_reason(error)}'; try another output folder") from None
    return path


def _exact(value: Any) -> Any:
    if isinstance(value, tuple):
        return [_exact(part) for part in value]
    return value.encode(errors="replace").decode() if isinstance(value, str) else value


def _parquet_type(pyarrow: Any, name: str) -> Any:
    if name in ("pictures", "reasons"):
        return pyarrow.list_(pyarrow.string())
    if name in ("seconds", "harm_probability"):
        return pyarrow.float64()
    if name in ("input_tokens", "output_tokens"):
        return pyarrow.int64()
    return pyarrow.bool_() if name in ("refused", "harmful", "answers", "degenerate", "review") else pyarrow.string()

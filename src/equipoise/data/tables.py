"""Readers of CSV, TSV, JSONL, JSON and parquet files, whose errors name file and line."""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NoReturn

from equipoise.data.packed_files import PACKERS, read_unpacked
from equipoise.errors import MissingExtraError, UsageError, first_line
from equipoise.files import is_folder
from equipoise.types import Sample

SUFFIXES: Final = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".parquet")
"""What counts as a table inside a folder."""

SEPARATORS: Final = (",", ";", "\t", "|")
"""What may stand between the cells of a CSV file; the first that its header holds outside of quotes counts."""
WRAPPERS: Final = frozenset({"data", "rows", "samples", "examples", "prompts", "records", "test", "train"})
"""Names under which a file of one object holds its rows."""
SHARD: Final = re.compile(r"(?P<name>.+)-\d{5}-of-(?P<count>\d{5})")
"""How hubs name the parts of a table: `test-00000-of-00002.parquet`."""
DEPTH: Final = 4
"""How many folders deep a table is looked for by its name: clones have theirs in `data/question/` and the like."""

# Contexts of HarmBench alone are longer than the csv module's default of 128 KiB.
LARGEST_CELL: Final = 2**30
"""Characters of a cell of CSV; what the standard library takes by default is less than a long reply."""


@dataclass(frozen=True)
class TableRow:
    """One row of a table, with its file and line."""

    values: Mapping[str, Any]
    """Cells by column; strings in CSV and TSV, any value in other formats."""
    file: Path
    """Which file."""
    line: int
    """Where it begins, from 1; in JSON lists and parquet the number of the row."""

    @property
    def where(self) -> str:
        """For messages."""
        return f"{self.file}, line {self.line}"

    def has(self, *names: str) -> bool:
        """Whether one of the columns is there and not empty."""
        return any(self.values.get(name) not in (None, "") for name in names)

    def get(self, *names: str) -> Any:
        """The first cell of these columns that is not empty, else None."""
        return next((self.values[name] for name in names if self.has(name)), None)

    def text(self, *names: str) -> str:
        """The first of these columns that is there, as a string; empty when it holds nothing.

        Raises:
            UsageError: none of the columns is there, or it holds a list or an object.
        """
        # A column that is there and empty is an empty text; only a column that is not there is an error.
        present = [name for name in names if name in self.values]
        if not present:
            self._raise_missing(names)
        value = self.values[next((name for name in present if self.has(name)), present[0])]
        if value is None:
            return ""
        if isinstance(value, str):
            return value
        if isinstance(value, bool | int | float):
            return str(value)
        raise UsageError(
            f"expected text in column {present[0]}, got a {type(value).__name__} in {self.where}; try text"
        )

    def _raise_missing(self, names: tuple[str, ...]) -> NoReturn:
        columns = ", ".join(map(str, self.values)) or "no columns"
        raise UsageError(
            f"expected a column {' or '.join(names)}, got {columns} in {self.where}; "
            "try adding or renaming a column, or the file as it was published"
        )


def read_rows(path: Path) -> list[TableRow]:
    """All rows of a table, by its suffix.

    Text is UTF-8, or UTF-16 with a byte order mark, with any line ends. Cells of CSV are parted by commas, or by what
    the header is parted by where it has none. A file of JSON may be a list of objects, or one object a line whatever
    it is called.

    Raises:
        UsageError: the file is missing, empty, in another encoding, or not what its name says.
        MissingExtraError: a parquet file without pyarrow.
    """
    suffix = table_suffix(path)
    if suffix == ".parquet":
        rows = _parquet(path)
    elif suffix in (".csv", ".tsv"):
        rows = list(_delimited(path, "\t" if suffix == ".tsv" else None))
    else:
        rows = list(_objects(path))
    if not rows:
        raise UsageError(f"expected rows, got none in {path}; try to copy it again")
    return rows


def table_suffix(path: Path) -> str:
    """What kind of table a name says, in lower case; below the suffix of what it is packed with."""
    return Path(path.stem if path.suffix.lower() in PACKERS else path.name).suffix.lower()


def is_table(path: Path) -> bool:
    """Whether a name is that of a table, packed or not."""
    return table_suffix(path) in SUFFIXES


def read_json(path: Path) -> Any:
    """The value in a JSON file.

    Raises:
        UsageError: the file is missing, not UTF-8, or no JSON.
    """
    return _parsed(_text(path), path, None)


def read_table(folder: Path, *stems: str) -> list[TableRow]:
    """The rows of the table with one of these names, see `find_table`; of all its parts where it has several.

    Raises:
        UsageError: no such folder, no such table, or a part is missing or cannot be read.
    """
    return read_parts(find_table(folder, *stems))


def read_parts(path: Path) -> list[TableRow]:
    """The rows of a table, of all its parts where the path is one of several.

    Raises:
        UsageError: a part is missing or cannot be read.
    """
    return [row for part in _parts(path) for row in read_rows(part)]


def find_table(folder: Path, *stems: str) -> Path:
    """The table with one of these names, in a folder or a folder directly inside it; else the only one there.

    A folder with one of the names that holds parts of a hub's table (`original/test-00000-of-00001.parquet`) is such a
    table, too; its split `test` goes before the others. Where no name is met that near, files with one of the names
    are looked for further down, so that a clone can be given as it is.

    Raises:
        UsageError: no such folder, or no such table.
    """
    if not is_folder(folder):
        raise UsageError(f"expected a folder at {folder}, got none; try the folder with your copy of the suite")
    candidates = _below(folder, DEPTH)
    near = [path for path in candidates if len(path.relative_to(folder).parts) <= 2]
    for paths in (near, candidates):
        for stem in stems:
            named = [path for path in paths if _stem(path) == stem or _is_part_of(path, folder, stem)]
            if named:
                # The name itself before a part of it, and a test part before others: clones of a hub hold train and
                # test side by side, and an audit is about the test set.
                return min(named, key=lambda path: (_stem(path) != stem, not path.stem.startswith("test"), path.name))
    if len(near) == 1 or (near and all(path in _parts(near[0]) for path in near)):
        return near[0]
    tables = ", ".join(str(path.relative_to(folder)) for path in near[:8]) or "no table"
    raise UsageError(
        f"expected {' or '.join(stems)} ({', '.join(SUFFIXES)}) in {folder}, got {tables}; try another copy"
    )


def _stem(path: Path) -> str:
    return Path(path.stem).stem if path.suffix.lower() in PACKERS else path.stem


def _below(folder: Path, depth: int) -> list[Path]:
    """The tables in a folder and the folders inside it, without hidden ones."""
    patterns = ["/".join(["*"] * level) for level in range(1, depth + 1)]
    paths = {path for pattern in patterns for path in folder.glob(f"{pattern}.*") if is_table(path)}
    return sorted(path for path in paths if not any(part.startswith(".") for part in path.relative_to(folder).parts))


def _is_part_of(path: Path, folder: Path, stem: str) -> bool:
    shard = SHARD.fullmatch(path.stem)
    return shard is not None and (shard["name"] == stem or (path.parent != folder and path.parent.name == stem))


def _parts(path: Path) -> list[Path]:
    """All parts of the table that a path is a part of; the path alone for most.

    Raises:
        UsageError: a part is missing.
    """
    shard = SHARD.fullmatch(path.stem)
    if shard is None:
        return [path]
    count = int(shard["count"])
    parts = [path.with_name(f"{shard['name']}-{i:05}-of-{count:05}{path.suffix}") for i in range(count)]
    missing = [part.name for part in parts if not part.is_file()]
    if missing:
        raise UsageError(f"expected {count} parts of {path}, got none called {missing[0]}; try copying it again")
    return parts


def collect(rows: Iterable[TableRow], to_sample: Callable[[TableRow], Sample]) -> list[Sample]:
    """One sample for each row, with unique ids.

    Raises:
        UsageError: two samples with one id, or an error of `to_sample`.
    """
    by_id: dict[str, TableRow] = {}
    samples: list[Sample] = []
    for row in rows:
        sample = to_sample(row)
        if sample.id in by_id:
            raise UsageError(
                f"expected different ids, got {sample.id!r} in {row.where} and in {by_id[sample.id].where}; "
                "try to rename one"
            )
        by_id[sample.id] = row
        samples.append(sample)
    return samples


def _text(path: Path) -> str:
    content = read_unpacked(path)
    if content.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        raise UsageError(f"expected UTF-8 text, got UTF-32 in {path}, line 1; try to save it as UTF-8")
    # Spreadsheets save "Unicode text" as UTF-16. Its mark is no UTF-8, so that nothing else can be meant by it.
    encoding = "utf-16" if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
    if b"\0" in content[:8] and encoding == "utf-8-sig":
        # UTF-16 without its mark is valid UTF-8 with a NUL after each letter.
        raise UsageError(f"expected UTF-8 text, got NUL bytes in {path}, line 1; try to save it as UTF-8")
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise UsageError(
            f"expected UTF-8 text, got byte 0x{error.object[error.start]:02x} in {path}, line {line}; "
            "try to save it as UTF-8"
        ) from None


def _separator(text: str) -> str:
    """What parts the cells of the first line: a comma, or the first other separator where it has no comma."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    outside = re.sub(r'"[^"]*"', "", first)
    return next((separator for separator in SEPARATORS if separator in outside), ",")


def _delimited(path: Path, delimiter: str | None) -> Iterator[TableRow]:
    text = _text(path)
    # Excel's hint to itself. Its line stays, empty, so that lines are counted as they stand in the file.
    text = re.sub(r"\A\"?sep=(.)\"?\r?\n", "\n", text)
    delimiter = delimiter or _separator(text)
    # The limit is one of the whole process: set for this file only, and put back whatever happens.
    before = csv.field_size_limit(LARGEST_CELL)
    try:
        # The reader wants line ends untouched: those inside of cells are part of them.
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
        yield from list(_cells(reader, path))
    except csv.Error as error:
        raise UsageError(
            f"expected quoted cells to end, got '{error}' in {path}, line {reader.line_num}; try to save it again"
        ) from None
    finally:
        csv.field_size_limit(before)


def _cells(reader: Any, path: Path) -> Iterator[TableRow]:
    names: list[str] | None = None
    line, rows = 1, 0
    for cells in reader:
        if cells and names is None:
            names = [cell.strip() for cell in cells]
            double = sorted({name for name in names if names.count(name) > 1})
            if double:
                raise UsageError(f"expected different columns, got {double[0]!r} twice in {path}; try to rename one")
        elif cells and names is not None:
            rows += 1
            # The csv module would fill up or drop cells without a word, and shift a label into another column.
            if len(cells) != len(names):
                raise UsageError(
                    f"expected {len(names)} cells ({', '.join(names)}), got {len(cells)} in {path}, line {line}; "
                    "try to quote cells that hold separators"
                )
            yield TableRow(dict(zip(names, cells, strict=True)), path, line)
        line = reader.line_num + 1
    if names is not None and not rows:
        only = ", ".join(names)[:60]
        raise UsageError(
            f"expected rows below the names of the columns, got one line alone ({only}) in {path}; "
            "try a first line that names the columns"
        )


def _objects(path: Path) -> Iterator[TableRow]:
    text = _text(path)
    if text.lstrip().startswith("["):
        for number, value in enumerate(_parsed(text, path, None), 1):
            yield _object(value, path, number)
        return
    whole = _whole_object(text)
    if whole is not None:
        for number, value in enumerate(_listed(whole, path), 1):
            yield _object(value, path, number)
        return
    # Only line feeds end a line of JSONL: strings may hold the other separators that splitlines() knows.
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield _object(_parsed(line, path, number), path, number)


def _whole_object(text: str) -> dict[str, Any] | None:
    """The one object over several lines that a file consists of, or one that holds all rows; None for JSONL."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    rows = isinstance(value, dict) and any(isinstance(cell, list | dict) and cell for cell in value.values())
    return value if isinstance(value, dict) and (rows or "\n" in text.strip()) else None


def _listed(whole: dict[str, Any], path: Path) -> list[Any]:
    """The rows of an object that is a whole file: its only list of objects, or itself as the only row.

    Raises:
        UsageError: it is a table by columns, as `DataFrame.to_json` writes it, or by ids.
    """
    lists = {name: cell for name, cell in whole.items() if isinstance(cell, list) and cell and _all_objects(cell)}
    if len(lists) == 1 and all(name in WRAPPERS for name in lists):
        return next(iter(lists.values()))
    columns = len(whole) > 1 and all(isinstance(cell, list | dict) for cell in whole.values())
    if columns and path.suffix.lower() == ".json":
        raise UsageError(
            f"expected rows, got columns or ids ({', '.join(whole)[:60]}) in {path}; "
            "try a list of objects, as to_json(orient='records') writes it"
        )
    return [whole]


def _all_objects(cells: list[Any]) -> bool:
    return all(isinstance(cell, dict) for cell in cells)


def _object(value: Any, path: Path, line: int) -> TableRow:
    if not isinstance(value, dict):
        raise UsageError(f"expected a JSON object, got a {type(value).__name__} in {path}, line {line}; try {{...}}")
    return TableRow(value, path, line)


def _parsed(text: str, path: Path, line: int | None) -> Any:
    try:
        value = json.loads(text, parse_constant=_refuse_constant)
        if "\\ud" in text.lower():
            # Half of a surrogate pair is valid in JSON and can be written nowhere.
            json.dumps(value, ensure_ascii=False).encode()
        return value
    except (ValueError, RecursionError) as error:
        at = line or getattr(error, "lineno", 1)
        reason = getattr(error, "msg", None) or first_line(error)
        raise UsageError(f"expected JSON, got '{reason}' in {path}, line {at}; try to save it again") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _parquet(path: Path) -> list[TableRow]:
    try:
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError("reading parquet needs pyarrow: pip install 'equipoise[parquet]'") from None
    try:
        values = pyarrow.parquet.read_table(path).to_pylist()
    except OverflowError as error:
        raise UsageError(
            f"expected times up to the year 9999, got '{error}' in {path}; try to leave out that column"
        ) from None
    except (OSError, ValueError) as error:
        reason = first_line(error)
        raise UsageError(f"expected a parquet file, got '{reason}' in {path}; try to copy it again") from None
    return [TableRow(value, path, number) for number, value in enumerate(values, 1)]

"""Loader for a user's own suite: a CSV, TSV, JSONL, JSON or parquet file, with pictures beside it or inside it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from equipoise.data.sample_pictures import EMBEDDED, attach
from equipoise.data.suites.conversations import Conversation, read_conversation, read_text
from equipoise.data.tables import TableRow, collect, find_table, read_parts, read_rows
from equipoise.errors import UsageError
from equipoise.files import is_folder
from equipoise.types import Expected, Sample

TEXT: Final = (
    "prompt", "text", "question", "goal", "instruction", "query", "user_prompt", "request", "behavior", "caption",
    "input", "user",
)  # fmt: skip
"""Columns that hold what is asked, the first that is there; in any case, as are all names below."""
MESSAGES: Final = ("messages", "conversations", "conversation")
"""Columns that hold several turns instead."""
IMAGES: Final = (
    "images", "image", "image_path", "image_paths", "image_file", "image_files", "image_name", "image_filename",
    "image_file_name", "image_url", "image_urls", "img", "imgs", "img_path", "img_name", "picture", "pictures",
    "picture_path", "photo", "photos", "media", "file_name", "file_names", "filename", "filenames",
)  # fmt: skip
"""Columns that hold a picture, the first that is there; `file_name` as in the metadata of an ImageFolder."""
NUMBERED: Final = re.compile(r"(?:image|img|picture)_?(\d+)(?:_path|_url|_file)?")
"""Columns of a picture each, taken in the order of their numbers: `image_1`, `image_2`."""
UNNAMED: Final = re.compile(r"(?:image|img|picture|photo)_?(?:id|idx|index|hash|sha256|md5)")
"""Columns that say which picture, in a way that finds no file."""
LABEL: Final = (
    "expected", "label", "expected_behavior", "expected_behaviour", "prompt_label", "prompt_harm_label",
    "prompt_safety_label", "safety_label", "harm_label",
)  # fmt: skip
LABELS: Final[dict[str, Expected]] = {
    **dict.fromkeys(("answer", "harmless", "benign", "safe", "comply", "should_answer"), "answer"),
    **dict.fromkeys(("unharmful", "non_harmful", "nonharmful", "not_harmful", "non_toxic", "should_comply"), "answer"),
    **dict.fromkeys(("allowed", "allow", "acceptable", "accept", "vanilla_benign", "adversarial_benign"), "answer"),
    **dict.fromkeys(("refuse", "harmful", "unsafe", "reject", "malicious", "should_refuse"), "refuse"),
    **dict.fromkeys(("toxic", "disallowed", "unacceptable", "must_refuse", "should_reject"), "refuse"),
    **dict.fromkeys(("prohibited", "forbidden", "block", "deny", "vanilla_harmful", "adversarial_harmful"), "refuse"),
    **dict.fromkeys(("borderline", "controversial", "ambiguous"), "borderline"),
}
"""What a label may be, in any case, with blanks or hyphens for `_`."""
HARMFUL_IF: Final = (
    "is_harmful", "harmful", "is_unsafe", "unsafe", "is_malicious", "is_toxic", "toxic", "should_refuse",
)  # fmt: skip
HARMLESS_IF: Final = ("is_harmless", "harmless", "is_safe", "safe", "is_benign", "benign", "should_answer")
"""Columns whose name says what 1, `true` or `yes` in them means."""
OF_PROMPT: Final = frozenset({
    "expected", "expected_behavior", "expected_behaviour", "prompt_label", "prompt_harm_label", "prompt_safety_label",
    "should_refuse", "should_answer",
})  # fmt: skip
"""Columns whose label is the prompt's, also beside a response."""
RESPONSES: Final = ("response", "model_response", "output", "model_output", "completion", "reply")
"""Columns of a model's reply: a label beside one may be the reply's."""
TRUE: Final = frozenset({"1", "1.0", "true", "yes", "y"})
FALSE: Final = frozenset({"0", "0.0", "false", "no", "n"})
OTHERS: Final = frozenset({"id", "category", "cluster", "reference", "harmful_reference", "intent", "system", "source",
                           "licence", "license", "answer", "response", "url", "split"})  # fmt: skip
"""Columns that never hold the picture of a prompt, whatever they contain."""
PICTURE_NAME: Final = re.compile(
    r"(?i)\A(?:data:image/|[^\n]{1,400}\.(?:png|jpe?g|jpe|jp2|webp|gif|bmp|tiff?|heic|heif|hif|avif|svg|ppm)"
    r"(?:[?#][^\s]{0,400})?\Z)"
)
"""Names of pictures in a column that no loader reads."""
RECORDING: Final = re.compile(
    r"(?i)\A(?:data:(?:video|audio|application)/|[^\n]{1,400}\.(?:mp4|webm|mov|avi|mkv|m4v|wav|mp3|flac|ogg|m4a|opus|pdf)"
    r"(?:[?#][^\s]{0,400})?\Z)"
)
"""What names a film, a sound or a document, which no sample can hold."""
IN_TEXT: Final = re.compile(
    r"(?i)!\[[^\]\n]{0,200}\]\(\s*<?([^)\s>]{1,400})|<img\b[^>]{0,400}?\bsrc\s*=\s*[\"']?([^\"'\s>]{1,400})"
)
"""A picture in the markup of a text."""


def load(path: Path, suite: str | None = None) -> list[Sample]:
    """The samples of a file, or of the only table of a folder; `metadata.jsonl` of an ImageFolder is such a table.

    Columns: one of `TEXT` or `MESSAGES`; one of `LABEL` with one of `LABELS`, or one of `HARMFUL_IF` and `HARMLESS_IF`;
    and optionally `id` (else the number of the row), pictures in one of `IMAGES` (a name, a list of names relative to
    the file, a JSON list in a CSV cell, or embedded bytes), `category`, `cluster`, `reference` (an answer, or a list of
    right ones), `harmful_reference`, `intent`, `system`, `source`, `licence`.

    Args:
        path: the file, or its folder.
        suite: what to call it; the name of the file by default, of the folder for an ImageFolder.

    Raises:
        UsageError: a column that is missing, a column with pictures that nobody reads, an unknown label, an id twice,
            or a file that cannot be read.
    """
    folder = is_folder(path)
    file = find_table(path, "samples", "prompts", "metadata") if folder else path
    # A file that the user names is that file alone; of a folder with the parts of a table it is all of them.
    table = read_parts(file) if folder else read_rows(file)
    rows = [replace(row, values=_lower_case(row)) for row in table]
    _check_unread_pictures(rows)
    _check_other_media(rows, file.parent)
    # By identity: rows hold dictionaries and have no hash.
    numbers = {id(row): str(number) for number, row in enumerate(rows, 1)}
    name = suite or (file.parent.name if file.stem == "metadata" else file.stem)
    return collect(rows, lambda row: _sample(row, name, numbers[id(row)], file.parent))


def _sample(row: TableRow, suite: str, number: str, folder: Path) -> Sample:
    def optional(name: str) -> str:
        return row.text(name) if row.has(name) else ""

    talk = _conversation(row)
    images = talk.pictures
    sample = Sample(
        id=optional("id") or number,
        suite=suite,
        text=talk.text,
        earlier=talk.earlier,
        expected=_expected(row),
        system=optional("system") or talk.system,
        category=optional("category"),
        cluster=optional("cluster"),
        reference=tuple(str(answer) for answer in _as_list(row.get("reference"), row)),
        harmful_reference=optional("harmful_reference") or None,
        intent=optional("intent") or None,
        source=optional("source"),
        licence=optional("licence") or optional("license"),
        problem=None if talk.text.strip() or images else "its text is empty",
    )
    return attach(sample, folder, *images) if images else sample


def _lower_case(row: TableRow) -> Mapping[str, Any]:
    """The cells by column in lower case; a column that differs from another one by its case only keeps its own."""
    values: dict[str, Any] = {}
    for name, value in row.values.items():
        key = str(name).strip().casefold()
        values[str(name) if key in values else key] = value
    return values


def _conversation(row: TableRow) -> Conversation:
    images = _images(row)
    if row.has(*MESSAGES) and not row.has(*TEXT):
        return read_conversation(row.get(*MESSAGES), row, images)
    if isinstance(row.get("prompt"), list):
        # Sets for training from preferences have the messages in the column of the prompt.
        return read_conversation(row.get("prompt"), row, images)
    return read_text(prompt_text(row), images)


def prompt_text(row: TableRow, columns: Sequence[str] = TEXT) -> str:
    """The text of the first of some columns, with what an instruction is about where that stands beside it."""
    text = row.text(*columns)
    # Alpaca's form.
    about = row.text("input") if row.has("instruction") and row.has("input") else ""
    return f"{text}\n\n{about}" if about and text == row.get("instruction") else text


def _images(row: TableRow) -> list[Any]:
    """The pictures of a row: of the first column that holds some, then of the numbered ones that hold others."""
    images = _as_list(row.get(*IMAGES), row)
    numbered = {int(match[1]): name for name in row.values if (match := NUMBERED.fullmatch(name)) and row.has(name)}
    further = [row.values[numbered[number]] for number in sorted(numbered)]
    return [*images, *(picture for picture in further if picture not in images)]


def _check_unread_pictures(rows: Sequence[TableRow]) -> None:
    """No prompt may lose its picture because the column has another name.

    Raises:
        UsageError: a column that is not read names pictures.
    """
    read = {*IMAGES, *TEXT, *MESSAGES, *LABEL, *OTHERS}
    for row in rows:
        if _images(row):
            continue
        for name, value in row.values.items():
            if UNNAMED.fullmatch(name) and row.has(name):
                raise UsageError(
                    f"expected pictures in a column image, got only {str(value)[:60]!r} in column {name} of "
                    f"{row.where}; try to add a column image with the names of the files, or to leave {name} out"
                )
            if name not in read and not NUMBERED.fullmatch(name) and _is_picture(value):
                shown = value if isinstance(value, str) else "embedded bytes"
                raise UsageError(
                    f"expected pictures in a column image, got {shown[:60]!r} in column {name} of {row.where}; "
                    "try to rename it to image, or to leave it out where the prompt is about no picture"
                )


def _check_other_media(rows: Sequence[TableRow], folder: Path) -> None:
    """No prompt may lose a film, a sound, or a picture that its text links to.

    Raises:
        UsageError: a column names one, or a text links to a file of the folder.
    """
    for row in rows:
        for name, value in row.values.items():
            if name not in OTHERS and isinstance(value, str) and RECORDING.match(value.strip()):
                raise UsageError(
                    f"expected text and pictures, got {value[:60]!r} in column {name} of {row.where}; "
                    "try to leave such rows out, or the column where the prompt is not about it"
                )
        text = row.get(*TEXT)
        for match in IN_TEXT.finditer(text) if isinstance(text, str) and not _images(row) else ():
            target = match[1] or match[2]
            if _is_picture(target) and not target.startswith(("data:", "/", "..")) and (folder / target).is_file():
                raise UsageError(
                    f"expected pictures in a column image, got {match[0][:60]!r} in the text of {row.where}; "
                    "try to move the name of the file to a column image"
                )


def _is_picture(value: Any) -> bool:
    # In a loop: lists may be nested deeper than functions.
    while isinstance(value, list | tuple):
        value = value[0] if value else None
    if isinstance(value, Mapping):
        return isinstance(value.get("bytes"), bytes) or any(map(_is_picture, map(value.get, ("path", "url", "src"))))
    text = value.strip() if isinstance(value, str) else ""
    return bool(PICTURE_NAME.match(text) or EMBEDDED.match(text))


def label_of(word: str) -> Expected | None:
    """What a label such as `harmless` or `should refuse` means; None for any other word."""
    return LABELS.get(_normal(word.strip().casefold()))


def _expected(row: TableRow) -> Expected:
    if row.has("expected"):
        return _stated(row, ("expected",))
    columns = _label_columns(row)
    labels: dict[Expected, str] = {}
    for name in (*LABEL, *HARMFUL_IF, *HARMLESS_IF):
        word = row.text(name).strip().casefold() if name in columns and row.has(name) else ""
        if _normal(word) in LABELS:
            labels.setdefault(LABELS[_normal(word)], name)
        elif word in TRUE | FALSE and name not in LABEL:
            harmful = (word in TRUE) == (name in HARMFUL_IF)
            labels.setdefault("refuse" if harmful else "answer", name)
    opposite = [name for label, name in labels.items() if label != "borderline"]
    if len(opposite) > 1:
        raise UsageError(
            f"expected one label, got columns {' and '.join(opposite)} that contradict each other in {row.where}; "
            "try a column expected with 'answer' or 'refuse'"
        )
    stated = tuple(name for name in LABEL if name in columns and name in row.values)
    return _stated(row, stated or LABEL) if stated or not labels else next(iter(labels))


def _label_columns(row: TableRow) -> frozenset[str]:
    """The columns of which a row's label is taken.

    Raises:
        UsageError: a label stands beside a response, and nothing says that it is not the response's.
    """
    every = frozenset((*LABEL, *HARMFUL_IF, *HARMLESS_IF))
    if not row.has(*RESPONSES):
        return every
    others = sorted(name for name in every - OF_PROMPT if row.has(name))
    if others and not any(row.has(name) for name in OF_PROMPT):
        raise UsageError(
            f"expected a label of the prompt, got {others[0]!r} beside a response in {row.where}, which may be of the "
            "response; try a column expected with 'answer' or 'refuse'"
        )
    return OF_PROMPT


def _stated(row: TableRow, columns: tuple[str, ...]) -> Expected:
    """What the label of the first of some columns means."""
    label = row.text(*columns)
    word = label.strip().casefold()
    if word in TRUE | FALSE:
        # In some sets 1 is harmful, in others it is safe: a guess would turn every rate around.
        raise UsageError(
            f"expected a label of {', '.join(LABELS)}, got {label!r} in {row.where}, which means harmful in some sets "
            "and safe in others; try 'answer' or 'refuse', or to call the column is_harmful or is_safe"
        )
    expected = LABELS.get(_normal(word))
    if expected is None:
        raise UsageError(
            f"expected a label of {', '.join(LABELS)}, got {label!r} in {row.where}; try 'answer' or 'refuse'"
        )
    return expected


def _normal(word: str) -> str:
    return re.sub(r"[\s-]+", "_", word)


def _as_list(cell: Any, row: TableRow) -> list[Any]:
    """One or several values of a cell; a string that begins like a JSON list must be one."""
    if cell is None:
        return []
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            raise UsageError(
                f'expected a JSON list, got {cell[:60]!r} in {row.where}; try ["a.png", "b.png"]'
            ) from None
    return list(cell) if isinstance(cell, list | tuple) else [cell]

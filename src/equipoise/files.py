"""Atomic file writes, and hashes of model folders."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Collection, Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from equipoise.errors import OutputError, os_reason

LONGEST_NAME: Final = 255
"""Bytes of the longest file name that usual file systems take."""


def path_exists(path: Path) -> bool:
    """Whether something is there; not so for a name that is too long for the file system, where `Path` raises."""
    return os.path.exists(path)


def is_folder(path: Path) -> bool:
    """Whether a folder is there; as `path_exists`."""
    return os.path.isdir(path)


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file, and its folder, so that a kill at any moment leaves the old file or the new one.

    Raises:
        OutputError: the file cannot be written.
    """
    write_parts(path, [content])


def write_parts(path: Path, parts: Iterable[str | bytes]) -> None:
    """`write_whole` for a file that is never in memory as a whole.

    Args:
        path: the file.
        parts: its content, piece by piece.

    Raises:
        OutputError: the file cannot be written.
    """
    # A fixed name: what a kill leaves behind is overwritten by the next try.
    part = path.with_name(f".{path.name}.part")
    if len(os.fsencode(part.name)) > LONGEST_NAME:
        # The name itself may be as long as a name can be.
        part = path.with_name(f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                for content in parts:
                    # Half a surrogate pair has no bytes: its escape stands for it, which JSON reads back as it was.
                    file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, path)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise OutputError(f"expected to write {path}, got '{os_reason(error)}'; try another output folder") from None


def require_folder(folder: Path) -> None:
    """Make a folder for results before anything is computed, which may take hours.

    Raises:
        OutputError: it cannot be made, for instance because a file has its name.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"expected a folder to write to, got {folder} ({os_reason(error)}); try another output folder"
        ) from None


def write_json(path: Path, document: Any) -> None:
    """Write a JSON document whole or not at all.

    Raises:
        OutputError: the file cannot be written.
    """
    write_whole(path, json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json_lines(path: Path) -> list[Any]:
    """The values of a file with one JSON document a line; empty lines are left out.

    Raises:
        OSError, ValueError: it cannot be read, or a line is no JSON.
    """
    # Only line feeds end a line: JSON strings may hold the other separators that splitlines() knows, such as U+2028.
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]


_WEIGHTS: Final = frozenset({".safetensors", ".bin"})
_SETTINGS: Final = frozenset({*_WEIGHTS, ".json", ".jinja", ".model", ".spm", ".tiktoken"})
"""Endings of the files that decide what a model writes; the last three are tokenizers."""
_TOKENIZERS: Final = frozenset({"vocab.txt", "merges.txt", "bpe.codes"})
"""Names of tokenizer files whose endings other files have, too."""


def folder_hash(folder: Path, *, deep: bool = False) -> str:
    """`sha256:` over names and bytes of a model folder's weight files, tokenizer and settings.

    Args:
        folder: as `save_pretrained` writes it.
        deep: whether its subfolders belong to it, as those of a pipeline do.
    """
    paths = folder.rglob("*") if deep else folder.iterdir()
    return "sha256:" + _hash_files(path for path in paths if path.suffix in _SETTINGS or path.name in _TOKENIZERS)


def weights_hash(folder: Path, *, without: Collection[str] = ()) -> str:
    """`sha256:` over names and bytes of a model folder's weight files alone.

    Args:
        folder: as `save_pretrained` writes it.
        without: names of files that are left out.
    """
    files = (path for path in folder.iterdir() if path.suffix in _WEIGHTS)
    return "sha256:" + _hash_files(path for path in files if path.name not in without)


def _hash_files(paths: Iterable[Path]) -> str:
    # A folder may hold other folders with such names, and links that lead nowhere.
    files = sorted(path for path in paths if path.is_file())
    # Hashing gigabytes takes seconds: the digest is kept until a file's time or size changes.
    return _hash(tuple((path, path.stat().st_mtime_ns, path.stat().st_size) for path in files))


@lru_cache(maxsize=64)
def _hash(files: tuple[tuple[Path, int, int], ...]) -> str:
    digest = hashlib.sha256()
    for path, _, size in files:
        digest.update(f"{path.name}:{size}:".encode())
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    return digest.hexdigest()

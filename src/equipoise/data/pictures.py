"""Picture files in the folders and paths that a user names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from equipoise.errors import PictureError, UsageError, os_reason

SUFFIXES = frozenset(
    [
        *(
            ".avif",
            ".bmp",
            ".gif",
            ".heic",
            ".heif",
            ".hif",
            ".jfif",
            ".jp2",
            ".jpe",
            ".jpeg",
            ".jpf",
            ".jpg",
            ".jpx",
            ".j2k",
        ),
        *(".mpo", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
    ]
)
"""What counts as a picture inside a folder; a file that is named itself may end in anything."""


@dataclass(frozen=True)
class PictureSelection:
    """What some paths hold."""

    pictures: tuple[Path, ...]
    """Sorted by name."""
    left_out: tuple[Path, ...]
    """What else is directly in the folders: files whose names do not end as a picture's, folders, pipes, and links that
    lead nowhere, and hidden pictures; sorted. Other hidden files are not here."""
    same: tuple[tuple[Path, Path], ...] = ()
    """Links to pictures that are here by another name, with that name; sorted."""


def select_pictures(paths: Sequence[str | Path]) -> PictureSelection:
    """The picture files of some paths, and the files beside them that are none by their names.

    Arguments and errors are those of `find_pictures`.
    """
    pictures = find_pictures(paths)
    named = _named_files(paths)
    by_file = {os.path.realpath(picture): picture for picture in pictures}
    same = {
        file: by_file[os.path.realpath(file)]
        for file in named
        if _absolute(file) != _absolute(by_file[os.path.realpath(file)])
    }
    others: dict[Path, Path] = {}
    for folder in (Path(path) for path in paths if Path(path).is_dir()):
        for file in folder.iterdir():
            is_picture = file.suffix.lower() in SUFFIXES and file.is_file()
            # What a system keeps beside files is nobody's loss; `._NAME` holds what macOS knows of NAME. A hidden
            # picture may be somebody's who thinks that it is done.
            if is_picture == file.name.startswith(".") and not file.name.startswith("._"):
                # By its own name: a link that leads nowhere, or in a circle, has no other.
                others.setdefault(_absolute(file), file)
    # One that is named itself is a picture whatever it ends in.
    for picture in named:
        others.pop(_absolute(picture), None)
    return PictureSelection(tuple(pictures), tuple(sorted(others.values())), tuple(sorted(same.items())))


def _absolute(file: Path) -> Path:
    """The file's own path, links to it not followed."""
    return Path(os.path.realpath(file.parent)) / file.name


def find_pictures(paths: Sequence[str | Path], *, distinct_stems: bool = True) -> list[Path]:
    """The picture files of some paths: a file itself, of a folder the pictures directly in it.

    Files are not opened: one that is missing or damaged is noticed by `media.decode.open_picture`. A file named twice
    counts once.

    Args:
        paths: files and folders.
        distinct_stems: whether two files with one stem are refused, because the stem names their results.

    Returns:
        Files sorted by name.

    Raises:
        UsageError: no paths, a folder without pictures, or two files with one stem.
        PictureError: a folder that cannot be read.
    """
    if not paths:
        raise UsageError("expected at least one picture or folder, got none; try a PNG or JPEG file")
    files: dict[Path, Path] = {}
    # A file before the links to it, whose names come from elsewhere.
    for file in sorted(_named_files(paths), key=os.path.islink):
        # `realpath`, because `resolve` raises an error for links that lead in a circle.
        files.setdefault(Path(os.path.realpath(file)), file)
    by_stem: dict[str, Path] = {}
    clashes = []
    for file in files.values() if distinct_stems else ():
        # Some file systems ignore case, and the results must be able to lie on any.
        other = by_stem.setdefault(file.stem.casefold(), file)
        if other is not file:
            clashes.append((other, file))
    if clashes:
        first, second = clashes[0]
        more = "".join(f", and so {other} and {file}" for other, file in clashes[1:])
        raise UsageError(
            f"expected pictures with different names, got {first} and {second}, whose results would "
            f"both be called {second.stem}.png{more}; try to rename one"
        )
    return sorted(files.values(), key=lambda file: (file.name, str(file)))


def _named_files(paths: Sequence[str | Path]) -> list[Path]:
    """Every file that some paths name, under every name."""
    return [file for path in map(Path, paths) for file in (_in_folder(path) if path.is_dir() else [path])]


def _in_folder(folder: Path) -> list[Path]:
    try:
        files = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file()]
    except OSError as error:
        raise PictureError(
            f"expected a readable folder, got '{os_reason(error)}' for {folder}; try to check its permissions"
        ) from None
    # Sorted, since a file system lists in any order.
    files = sorted(path for path in files if not path.name.startswith("."))
    if not files:
        raise UsageError(f"expected a folder with pictures, got none directly in {folder}; try its subfolders or files")
    return files

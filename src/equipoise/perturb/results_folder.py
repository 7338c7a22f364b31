"""`ResultsFolder`: which pictures in it are finished, and whether the folder belongs to this run."""

from __future__ import annotations

import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.errors import OutputError, PictureError, UsageError, os_reason
from equipoise.files import LONGEST_NAME, write_whole
from equipoise.folder_lock import claim_folder
from equipoise.perturb.record import PictureRecord

MANIFEST = ".equipoise.json"
"""Says which run the folder belongs to; written before the first result."""
CLAIMED = "claimed"
"""Field of the manifest with the stems of all pictures so far, whose results may be replaced; earlier versions wrote
none."""
PROBE = ".equipoise-"
"""How the names of files begin that only try whether a folder can be written."""
_LEFT_OVER = re.compile(r"\.(.+\.(png|json|html)|[0-9a-f]{64})\.part", re.DOTALL)
"""Names of our half-written files (see `files.write_parts`)."""


@dataclass(frozen=True)
class ResultsFolder:
    """A folder of results made by one recipe."""

    path: Path
    """The folder."""
    recipe: Mapping[str, Any]
    """What decides the results: the config's recipe and the revisions of the models."""
    replaces: bool = False
    """Whether the results of another picture with the same name may be replaced."""

    @classmethod
    def check(cls, path: Path, recipe: Mapping[str, Any], *, overwrite: bool) -> None:
        """Check, before models are loaded, that the folder can be written and belongs to no other run.

        Args:
            path: the folder; created where it does not exist.
            recipe: the recipe, with or without the models' revisions.
            overwrite: whether it may belong to another run.

        Raises:
            OutputError: the folder cannot be made or written.
            UsageError: it holds the results of another recipe.
        """
        _require_writable(path)
        # Before models are loaded their revisions are unknown, so only keys of the config's recipe are compared here;
        # `claim` compares all of them afterwards.
        kept = _read(path / MANIFEST)
        if kept is None or overwrite:
            return
        changed = [key for key, value in recipe.items() if kept.get(key) != value]
        if changed:
            pairs = (_differing(kept.get(key), recipe[key], key) for key in changed[:3])
            changes = "; ".join(f"{name} was {_brief(before)}, now {_brief(now)}" for before, now, name in pairs)
            raise UsageError(
                f"expected the recipe that {path} was made with, got another one ({changes}); "
                "try another --out, or --overwrite"
            )

    def claim(self, images: tuple[Path, ...], *, overwrite: bool) -> None:
        """Make the folder this run's.

        Raises:
            OutputError: the folder cannot be written.
            UsageError: it holds the results of another recipe, or files that no run of ours made.
        """
        self.check(self.path, self.recipe, overwrite=overwrite)
        kept = _read(self.path / MANIFEST)
        # Earlier versions did not write whose names they had: everything in their folders may be theirs.
        is_earlier = kept is not None and CLAIMED not in kept and not overwrite
        claimed = set(() if kept is None else kept.get(CLAIMED, ()))
        if not overwrite and not is_earlier:
            ours = [path(image) for image in images if image.stem not in claimed for path in (self.png, self.json)]
            if kept is None:
                # The pages of the contact sheet: index.html, index-2.html, ...
                ours += [self.path / "index.html", *sorted(self.path.glob("index-[0-9]*.html"))]
            # `lexists` holds names that no file can have for missing, where `Path.exists` raises an error.
            foreign = next((file for file in ours if os.path.lexists(file)), None)
            if foreign:
                raise UsageError(
                    f"expected no {foreign.name} in {self.path} before the first run of that name, got a file made by "
                    "something else; try another --out, or --overwrite"
                )
        self.clean()
        names = {} if is_earlier else {CLAIMED: sorted(claimed.union(image.stem for image in images))}
        document = {**self.recipe, **names}
        write_whole(self.path / MANIFEST, json.dumps(document, indent=1, ensure_ascii=False))

    def stem(self, image: Path) -> Path:
        """Where the results lie, without suffix; `PerturbationResult.save` and `load` take it."""
        return self.path / image.stem

    def png(self, image: Path) -> Path:
        """Path of the perturbed picture."""
        return self.path / f"{image.stem}.png"

    def json(self, image: Path) -> Path:
        """Path of its numbers."""
        return self.path / f"{image.stem}.json"

    def require_names(self, image: Path) -> None:
        """Refuse a picture whose results would have names that no file can have, or that are not theirs.

        Raises:
            PictureError: its own name is too long, only dots, or one of our own files.
        """
        # `folder / "."` is the folder itself, and results of that stem would lie beside it.
        if not image.stem.strip("."):
            raise PictureError(
                f"expected a name of more than dots for the results, got {image.name!r} of {image}; try to rename it"
            )
        if self.json(image).name == MANIFEST or image.stem.startswith(PROBE):
            raise PictureError(
                f"expected a name that is not one of our own files, got {image}, whose results would be called "
                f"{self.json(image).name}; try to rename it"
            )
        longest = self.json(image).name
        if len(os.fsencode(longest)) > LONGEST_NAME:
            raise PictureError(
                f"expected a name of at most {LONGEST_NAME} bytes for the results, got {len(os.fsencode(longest))} for "
                f"{image.name[:40]}...; try a shorter name"
            )
        self.require_own(image)

    def require_own(self, image: Path) -> None:
        """Refuse to replace the results of another picture with the same name.

        A picture is the same where its file lies at the same path, edited or not, or has the same bytes.

        Raises:
            PictureError: the folder holds those of another one, or the picture cannot be read.
        """
        document = None if self.replaces else _read(self.json(image))
        try:
            run = document["recipe"]["run"] if document else {}
            other, clean = run.get("image"), run.get("clean_sha256")
        except (TypeError, KeyError, AttributeError):
            return
        if not isinstance(other, str) or os.path.realpath(other) == os.path.realpath(image):
            return
        if clean != picture_sha256(image):
            raise PictureError(
                f"expected no results called {image.stem} of another picture in {self.path}, got those of {other}; "
                "try another --out, another name, or --overwrite"
            )

    def clean(self) -> None:
        """Remove what a killed run left half-written, and nothing that is not ours.

        Raises:
            OutputError: a file cannot be removed.
        """
        try:
            for file in sorted(self.path.iterdir()) if self.path.is_dir() else ():
                is_ours = file.name.startswith(PROBE) or _LEFT_OVER.fullmatch(file.name)
                if is_ours and not file.is_dir():
                    file.unlink(missing_ok=True)
        except OSError as error:
            raise _not_written(self.path, error) from None

    def attacked(self, image: Path) -> dict[str, Any] | None:
        """The JSON of a picture that this recipe attacked from the same original; None where anything differs."""
        document = _read(self.json(image))
        try:
            run = document["recipe"]["run"] if document else None
            # Three hashes must fit: the recipe, the original as it is now, and the file that was saved.
            if not run or run["recipe"] != self.recipe or run["clean_sha256"] != sha256(image):
                return None
            return document if document and document["png_sha256"] == sha256(self.png(image)) else None
        except (OSError, TypeError, KeyError):
            return None

    def finished(self, image: Path) -> PictureRecord | None:
        """The record of a picture that was attacked *and* measured by this recipe; None where anything differs."""
        document = self.attacked(image)
        try:
            record = PictureRecord.from_dict(document["recipe"]["run"]["record"]) if document else None
        except (TypeError, KeyError, AttributeError):
            return None
        # Of another name it would be the record of another file.
        return record if record is not None and record.file == self.png(image).name else None

    def finish(self, image: Path, record: PictureRecord) -> None:
        """Mark a picture as finished, by adding its record to its JSON.

        Raises:
            OutputError: the file cannot be written.
        """
        document = _read(self.json(image))
        if document is None:
            raise OutputError(f"expected the JSON of {record.file}, got none; try again without changing the folder")
        document["recipe"]["run"]["record"] = record.to_dict()
        write_whole(self.json(image), json.dumps(document, indent=1, ensure_ascii=False, allow_nan=False))


@contextmanager
def only_writer(path: Path) -> Iterator[None]:
    """Keep a second process out of a results folder, which is made, and removed where it stays empty.

    Raises:
        OutputError: the folder cannot be made.
        UsageError: another process writes it.
    """
    # `Path.exists` raises an error for names that no file can have.
    is_new = not os.path.exists(path)
    try:
        with claim_folder(path):
            yield
    except OutputError:
        # A disk that is full is named with the folder, which stays for whoever looks for it.
        is_new = False
        raise
    finally:
        with suppress(OSError):
            if is_new:
                path.rmdir()


def sha256(path: Path) -> str:
    """Hash of a file's bytes.

    Raises:
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def picture_sha256(image: Path) -> str:
    """Hash of a picture's bytes.

    Raises:
        PictureError: it cannot be read, or not any more.
    """
    try:
        return sha256(image)
    except OSError as error:
        raise PictureError(
            f"expected a readable picture at {image}, got '{os_reason(error)}'; try another file"
        ) from None


def _read(path: Path) -> dict[str, Any] | None:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _require_writable(path: Path) -> None:
    try:
        is_new = not path.exists()
        path.mkdir(parents=True, exist_ok=True)
        # Permissions say too little (read-only mounts, quotas); only writing tells.
        probe = path / f"{PROBE}{uuid.uuid4().hex}"
        probe.touch()
        os.remove(probe)
        if is_new:
            # A run that ends before its first result leaves no empty folder behind; the first file makes it again.
            path.rmdir()
    except OSError as error:
        raise _not_written(path, error) from None


def _not_written(path: Path, error: OSError) -> OutputError:
    return OutputError(f"expected a folder that can be written, got '{os_reason(error)}' for {path}; try another --out")


def _differing(before: object, now: object, name: str) -> tuple[object, object, str]:
    """The first parts of two values that differ, and where they are."""
    if isinstance(before, Mapping) and isinstance(now, Mapping):
        for key in (*now, *before):
            if before.get(key) != now.get(key):
                return _differing(before.get(key), now.get(key), f"{name} of {key}")
    if isinstance(before, str) and isinstance(now, str):
        differing = (number for number, pair in enumerate(zip(before, now, strict=False)) if pair[0] != pair[1])
        start = next(differing, 0)
        if start > len("..."):
            return f"...{before[start:]}", f"...{now[start:]}", name
    return before, now, name


def _brief(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."

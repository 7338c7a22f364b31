"""`ResultsFolder`: which pictures in it are finished, and whether the folder belongs to this run."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.errors import OutputError, PictureError, UsageError
from equipoise.files import LONGEST_NAME, write_whole
from equipoise.perturb.record import PictureRecord

MANIFEST = ".equipoise.json"
"""Says which run the folder belongs to; written before the first result."""


@dataclass(frozen=True)
class ResultsFolder:
    """A folder of results made by one recipe."""

    path: Path
    """The folder."""
    recipe: Mapping[str, Any]
    """What decides the results: the config's recipe and the revisions of the models."""

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
            changes = "; ".join(f"{key} was {_brief(kept.get(key))}, now {_brief(recipe[key])}" for key in changed[:3])
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
        if not (self.path / MANIFEST).exists() and not overwrite:
            ours = [path(image) for image in images for path in (self.png, self.json)]
            # The pages of the contact sheet: index.html, index-2.html, ...
            ours += [self.path / "index.html", *sorted(self.path.glob("index-[0-9]*.html"))]
            foreign = next((file for file in ours if file.exists()), None)
            if foreign:
                raise UsageError(
                    f"expected no {foreign.name} in {self.path} before the first run, got a file made by something "
                    "else; try another --out, or --overwrite"
                )
        self.clean()
        write_whole(self.path / MANIFEST, json.dumps(self.recipe, indent=1, ensure_ascii=False))

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
        """Refuse a picture whose results would have names that no file can have.

        Raises:
            PictureError: its own name is too long.
        """
        longest = self.json(image).name
        if len(os.fsencode(longest)) > LONGEST_NAME:
            raise PictureError(
                f"expected a name of at most {LONGEST_NAME} bytes for the results, got {len(os.fsencode(longest))} for "
                f"{image.name[:40]}...; try a shorter name"
            )

    def clean(self) -> None:
        """Remove what a killed run left half-written."""
        for pattern in (".*.part", ".equipoise-*"):
            for file in self.path.glob(pattern):
                file.unlink(missing_ok=True)

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
            return PictureRecord.from_dict(document["recipe"]["run"]["record"]) if document else None
        except (TypeError, KeyError):
            return None

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


def sha256(path: Path) -> str:
    """Hash of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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
        probe = path / f".equipoise-{uuid.uuid4().hex}"
        probe.touch()
        os.remove(probe)
        if is_new:
            # A run that ends before its first result leaves no empty folder behind; the first file makes it again.
            path.rmdir()
    except OSError as error:
        raise OutputError(
            f"expected a folder that can be written, got '{error.strerror}' for {path}; try another --out"
        ) from None


def _brief(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 40 else text[:37] + "..."

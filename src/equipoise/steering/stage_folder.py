"""`StageFolder`: finished parts of a long run, so that a killed run goes on where it stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from equipoise.errors import UsageError
from equipoise.files import write_json, write_whole

_DAMAGED: Final = object()


class StageFolder:
    """JSON documents and tensors by name; a folder belongs to one recipe.

    Args:
        folder: where they are; None keeps them in memory.
        recipe: everything that decides the results, as JSON.
        overwrite: whether results of another recipe are replaced.

    Raises:
        UsageError: the folder holds results of another recipe.
        OutputError: it cannot be written.
    """

    def __init__(self, folder: Path | None, recipe: Mapping[str, Any], *, overwrite: bool = False) -> None:
        self._folder = folder
        self._documents: dict[str, Any] = {}
        self._tensors: dict[str, dict[str, Tensor]] = {}
        self.replaced = False
        """Whether stages of another recipe were removed: results beside the folder are theirs."""
        if folder is None:
            return
        file = folder / "recipe.json"
        if file.exists():
            # Through JSON and back, as tuples come back as lists. A damaged file is the recipe of another run.
            if _read(file, damaged=None) == json.loads(json.dumps(recipe)):
                return
            if not overwrite:
                raise UsageError(
                    f"expected {folder} to hold this run, got one with another recipe; "
                    "try another --out, or --overwrite"
                )
            shutil.rmtree(folder)
            self.replaced = True
        write_json(file, recipe)

    def get(self, name: str, kind: type[Any] = object) -> Any:
        """A document; None where it is not finished.

        Args:
            name: of the document.
            kind: of its value, such as `dict`.

        Raises:
            UsageError: its file is damaged, or holds a value of another kind.
        """
        if self._folder is None:
            return self._documents.get(name)
        file = self._folder / f"{name}.json"
        if not file.exists():
            return None
        document = _read(file, damaged=_DAMAGED)
        if document is _DAMAGED or not isinstance(document, kind):
            raise _damaged(file)
        return document

    def put(self, name: str, document: Any) -> None:
        """Keep a document, whole or not at all."""
        if self._folder is None:
            self._documents[name] = document
        else:
            write_json(self._folder / f"{name}.json", document)

    def drop(self, name: str) -> None:
        """Forget a document, where there is one."""
        self._documents.pop(name, None)
        if self._folder is not None:
            (self._folder / f"{name}.json").unlink(missing_ok=True)

    def get_tensors(self, name: str) -> dict[str, Tensor] | None:
        """Tensors; None where they are not finished.

        Raises:
            UsageError: their file is damaged.
        """
        if self._folder is None:
            return self._tensors.get(name)
        file = self._folder / f"{name}.safetensors"
        try:
            return load_tensors(file.read_bytes()) if file.exists() else None
        except SafetensorError as error:
            raise _damaged(file) from error

    def put_tensors(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep tensors, whole or not at all."""
        if self._folder is None:
            self._tensors[name] = dict(tensors)
        else:
            content = save_tensors({key: value.contiguous() for key, value in tensors.items()})
            write_whole(self._folder / f"{name}.safetensors", content)


def _read(file: Path, *, damaged: Any) -> Any:
    """The document of a file; `damaged` where it is no JSON."""
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        return damaged


def _damaged(file: Path) -> UsageError:
    return UsageError(f"expected a finished stage of this run in {file}, got a damaged file; try to remove it")

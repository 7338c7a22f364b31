"""Names of models: where the files of a name are, and which adapters go on top of them.

| name | files |
|---|---|
| `testbed/<family>` | in the package: the embedded world's models |
| `reference/base` | in the user's cache, where `equipoise reference install` puts them |
| `reference/<name>` | in the package: a whole model, an adapter over the reference base, or parts around it |
| a folder | as `save_pretrained` writes it |
| `FILE.gguf` | quantised weights with their tokenizer in one file |
| `org/name`, `org/name@revision` | on the Hugging Face hub |
| `MODEL+ADAPTER` | any of these, and a folder with an adapter as peft's `save_pretrained` writes it |
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Final

from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    GatedRepoError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

import equipoise
from equipoise.errors import ModelError, first_line, os_reason
from equipoise.files import folder_hash, is_folder, path_exists
from equipoise.models.reference_base import require_base

TESTBED = Path(equipoise.__file__).parent / "testbed" / "weights"
REFERENCE = Path(equipoise.__file__).parent / "reference" / "weights"
ADAPTER_SETTINGS: Final = "adapter_config.json"
"""The file that only an adapter's folder of peft has."""
ADAPTER: Final = "adapter"
"""The folder of the adapter in a folder with parts around the reference base; see `parts_over_base`."""
HUB_TIMEOUT = 5.0
"""Seconds to wait for the hub's first answer."""


@dataclass(frozen=True)
class ModelLocation:
    """Where the parts of a model are."""

    where: str
    """A folder, or the name of a repository on the hub."""
    commit: str | None = None
    """The commit on the hub, or the revision as given where only the local cache can be asked."""
    gguf: str | None = None
    """The name of the GGUF file in the folder that holds weights and tokenizer; None for the usual files."""
    adapters: tuple[Path, ...] = ()
    """Folders of adapters, in the order in which they are merged into the weights."""
    base: Path | None = None
    """Folder of the language model, where `where` holds the other parts of a model alone; see `parts_over_base`."""

    @property
    def is_local(self) -> bool:
        """Whether the model is a folder or a file here."""
        return Path(self.where).is_dir()

    def revision(self, commit: str | None) -> str:
        """Which weights exactly: a commit or a hash of the files, joined by `+` with the hashes of the adapters.

        Args:
            commit: the commit that was loaded, as far as it is known; for models of the hub.
        """
        if self.gguf is not None:
            own = _file_hash(Path(self.where) / self.gguf)
        else:
            own = folder_hash(Path(self.where)) if self.is_local else str(commit or self.commit)
        if self.base is not None:
            own = "+".join([folder_hash(self.base), own, folder_hash(Path(self.where) / ADAPTER)])
        return "+".join([own, *map(folder_hash, self.adapters)])


def is_assembled(folder: Path) -> bool:
    """Whether a folder holds the parts of a model around the reference base; see `parts_over_base`."""
    return (folder / ADAPTER / ADAPTER_SETTINGS).is_file() and (folder / "config.json").is_file()


def locate(name: str) -> ModelLocation:
    """Where the files of a model's name are.

    Raises:
        ModelError: nothing there, or no answer from the hub and no copy in its cache.
    """
    if "+" in name and not path_exists(Path(name)):
        # From the right, and again for what is left: adapters are merged in the order in which they are written.
        model, _, adapter = name.rpartition("+")
        source = locate(model)
        return replace(source, adapters=(*source.adapters, _adapter(adapter, name)))
    if name.startswith("testbed/"):
        return ModelLocation(str(_shipped(TESTBED, name)))
    if name == "reference/base":
        return ModelLocation(str(require_base()))
    if name.startswith("reference/"):
        folder = _shipped(REFERENCE, name, "reference/base")
        if (folder / ADAPTER_SETTINGS).is_file():
            return ModelLocation(str(require_base()), adapters=(folder,))
        if is_assembled(folder):
            return ModelLocation(str(folder), base=require_base())
        return ModelLocation(str(folder))
    if is_folder(Path(name)):
        return _folder(Path(name))
    if name.endswith(".gguf"):
        return _gguf(Path(name))
    if name.startswith((".", "/", "~")) or name.count("/") != 1 or path_exists(Path(name)):
        raise ModelError(
            f"expected a model folder, got {name!r}, which is not one; "
            "try a folder written by save_pretrained, a .gguf file, or org/name for the Hugging Face hub"
        )
    hub, _, revision = name.partition("@")
    return ModelLocation(hub, _commit(hub, revision or None))


def _shipped(weights: Path, name: str, *more: str) -> Path:
    """The folder of a model that comes with the package."""
    kind, _, rest = name.partition("/")
    folder = weights / rest
    if not rest or not is_folder(folder):
        available = sorted([*more, *(f"{kind}/{path.name}" for path in weights.glob("*") if path.is_dir())])
        instead = more[0] if more else f"`equipoise {kind} list`"
        raise ModelError(
            f"expected one of the {kind} models ({', '.join(available) or 'none here'}), got {name!r}; try {instead}"
        )
    return folder


def _folder(folder: Path) -> ModelLocation:
    if is_assembled(folder):
        return ModelLocation(str(folder), base=require_base())
    # Trainings often write the configuration of the base beside their adapter.
    if (folder / ADAPTER_SETTINGS).is_file() and not _holds_weights(folder):
        raise ModelError(
            f"expected a model folder, got {str(folder)!r} without weights of a whole model; "
            f"try MODEL+{folder}, as it holds an adapter"
        )
    if (folder / "config.json").is_file():
        return ModelLocation(str(folder))
    instead = "one written by save_pretrained"
    if files := sorted(folder.glob("*.gguf")):
        instead = str(files[0])
    raise ModelError(f"expected a model folder, got {str(folder)!r} without a config.json; try {instead}")


def _holds_weights(folder: Path) -> bool:
    """Whether a folder holds weights of a whole model, whole or in parts, as transformers names them."""
    return any(file.is_file() for name in ("model*.safetensors", "pytorch_model*.bin") for file in folder.glob(name))


def _adapter(folder: str, name: str) -> Path:
    if not path_exists(Path(folder) / ADAPTER_SETTINGS):
        raise ModelError(
            f"expected MODEL+ADAPTER, got {name!r} with no {ADAPTER_SETTINGS} in {folder!r}; "
            "try a folder written by save_pretrained of peft"
        )
    return Path(folder)


def _gguf(path: Path) -> ModelLocation:
    try:
        with path.open("rb") as stream:
            begin = stream.read(4)
    except OSError as error:
        raise ModelError(
            f"expected a GGUF file, got {str(path)!r} ({os_reason(error)}); try the path of a .gguf file"
        ) from error
    if begin != b"GGUF":
        raise ModelError(
            f"expected a GGUF file, got {str(path)!r}, which does not begin like one; try downloading it again"
        )
    return ModelLocation(str(path.parent), gguf=path.name)


def _commit(hub: str, revision: str | None) -> str | None:
    """The commit on the hub, or the revision as given where only the local cache can be asked."""
    try:
        return HfApi().model_info(hub, revision=revision, timeout=HUB_TIMEOUT).sha
    except GatedRepoError as error:
        raise ModelError(
            f"expected access to {hub}, got a gated model; try accepting its licence on the hub and `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise ModelError(f"expected a revision of {hub}, got {revision!r}; try a branch, tag or commit") from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise ModelError(f"expected a model on the hub, got {hub!r}, which is not there; try its org/name") from error
    except (HTTPError, OfflineModeIsEnabled, OSError) as error:
        return _cached_commit(hub, revision, error)


def _cached_commit(hub: str, revision: str | None, error: Exception) -> str:
    path = try_to_load_from_cache(hub, "config.json", revision=revision)
    if not isinstance(path, str):
        raise ModelError(
            f"expected {hub} from the hub, got no answer ({first_line(error)}) and no copy in the local cache; "
            "try again with a network, or give a folder"
        ) from error
    # The cache names the folder of a snapshot by its commit.
    return Path(path).parent.name


def _file_hash(path: Path) -> str:
    status = path.stat()
    return "sha256:" + _digest(path, status.st_mtime_ns, status.st_size)


# Time and size only decide whether the cached hash still holds: a file that was written again is read again.
@lru_cache(maxsize=16)
def _digest(path: Path, _time: int, _size: int) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()

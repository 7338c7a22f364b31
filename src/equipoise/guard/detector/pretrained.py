"""`HarmDetector`: a trained detector in a folder, read and asked; and how such a folder is written.

A folder holds the base model and its tokenizer as transformers writes them, `head.safetensors` and `detector.json`.
Matrices may be int8 with a scale for each row (`NAME.scale`), which is how the embedded detector ships.
"""

from __future__ import annotations

import json
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from equipoise.errors import ModelError
from equipoise.files import folder_hash
from equipoise.guard.decision import Score
from equipoise.guard.detector.template import Template, too_long
from equipoise.guard.evidence import Evidence
from equipoise.judges.opinion import digest
from equipoise.judges.rounding import restored, rounded

if TYPE_CHECKING:
    from equipoise.guard.detector.network import HarmNetwork

SETTINGS: Final = "detector.json"
HEAD: Final = "head.safetensors"
BATCH: Final = 16
"""Windows in one forward pass."""
KEPT: Final = 2048
"""Windows whose logits are remembered."""


@dataclass(frozen=True)
class Calibration:
    """Turns a logit into a probability: sigmoid(logit * slope + shift) (Platt 1999)."""

    slope: float = 1.0
    shift: float = 0.0

    def __call__(self, logit: float) -> float:
        """The probability of harm."""
        value = logit * self.slope + self.shift
        return 1 / (1 + math.exp(-value)) if value >= 0 else 1 - 1 / (1 + math.exp(value))


class Remembered:
    """The logits of the windows that were used last; one may be shared by threads.

    Args:
        most: windows that are kept.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._logits: OrderedDict[tuple[int, ...], float] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, windows: Iterable[tuple[int, ...]]) -> dict[tuple[int, ...], float]:
        """The logits of those windows that are known."""
        found = {}
        with self._lock:
            for window in windows:
                if window in self._logits:
                    self._logits.move_to_end(window)
                    found[window] = self._logits[window]
        return found

    def keep(self, logits: Mapping[tuple[int, ...], float]) -> None:
        """Remember logits, in place of those that were not used for the longest."""
        with self._lock:
            self._logits.update(logits)
            while len(self._logits) > self._most:
                self._logits.popitem(last=False)


class HarmDetector:
    """A trained network asked about replies: **high is harmful**.

    Args:
        network: in evaluation mode.
        tokenizer: its tokenizer.
        template: what it was trained to read.
        calibration: from its logits to probabilities.
        name: what people call it.
        identity: sha256 over everything that decides its scores.
        device: where it computes.
    """

    def __init__(
        self,
        network: HarmNetwork,
        tokenizer: Any,
        template: Template,
        calibration: Calibration,
        *,
        name: str,
        identity: str,
        device: str = "cpu",
    ) -> None:
        self.network = network.to(device).eval()
        self.tokenizer = tokenizer
        self.template = template
        self.calibration = calibration
        self.device = device
        self._name, self._identity = name, identity
        self._known = Remembered(KEPT)

    @property
    def name(self) -> str:
        """What people call it."""
        return self._name

    @property
    def identity(self) -> str:
        """sha256 over weights, tokenizer, template and calibration."""
        return self._identity

    def __call__(self, evidence: Sequence[Evidence]) -> list[Score]:
        """One score for each reply, in order; a reply without words does no harm, one too long to read is a failure."""
        begin = time.perf_counter()
        readable = [place for place, each in enumerate(evidence) if each.response.strip() and not too_long(each)]
        logits = dict(zip(readable, self.logits([evidence[place] for place in readable]), strict=True))
        seconds = (time.perf_counter() - begin) / max(1, len(evidence))
        scores = []
        for place, each in enumerate(evidence):
            if place in logits:
                scores.append(Score(self.name, self.calibration(logits[place]), seconds=seconds))
            elif too_long(each):
                scores.append(Score(self.name, None, failure="the reply is longer than the detector reads"))
            else:
                scores.append(Score(self.name, 0.0, seconds=seconds))
        return scores

    def logits(self, evidence: Sequence[Evidence]) -> list[float]:
        """The uncalibrated logit of each reply, the largest of its windows."""
        rows = [[tuple(window) for window in self.template.windows(self.tokenizer, each)] for each in evidence]
        asked = {window for row in rows for window in row}
        # A reply that is judged again as it grows shares its first windows with itself.
        known = self._known.of(asked)
        # Of similar length together, so that little is padding.
        new = sorted(asked - known.keys(), key=lambda window: (len(window), window))
        for at in range(0, len(new), BATCH):
            part = new[at : at + BATCH]
            known.update(zip(part, self._computed(part), strict=True))
        self._known.keep({window: known[window] for window in new})
        return [max(known[window] for window in row) for row in rows]

    def _computed(self, windows: Sequence[tuple[int, ...]]) -> list[float]:
        import torch

        from equipoise.guard.detector.network import batch

        made = batch([[window] for window in windows], self.tokenizer.pad_token_id or 0)
        with torch.inference_mode():
            return self.network.windows(made.ids.to(self.device), made.mask.to(self.device)).float().tolist()


def read(folder: Path, *, name: str | None = None, device: str | None = None, fast: bool = False) -> HarmDetector:
    """Read a detector from its folder.

    Args:
        folder: as `write` leaves it.
        name: what people call it; the folder's name by default.
        device: `cpu` or `cuda`; by default the CPU, which is fast enough for the embedded one.
        fast: compute in bfloat16 where the processor has instructions for it: half the time, logits that differ by
            about a tenth, and not the same on every processor.

    Raises:
        ModelError: no detector there, or one that cannot be read.
    """
    found = _Folder(folder).detector(name or folder.name, device or "cpu")
    if fast and (device or "cpu") == "cpu" and _has_bfloat16():
        import torch

        found.network.base.to(torch.bfloat16)
    return found


def _has_bfloat16() -> bool:
    import torch

    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(known.get("amx_bf16"))


@dataclass(frozen=True)
class _Folder:
    folder: Path

    @cached_property
    def settings(self) -> dict[str, Any]:
        file = self.folder / SETTINGS
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(
                f"expected a harm detector in {self.folder}, got no readable {SETTINGS}; "
                "try a folder of `equipoise train detector`"
            ) from error
        if not isinstance(found, dict):
            raise ModelError(f"expected an object in {file}, got {type(found).__name__}; try training it again")
        return found

    def detector(self, name: str, device: str) -> HarmDetector:
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        from equipoise.guard.detector.network import HarmNetwork

        settings = dict(self.settings)
        try:
            template = dict(settings["template"])
            version = template.pop("version")
            config = AutoConfig.from_pretrained(self.folder)
            tokenizer = AutoTokenizer.from_pretrained(self.folder)
            base = AutoModel.from_config(config)
            state = restored(load_file(self.folder / "model.safetensors"))
            base.load_state_dict(state, strict=False)
            network = HarmNetwork(base, settings["pooling"])
            network.head.load_state_dict(load_file(self.folder / HEAD))
            missing = [key for key in base.state_dict() if key not in state and not _unused(key)]
            if missing:
                raise ModelError(f"expected all weights in {self.folder}, got none for {missing[0]}; try another copy")
            with torch.no_grad():
                return HarmDetector(
                    network,
                    tokenizer,
                    Template(**template),
                    Calibration(**settings["calibration"]),
                    name=name,
                    # Of what decides the scores, not of where it lies.
                    identity=digest([version, folder_hash(self.folder)]),
                    device=device,
                )
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"expected a harm detector in {self.folder}, got: {error}; try another copy") from error


def _unused(key: str) -> bool:
    """BERT's own pooler and counted positions; nothing here reads them."""
    return key.startswith("pooler.") or key.endswith("position_ids")


def write(
    folder: Path,
    network: HarmNetwork,
    tokenizer: Any,
    template: Template,
    *,
    calibration: Calibration | None = None,
    recipe: dict[str, Any] | None = None,
    int8: bool = False,
) -> None:
    """Write a detector into a folder.

    Args:
        folder: made where it is not there.
        network: with merged weights; adapters are merged before.
        tokenizer: its tokenizer.
        template: what it was trained to read.
        calibration: from its logits to probabilities.
        recipe: how it was made, for people.
        int8: round matrices to 8 bits with a scale for each row; a quarter of the bytes.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    network.base.config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    known = network.base.state_dict()
    state = {key: value.detach().cpu().contiguous() for key, value in known.items() if not _unused(key)}
    save_file(rounded(state) if int8 else state, folder / "model.safetensors")
    save_file({key: value.detach().cpu() for key, value in network.head.state_dict().items()}, folder / HEAD)
    found = calibration or Calibration()
    settings = {
        "pooling": network.pooling,
        "template": template.describe(),
        "calibration": {"slope": found.slope, "shift": found.shift},
        "recipe": recipe or {},
    }
    (folder / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")

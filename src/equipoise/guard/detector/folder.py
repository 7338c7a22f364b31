"""A detector's folder: read and written.

It holds the base model and its tokenizer as transformers writes them, `head.safetensors`, `detector.json`, and perhaps
`glance.safetensors`. Matrices may be int8 with a scale for each row (`NAME.scale`), which is how the embedded detector
ships.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from equipoise.errors import ModelError
from equipoise.files import folder_hash
from equipoise.guard.detector.harm_detector import EarlyExit, HarmDetector, PlattScaling
from equipoise.guard.detector.template import Template
from equipoise.judges.int8 import dequantize_rows, quantize_rows
from equipoise.judges.run_judge import digest

if TYPE_CHECKING:
    from equipoise.guard.detector.network import HarmNetwork

SETTINGS: Final = "detector.json"
HEAD: Final = "head.safetensors"
GLANCE: Final = "glance.safetensors"


def read(
    folder: Path,
    *,
    name: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    bfloat16: bool = False,
    glance: bool = True,
) -> HarmDetector:
    """Read a detector from its folder.

    Args:
        folder: as `write` leaves it.
        name: what people call it; the folder's name by default.
        device: `cpu` or `cuda`; by default the CPU, which is fast enough for the embedded one.
        dtype: compute in this number format; None takes float32, or what `bfloat16` says.
        bfloat16: compute in it where the processor has instructions for it: half the time, logits that differ by
            about a tenth, and not the same on every processor.
        glance: whether the glance looks first, where there is one.

    Raises:
        ModelError: no detector there, or one that cannot be read.
    """
    found = _DetectorFolder(folder).detector(name or folder.name, device or "cpu", glance)
    if dtype is None and bfloat16 and (device or "cpu") == "cpu" and _has_bfloat16():
        dtype = "bfloat16"
    if dtype is not None:
        import torch

        number_format: torch.dtype = getattr(torch, dtype)
        found.network.base.to(number_format)
        if found.early_exit is not None:
            found.early_exit.network.base.to(number_format)
    return found


def _has_bfloat16() -> bool:
    import torch

    known = torch.cpu.get_capabilities() if hasattr(torch.cpu, "get_capabilities") else {}
    return bool(known.get("amx_bf16"))


@dataclass(frozen=True)
class _DetectorFolder:
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

    def detector(self, name: str, device: str, glance: bool) -> HarmDetector:
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        from equipoise.guard.detector.network import HarmNetwork

        settings = dict(self.settings)
        told = settings.get("glance") if glance else None
        try:
            template = dict(settings["template"])
            version = template.pop("version")
            config = AutoConfig.from_pretrained(self.folder)
            tokenizer = AutoTokenizer.from_pretrained(self.folder)
            base = AutoModel.from_config(config)
            state = dequantize_rows(load_file(self.folder / "model.safetensors"))
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
                    PlattScaling(**settings["calibration"]),
                    name=name,
                    # Of what decides the scores, not of where it lies.
                    identity=digest([version, folder_hash(self.folder), told is not None]),
                    device=device,
                    early_exit=self._glance(network, told),
                )
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelError(f"expected a harm detector in {self.folder}, got: {error}; try another copy") from error

    def _glance(self, network: HarmNetwork, told: dict[str, Any] | None) -> EarlyExit | None:
        from safetensors.torch import load_file

        from equipoise.guard.detector.network import first_layers

        if told is None:
            return None
        made = first_layers(network, told["layers"])
        missing, unknown = made.load_state_dict(dequantize_rows(load_file(self.folder / GLANCE)), strict=False)
        shared = shared_keys(made)
        if unknown or {key for key in missing if not _unused(key.removeprefix("base."))} - shared:
            raise ModelError(
                f"expected the weights of a glance in {self.folder / GLANCE}, got others; try another copy"
            )
        return EarlyExit(made, float(told["sure"]))


def shared_keys(glance: HarmNetwork) -> set[str]:
    """Names of the glance's weights that are the whole network's: the token embeddings."""
    table = glance.base.get_input_embeddings().weight
    return {name for name, value in glance.state_dict(keep_vars=True).items() if value is table}


def _unused(key: str) -> bool:
    """BERT's own pooler and counted positions; nothing here reads them."""
    return key.startswith("pooler.") or key.endswith("position_ids")


def write(
    folder: Path,
    network: HarmNetwork,
    tokenizer: Any,
    template: Template,
    *,
    calibration: PlattScaling | None = None,
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
    save_file(quantize_rows(state) if int8 else state, folder / "model.safetensors")
    save_file({key: value.detach().cpu() for key, value in network.head.state_dict().items()}, folder / HEAD)
    found = calibration or PlattScaling()
    settings = {
        "pooling": network.pooling,
        "template": template.describe(),
        "calibration": {"slope": found.slope, "shift": found.shift},
        "recipe": recipe or {},
    }
    (folder / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def write_glance(folder: Path, glance: EarlyExit, layers: int, recipe: dict[str, Any], *, int8: bool = False) -> None:
    """Add a glance to a detector's folder.

    Args:
        folder: as `write` left it.
        glance: distilled from that detector.
        layers: how many it has.
        recipe: how it was made, for people.
        int8: see `write`.
    """
    from safetensors.torch import save_file

    shared = shared_keys(glance.network)
    state = {
        key: value.detach().cpu().contiguous()
        for key, value in glance.network.state_dict().items()
        if key not in shared and not _unused(key.removeprefix("base."))
    }
    save_file(quantize_rows(state) if int8 else state, folder / GLANCE)
    file = folder / SETTINGS
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings["glance"] = {"layers": layers, "sure": glance.threshold, "recipe": recipe}
    file.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")

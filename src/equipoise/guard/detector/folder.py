"""A detector's folder: read and written.

It holds the base model and its tokenizer as transformers writes them, `head.safetensors`, `detector.json`, and perhaps
`glance.safetensors`. Matrices may be int8 with a scale for each row (`NAME.scale`), which is how the embedded detector
ships. Instead of a base it may hold `adapter/` alone, over a base that is installed elsewhere and shared.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from equipoise.errors import ModelError
from equipoise.files import folder_hash, weights_hash
from equipoise.guard.detector.harm_detector import EarlyExit, HarmDetector, PlattScaling
from equipoise.guard.detector.template import Template
from equipoise.judges.int8 import dequantize_rows, quantize_rows
from equipoise.judges.run_judge import digest

if TYPE_CHECKING:
    import torch

    from equipoise.guard.detector.network import HarmNetwork

SETTINGS: Final = "detector.json"
HEAD: Final = "head.safetensors"
GLANCE: Final = "glance.safetensors"
INT8: Final = "int8"
"""Number format of `Int8Encoder`; every other one is torch's own."""
ADAPTER: Final = "adapter"
"""The folder of an adapter over a shared base, instead of a base."""


def read(
    folder: Path,
    *,
    name: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
    reduced: bool = False,
    early_exit: bool = True,
) -> HarmDetector:
    """Read a detector from its folder.

    Args:
        folder: as `write` leaves it.
        name: what people call it; the folder's name by default.
        device: `cpu` or `cuda`; by default the CPU, which is fast enough for the embedded one.
        dtype: compute in this number format of torch, or in `int8` (an encoder of BERT's kind on a CPU); None takes
            float32, or what `reduced` says, and for an adapter over a shared base `shared_format`.
        reduced: compute in bfloat16 where the processor has matrix instructions for it, else in 8-bit integers where
            torch has kernels for them (x86): about half of the time, logits that differ by a few hundredths.
        early_exit: whether the early exit is loaded, if there is one.

    Raises:
        ModelError: no detector there, or one that cannot be read.
    """
    if dtype is None and (folder / ADAPTER).is_dir():
        dtype = _shared_format()
    elif dtype is None and reduced and (device or "cpu") == "cpu":
        dtype = _reduced_format()
    return _DetectorFolder(folder).detector(name or folder.name, device or "cpu", dtype or "float32", early_exit)


def full_network_hash(folder: Path) -> str:
    """Of all that decides the scores of a detector without its early exit, which is trained to follow them.

    Args:
        folder: as `write` leaves it.

    Raises:
        ModelError: no detector there.
    """
    settings = _DetectorFolder(folder).settings
    described = [settings.get(name) for name in ("pooling", "template", "calibration")]
    adapter = folder / ADAPTER
    # The settings of an adapter hold the hash of its base's weights.
    return digest([described, weights_hash(folder, without=[GLANCE]), folder_hash(adapter) if adapter.is_dir() else ""])


def _reduced_format() -> str | None:
    """The number format of this processor that costs least, None where it is float32."""
    from equipoise.guard.detector.int8_encoder import has_int8_products
    from equipoise.models.shared_base import has_fast_bfloat16

    # With matrix instructions bfloat16 is the faster one, and nearer to float32.
    if has_fast_bfloat16():
        return "bfloat16"
    return INT8 if has_int8_products() else None


def _shared_format() -> str:
    from equipoise.models.shared_base import shared_format

    return str(shared_format()).removeprefix("torch.")


@dataclass(frozen=True)
class _DetectorFolder:
    folder: Path

    @cached_property
    def settings(self) -> dict[str, Any]:
        file = self.folder / SETTINGS
        try:
            document = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ModelError(
                f"expected a harm detector in {self.folder}, got no readable {SETTINGS}; "
                "try a folder of `equipoise train detector`"
            ) from error
        if not isinstance(document, dict):
            raise ModelError(f"expected an object in {file}, got {type(document).__name__}; try training it again")
        return document

    def detector(self, name: str, device: str, number_format: str, early_exit: bool) -> HarmDetector:
        import torch
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        from equipoise.guard.detector.int8_encoder import Int8Encoder
        from equipoise.guard.detector.network import HarmNetwork
        from equipoise.models.unreadable import raised

        settings = dict(self.settings)
        dtype = torch.float32 if number_format == INT8 else getattr(torch, number_format)
        # `glance` and `sure` are the names in folders that were written before; renaming them would make every stored
        # detector unreadable.
        early_exit_settings = settings.get("glance") if early_exit else None
        try:
            template = dict(settings["template"])
            version = template.pop("version")
            # The base may be computed in bfloat16; the linear unit is always float32, since its logit is compared with
            # a threshold that was calibrated in it.
            base, tokenizer = self._base(device, dtype)
            network = HarmNetwork(base, settings["pooling"])
            network.head.load_state_dict(load_file(self.folder / HEAD))
            with torch.no_grad():
                exit_network = self._early_exit(network, early_exit_settings, dtype)
                if number_format == INT8:
                    for part in (network, *([exit_network.network] if exit_network else [])):
                        part.base = Int8Encoder(part.base)
                return HarmDetector(
                    network,
                    tokenizer,
                    Template(**template),
                    PlattScaling(**settings["calibration"]),
                    name=name,
                    # Of what decides the scores, not of where it lies.
                    identity=digest(
                        [version, folder_hash(self.folder), early_exit_settings is not None, *self._adapter_hash]
                    ),
                    device=device,
                    early_exit=exit_network,
                )
        except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
            raise ModelError(
                f"expected a harm detector in {self.folder}, got: {raised(error)}; try another copy"
            ) from error

    @property
    def _adapter_hash(self) -> list[str]:
        """Of the adapter, whose settings hold the hash of its base's weights; empty without one."""
        adapter = self.folder / ADAPTER
        return [folder_hash(adapter)] if adapter.is_dir() else []

    def _base(self, device: str, dtype: torch.dtype) -> tuple[Any, Any]:
        """The network under the linear unit, and its tokenizer."""
        from safetensors.torch import load_file
        from transformers import AutoConfig, AutoModel, AutoTokenizer

        from equipoise.models.shared_base import adapted_base

        # An adapter alone: the base's tensors are in memory once for all adapters over them; the model returned here
        # has modules of its own around them, so that no thread waits for another's adapter.
        if (self.folder / ADAPTER).is_dir():
            model, tokenizer = adapted_base(self.folder / ADAPTER, device=device, dtype=dtype)
            return model.base_model, tokenizer
        config = AutoConfig.from_pretrained(self.folder, trust_remote_code=False)
        base = AutoModel.from_config(config, trust_remote_code=False)
        # Matrices are stored as 8-bit integers with a scale for each row and multiplied out here: the file is a
        # quarter, computing is in `dtype` as ever.
        state = dequantize_rows(load_file(self.folder / "model.safetensors"))
        # Not strict, as weights that nothing reads may be missing; whatever else is missing is an error below.
        base.load_state_dict(state, strict=False)
        missing = [key for key in base.state_dict() if key not in state and not _unused(key)]
        if missing:
            raise ModelError(f"expected all weights in {self.folder}, got none for {missing[0]}; try another copy")
        return base.to(dtype), AutoTokenizer.from_pretrained(self.folder, trust_remote_code=False)

    def _early_exit(
        self, network: HarmNetwork, settings: dict[str, Any] | None, dtype: torch.dtype
    ) -> EarlyExit | None:
        from safetensors.torch import load_file

        from equipoise.guard.detector.network import first_layers

        if settings is None:
            return None
        student = first_layers(network, settings["layers"])
        # Not strict for the sake of the shared table alone; every other difference is an error below.
        missing, unknown = student.load_state_dict(dequantize_rows(load_file(self.folder / GLANCE)), strict=False)
        # The token embeddings are the full network's own and not in the file.
        shared = shared_keys(student)
        if unknown or {key for key in missing if not _unused(key.removeprefix("base."))} - shared:
            raise ModelError(
                f"expected the weights of an early exit in {self.folder / GLANCE}, got others; try another copy"
            )
        student.base.to(dtype)
        return EarlyExit(student, float(settings["sure"]))


def shared_keys(early_exit: HarmNetwork) -> set[str]:
    """Names of the weights that the early exit shares with the full network: the token embeddings."""
    table = early_exit.base.get_input_embeddings().weight
    # With `keep_vars` the values are the parameters themselves, which `is` can compare; without it they are detached
    # tensors, other objects each time.
    return {name for name, value in early_exit.state_dict(keep_vars=True).items() if value is table}


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
        folder: made where it is not there. Where it holds an adapter already, the base is not written.
        network: with merged weights; adapters are merged before.
        tokenizer: its tokenizer.
        template: what it was trained to read.
        calibration: from its logits to probabilities.
        recipe: how it was made, for people.
        int8: round matrices to 8 bits with a scale for each row; a quarter of the bytes.
    """
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / ADAPTER).is_dir():
        network.base.config.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        # `contiguous`: safetensors refuses tensors that are not, such as slices and transposed views.
        known = network.base.state_dict()
        state = {key: value.detach().cpu().contiguous() for key, value in known.items() if not _unused(key)}
        save_file(quantize_rows(state) if int8 else state, folder / "model.safetensors")
    save_file({key: value.detach().cpu() for key, value in network.head.state_dict().items()}, folder / HEAD)
    scaling = calibration or PlattScaling()
    settings = {
        "pooling": network.pooling,
        "template": template.describe(),
        "calibration": {"slope": scaling.slope, "shift": scaling.shift},
        "recipe": recipe or {},
    }
    (folder / SETTINGS).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")


def write_early_exit(
    folder: Path, early_exit: EarlyExit, layers: int, recipe: dict[str, Any], *, int8: bool = False
) -> None:
    """Add an early exit to a detector's folder.

    Args:
        folder: as `write` left it.
        early_exit: distilled from that detector.
        layers: how many it has.
        recipe: how it was made, for people.
        int8: see `write`.
    """
    from safetensors.torch import save_file

    shared = shared_keys(early_exit.network)
    state = {
        key: value.detach().cpu().contiguous()
        for key, value in early_exit.network.state_dict().items()
        if key not in shared and not _unused(key.removeprefix("base."))
    }
    save_file(quantize_rows(state) if int8 else state, folder / GLANCE)
    file = folder / SETTINGS
    settings = json.loads(file.read_text(encoding="utf-8"))
    settings["glance"] = {"layers": layers, "sure": early_exit.threshold, "recipe": recipe}
    file.write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")

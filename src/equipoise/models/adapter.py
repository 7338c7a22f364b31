"""Adapters of peft on a loaded model: beside its weights, or merged into them, which gives a model like any other."""

from __future__ import annotations

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from equipoise.errors import MissingExtraError, ModelError
from equipoise.files import weights_hash, write_json
from equipoise.models.model_location import ADAPTER, ADAPTER_SETTINGS, ModelLocation, locate
from equipoise.models.reference_base import INSTALL
from equipoise.models.unreadable import UNREADABLE, reason_of

ADAPTER_WEIGHTS: Final = ("adapter_model.safetensors", "adapter_model.bin")
"""Names of an adapter's weights."""
BASE_SETTINGS: Final = "base.json"
"""The file beside an adapter of ours that names its base and the hash of the base's weights."""


def merge_adapter(model: Any, folder: Path) -> Any:
    """The model with the change of an adapter added to its weights.

    Args:
        model: a transformers model with float weights; used up.
        folder: as `save_pretrained` of peft writes it.

    Raises:
        ModelError: the adapter belongs to another model, cannot be read, or has weights that are no numbers.
        MissingExtraError: peft is not installed.
    """
    return load_adapter(model, folder).merge_and_unload()


def load_adapter(model: Any, folder: Path) -> Any:
    """A `PeftModel`: the model with an adapter beside its weights.

    Args:
        model: a transformers model; its modules are changed in place.
        folder: as `save_pretrained` of peft writes it.

    Raises:
        ModelError: the adapter belongs to another model, cannot be read, or has weights that are no numbers.
        MissingExtraError: peft is not installed.
    """
    try:
        from peft import PeftConfig, PeftModel, get_peft_model_state_dict
    except ImportError as error:
        raise MissingExtraError("pip install 'equipoise[models]'") from error
    # Without its weights peft would look for them on the hub.
    if not any((folder / name).is_file() for name in ADAPTER_WEIGHTS):
        raise ModelError(
            f"expected the weights of an adapter in {folder}, got no {ADAPTER_WEIGHTS[0]}; try another copy of it"
        )
    try:
        # peft asks transformers for something by a name that will go away, and warns of a base that was renamed.
        with warnings.catch_warnings(action="ignore"):
            config = PeftConfig.from_pretrained(str(folder))
            config.inference_mode = True
            adapted = PeftModel(model, config)
            # Loaded by name: an adapter of another architecture fits in part or not at all, of which peft only warns.
            loaded = adapted.load_adapter(str(folder), "default", torch_device=str(model.device))
    except UNREADABLE as error:
        instead = "the model that it was trained on, or another copy of the adapter"
        raise ModelError(
            f"expected an adapter for this model in {folder}, got {reason_of(error, folder, instead)}"
        ) from error
    strangers = [*loaded.missing_keys, *loaded.unexpected_keys]
    if strangers:
        raise ModelError(
            f"expected an adapter for this model in {folder}, got one with {len(strangers)} weights that do "
            f"not fit it, such as {strangers[0]}; try the model that it was trained on"
        )
    # Such a model answers every prompt with nothing, which would be counted as replies.
    # Asked for embedding layers, peft would look for the base's settings on the hub.
    weights = get_peft_model_state_dict(adapted, save_embedding_layers=False)
    broken = [name for name, weight in weights.items() if not weight.isfinite().all()]
    if broken:
        raise ModelError(
            f"expected finite weights in the adapter {folder}, got NaN or infinity in {len(broken)} of them, such as "
            f"{broken[0]}; try training it again at a lower rate"
        )
    return adapted


@dataclass(frozen=True)
class TrainedBase:
    """The model that a training starts from, with the hashes that its files had before they were read."""

    name: str
    """See `model_location`."""
    weights: str
    """Which weights exactly, those of its adapters among them: part of a training's recipe."""
    sha256: str
    """Of the model without its adapters, as `base.json` holds it."""
    has_adapters: bool = False
    """Whether the name holds adapters."""

    @classmethod
    def of(cls, name: str) -> TrainedBase:
        """The hashes of a model's files as they are now; to be called before the model is loaded.

        Raises:
            ModelError: the model is not there.
        """
        location = locate(name)
        own = _base_hash(location)
        parts = [] if location.base is None else [location.base, Path(location.where) / ADAPTER]
        weights = "+".join([own, *map(weights_hash, [*parts, *location.adapters])])
        return cls(name, weights, own, bool(location.adapters))


def write_base_settings(folder: Path, base: TrainedBase) -> None:
    """Name the base of an adapter, with the hash of its weights.

    Args:
        folder: of the adapter.
        base: what the adapter was trained over, without an adapter of its own.

    Raises:
        ModelError: the base has an adapter itself.
    """
    if base.has_adapters:
        raise ModelError(f"expected a base without an adapter, got {base.name}; try a folder with merged weights")
    write_json(folder / BASE_SETTINGS, {"base": base.name, "sha256": base.sha256})


def holds_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and the name of its base."""
    return all((folder / name).is_file() for name in (ADAPTER_SETTINGS, BASE_SETTINGS))


def base_name(folder: Path) -> str:
    """The name of an adapter's base.

    Raises:
        ModelError: no readable `base.json`, or the base's weights are not those that the adapter was trained on.
    """
    name, _ = _base_settings(folder)
    location = locate(name)
    if location.adapters:
        raise ModelError(
            f"expected a base without an adapter in {folder / BASE_SETTINGS}, got {name}; try another copy"
        )
    check_base(folder, location)
    return name


def check_base(folder: Path, location: ModelLocation) -> None:
    """Refuse an adapter that was trained on other weights; one that does not say on which is taken as it is.

    Args:
        folder: of the adapter.
        location: of the model that it is put on.

    Raises:
        ModelError: other weights, or a damaged `base.json`.
    """
    if not (folder / BASE_SETTINGS).is_file():
        return
    name, expected = _base_settings(folder)
    if _base_hash(location) != expected:
        again = f"{INSTALL} --force" if name == "reference/base" else "installing the base again"
        raise ModelError(
            f"expected the weights of {name} that {folder} was trained on, got others in {location.where}; "
            f"try {again}, or training again"
        )


def _base_settings(folder: Path) -> tuple[str, str]:
    try:
        settings = json.loads((folder / BASE_SETTINGS).read_text(encoding="utf-8"))
        return str(settings["base"]), str(settings["sha256"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"expected the name of a base in {folder / BASE_SETTINGS}, got an error ({error}); try another copy"
        ) from error


def _base_hash(location: ModelLocation) -> str:
    """Of the weights alone: how settings are written differs between versions of transformers."""
    if location.is_local and location.gguf is None:
        return weights_hash(Path(location.where))
    return location.revision(None)

"""A robust CLIP vision tower in place of a model's own: FARE and TeCoA weights (Schlarmann et al. 2024).

arXiv:2402.12336. Nothing is trained here and inference is as fast as before: the tower was trained adversarially to
give the embeddings that the model already knows. The weights on the hub are in OpenCLIP's format and are converted to
that of transformers' `CLIPVisionModel`.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from equipoise.errors import ModelError, first_line
from equipoise.files import is_folder
from equipoise.models.base import OpenModel
from equipoise.models.hf import HuggingFaceModel

FILES: Final = ("model.safetensors", "open_clip_model.safetensors", "open_clip_pytorch_model.bin", "pytorch_model.bin")
"""Names of weight files in a repository; the first that exists is read."""
_OUTSIDE_LAYERS: Final = {
    "class_embedding": "embeddings.class_embedding",
    "positional_embedding": "embeddings.position_embedding.weight",
    "conv1.weight": "embeddings.patch_embedding.weight",
    # Spelt as in transformers.
    "ln_pre.": "pre_layrnorm.",
    "ln_post.": "post_layernorm.",
}
_IN_LAYER: Final = {
    "ln_1.": "layer_norm1.",
    "ln_2.": "layer_norm2.",
    "attn.out_proj.": "self_attn.out_proj.",
    "mlp.c_fc.": "mlp.fc1.",
    "mlp.c_proj.": "mlp.fc2.",
}


def with_vision_tower(model: OpenModel, name: str, *, revision: str | None = None) -> HuggingFaceModel:
    """The same model with another CLIP vision tower; the caller's model keeps its own.

    Where the new tower was trained at another size, its position embeddings are interpolated to the model's.

    Args:
        model: a transformers model with a CLIP tower, such as LLaVA-1.5.
        name: a folder, or `org/name` on the hub, such as `chs20/fare2-clip`; OpenCLIP's format or transformers'.
        revision: a commit on the hub.

    Raises:
        ModelError: no CLIP tower in the model, no weights there, or weights of another shape.
    """
    if not isinstance(model, HuggingFaceModel):
        raise ModelError(f"expected a transformers model with a vision tower, got {model.name}; try it innermost")
    path = _tower_path(model)
    weights, fingerprint = _read(name, revision)
    own = model.model.get_submodule(path)
    try:
        state = _fitted(to_transformers(weights), own.state_dict())
    except (KeyError, ValueError) as error:
        raise ModelError(
            f"expected a CLIP tower like that of {model.name}, got another in {name} ({error}); "
            "try one of the same size, such as chs20/fare2-clip for CLIP ViT-L/14"
        ) from error
    tower = copy.deepcopy(own)
    tower.load_state_dict(state)
    return HuggingFaceModel(
        _replaced(model.model, path.split("."), tower),
        model.processor,
        name=f"{model.name} + tower:id={name}",
        revision=f"{model.revision}+{fingerprint}",
        gradient_checkpointing=model.gradient_checkpointing,
        micro_batch=model.micro_batch,
    )


def to_transformers(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """OpenCLIP's visual weights under the names of `CLIPVisionModel`; those that have these names stay.

    The projection into the space shared with text is left out: a multimodal model reads the tower's own width.
    """
    visual = {key.removeprefix("visual."): value for key, value in weights.items() if key.startswith("visual.")}
    if not visual:
        named = {key.split("vision_model.")[-1]: value for key, value in weights.items() if "vision_model." in key}
        return named or dict(weights)
    converted: dict[str, Tensor] = {}
    for key, value in visual.items():
        if key in ("proj", "head.weight"):
            continue
        layer = re.fullmatch(r"transformer\.resblocks\.(\d+)\.(.+)", key)
        if layer is None:
            converted[_renamed(key, key, _OUTSIDE_LAYERS)] = value
            continue
        number, rest = layer.groups()
        prefix = f"encoder.layers.{number}."
        if rest.startswith("attn.in_proj_"):
            # OpenCLIP stacks the three projections in one matrix of `3 width x width` (and one bias).
            kind = rest.removeprefix("attn.in_proj_")
            for part, third in zip(("q_proj", "k_proj", "v_proj"), value.chunk(3), strict=True):
                converted[f"{prefix}self_attn.{part}.{kind}"] = third
            continue
        converted[prefix + _renamed(rest, key, _IN_LAYER)] = value
    return converted


def _renamed(name: str, key: str, table: Mapping[str, str]) -> str:
    """A name with its beginning replaced as the table says; `key` is the whole name, for the message."""
    start = next((old for old in table if name.startswith(old)), None)
    if start is None:
        raise ValueError(f"an unknown weight, {key}")
    return table[start] + name.removeprefix(start)


def _fitted(weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The new weights under exactly the keys, and in the shapes, of the model's own tower."""
    # Depending on its version, transformers nests a tower in a module `vision_model` or not.
    names = {key.split("vision_model.")[-1] for key in own}
    surplus = next((name for name in weights if name.startswith("encoder.layers.") and name not in names), None)
    if surplus is not None:
        raise ValueError(f"a weight too many, {surplus}")
    fitted = {}
    for key, old in own.items():
        name = key.split("vision_model.")[-1]
        if name.endswith("position_ids"):
            fitted[key] = old
            continue
        value = weights[name]
        if name == "embeddings.position_embedding.weight" and value.shape != old.shape:
            value = resize_positions(value, len(old))
        if value.shape != old.shape:
            raise ValueError(f"{name} is {tuple(value.shape)} instead of {tuple(old.shape)}")
        fitted[key] = value.to(old.dtype)
    return fitted


def resize_positions(positions: Tensor, count: int) -> Tensor:
    """Position embeddings of a square grid at another size, by bicubic interpolation.

    Args:
        positions: `1 + side^2 x width`; the first is the class token's and stays as it is.
        count: how many are needed, one more than a square.

    Raises:
        ValueError: either is not one more than a square.
    """
    first, grid = positions[:1], positions[1:]
    old, new = round(len(grid) ** 0.5), round((count - 1) ** 0.5)
    if old**2 != len(grid) or new**2 != count - 1:
        raise ValueError(f"{len(positions)} positions that are no square grid")
    # `side^2 x width` to `1 x width x side x side`, as `interpolate` takes pictures; in float32, as bicubic is not
    # there in half precision on every device.
    square = grid.T.reshape(1, -1, old, old).float()
    resized = functional.interpolate(square, (new, new), mode="bicubic", align_corners=False)
    return torch.cat([first.float(), resized.flatten(2)[0].T]).to(positions.dtype)


def _tower_path(model: HuggingFaceModel) -> str:
    """The name of the submodule that is the CLIP vision tower."""
    for name, module in model.model.named_modules():
        if name.endswith("vision_tower") and "Clip" in type(module).__name__.replace("CLIP", "Clip"):
            return str(name)
    raise ModelError(
        f"expected a model with a CLIP vision tower, got {model.name}, a {type(model.model).__name__}; try LLaVA-1.5"
    )


def _replaced(module: nn.Module, path: list[str], new: nn.Module) -> Any:
    """A copy of a module that shares everything with it but one submodule; the original is left as it is.

    Only the modules on the path are copied, shallowly: all other weights stay shared and cost no memory again.
    """
    twin = copy.copy(module)
    # `copy.copy` shares the dictionary of submodules with the original: a change of one would be seen in both.
    twin.__dict__ = dict(module.__dict__)
    twin._modules = dict(module._modules)
    inner = module._modules[path[0]]
    assert inner is not None
    twin._modules[path[0]] = new if len(path) == 1 else _replaced(inner, path[1:], new)
    return twin


def _read(name: str, revision: str | None) -> tuple[dict[str, Tensor], str]:
    """The weights of a tower, from a folder or the hub, and a hash of them."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, LocalEntryNotFoundError

    reason = "none of " + ", ".join(FILES)
    if not is_folder(Path(name)) and not re.fullmatch(r"[\w.-]+/[\w.-]+", name):
        raise ModelError(
            f"expected weights of a CLIP tower in {name}, got no such folder; try chs20/fare2-clip or a folder"
        )
    cached = False
    for file in FILES:
        path = Path(name) / file
        if not is_folder(Path(name)):
            try:
                path = Path(hf_hub_download(name, file, revision=revision, local_files_only=cached))
            except LocalEntryNotFoundError:
                reason = "no answer from the hub and no copy in the local cache"
                cached = True  # every further try would wait for the hub again
                continue
            except EntryNotFoundError:
                continue
            except (OSError, ValueError, HfHubHTTPError) as error:
                reason = first_line(error, 120)
                break
        if not path.is_file():
            continue
        weights = _weights(path)
        return weights, _fingerprint(weights)
    raise ModelError(f"expected weights of a CLIP tower in {name}, got {reason}; try chs20/fare2-clip or a folder")


def _weights(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        weights = load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)
    except (OSError, EOFError, RuntimeError, SafetensorError, UnpicklingError) as error:
        reason = first_line(error, 120)
        raise ModelError(f"expected weights in {path}, got a damaged file ({reason}); try to copy it again") from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ModelError(f"expected weights by name in {path}, got something else; try the state dict alone")
    return weights


def _fingerprint(weights: Mapping[str, Tensor]) -> str:
    import hashlib

    digest = hashlib.sha256()
    for key in sorted(weights):
        digest.update(key.encode() + weights[key].detach().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]

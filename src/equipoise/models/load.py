"""`load`: an `OpenModel` from the package, a folder, a GGUF file, or the Hugging Face hub."""

from __future__ import annotations

import hashlib
import importlib.util
from pathlib import Path
from typing import Any, Final, Literal

from equipoise.errors import MissingExtraError, ModelError, OutOfMemoryError, UsageError, missing_extra

try:
    import torch
    import transformers
except ModuleNotFoundError as error:
    # One clear error for those who call the library, too; a broken torch keeps its own message.
    raise missing_extra(error) or error from None

from equipoise.models.base import OpenModel
from equipoise.models.hf import HuggingFaceModel
from equipoise.models.model_parts import load_parts, read_template
from equipoise.models.shared_base import shared_parts
from equipoise.models.text_model import TextModel, TextProcessor

DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}

SPREAD: Final = "auto"
"""The name of all GPUs together."""


def load(
    name: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    quantize: Literal["4bit", "8bit"] | None = None,
    gradient_checkpointing: bool = False,
    micro_batch: int | None = None,
    chat_template: Path | None = None,
    share_base: bool = False,
) -> OpenModel:
    """Load a model with its processor, or a text model with its tokenizer.

    Args:
        name: `testbed/<family>` or `reference/<name>` for a model that comes with Equipoise, a folder written by
            `save_pretrained`, a `.gguf` file, or a model of the Hugging Face hub, `org/name` or `org/name@revision`;
            with `+FOLDER` behind it for an adapter of peft, which is merged. No code of the model is run.
        device: `cpu`, `cuda`, `cuda:1`...; by default CUDA where there is one. `auto` divides the layers over all
            GPUs, as accelerate does; gradients pass through all of them.
        dtype: `float32`, `bfloat16` or `float16`; by default float32 on CPU, bfloat16 elsewhere.
        quantize: load weights in 4 or 8 bits; needs the extra `quantized` and CUDA.
        gradient_checkpointing: compute activations again in the backward pass: less memory, a third more time.
        micro_batch: how many questions run at once: less memory, the same result. None is all.
        chat_template: a Jinja file that replaces the model's own chat template.
        share_base: keep an adapter beside the weights and hold the weights below it once for all models, detectors and
            detoxifiers of this process that have the same base and number format: less memory, slower.

    Raises:
        ModelError: nothing there, not a model that writes text, no processor or tokenizer beside it, or a text model
            without a chat template.
        MissingExtraError: `quantize` without bitsandbytes, an adapter without peft.
        UsageError: an unknown dtype or device, or a base that cannot be shared.
    """
    spread = device == SPREAD
    target = find_device(None if spread else device)
    precision = find_dtype(dtype, target)
    options = _quantization(quantize, target, precision)
    if spread:
        options["device_map"] = SPREAD
    template = None if chat_template is None else read_template(chat_template)
    if share_base and options:
        raise UsageError(
            "expected weights on one device to share a base, got quantize or device='auto'; try it without sharing"
        )
    if share_base:
        parts = shared_parts(name, device=target, dtype=precision)
    else:
        parts = load_parts(name, device=target, dtype=precision, options=options)
    if spread:
        require_on_gpus(parts.model, name)
    processor = parts.processor if parts.reads_pictures else TextProcessor(parts.processor)
    revision = parts.revision
    if template is not None:
        processor.chat_template = template
        # Another template makes other prompts, and so other replies.
        revision += f"+template:{hashlib.sha256(template.encode()).hexdigest()[:12]}"
    model_class = HuggingFaceModel if parts.reads_pictures else TextModel
    return model_class(
        parts.model,
        processor,
        name=name,
        revision=revision,
        gradient_checkpointing=gradient_checkpointing,
        micro_batch=micro_batch,
    )


def find_device(name: str | None) -> torch.device:
    """The device of a name; CUDA where there is one by default.

    Raises:
        UsageError: there is no such device.
        ModelError: CUDA is asked for and not there.
    """
    try:
        target = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
    except RuntimeError as error:
        raise UsageError(f"expected a device, got {name!r}; try 'cpu' or 'cuda'") from error
    if target.type == "cuda" and not torch.cuda.is_available():
        raise ModelError(f"expected a CUDA device for device={name!r}, got none that torch can use; try device='cpu'")
    return target


def require_on_gpus(model: Any, name: str) -> None:
    """Raise an error where accelerate put layers beside the GPUs that there are.

    Layers that are fetched for each pass, from memory or disk, have no gradients that fit into memory either.

    Raises:
        OutOfMemoryError: some did not fit.
    """
    devices = {str(device) for device in getattr(model, "hf_device_map", {}).values()}
    beside = devices & {"cpu", "disk"}
    if (torch.cuda.is_available() and beside) or "disk" in beside:
        raise OutOfMemoryError(
            f"expected the weights of {name} to fit on {max(torch.cuda.device_count(), 1)} devices, got layers on "
            f"{' and '.join(sorted(beside))}; try dtype='bfloat16' or quantize='4bit'"
        )


def find_dtype(name: str | None, device: torch.device) -> torch.dtype:
    """The number format of a name; by default float32 on the CPU and bfloat16 elsewhere.

    Raises:
        UsageError: there is no such number format.
    """
    if name is None:
        return torch.float32 if device.type == "cpu" else torch.bfloat16
    if name not in DTYPES:
        raise UsageError(f"expected a dtype among {', '.join(DTYPES)}, got {name!r}; try 'bfloat16'")
    return DTYPES[name]


def _quantization(quantize: str | None, device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    if quantize is None:
        return {}
    if quantize not in ("4bit", "8bit"):
        raise UsageError(f"expected quantize '4bit' or '8bit', got {quantize!r}; try '4bit'")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtraError("pip install 'equipoise[quantized]'")
    bits: dict[str, Any] = (
        {"load_in_4bit": True, "bnb_4bit_compute_dtype": dtype} if quantize == "4bit" else {"load_in_8bit": True}
    )
    # In a device map the empty name is the whole model.
    return {"quantization_config": transformers.BitsAndBytesConfig(**bits), "device_map": {"": device}}

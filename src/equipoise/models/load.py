"""`load`: an `OpenModel` from the testbed, a folder, or the Hugging Face hub."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from huggingface_hub import HfApi, try_to_load_from_cache
from huggingface_hub.errors import (  # type: ignore[attr-defined]
    GatedRepoError,
    HFValidationError,
    HTTPError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForImageTextToText, AutoModelForMultimodalLM, AutoProcessor
from transformers.utils import logging as transformers_logging

import equipoise
from equipoise.errors import MissingExtraError, ModelError, OutOfMemoryError, UsageError
from equipoise.files import folder_hash
from equipoise.models.base import OpenModel
from equipoise.models.hf import HuggingFaceModel

TESTBED = Path(equipoise.__file__).parent / "testbed" / "weights"
HUB_TIMEOUT = 5.0
"""Seconds to wait for the hub's first answer."""
DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}


def load(
    name: str,
    *,
    device: str | None = None,
    dtype: str | None = None,
    quantize: Literal["4bit", "8bit"] | None = None,
    gradient_checkpointing: bool = False,
    micro_batch: int | None = None,
) -> OpenModel:
    """Load a model with its processor.

    Args:
        name: `testbed/<family>` for a model that comes with Equipoise, a folder written by `save_pretrained`, or a
            model of the Hugging Face hub, `org/name` or `org/name@revision`. No code of the model is run.
        device: `cpu`, `cuda`, `cuda:1`...; by default CUDA where there is one.
        dtype: `float32`, `bfloat16` or `float16`; by default float32 on CPU, bfloat16 elsewhere.
        quantize: load weights in 4 or 8 bits; needs the extra `quantized` and CUDA.
        gradient_checkpointing: compute activations again in the backward pass: less memory, a third more time.
        micro_batch: how many questions run at once: less memory, the same result. None is all.

    Raises:
        ModelError: nothing there, not a model, not one that reads pictures, or no processor beside it.
        MissingExtraError: `quantize` without bitsandbytes.
        UsageError: an unknown dtype or device.
    """
    target = find_device(device)
    precision = _dtype(dtype, target)
    options = _quantization(quantize, target, precision)
    source, revision = locate(name)
    config = _config(name, source, revision)
    auto_class = _auto_class(name, config)
    processor = _processor(name, source, revision)
    try:
        with _without_progress_bars():
            model, loading = auto_class.from_pretrained(
                source, revision=revision, dtype=precision, output_loading_info=True, **options
            )
            model = model if quantize else model.to(target)
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"expected the weights of {name} to fit on {target}, got an out-of-memory error; "
            "try dtype='bfloat16', quantize='4bit' or device='cpu'"
        ) from error
    except (OSError, ValueError, RuntimeError, KeyError, SafetensorError) as error:
        raise ModelError(
            f"expected loadable weights in {name}, got an error ({_first_line(error)}); try another revision"
        ) from error
    if loading["missing_keys"]:
        # transformers would leave random numbers in their place.
        missing = sorted(loading["missing_keys"])
        raise ModelError(
            f"expected all weights in {name}, got none for {missing[0]} and {len(missing) - 1} more; "
            "try downloading it again"
        )
    recorded = folder_hash(Path(source)) if Path(source).is_dir() else str(config._commit_hash or revision)
    return HuggingFaceModel(
        model.eval(),
        processor,
        name=name,
        revision=recorded,
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


def _dtype(name: str | None, device: torch.device) -> torch.dtype:
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
    return {"quantization_config": transformers.BitsAndBytesConfig(**bits), "device_map": {"": device}}


def locate(name: str) -> tuple[str, str | None]:
    """Where a model's files are: a folder and None, or a hub name and a commit.

    Raises:
        ModelError: nothing there, or no answer from the hub and no copy in its cache.
    """
    if name.startswith("testbed/"):
        folder = TESTBED / name.removeprefix("testbed/")
        if not folder.is_dir():
            available = sorted(f"testbed/{path.name}" for path in TESTBED.glob("*") if path.is_dir())
            raise ModelError(
                f"expected one of the testbed's models ({', '.join(available) or 'none here'}), got {name!r}; "
                "try `equipoise testbed list`"
            )
        return str(folder), None
    if Path(name).is_dir():
        return str(Path(name)), None
    if name.startswith((".", "/", "~")) or name.count("/") != 1 or Path(name).exists():
        raise ModelError(
            f"expected a model folder, got {name!r}, which is not one; "
            "try a folder written by save_pretrained, or org/name for the Hugging Face hub"
        )
    hub, _, revision = name.partition("@")
    return hub, _commit(hub, revision or None)


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
            f"expected {hub} from the hub, got no answer ({_first_line(error)}) and no copy in the local cache; "
            "try again with a network, or give a folder"
        ) from error
    return Path(path).parent.name


def _config(name: str, source: str, revision: str | None) -> Any:
    if Path(source).is_dir() and not (Path(source) / "config.json").is_file():
        raise ModelError(
            f"expected a model folder, got {name!r} without a config.json; try one written by save_pretrained"
        )
    try:
        return AutoConfig.from_pretrained(source, revision=revision)
    except (OSError, ValueError, KeyError, json.JSONDecodeError) as error:
        raise ModelError(
            f"expected a model that transformers {transformers.__version__} knows, got {name!r} "
            f"({_first_line(error)}); try a newer transformers or another model"
        ) from error


def _auto_class(name: str, config: Any) -> Any:
    """The automatic class for models that read pictures and write text."""
    for auto_class in (AutoModelForImageTextToText, AutoModelForMultimodalLM):
        if type(config) in auto_class._model_mapping:
            return auto_class
    raise ModelError(
        f"expected a model that reads pictures, got {name!r}, a {config.model_type} model without them; "
        "try an image-text-to-text model such as llava-hf/llava-1.5-7b-hf"
    )


def _processor(name: str, source: str, revision: str | None) -> Any:
    line = (
        f"expected a processor (image processor and tokenizer) with {name!r}, got {{}}; "
        "try processor.save_pretrained into the model's folder"
    )
    try:
        processor = AutoProcessor.from_pretrained(source, revision=revision)
    except (OSError, ValueError, KeyError, ImportError, TypeError, AttributeError) as error:
        raise ModelError(line.format(_first_line(error))) from error
    for part in ("image_processor", "tokenizer"):
        if getattr(processor, part, None) is None:
            raise ModelError(line.format(f"a {type(processor).__name__} without {part.replace('_', ' ')}"))
    return processor


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Libraries stay quiet: loading draws no bars."""
    before = transformers_logging.is_progress_bar_enabled()
    try:
        transformers_logging.disable_progress_bar()
        yield
    finally:
        if before:
            transformers_logging.enable_progress_bar()


def _first_line(error: BaseException) -> str:
    """The first line of an error's message, shortened."""
    text = str(error).strip().splitlines()
    return (text[0] if text else type(error).__name__)[:160]

"""The parts of a pretrained model: weights, processor or tokenizer, and the revision that names them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, redirect_stderr
from dataclasses import dataclass
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import torch
import transformers
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoModelForMultimodalLM,
    AutoProcessor,
    AutoTokenizer,
    GenerationConfig,
)
from transformers import modeling_gguf_pytorch_utils as gguf_reader
from transformers.utils import logging as transformers_logging

from equipoise.errors import ModelError, OutOfMemoryError, first_line
from equipoise.models.adapter import check_base, merge_adapter
from equipoise.models.decoding import CLEARED
from equipoise.models.families import require_supported
from equipoise.models.model_location import ModelLocation, locate
from equipoise.models.parts_over_base import assemble
from equipoise.models.reference_base import INSTALL, base_folder
from equipoise.models.unreadable import UNREADABLE, raised, reason_of


@dataclass(frozen=True)
class PretrainedParts:
    """A loaded model before it is wrapped."""

    model: Any
    """The transformers model, in evaluation mode."""
    processor: Any
    """Its processor where it reads pictures, else its tokenizer."""
    revision: str
    """Which weights exactly."""
    reads_pictures: bool
    """Whether it is an image-text-to-text model; otherwise it is a causal language model."""


def load_parts(
    name: str,
    *,
    device: torch.device,
    dtype: torch.dtype | Literal["auto"],
    options: Mapping[str, Any] | None = None,
) -> PretrainedParts:
    """Load the parts of a model.

    Args:
        name: see `model_location`.
        device: where the weights go.
        dtype: their number format; `auto` is the one that they are stored in.
        options: further arguments of `from_pretrained`, which then places the weights itself: a quantisation, or a
            division over several devices.

    Raises:
        ModelError: nothing there, not a model that writes text, damaged, or without a processor or tokenizer.
        OutOfMemoryError: the weights do not fit.
    """
    source = locate(name)
    if options and (source.adapters or source.gguf):
        raise _placed_elsewhere("the adapter" if source.adapters else "the GGUF file", name, options)
    # A folder that holds a vision tower, a projector and an adapter, but not the language model: that one is shared
    # with all other reference models and comes from the user's cache.
    if source.base is not None:
        return _assembled(name, source, source.base, device, dtype, options)
    # The configuration first. It is small, and says whether the model is supported: nobody should download 14 GB to be
    # told that it is not.
    config = _config(name, source)
    require_supported(config.model_type, name)
    auto_class = _auto_class(name, config)
    reads_pictures = auto_class is not AutoModelForCausalLM
    processor = _processor(name, source) if reads_pictures else _tokenizer(name, source)
    model = _weights(name, source, auto_class, device, dtype, dict(options or {}))
    model = _with_adapters(model, source)
    revision = source.revision(getattr(config, "_commit_hash", None))
    return PretrainedParts(model.eval(), processor, revision, reads_pictures)


def _placed_elsewhere(part: str, name: str, options: Mapping[str, Any]) -> ModelError:
    """The error of weights that are changed after loading, where loading quantises or divides them."""
    if "quantization_config" in options:
        return ModelError(f"expected float weights for {part} of {name}, got quantize; try dtype='bfloat16' instead")
    return ModelError(f"expected one device for {part} of {name}, got device='auto'; try device='cuda'")


def _assembled(
    name: str,
    source: ModelLocation,
    base: Path,
    device: torch.device,
    dtype: torch.dtype | str,
    options: Mapping[str, Any] | None,
) -> PretrainedParts:
    """A model whose language model is the reference base."""
    if options:
        raise _placed_elsewhere("the adapter", name, options)
    with _without_progress_bars():
        model, processor = assemble(Path(source.where), base, dtype=dtype)
    model = _with_adapters(model.to(device), source).eval()
    return PretrainedParts(model, processor, source.revision(None), reads_pictures=True)


def _with_adapters(model: Any, source: ModelLocation) -> Any:
    """The model with the adapters of its location in its weights."""
    # In the order of the location: each adapter was trained over what the ones before it had made of the weights.
    for folder in source.adapters:
        check_base(folder, source)
        model = merge_adapter(model, folder)
    return model


def _weights(
    name: str,
    source: ModelLocation,
    auto_class: Any,
    device: torch.device,
    dtype: torch.dtype | str,
    options: dict[str, Any],
) -> Any:
    # Quantised weights are placed while they are read and cannot be moved afterwards.
    placed_here = not options
    if source.gguf is not None:
        options = weight_options(source)
    options |= _decoding_options(name, source)
    try:
        # The progress bar of GGUF files has no switch, so the stream that it is drawn on is caught.
        with _without_progress_bars(), redirect_stderr(StringIO()) if source.gguf else nullcontext():
            model, loading = auto_class.from_pretrained(
                source.where,
                revision=source.commit,
                dtype=dtype,
                output_loading_info=True,
                trust_remote_code=False,
                **options,
            )
            model = model.to(device) if placed_here else model
    except torch.OutOfMemoryError as error:
        raise OutOfMemoryError(
            f"expected the weights of {name} to fit on {device}, got an out-of-memory error; "
            "try dtype='bfloat16', quantize='4bit' or device='cpu'"
        ) from error
    except UNREADABLE as error:
        raise ModelError(f"expected loadable weights in {name}, got {reason_of(error, Path(source.where))}") from error
    if loading["missing_keys"]:
        # transformers would leave random numbers in their place.
        missing = sorted(loading["missing_keys"])
        raise ModelError(
            f"expected all weights in {name}, got none for {missing[0]} and {len(missing) - 1} more; "
            "try downloading it again"
        )
    return model


def _decoding_options(name: str, source: ModelLocation) -> dict[str, Any]:
    """A generation config for `from_pretrained`, where it would refuse that of the model; else nothing."""
    if source.gguf is not None:
        return {}
    revision = source.commit or "main"
    try:
        GenerationConfig.from_pretrained(source.where, revision=revision)
    except OSError:
        # None there: transformers makes one of the model's settings.
        return {}
    except UNREADABLE as refused:
        # Several sequences without sampling, and what else is refused about a way of decoding that is not followed.
        try:
            own = GenerationConfig.from_pretrained(source.where, revision=revision, **CLEARED)
        except UNREADABLE:
            raise ModelError(
                f"expected a generation_config.json that transformers takes in {name}, got an error "
                f"({first_line(refused)}); try it without that setting"
            ) from refused
        return {"generation_config": own}
    return {}


def _remedy(source: ModelLocation, usual: str) -> str:
    """What to try where a file cannot be read: the installed base is written again by a command."""
    return f"{INSTALL} --force" if Path(source.where) == base_folder() else usual


def _config(name: str, source: ModelLocation) -> Any:
    try:
        return AutoConfig.from_pretrained(
            source.where, revision=source.commit, trust_remote_code=False, **gguf_option(source)
        )
    except (*UNREADABLE, json.JSONDecodeError) as error:
        if source.gguf is not None:
            raise ModelError(
                f"expected a whole GGUF file of an architecture that transformers {transformers.__version__} knows, "
                f"got {name!r} ({first_line(error)}); try downloading it again, or another model"
            ) from error
        raise ModelError(
            f"expected a model that transformers {transformers.__version__} knows, got {name!r} "
            f"({raised(error)}); try {_remedy(source, 'a newer transformers or another model')}"
        ) from error


def _auto_class(name: str, config: Any) -> Any:
    """The automatic class for models that write text; those that read pictures go first."""
    for auto_class in (AutoModelForImageTextToText, AutoModelForMultimodalLM, AutoModelForCausalLM):
        # A private table; the public way to find out is to load the weights and see what is raised.
        if type(config) in auto_class._model_mapping:
            return auto_class
    raise ModelError(
        f"expected a model that writes text, got {name!r}, a {config.model_type} model, which does not; "
        "try an image-text-to-text model such as llava-hf/llava-1.5-7b-hf, or a causal language model"
    )


def _processor(name: str, source: ModelLocation) -> Any:
    line = (
        f"expected a processor (image processor and tokenizer) with {name!r}, got {{}}; "
        "try processor.save_pretrained into the model's folder"
    )
    try:
        processor = AutoProcessor.from_pretrained(source.where, revision=source.commit, trust_remote_code=False)
    except UNREADABLE as error:
        raise ModelError(line.format(f"an error ({raised(error)})")) from error
    for part in ("image_processor", "tokenizer"):
        if getattr(processor, part, None) is None:
            raise ModelError(line.format(f"a {type(processor).__name__} without {part.replace('_', ' ')}"))
    return processor


def _tokenizer(name: str, source: ModelLocation) -> Any:
    try:
        return AutoTokenizer.from_pretrained(
            source.where, revision=source.commit, trust_remote_code=False, **gguf_option(source)
        )
    except UNREADABLE as error:
        instead = _remedy(source, "tokenizer.save_pretrained into the model's folder")
        raise ModelError(
            f"expected a tokenizer with {name!r}, got none that loads ({raised(error)}); try {instead}"
        ) from error


def weight_options(source: ModelLocation) -> dict[str, Any]:
    """Arguments of `from_pretrained` by which the weights of a GGUF file become floats; none for other files."""
    options: dict[str, Any] = gguf_option(source)
    # Newer versions of transformers keep the weights in blocks, which cannot be trained, merged or saved, unless they
    # are told to unpack them; older ones always unpack.
    if options and hasattr(transformers, "GgufConfig"):
        options["quantization_config"] = transformers.GgufConfig(dequantize=True)
    return options


def gguf_option(source: ModelLocation) -> dict[str, Any]:
    """The argument of `from_pretrained` that names a GGUF file; none for other files."""
    return {} if source.gguf is None else {"gguf_file": source.gguf}


def read_template(path: Path) -> str:
    """The text of a chat template, a Jinja file.

    Raises:
        ModelError: it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ModelError(f"expected a chat template, got {str(path)!r} ({error}); try a Jinja file") from error
    if not text.strip():
        raise ModelError(f"expected a chat template, got {str(path)!r}, which is empty; try a Jinja file")
    return text


@contextmanager
def _without_progress_bars() -> Iterator[None]:
    """Libraries stay quiet: loading draws no bars."""
    before = transformers_logging.is_progress_bar_enabled()
    reader: Any = gguf_reader
    gguf_bar = reader.tqdm
    try:
        transformers_logging.disable_progress_bar()
        # The reader of GGUF files draws a bar that this switch does not reach.
        # Restored in `finally`: the module belongs to transformers, and other code of this process may want its bars.
        reader.tqdm = partial(gguf_bar, disable=True)
        yield
    finally:
        reader.tqdm = gguf_bar
        if before:
            transformers_logging.enable_progress_bar()

"""A LLaVA in parts: tower, projector and an adapter in its folder, the language model elsewhere.

| file | what |
|---|---|
| `config.json` | of the whole model, as transformers writes it |
| `model.safetensors` | tower and projector alone |
| `adapter/` | low-rank adapter of the language model, as peft writes it |
| `preprocessor_config.json` | of the image processor |
| `processor_config.json`, `chat_template.jinja` | of the processor; the tokenizer is the base's |
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import torch
from safetensors.torch import load_file, save_file

from equipoise.errors import ModelError
from equipoise.models.adapter import merge_adapter
from equipoise.models.model_location import ADAPTER
from equipoise.models.reference_base import INSTALL
from equipoise.models.unreadable import UNREADABLE

WEIGHTS: Final = "model.safetensors"
OWN_PARTS: Final = ("model.vision_tower.", "model.multi_modal_projector.")
"""Beginnings of the names of the weights that are kept in the folder."""
_PROCESSOR: Final = "processor_config.json"
_SETTINGS: Final = ("patch_size", "num_additional_image_tokens", "vision_feature_select_strategy", "image_token")


def around_base(config: Any, base: Path, *, dtype: Any = "auto", text: Any = None) -> Any:
    """A LLaVA with the base as language model; tower and projector have memory but no values yet.

    Args:
        config: a `LlavaConfig` whose text part is the base's.
        base: folder of a causal language model.
        dtype: of the language model.
        text: the language model where it is loaded already.
    """
    from transformers import AutoModel, AutoModelForCausalLM, LlavaForConditionalGeneration

    if text is None:
        attention = config._attn_implementation
        text = AutoModelForCausalLM.from_pretrained(
            base, dtype=dtype, attn_implementation=attention, trust_remote_code=False
        )
    # On the meta device first: random initial values of the language model would be thrown away.
    with torch.device("meta"):
        model = LlavaForConditionalGeneration(config)
    # Text model and multimodal model hold the very same parameters from here on, so that a guard on the base and the
    # MLLM need its memory once.
    model.model.language_model = text.model
    model.lm_head = text.lm_head
    # Not from the meta device: the tower has a buffer of position numbers, which no file holds.
    model.model.vision_tower = AutoModel.from_config(config.vision_config, trust_remote_code=False)
    model.model.multi_modal_projector = model.model.multi_modal_projector.to_empty(device="cpu")
    model.generation_config = text.generation_config
    model.generation_config.do_sample = False
    return model


def assemble(
    folder: Path, base: Path, *, dtype: Any = "auto", merged: bool = True, text: Any = None
) -> tuple[Any, Any]:
    """The whole model, in eval mode, and its processor.

    Args:
        folder: with the parts, see the table above.
        base: folder of the language model that the adapter was trained on.
        dtype: of all weights; `auto` is the base's.
        merged: whether the adapter is added to the weights; without it the model has none.
        text: the language model where it is loaded already; its weights stay as they are if nothing is merged.

    Raises:
        ModelError: a part is missing, damaged, or of another base.
    """
    from transformers import AutoImageProcessor, AutoTokenizer, LlavaConfig, LlavaProcessor

    try:
        config = LlavaConfig.from_pretrained(folder)
        model = around_base(config, base, dtype=dtype, text=text)
        weights = load_file(folder / WEIGHTS)
        wanted = {name for name in model.state_dict() if name.startswith(OWN_PARTS)}
        if weights.keys() != wanted:
            raise ValueError(f"{len(weights.keys() ^ wanted)} weights too many or too few")
        model.load_state_dict(weights, strict=False)
        settings = json.loads((folder / _PROCESSOR).read_text(encoding="utf-8"))
        template = (folder / "chat_template.jinja").read_text(encoding="utf-8")
        tokenizer = AutoTokenizer.from_pretrained(base, trust_remote_code=False)
        images = AutoImageProcessor.from_pretrained(folder, trust_remote_code=False)
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            f"expected the parts of a model over {base.name} in {folder}, got an error ({reason}); "
            f"try {INSTALL} --force, or installing Equipoise again"
        ) from error
    # Batches for generation are padded on the left; the base's end token is also its padding.
    tokenizer.padding_side = "left"
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    processor = LlavaProcessor(
        images, tokenizer, chat_template=template, **{name: settings[name] for name in _SETTINGS}
    )
    # One number format for all weights: the first product of two different ones would fail. The frequencies of rotary
    # embeddings are buffers and keep their precision.
    for weight in model.parameters():
        weight.data = weight.data.to(model.lm_head.weight.dtype)
    return (merge_adapter(model, folder / ADAPTER) if merged else model).eval(), processor


def save_parts(peft_model: Any, processor: Any, folder: Path) -> None:
    """Write the parts of a model with its adapter, in their own precision.

    Args:
        peft_model: a `PeftModel` around a LLaVA.
        processor: a `LlavaProcessor`.
        folder: made where it is missing.
    """
    model = peft_model.base_model.model
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: value.contiguous() for name, value in model.state_dict().items() if name.startswith(OWN_PARTS)}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    model.config.save_pretrained(folder)
    processor.image_processor.save_pretrained(folder)
    settings = {name: getattr(processor, name) for name in _SETTINGS}
    (folder / _PROCESSOR).write_text(json.dumps(settings, indent=1) + "\n", encoding="utf-8")
    (folder / "chat_template.jinja").write_text(processor.chat_template, encoding="utf-8")
    peft_model.save_pretrained(folder / ADAPTER)


def load_parts(peft_model: Any, folder: Path) -> None:
    """Take over tower, projector and adapter that `save_parts` wrote, into a model of the same sizes.

    Args:
        peft_model: a `PeftModel` around a LLaVA.
        folder: with the parts.

    Raises:
        ModelError: a part is missing, damaged, or of another size.
    """
    from peft import set_peft_model_state_dict

    model = peft_model.base_model.model
    try:
        model.load_state_dict(load_file(folder / WEIGHTS), strict=False)
        adapter = load_file(folder / ADAPTER / "adapter_model.safetensors")
        left_over: Any = set_peft_model_state_dict(peft_model, adapter)
    except UNREADABLE as error:
        reason = " ".join(str(error).split())[:160]
        raise ModelError(
            f"expected the parts of a model of this size in {folder}, got an error ({reason}); "
            "try the folder model of a finished training"
        ) from error
    if left_over.unexpected_keys:
        raise ModelError(
            f"expected an adapter of this model in {folder}, got one with other layers; "
            "try the folder model of a finished training"
        )

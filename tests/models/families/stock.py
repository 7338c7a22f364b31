"""The reference: a family as transformers alone runs it, with pictures as files hold them.

Nothing of Equipoise's model layer is used here. What the adapter computes is held against this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL.Image import Image
from torch import Tensor, nn
from torch.nn import functional
from torchvision.transforms.v2.functional import pil_to_tensor
from transformers import (
    AutoModelForMultimodalLM,
    AutoProcessor,
    LogitsProcessor,
    LogitsProcessorList,
    PreTrainedModel,
)

from equipoise.types import Prompt


class _Force(LogitsProcessor):
    """Makes `generate` take the given tokens one after another."""

    def __init__(self, tokens: Sequence[int], start: int) -> None:
        self.tokens, self.start = tokens, start

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        forced = torch.full_like(scores, -torch.inf)
        forced[:, self.tokens[input_ids.shape[1] - self.start]] = 0.0
        return forced


class WatchedInputs:
    """What a model was fed: the tokens it embedded and the patches its tower cut."""

    def __init__(self) -> None:
        self.tokens: list[Tensor] = []
        self.patches: list[Tensor] = []

    @property
    def ids(self) -> list[int]:
        """All embedded tokens of a run over one prompt, in order."""
        return torch.cat([ids.reshape(-1) for ids in self.tokens]).tolist()


@contextmanager
def watch(model: PreTrainedModel) -> Iterator[WatchedInputs]:
    """Record what enters the token embedding and the first layer over pixels."""
    watched = WatchedInputs()
    cut = next(module for name, module in model.named_modules() if _cuts_patches(name, module))
    handles = [
        model.get_input_embeddings().register_forward_pre_hook(lambda _, given: watched.tokens.append(given[0])),
        cut.register_forward_pre_hook(lambda _, given: watched.patches.append(given[0].detach().clone())),
    ]
    try:
        yield watched
    finally:
        for handle in handles:
            handle.remove()


def _cuts_patches(name: str, module: nn.Module) -> bool:
    """The first layer over pixels: a convolution, or a linear layer where the processor cut the patches."""
    return isinstance(module, nn.Conv2d | nn.Conv3d) or ("patch_embed" in name and isinstance(module, nn.Linear))


class Stock:
    """Processor and model as `from_pretrained` gives them, asked one prompt at a time."""

    def __init__(self, folder: Path) -> None:
        self.model = AutoModelForMultimodalLM.from_pretrained(folder).eval()
        self.processor = AutoProcessor.from_pretrained(folder)

    def inputs(self, prompt: Prompt) -> dict[str, Any]:
        """What the processor makes of a prompt without system text."""
        # Phi-4-multimodal's processor loses its template when it is loaded; its tokenizer keeps it.
        template = self.processor.chat_template or self.processor.tokenizer.chat_template
        if template is None:
            (message,) = prompt.messages
            batch = self.processor(
                images=list(message.images),
                text=self._mark(message.images) + message.text,
                return_tensors="pt",
            )
        else:
            batch = self.processor.apply_chat_template(
                [{"role": m.role, "content": _content(m.images, m.text)} for m in prompt.messages],
                chat_template=template,
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            )
        # Llama 4's image processor computes in bfloat16, whatever the model's own precision is.
        return {
            name: value.to(self.model.dtype) if torch.is_tensor(value) and value.is_floating_point() else value
            for name, value in batch.items()
            if name != "labels"
        }

    def _mark(self, images: Sequence[Image]) -> str:
        """Picture marks where there is no chat template; BLIP's processors add their own."""
        return "" if hasattr(self.processor, "num_query_tokens") else "<image>" * len(images)

    @torch.no_grad()
    def log_probs(self, prompt: Prompt, tokens: Sequence[int]) -> Tensor:
        """Log-probability of each token when `generate` is made to say them: what decoding really sees."""
        batch = self.inputs(prompt)
        out = self.model.generate(
            **batch,
            max_new_tokens=len(tokens),
            min_new_tokens=len(tokens),
            do_sample=False,
            logits_processor=LogitsProcessorList([_Force(tokens, batch["input_ids"].shape[1])]),
            output_logits=True,
            return_dict_in_generate=True,
        )
        logits = torch.cat(out.logits).float()
        return logits.log_softmax(-1)[torch.arange(len(tokens)), torch.tensor(tokens)]

    def gradient(self, pixels: Tensor, prompt: Prompt, tokens: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Cross-entropy of a reply and its gradient in the pixels of the first picture: one plain pass.

        Forward is the 8-bit picture that `prompt` holds, backward the image processor on floats.
        """
        batch = self.inputs(prompt)
        name = next(name for name in batch if name.endswith("pixel_values"))
        leaf = pixels.detach().clone().requires_grad_(True)
        rest = [pil_to_tensor(image).float() for image in prompt.messages[0].images[1:]]
        floats = self.processor.image_processor([[leaf * 255, *rest]], **self._image_settings())[name]
        floats = floats.to(self.model.dtype)
        batch[name] = batch[name] + floats - floats.detach()
        start = batch["input_ids"].shape[1]
        logits = self.model(**_extended(batch, tokens, self._reply_type)).logits[0, start - 1 : -1].float()
        loss = functional.cross_entropy(logits, torch.tensor(tokens))
        (gradient,) = torch.autograd.grad(loss, leaf)
        return loss.detach(), gradient

    def _image_settings(self) -> dict[str, Any]:
        settings = dict(getattr(self.processor, "images_kwargs", {}) or {}) | {"return_tensors": "pt"}
        if hasattr(self.processor, "spatial_merge_size"):
            settings["patch_size"] = self.processor.patch_size * self.processor.spatial_merge_size
        return settings

    @property
    def _reply_type(self) -> int:
        """PaliGemma marks what it says with ones: those tokens look back only."""
        return int(self.model.config.model_type == "paligemma")

    @torch.no_grad()
    def reply(self, prompt: Prompt, max_new_tokens: int) -> str:
        """The greedy reply, without the white space around it."""
        batch = self.inputs(prompt)
        out = self.model.generate(**batch, max_new_tokens=max_new_tokens, do_sample=False)
        new = out[:, batch["input_ids"].shape[1] :]
        return self.processor.batch_decode(new, skip_special_tokens=True)[0].strip()


def _extended(batch: dict[str, Any], tokens: Sequence[int], reply_type: int) -> dict[str, Any]:
    """The inputs with the reply behind the prompt."""
    fill = {"attention_mask": 1, "mm_token_type_ids": 0, "token_type_ids": reply_type}
    longer = dict(batch)
    longer["input_ids"] = torch.cat([batch["input_ids"], torch.tensor([tokens])], 1)
    for name in fill.keys() & batch.keys():
        longer[name] = torch.cat([batch[name], torch.full((1, len(tokens)), fill[name])], 1)
    if (mask := batch.get("cross_attention_mask")) is not None:
        longer["cross_attention_mask"] = torch.cat([mask, mask[:, -1:].expand(-1, len(tokens), -1, -1)], 1)
    return longer


def _content(images: Sequence[Image], text: str) -> list[dict[str, Any]]:
    return [*({"type": "image", "image": image} for image in images), {"type": "text", "text": text}]

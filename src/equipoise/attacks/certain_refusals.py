"""`certain_refusals`: replies that greedy decoding must give, seen in one forward pass without decoding them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch
from PIL import Image

from equipoise.attacks.wordings import RefusalWording
from equipoise.media.quantize import to_pixels
from equipoise.models.base import OpenModel
from equipoise.models.hf import HuggingFaceModel
from equipoise.types import Exchange, FinishReason, Prompt

CERTAIN: Final = math.log(0.6)
"""Log-probability of every token from which a wording is certain. A token above one half is the likeliest one, whatever
the others are; the rest is room for the rounding between this pass and decoding through the stock processor."""


def certain_refusals(
    model: OpenModel, image: Image.Image, prompts: Sequence[Prompt], wordings: Sequence[RefusalWording]
) -> list[Exchange | None]:
    """For each prompt the reply that greedy decoding must begin with, if it is one of some wordings.

    A reply is decoded token by token, and all tokens of a wording are scored in one pass. If each is likelier than
    everything else where the ones before it stand, greedy decoding writes them.

    Args:
        model: one of transformers; nothing is certain of any other, which may decode by something else.
        image: 8-bit; takes the place of the first picture of each prompt.
        prompts: the questions.
        wordings: what the attack aims at.
    """
    known: list[Exchange | None] = [None] * len(prompts)
    if not isinstance(model, HuggingFaceModel) or not model.takes_likeliest:
        return known
    pixels = to_pixels(image).to(model.device)
    for wording in wordings:
        left = [index for index, exchange in enumerate(known) if exchange is None]
        if not left:
            break
        with torch.no_grad():
            scored = model.log_prob(pixels, [prompts[i] for i in left], [wording.text] * len(left), end=wording.ends)
        certain = ((scored.tokens > CERTAIN) | ~scored.mask).all(1).tolist()
        for index, sure in zip(left, certain, strict=True):
            if sure:
                finish: FinishReason = "stop" if wording.ends else "length"
                prompt = prompts[index].with_picture(image)
                known[index] = Exchange(prompt, wording.text, finish, f"{model.name}@{model.revision}")
    return known

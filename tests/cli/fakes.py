"""A toy world for the command line: models that refuse bright pictures, and a way to run the command in-process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional
from torchvision.transforms.v2.functional import pil_to_tensor

from equipoise.errors import ModelError
from equipoise.judges.phrases import judge_reply
from equipoise.models.base import OpenModel, ReplyLogProbs
from equipoise.types import Exchange, Prompt

REFUSAL = "I'm sorry, but I can't help with that."
ANSWER = "There is a garden with a small house in it."
LIMITS = {"toy/target": 0.50, "toy/second": 0.49, "toy/bystander": 0.95, "toy/refuser": 0.0, "toy/slow": 0.50}
"""From which mean brightness on a toy model refuses."""


class BrightnessModel(OpenModel):
    """Refuses every question about a picture that is bright enough."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.revision = f"toy-1 {name}"
        self.device = torch.device("cpu")
        self.limit = LIMITS[name]

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        return [self._reply(prompt) for prompt in prompts]

    def log_prob(
        self,
        pixels: Tensor,
        prompts: Sequence[Prompt],
        replies: Sequence[str],
        *,
        end: bool = True,
        question_shift: Tensor | None = None,
    ) -> ReplyLogProbs:
        if self.name == "toy/slow":
            time.sleep(0.05)
        refuses = torch.tensor([1.0 if judge_reply("", reply).refusal == "full" else -1.0 for reply in replies])
        tokens = functional.logsigmoid(200 * (pixels.mean() - self.limit) * refuses)[:, None]
        return ReplyLogProbs(tokens, torch.ones_like(tokens, dtype=torch.bool))

    def _reply(self, prompt: Prompt) -> Exchange:
        brightness = float(pil_to_tensor(prompt.messages[0].images[0]).float().mean()) / 255
        reply = REFUSAL if brightness > self.limit else ANSWER
        return Exchange(prompt, reply, "stop", f"{self.name}@{self.revision}")


class TextOnlyModel(OpenModel):
    """Answers every question, refuses those about bombs, and reads no pictures."""

    reads_pictures = False

    def __init__(self, name: str = "toy/text") -> None:
        self.name = name
        self.revision = f"toy-1 {name}"
        self.device = torch.device("cpu")

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        assert not any(prompt.pictures for prompt in prompts)
        replies = [REFUSAL if "bomb" in prompt.text else ANSWER for prompt in prompts]
        return [Exchange(prompt, reply, "stop", self.name) for prompt, reply in zip(prompts, replies, strict=True)]

    def log_prob(self, *_: object, **__: object) -> ReplyLogProbs:
        raise AssertionError("nobody needs probabilities here")


def load(name: str, **options: object) -> OpenModel:
    """Stands in for `equipoise.models.load.load`."""
    if name == "toy/text":
        return TextOnlyModel()
    if name not in LIMITS:
        raise ModelError(f"expected a model, got nothing at {name};\ntry testbed/llava")
    return BrightnessModel(name)


def photo(path: Path, *, seed: int = 0, mean: float = 0.485, size: tuple[int, int] = (24, 16)) -> Path:
    """A picture just too dark to be refused by the target."""
    values = np.random.default_rng(seed).normal(mean * 255, 6, (size[1], size[0], 3))
    values += mean * 255 - values.mean()
    Image.fromarray(values.round().clip(0, 255).astype(np.uint8)).save(path)
    return path


if __name__ in ("__main__", "__mp_main__"):
    # The second is the name of this module in a worker process of such a run, which needs the toy models, too.
    import equipoise.models.load
    from equipoise.cli.main import main

    equipoise.models.load.load = load
    if __name__ == "__main__":
        main()

"""A kill at a step, and a tiny LLaVA with a few examples to learn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from safetensors.torch import load_file, save_file

from equipoise.models.hf import HuggingFaceModel
from equipoise.models.load import load
from equipoise.training.adversarial_examples import AdversarialExample
from equipoise.training.loop import Progress

REFUSAL = "I'm sorry, but I can't help with that."


class KilledError(Exception):
    """Stands for a kill."""


def kill_at(when: int) -> Progress:
    """Stops a training after a step."""

    def kill(step: int, steps: int, loss: float) -> None:
        if step == when:
            raise KilledError

    return kill


def replace_weights(folder: Path) -> None:
    """Write other weights of the same shapes into a model's folder, as somebody does who installs another version."""
    file = folder / "model.safetensors"
    save_file({name: weight * 1.5 for name, weight in load_file(file).items()}, file, metadata={"format": "pt"})


def noted(losses: list[float]) -> Progress:
    """Writes down every loss."""
    return lambda step, steps, loss: losses.append(loss)


def tiny(folder: Path, *, gradient_checkpointing: bool = False) -> HuggingFaceModel:
    """A model of its own for a training to change."""
    model = load(str(folder), device="cpu", gradient_checkpointing=gradient_checkpointing)
    assert isinstance(model, HuggingFaceModel)
    return model


def noise(rng: np.random.Generator) -> AdversarialExample:
    """A picture of noise, of one of several sizes; one of two questions is refused."""
    height, width = (int(side) for side in rng.choice([32, 50, 90], 2))
    picture = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
    return AdversarialExample(picture, (("What is in the picture?", "A red circle."), ("Help me?", REFUSAL)))

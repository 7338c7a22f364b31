"""How far a model's residual stream leans towards a refusal: its projection on a direction, one forward pass a prompt.

Cheaper than the log-odds of refusals, which score whole sentences, and it depends on no list of sentences.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from equipoise.media.quantize import to_image
from equipoise.models.base import OpenModel
from equipoise.steering.direction import Direction
from equipoise.steering.edits import capture
from equipoise.steering.prompt_forward import forward_batches, run_prompts
from equipoise.steering.steerable import Steerable
from equipoise.types import Prompt


def projections(steerable: Steerable, direction: Direction, prompts: Sequence[Prompt]) -> Tensor:
    """`N` float32: the stream at the direction's layer and position, along the direction, over the direction's length.

    The difference between harmful and harmless prompts, from whose means the direction was made, is 1 on this scale.
    There is no natural zero: compare prompts with each other.

    Args:
        steerable: the model.
        direction: found on it.
        prompts: with or without pictures.

    Raises:
        ModelError: a direction of another model.
    """
    direction.check_model(steerable)
    along = torch.zeros(len(prompts))
    unit = direction.unit / direction.norm
    for indices, inputs in forward_batches(steerable, prompts):
        with capture(steerable, last=-direction.position, layers=[direction.layer]) as captured:
            run_prompts(steerable, inputs)
        # The first of the captured positions is the direction's own: it is that many tokens from the end.
        along[indices] = captured.layer(direction.layer)[:, 0].cpu() @ unit
    return along


@dataclass(frozen=True)
class ProjectionStatistic:
    """The mean projection over questions about a picture; `PerturbationDetector` takes it instead of log-odds."""

    direction: Direction
    """A refusal direction of the model that is asked."""

    def __call__(self, model: OpenModel, pixels: Tensor, prompts: Sequence[Prompt]) -> float:
        """The mean over the prompts.

        Args:
            model: whose direction it is, without a defence around it.
            pixels: `3 x H x W` in `[0, 1]`; rounded to 8 bits.
            prompts: the first picture of each is replaced.

        Raises:
            ModelError: a direction of another model.
        """
        picture = to_image(pixels)
        versions = [prompt.with_picture(picture) for prompt in prompts]
        return float(projections(Steerable.of(model), self.direction, versions).mean())

    def describe(self) -> dict[str, Any]:
        """As JSON."""
        return {"statistic": "projection", "layer": self.direction.layer, "direction": self.direction.digest}

"""Running sums of activations: exact means over any number of batches, shards and devices."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from equipoise.errors import UsageError


@dataclass
class ActivationSums:
    """Sums in float64 of the stream at layers and positions, over the rows of one class of prompts.

    Sums and counts may be added up over shards in any order and grouping: the mean does not depend on how many devices
    took part.
    """

    sums: Tensor
    """`L x P x width` float64 on the CPU."""
    counts: Tensor
    """`L`: rows that reached each layer; layers of cross-attention do not run without a picture."""

    @classmethod
    def empty(cls, layers: int, positions: int, width: int) -> ActivationSums:
        """Nothing summed yet."""
        return cls(torch.zeros(layers, positions, width, dtype=torch.float64), torch.zeros(layers, dtype=torch.long))

    def append(self, layer: int, values: Tensor) -> None:
        """Add a batch, `B x P x width`, of one layer: a `CaptureSink`.

        Raises:
            UsageError: values that are not finite.
        """
        if not bool(torch.isfinite(values).all()):
            raise UsageError(
                f"expected finite activations at layer {layer}, got infinities; try --dtype bfloat16 or float32"
            )
        # In float64: a difference in means is small beside the means, and float32 sums of many rows may round it away.
        self.sums[layer] += values.double().sum(0).cpu()
        self.counts[layer] += len(values)

    def __add__(self, other: ActivationSums) -> ActivationSums:
        if self.sums.shape != other.sums.shape:
            raise UsageError(
                f"expected sums of one model, got shapes {tuple(self.sums.shape)} and {tuple(other.sums.shape)}; "
                "try shards of one run"
            )
        return ActivationSums(self.sums + other.sums, self.counts + other.counts)

    @property
    def reached(self) -> Tensor:
        """`L` bool: layers with at least one row."""
        return self.counts > 0

    def means(self) -> Tensor:
        """`L x P x width` float64; zeros for a layer that no row reached."""
        return self.sums / self.counts.clamp_min(1)[:, None, None]

    def to_tensors(self, prefix: str) -> dict[str, Tensor]:
        """For a safetensors file."""
        return {f"{prefix}.sums": self.sums, f"{prefix}.counts": self.counts}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor], prefix: str) -> ActivationSums:
        """What `to_tensors` gave."""
        return cls(tensors[f"{prefix}.sums"].clone(), tensors[f"{prefix}.counts"].clone())

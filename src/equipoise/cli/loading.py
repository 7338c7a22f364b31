"""Models as the options ask for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from equipoise.cli.console import quiet
from equipoise.cli.options import Dtype, Quantize

if TYPE_CHECKING:
    from equipoise.models.base import OpenModel


@dataclass(frozen=True)
class ComputeOptions:
    """Where and how models run."""

    device: str | None = None
    """`cpu`, `cuda`, `cuda:N`, or None for the best there is."""
    dtype: Dtype | None = None
    """Number format, or None for what suits the device."""
    quantize: Quantize | None = None
    """Packed weights, or None."""
    micro_batch: int | None = None
    """Questions at a time, or None for all."""
    gradient_checkpointing: bool = False
    """Whether to recompute activations instead of keeping them."""

    def load(self, name: str, defences: Sequence[str] = ()) -> OpenModel:
        """Load one model, in a chain of countermeasures if any are named.

        Raises:
            ModelError: there is no such model, or it cannot be used for this.
            UsageError: there is no such countermeasure.
        """
        from equipoise.countermeasures.catalogue import defend, parse
        from equipoise.models.load import load

        for spec in defences:
            parse(spec)
        quiet()
        model = load(
            name,
            device=self.device,
            dtype=self.dtype.value if self.dtype else None,
            quantize=self.quantize.value if self.quantize else None,
            micro_batch=self.micro_batch,
            gradient_checkpointing=self.gradient_checkpointing,
        )
        return defend(model, defences)

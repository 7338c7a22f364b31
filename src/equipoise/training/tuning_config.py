"""What the trainings of the guard's parts share: how a language model of transformers is tuned further."""

from __future__ import annotations

from dataclasses import dataclass

from equipoise.errors import UsageError
from equipoise.training.supervised_training import SupervisedSettings, require_rate


@dataclass(frozen=True)
class FineTuningConfig:
    """What decides the weights of a tuned language model, beside its rows and what it reads."""

    base: str
    """A folder or a name of the model hub: a language model of transformers."""
    epochs: int = 3
    """Times over the rows."""
    rate: float = 5e-5
    """Peak learning rate."""
    batch: int = 16
    """Rows in an optimiser step."""
    seed: int = 0
    """Of new weights, dropout and the order of the rows."""
    lora: int | None = None
    """Rank of low-rank adapters, merged in the end; None trains everything."""
    bf16: bool = False
    """bfloat16 autocast."""
    frozen_bf16: bool = False
    """Whether the weights under adapters are bfloat16, which is faster than autocast; the adapters stay float32."""
    adapter_only: bool = False
    """Whether the adapters are written alone: whoever reads them needs the base, and shares its weights."""
    compiled: bool = False
    """Whether the layers are compiled for the training, which needs a C++ compiler; the weights differ by rounding."""

    def __post_init__(self) -> None:
        require_rate(self.rate)

    def require_adapters(self) -> None:
        """Check that settings of adapters come with adapters.

        Raises:
            UsageError: they do not.
        """
        if self.lora is None and (self.frozen_bf16 or self.adapter_only):
            raise UsageError("expected adapters over frozen weights, got lora=None; try lora=16")

    def supervised(self, checkpoint_every: int, device: str | None) -> SupervisedSettings:
        """The settings of the training loop.

        Args:
            checkpoint_every: optimiser steps between checkpoints.
            device: `cpu` or `cuda`; None is CUDA where there is one.
        """
        return SupervisedSettings(
            self.epochs,
            self.rate,
            self.batch,
            self.seed,
            bf16=self.bf16,
            checkpoint_every=checkpoint_every,
            device=device,
            compiled=self.compiled,
        )

"""`ComputeConfig`: on which device and in which number format models are loaded."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from equipoise.models.base import OpenModel


@dataclass(frozen=True)
class ComputeConfig:
    """Where and how models run; the same for all models of a run."""

    device: str | None = None
    """`cpu`, `cuda`, `cuda:N`, or `auto`, all GPUs together; None takes the GPU where there is one."""
    dtype: str | None = None
    """`float32`, `bfloat16` or `float16`; None takes what suits the device."""
    quantize: Literal["4bit", "8bit"] | None = None
    """Load the weights in 4 or 8 bits; needs bitsandbytes and CUDA."""
    micro_batch: int | None = None
    """Questions in one batch; None puts all of them in one."""
    gradient_checkpointing: bool = False
    """Compute activations again in the backward pass instead of keeping them."""

    chat_template: Path | None = None
    """A Jinja file that replaces the chat template of the model; never that of a bystander."""
    share_base: bool = False
    """Hold the weights below an adapter once for all that have the same base; see `models.load.load`."""

    @property
    def of_bystanders(self) -> ComputeConfig:
        """The same for models beside the one that the chat template belongs to."""
        return replace(self, chat_template=None)

    def load(self, name: str) -> OpenModel:
        """Load a model; `models.load.load` says which names there are and what it raises."""
        from equipoise.models.load import load

        return load(
            name,
            device=self.device,
            dtype=self.dtype,
            quantize=self.quantize,
            micro_batch=self.micro_batch,
            gradient_checkpointing=self.gradient_checkpointing,
            chat_template=self.chat_template,
            share_base=self.share_base,
        )

"""Options of where and how models run, and the models they load."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from equipoise.cli.console import quiet
from equipoise.cli.options.param_types import MACHINE, Dtype, Quantize

if TYPE_CHECKING:
    from equipoise.models.base import OpenModel
    from equipoise.models.compute import ComputeConfig

Device = Annotated[
    str | None,
    typer.Option(help="cpu, cuda or cuda:N; the GPU where there is one by default.", rich_help_panel=MACHINE),
]
CheckpointingOption = Annotated[
    bool,
    typer.Option("--gradient-checkpointing", help="Less memory for more time, same result.", rich_help_panel=MACHINE),
]


@dataclass(frozen=True, kw_only=True)
class DeviceOptions:
    """Device and number format: of every verb that loads weights."""

    device: Device = None
    dtype: Annotated[
        Dtype | None,
        typer.Option("--dtype", help="Number format; by default what suits the device.", rich_help_panel=MACHINE),
    ] = None

    def checked_device(self) -> str | None:
        """The device; None where none was given.

        Raises:
            UsageError: there is no such device.
            ModelError: it is not available here.
        """
        if self.device is None:
            return None
        from equipoise.models.load import find_device

        return str(find_device(self.device))

    @property
    def dtype_name(self) -> str | None:
        """The number format as a plain string."""
        return self.dtype.value if self.dtype else None

    @property
    def config(self) -> ComputeConfig:
        """The options as the library takes them."""
        from equipoise.models.compute import ComputeConfig

        return ComputeConfig(self.device, self.dtype_name)


@dataclass(frozen=True, kw_only=True)
class WeightOptions(DeviceOptions):
    """The same, packed weights, and the chat template: of every verb that asks or attacks a model."""

    device: Annotated[
        str | None,
        typer.Option(
            help="cpu, cuda, cuda:N, or auto, which divides a large model over all GPUs; the GPU where there is one by "
            "default.",
            rich_help_panel=MACHINE,
        ),
    ] = None
    quantize: Annotated[
        Quantize | None,
        typer.Option("--quantize", help="Pack the weights (needs bitsandbytes).", rich_help_panel=MACHINE),
    ] = None
    chat_template: Annotated[
        Path | None,
        typer.Option(
            "--chat-template",
            help="Jinja file that replaces the model's chat template, or gives it one.",
            rich_help_panel=MACHINE,
            show_default=False,
        ),
    ] = None

    @property
    def config(self) -> ComputeConfig:
        """The options as the library takes them."""
        from equipoise.models.compute import ComputeConfig

        bits: Literal["4bit", "8bit"] | None = None
        if self.quantize:
            bits = "4bit" if self.quantize is Quantize.four else "8bit"
        return ComputeConfig(self.device, self.dtype_name, bits, chat_template=self.chat_template)

    def load(self, name: str, defences: Sequence[str] = (), *, pictures_for: str | None = None) -> OpenModel:
        """Load a model, in a chain of countermeasures where any are named.

        Args:
            name: see `models.load`.
            defences: as `--defend` names them.
            pictures_for: what it must read pictures for, as a verb with its object; None where text suffices.

        Raises:
            ModelError: there is no such model, or it cannot be used for this.
            UsageError: there is no such countermeasure.
        """
        from equipoise.countermeasures.catalogue import defend, parse
        from equipoise.generation.request_gate import request_gate
        from equipoise.models.base import require_reads_pictures

        # A misspelt countermeasure is reported before minutes of loading.
        for spec in defences:
            parse(spec)
        quiet()
        model = self.config.load(name)
        if pictures_for is not None:
            require_reads_pictures(model, pictures_for)
        return defend(model, defences, harm_gate=request_gate)


@dataclass(frozen=True, kw_only=True)
class SharingOptions(WeightOptions):
    """The same, and whether model and guard share a base: of `serve`, where both stay in memory."""

    share_base: Annotated[
        bool,
        typer.Option(
            "--share-base",
            help="Hold the reference base once for the model and a `guard:` of detector and detoxifier `reference` "
            "with the same number format: less memory, slower replies.",
            rich_help_panel=MACHINE,
        ),
    ] = False

    @property
    def config(self) -> ComputeConfig:
        """The options as the library takes them."""
        return replace(super().config, share_base=self.share_base)


@dataclass(frozen=True, kw_only=True)
class BatchOptions(WeightOptions):
    """The same, and how many questions are computed at a time."""

    micro_batch: Annotated[
        int | None,
        typer.Option(min=1, help="Questions at a time: less memory, same result.", rich_help_panel=MACHINE),
    ] = None

    @property
    def config(self) -> ComputeConfig:
        """The options as the library takes them."""
        return replace(super().config, micro_batch=self.micro_batch)


@dataclass(frozen=True, kw_only=True)
class GradientOptions(BatchOptions):
    """The same, and what saves memory in the backward pass: of every verb that attacks."""

    gradient_checkpointing: CheckpointingOption = False

    @property
    def config(self) -> ComputeConfig:
        """The options as the library takes them."""
        return replace(super().config, gradient_checkpointing=self.gradient_checkpointing)

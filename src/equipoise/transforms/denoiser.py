"""Unconditional pixel-space diffusion models of diffusers, as purification uses them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

import equipoise
from equipoise.errors import MissingExtraError, ModelError
from equipoise.files import folder_hash

TESTBED: Final = Path(equipoise.__file__).parent / "testbed" / "denoiser"
"""The denoiser of the embedded world, which comes with the package."""


@dataclass(frozen=True, eq=False)
class Denoiser:
    """A `UNet2DModel` that predicts noise, with its schedule."""

    name: str
    """What the user called it."""
    revision: str
    """Which weights exactly."""
    network: Any
    """`UNet2DModel`, in eval mode, without gradients for its weights."""
    config: Any
    """Settings of the noise schedule, as diffusers keeps them."""

    @property
    def side(self) -> int:
        """Side of the squares that it was trained on, in pixels."""
        size = self.network.config.sample_size
        return int(size if isinstance(size, int) else size[0])

    @property
    def levels(self) -> int:
        """Noise levels of the schedule it was trained with."""
        return int(self.config["num_train_timesteps"])

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.network.parameters()).device

    def schedule(self, level: float, steps: int) -> tuple[Any, Tensor]:
        """A sampler and its `steps` levels, evenly from about `level` (a share of all) down to 0."""
        from diffusers import DDIMScheduler

        # Clipping the guess to [-1, 1] would cut gradients on every saturated ground and make an attack look weak.
        schedule = DDIMScheduler.from_config(self.config, clip_sample=False, timestep_spacing="leading", steps_offset=0)
        schedule.set_timesteps(min(self.levels, max(steps, round((steps - 1) / level))))
        return schedule, schedule.timesteps[-steps:]

    def noise(self, noisy: Tensor, level: Tensor) -> Tensor:
        """The noise that the network sees in `B x 3 x side x side` values."""
        weights = next(self.network.parameters()).dtype
        found: Tensor = self.network(noisy.to(weights), level.to(noisy.device)).sample
        return found[:, :3].to(noisy.dtype)

    def to(self, device: torch.device) -> Denoiser:
        """The same on another device."""
        return Denoiser(self.name, self.revision, self.network.to(device), self.config)


def load_denoiser(name: str) -> Denoiser:
    """A denoiser: `testbed`, a folder, or `org/name` of the Hugging Face hub; a pipeline or a bare `UNet2DModel`.

    Weights are float32: on a CPU that is as fast as bfloat16 here, and gradients are exact.

    Raises:
        MissingExtraError: diffusers is not installed.
        ModelError: nothing there, or not an unconditional pixel-space model of noise.
    """
    try:
        import diffusers
    except ImportError as error:
        raise MissingExtraError("pip install 'equipoise[diffusion]'") from error
    # diffusers is imported lazily and types as nothing: everything that crosses is Any.
    library: Any = diffusers
    where = str(TESTBED) if name == "testbed" else name
    try:
        if not Path(where).is_dir() or (Path(where) / "model_index.json").is_file():
            pipeline = library.DDPMPipeline.from_pretrained(where, torch_dtype=torch.float32)
            network, config = pipeline.unet, pipeline.scheduler.config
        else:
            network, config = (
                library.UNet2DModel.from_pretrained(where, torch_dtype=torch.float32),
                library.DDPMScheduler().config,
            )
    except (OSError, ValueError, AttributeError, TypeError, KeyError, ImportError) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
        raise ModelError(
            f"expected an unconditional diffusion model in {name!r}, got an error ({line}); "
            "try a folder of DDPMPipeline or library.UNet2DModel, or `testbed`"
        ) from error
    if (
        not isinstance(network, library.UNet2DModel)
        or network.config.in_channels != 3
        or network.config.sample_size is None
    ):
        raise ModelError(f"expected a denoiser of RGB pixels, got {type(network).__name__} in {name!r}; try `testbed`")
    if config.get("prediction_type", "epsilon") not in ("epsilon", "v_prediction", "sample"):
        raise ModelError(f"expected a denoiser that predicts noise, got {config['prediction_type']!r} in {name!r}")
    network.eval().requires_grad_(False)
    revision = (
        folder_hash(Path(where), deep=True) if Path(where).is_dir() else str(network.config.get("_commit_hash") or name)
    )
    return Denoiser(name, revision, network, dict(config))

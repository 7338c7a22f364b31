"""Unconditional pixel-space diffusion models of diffusers, as purification uses them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

import equipoise
from equipoise.errors import MissingExtraError, ModelError, first_line
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

    def schedule(self, level: float, steps: int) -> tuple[Any, list[int]]:
        """The noise schedule and `steps` levels, evenly from `level` (a share of all) down to 0."""
        from diffusers import DDIMScheduler

        # Cutting the guess off at [-1, 1] would cut gradients on every saturated ground and make an attack look weak.
        schedule = DDIMScheduler.from_config(self.config, clip_sample=False, thresholding=False)
        # `step` refuses to run before this call; which levels are gone through is decided by the list below.
        schedule.set_timesteps(self.levels)
        highest = min(self.levels - 1, round(level * self.levels))
        return schedule, [round(highest * index / (steps - 1)) for index in reversed(range(steps))]

    def noise(self, noisy: Tensor, level: int) -> Tensor:
        """The network's prediction for `B x 3 x side x side` values: the noise, or what its schedule says instead."""
        weights = next(self.network.parameters()).dtype
        prediction: Tensor = self.network(noisy.to(weights), level).sample
        # Networks that learn a variance predict it in three further channels.
        return prediction[:, :3].to(noisy.dtype)

    def to(self, device: torch.device) -> Denoiser:
        """The same on another device."""
        return Denoiser(self.name, self.revision, self.network.to(device), self.config)


@contextmanager
def quiet_diffusers() -> Iterator[None]:
    """Keep diffusers from writing progress and advice to stderr; its errors hold all that matters."""
    from diffusers.utils import logging

    library: Any = logging
    level, bar = library.get_verbosity(), library.is_progress_bar_enabled()
    library.set_verbosity_error()
    library.disable_progress_bar()
    try:
        yield
    finally:
        library.set_verbosity(level)
        if bar:
            library.enable_progress_bar()


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
    source = str(TESTBED) if name == "testbed" else name
    try:
        with quiet_diffusers():
            network, config = _network(source, library)
    except (OSError, ValueError, AttributeError, TypeError, KeyError, ImportError) as error:
        raise ModelError(
            f"expected an unconditional diffusion model in {name!r}, got an error ({first_line(error)}); "
            "try a folder of DDPMPipeline or UNet2DModel, or `testbed`"
        ) from error
    if reason := _unsupported_reason(network, config, library):
        raise ModelError(f"expected an unconditional denoiser of RGB pixels, got {reason} in {name!r}; try `testbed`")
    network.float().eval().requires_grad_(False)
    revision = folder_hash(Path(source), deep=True) if Path(source).is_dir() else _commit(network) or name
    return Denoiser(name, revision, network, dict(config))


def _network(source: str, library: Any) -> tuple[Any, Any]:
    """The network and its schedule's settings."""
    if Path(source).is_dir() and not (Path(source) / "model_index.json").is_file():
        return library.UNet2DModel.from_pretrained(source), library.DDPMScheduler().config
    pipeline = library.DDPMPipeline.from_pretrained(source, trust_remote_code=False)
    return pipeline.unet, pipeline.scheduler.config


def _unsupported_reason(network: Any, config: Any, library: Any) -> str:
    """Why purification cannot use a network with its noise schedule; empty where it can."""
    if not isinstance(network, library.UNet2DModel):
        return f"a {type(network).__name__}"
    if network.config.in_channels != 3 or network.config.out_channels < 3:
        return f"{network.config.in_channels} channels in and {network.config.out_channels} out"
    if network.config.sample_size is None:
        return "one without a size"
    if network.class_embedding is not None:
        return "one that wants a class"
    if "beta_schedule" not in config:
        return "a noise schedule without betas"
    if (prediction := config.get("prediction_type", "epsilon")) not in ("epsilon", "v_prediction", "sample"):
        return f"one that predicts {prediction}"
    # diffusers fills in what a file lacks with random numbers and reports it only where loading a bare network is asked
    # to return what was loaded.
    _, loading = library.UNet2DModel.from_pretrained(network.config._name_or_path, output_loading_info=True)
    return f"weights without {loading['missing_keys'][0]}" if loading["missing_keys"] else ""


def _commit(network: Any) -> str | None:
    """The commit of a model of the hub, after which its folder in the cache is named."""
    match = re.search(r"/snapshots/([0-9a-f]{40})(/|$)", Path(network.config._name_or_path).as_posix())
    return match and match[1]

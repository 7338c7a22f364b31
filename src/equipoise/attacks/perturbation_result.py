"""`PerturbationResult`: the result of an attack, saved as PNG and JSON, readable without torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import numpy as np
from PIL import Image

from equipoise import __version__
from equipoise.attacks.budgets import NORMS, Budget
from equipoise.errors import OutputError, PictureError, os_reason
from equipoise.files import write_whole
from equipoise.media.appearance import Appearance, on_white
from equipoise.media.decode import decode_picture
from equipoise.media.encode import png_bytes
from equipoise.media.quantize import to_image, to_pixels

if TYPE_CHECKING:
    from torch import Tensor

    from equipoise.models.base import OpenModel

STRIP: Final = 2**21
"""Pixels of a picture whose similarity is measured at once."""
UNCHANGED: Final = "the picture is unchanged"
"""The warning about a result that is its original."""
UNSUCCESSFUL: Final = "no candidate reached the target rate in a check"
"""The warning about a result that was not seen to succeed."""
StopReason = Literal["success", "converged", "steps", "time", "diverged"]
"""Why an attack ended: a check reached the target, the loss stayed low, all steps were done, the time was spent,
or the loss was no longer finite."""

ChoiceRule = Literal["check", "rate", "loss"]
"""How the result was chosen: it passed a check; its checked success rate was the highest of a run without success; or
its loss was the lowest among those of the same rate, or where nothing was checked."""


@dataclass(frozen=True)
class TraceStep:
    """One step of an attack."""

    step: int
    """Its number, from 1; restarts count on."""
    loss: float
    """The loss over the items that the step evaluated, in nats per token."""
    rate: float | None = None
    """The success rate, where this step was checked by decoding replies; of a few questions where the check was brief
    or where they put the target out of reach."""


@dataclass(frozen=True)
class ModelSource:
    """Which weights."""

    name: str
    """What the user called the model."""
    revision: str
    """Which weights exactly."""


@dataclass(frozen=True)
class AttackOutcome:
    """How an attack went, apart from its picture; every field is also one of `PerturbationResult`."""

    recipe: dict[str, Any]
    """Attack, objective and limits, in values that JSON can hold."""
    seed: int
    """The seed of all randomness."""
    trace: tuple[TraceStep, ...]
    """Every step."""
    steps: int
    """Gradient steps done."""
    seconds: float
    """Wall-clock time."""
    stopped: StopReason
    """Why the attack ended."""
    rate: float | None = None
    """Success rate in the attack's own check; None if the picture was not checked."""
    warnings: tuple[str, ...] = ()
    """Reasons not to trust the result."""


@dataclass(frozen=True, eq=False)
class PerturbationResult:
    """A perturbed picture, with how it was produced, how far it was moved and how the attack went."""

    image: Image.Image
    """The 8-bit picture."""
    budget: Budget
    """What was allowed."""
    recipe: dict[str, Any]
    """Attack, objective and limits, in values that JSON can hold."""
    models: tuple[ModelSource, ...]
    """The models that are to be misled."""
    bystanders: tuple[ModelSource, ...]
    """The models whose replies were to be kept."""
    seed: int
    """The seed of all randomness."""
    trace: tuple[TraceStep, ...]
    """Every step."""
    linf: float
    """Largest change of any value, measured between the 8-bit pictures, in units of `[0, 1]`."""
    l2: float
    """Euclidean length of the change, measured likewise."""
    psnr: float | None
    """Peak signal-to-noise ratio in dB; None where nothing was changed."""
    ssim: float | None
    """Structural similarity (Wang et al. 2004, 7 x 7 windows); None for pictures smaller than a window."""
    steps: int
    """Gradient steps done."""
    seconds: float
    """Wall-clock time."""
    stopped: StopReason
    """Why the attack ended."""
    rate: float | None = None
    """Success rate of this picture in the attack's own check, on shadow questions; None if it was not checked. After a
    universal attack, the mean over its pictures."""
    warnings: tuple[str, ...] = ()
    """Reasons not to trust the result."""
    ms_ssim: float | None = None
    """Multi-scale structural similarity, 1 for equal pictures, where the attack kept to a perceptual budget; else None,
    and None for pictures that are too small for it."""

    @classmethod
    def of(
        cls,
        pixels: Tensor,
        clean: Tensor,
        budget: Budget,
        outcome: AttackOutcome,
        *,
        models: Sequence[OpenModel] = (),
        bystanders: Sequence[OpenModel] = (),
    ) -> Self:
        """Measure 8-bit pixels against the clean ones and put the result together."""
        return cls(
            budget=budget,
            models=_sources(models),
            bystanders=_sources(bystanders),
            **vars(outcome),
            **_measured(pixels, clean, outcome.recipe),
        )

    def for_picture(self, number: int, pixels: Tensor, clean: Tensor) -> Self:
        """The result of the same attack for one of several pictures, measured anew; the recipe names its number."""
        return replace(self, recipe=self.recipe | {"picture": number}, **_measured(pixels, clean, self.recipe))

    @property
    def pixels(self) -> Tensor:
        """The picture as `3 x H x W` float32 in `[0, 1]`."""
        return to_pixels(self.image)

    def with_appearance(self, appearance: Appearance, clean: Tensor) -> Self:
        """The result as its file will hold it: with the transparency of the original, measured anew on white."""
        if appearance.rgba is None:
            return self
        original = to_image(clean)
        levels = round(self.linf * 255)
        shown = to_pixels(on_white(appearance.applied(self.image, original, levels)))
        copy = replace(self, **_measured(shown, clean, self.recipe))
        if copy.linf == 0 and UNCHANGED not in copy.warnings:
            return replace(copy, warnings=(UNCHANGED, *copy.warnings))
        return copy

    def save(self, stem: str | Path, appearance: Appearance | None = None) -> Path:
        """Write `<stem>.png`, then `<stem>.json`, each whole or not at all.

        A JSON that is there means that both are complete; the JSON of an older result is removed first.

        Args:
            stem: path without suffix.
            appearance: profile, transparency and words of the owner that the PNG gets; None for none.

        Returns:
            The PNG's path.

        Raises:
            OutputError: the folder or a file cannot be written.
        """
        picture, record = _paths(stem)
        png = self._png(appearance or Appearance())
        text = json.dumps(self._record(png), indent=1, allow_nan=False, ensure_ascii=False)
        try:
            record.unlink(missing_ok=True)
        except OSError as error:
            raise OutputError(
                f"expected to write {picture}, got '{os_reason(error)}'; try another output folder"
            ) from None
        write_whole(picture, png)
        write_whole(record, text + "\n")
        return picture

    def _png(self, appearance: Appearance) -> bytes:
        image = appearance.applied(self.image, self.image, levels=255)
        chunks = appearance.colour_chunks + appearance.data_chunks
        return png_bytes(image, icc_profile=appearance.profile, chunks=chunks)

    def _record(self, png: bytes) -> dict[str, Any]:
        fields = {name: value for name, value in vars(self).items() if name not in ("image", "trace")}
        for name in ("models", "bystanders"):
            fields[name] = [asdict(source) for source in fields[name]]
        checks = [[step.step, step.rate] for step in self.trace if step.rate is not None]
        return fields | {
            "budget": asdict(self.budget),
            "losses": [_short(step.loss) for step in self.trace],
            "checks": checks,
            "png_sha256": hashlib.sha256(png).hexdigest(),
            "equipoise": __version__,
        }

    @classmethod
    def load(cls, stem: str | Path) -> Self:
        """Read what `save` wrote.

        Raises:
            PictureError: a file is missing or damaged, or the two do not belong together.
        """
        picture, record = _paths(stem)
        try:
            png, fields = picture.read_bytes(), json.loads(record.read_bytes())
            if fields.pop("png_sha256") != hashlib.sha256(png).hexdigest():
                raise PictureError(
                    f"expected the picture that {record} describes, got another in {picture}; try to make it again"
                )
            fields.pop("equipoise")
            rates = {int(step): float(rate) for step, rate in fields.pop("checks")}
            losses = fields.pop("losses")
            trace = tuple(TraceStep(i, loss, rates.get(i)) for i, loss in enumerate(losses, start=1))
            for name in ("models", "bystanders"):
                fields[name] = tuple(ModelSource(**source) for source in fields[name])
            fields["budget"] = Budget(**fields["budget"])
            fields["warnings"] = tuple(fields["warnings"])
            return cls(image=decode_picture(png, picture), trace=trace, **fields)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            reason = " ".join(str(error).split())
            raise PictureError(
                f"expected a saved result at {picture}, got a missing or damaged one ({reason}); try to make it again"
            ) from None


def image_similarity(image: Image.Image, original: Image.Image) -> tuple[float | None, float | None]:
    """PSNR in dB and SSIM of two 8-bit pictures of one size; None where one is not defined."""
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    new, old = np.asarray(image), np.asarray(original)
    psnr = float(peak_signal_noise_ratio(old, new)) if (new != old).any() else None
    # The window of SSIM is 7 x 7 pixels; scikit-image raises an error where it does not fit.
    if min(new.shape[:2]) < 7:
        return psnr, None
    # In strips, weighted by their height: the whole of a phone's photo would take gigabytes.
    count = max(1, min(round(new.shape[0] * new.shape[1] / STRIP), len(new) // 7))
    strips = [slice(*ends) for ends in pairwise(np.linspace(0, len(new), count + 1).astype(int))]
    values = [structural_similarity(old[strip], new[strip], channel_axis=2) for strip in strips]
    return psnr, float(np.average(values, weights=[strip.stop - strip.start for strip in strips]))


def _measured(pixels: Tensor, clean: Tensor, recipe: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a result that say how it looks and how far it was moved."""
    similarity = None
    if recipe.get("perceptual") is not None:
        from equipoise.attacks.perceptual import ms_ssim

        value = ms_ssim(pixels, clean)
        similarity = None if value is None else float(value)
    image, original = to_image(pixels), to_image(clean)
    psnr, ssim = image_similarity(image, original)
    linf, l2 = (Budget(norm, 1.0).measure(pixels, clean) for norm in NORMS)
    return {"image": image, "linf": linf, "l2": l2, "psnr": psnr, "ssim": ssim, "ms_ssim": similarity}


def _sources(models: Sequence[OpenModel]) -> tuple[ModelSource, ...]:
    return tuple(ModelSource(model.name, model.revision) for model in models)


def _paths(stem: str | Path) -> tuple[Path, Path]:
    # Not `with_suffix`: a stem may hold dots of its own.
    stem = Path(stem)
    return stem.with_name(f"{stem.name}.png"), stem.with_name(f"{stem.name}.json")


def _short(loss: float) -> float:
    return float(f"{loss:.6g}")

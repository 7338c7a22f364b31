"""The contact sheet: one page that opens offline and shows every picture of a run, before and after."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any
from urllib.parse import quote

from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image

from equipoise import __version__
from equipoise.errors import PictureError
from equipoise.files import write_whole
from equipoise.media.decode import open_picture
from equipoise.perturb.record import REFUSAL_WORDS, ModelRole, PictureRecord, pooled
from equipoise.report.pictures import LossCurve, curve, data_uri, difference_uri
from equipoise.stats.proportions import Rate


@dataclass(frozen=True)
class ContactSheetCard:
    """One picture as the page shows it."""

    record: PictureRecord
    """What was measured."""
    clean: str | None
    """The original for `src`; None where it cannot be read any more."""
    perturbed: str | None
    """The perturbed file for `src`."""
    difference: str | None
    """Their difference for `src`."""
    loss: LossCurve | None
    """The loss curve, where there is one."""
    link: str
    """The exact file, relative to the page."""
    small: bool
    """Whether the picture is so small that the page shows its single pixels."""


def render(records: Sequence[PictureRecord], folder: Path, *, errors: Mapping[str, str] | None = None) -> str:
    """The page as HTML, everything inlined.

    Args:
        records: what was measured, in the order to show.
        folder: where the perturbed files lie.
        errors: pictures that failed, with the reason.
    """
    environment = Environment(
        loader=PackageLoader("equipoise.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["fraction"] = fraction
    environment.filters["percent"] = percent
    environment.filters["plain"] = plain
    environment.filters["chip"] = REFUSAL_WORDS.__getitem__
    environment.filters["name"] = lambda path: Path(path).name
    roles: list[ModelRole] = [role for role in ("target", "bystander") if _has(records, role)]
    return environment.get_template("contact_sheet.html").render(
        cards=[_card(record, folder) for record in records],
        errors=errors or {},
        rates=[(role, pooled(records, role, clean=True), pooled(records, role)) for role in roles],
        version=__version__,
        mean=_mean,
    )


def write(records: Sequence[PictureRecord], folder: Path, *, errors: Mapping[str, str] | None = None) -> Path:
    """Write `folder/index.html`, whole or not at all.

    Raises:
        OutputError: the folder cannot be written.
    """
    page = folder / "index.html"
    write_whole(page, render(records, folder, errors=errors))
    return page


def fraction(value: float) -> str:
    """A pixel distance as people write it: `8/255`."""
    levels = value * 255
    return f"{levels:.0f}/255" if abs(levels - round(levels)) < 1e-6 else f"{levels:.2f}/255"


def percent(rate: Rate) -> str:
    """A rate as people read it, with a space that does not break: `95 %`."""
    if rate.rate is None:
        return "unknown"
    # 199 of 200 must not look like all of them.
    digits = 0 if rate.n <= 100 or rate.k in (0, rate.n) else 1
    return f"{100 * rate.rate:.{digits}f}\N{NO-BREAK SPACE}%"


def plain(value: Any) -> str:
    """A value of the recipe in one line."""
    # A fraction of infinity is an OverflowError; NaN is not above 0.
    if isinstance(value, float) and 0 < value < math.inf and Fraction(value).limit_denominator(255).denominator == 255:
        return fraction(value)
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {plain(part)}" for key, part in value.items()) or "none"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return " · ".join(plain(part) for part in value) or "none"
    return "none" if value is None else str(value)


def _card(record: PictureRecord, folder: Path) -> ContactSheetCard:
    clean, perturbed = _opened(Path(record.image)), _opened(folder / record.file)
    both = clean is not None and perturbed is not None and clean.size == perturbed.size
    return ContactSheetCard(
        record,
        data_uri(clean) if clean else None,
        data_uri(perturbed) if perturbed else None,
        difference_uri(clean, perturbed) if both and clean and perturbed else None,
        curve(record.trace),
        # A name may hold bytes that are no UTF-8, as half surrogate pairs; a link holds the bytes.
        quote(os.fsencode(record.file)),
        perturbed is not None and max(perturbed.size) <= 160,
    )


def _opened(path: Path) -> Image.Image | None:
    try:
        return open_picture(path)
    except PictureError:
        return None


def _has(records: Sequence[PictureRecord], role: ModelRole) -> bool:
    return any(model.role == role for record in records for model in record.models)


def _mean(values: Sequence[float | None]) -> float | None:
    defined = [value for value in values if value is not None]
    return sum(defined) / len(defined) if defined else None

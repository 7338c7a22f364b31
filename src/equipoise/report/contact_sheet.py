"""The contact sheet: pages that open offline and show every picture of a run, before and after.

Pictures are inlined, so a page is as large as what it shows: a run of many pictures has several pages, and no more than
one page's pictures are in memory.
"""

from __future__ import annotations

import itertools
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final
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

PICTURES_PER_PAGE: Final = 200
"""Pictures of a page at most: about 40 MB where they are photos."""


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


def render(
    records: Sequence[PictureRecord], folder: Path, *, errors: Mapping[str, str] | None = None, number: int = 1
) -> str:
    """One page as HTML, everything inlined. The summary is that of all pages.

    Args:
        records: what was measured, in the order to show; of all pages.
        folder: where the perturbed files lie.
        errors: pictures that failed, with the reason; on the first page.
        number: of the page, from 1.
    """
    environment = Environment(
        loader=PackageLoader("equipoise.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["fraction"] = fraction
    environment.filters["percent"] = percent
    environment.filters["plain"] = plain
    environment.filters["chip"] = REFUSAL_WORDS.__getitem__
    environment.filters["name"] = lambda path: Path(path).name
    start = (number - 1) * PICTURES_PER_PAGE
    pages = page_count(len(records))
    roles: list[ModelRole] = [role for role in ("target", "bystander") if _has(records, role)]
    return environment.get_template("contact_sheet.html").render(
        records=records,
        cards=[_card(record, folder) for record in records[start : start + PICTURES_PER_PAGE]],
        first=start + 1,
        pages=[(other, page_name(other), other == number) for other in range(1, pages + 1)],
        errors=(errors or {}) if number == 1 else {},
        rates=[(role, pooled(records, role, clean=True), pooled(records, role)) for role in roles],
        version=__version__,
        mean=_mean,
    )


def write(records: Sequence[PictureRecord], folder: Path, *, errors: Mapping[str, str] | None = None) -> Path:
    """Write `folder/index.html`, and `index-2.html` and so on where one page does not hold them; each whole.

    Returns:
        The first page.

    Raises:
        OutputError: the folder cannot be written.
    """
    pages = page_count(len(records))
    for number in range(1, pages + 1):
        write_whole(folder / page_name(number), render(records, folder, errors=errors, number=number))
    # Those of an earlier run of more pictures.
    for number in itertools.count(pages + 1):
        if not (folder / page_name(number)).exists():
            break
        (folder / page_name(number)).unlink()
    return folder / page_name(1)


def page_count(pictures: int) -> int:
    """How many pages hold so many pictures; one where there are none."""
    return max(1, math.ceil(pictures / PICTURES_PER_PAGE))


def page_name(number: int) -> str:
    """File name of a page, counted from 1."""
    return "index.html" if number == 1 else f"index-{number}.html"


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

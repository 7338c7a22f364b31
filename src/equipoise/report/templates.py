"""The environment of the pages' templates: the audit's and the frontier's escape and fail alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from equipoise.report.audit import numbers
from equipoise.report.audit.untrusted_text import visible

_NUMBERS: Final = (
    numbers.percent,
    numbers.interval,
    numbers.counts,
    numbers.uncertain,
    numbers.points,
    numbers.probability,
    numbers.share,
    numbers.cases,
    numbers.seconds,
    numbers.amount,
)
"""Filters of every page."""


def environment(*packages: str, filters: Mapping[str, Callable[..., Any]]) -> Environment:
    """An environment with the numbers' filters and some of a page's own.

    All text is escaped, what people wrote is made visible first, and a name that is not there is an error.

    Args:
        packages: whose `templates` folders are searched, in order.
        filters: of the page, by name.
    """
    result = Environment(
        loader=_loader(packages),
        autoescape=True,
        finalize=visible,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    result.filters.update({format_.__name__: format_ for format_ in _NUMBERS} | dict(filters))
    result.globals["points_range"] = numbers.points_range
    return result


@cache
def _loader(packages: tuple[str, ...]) -> ChoiceLoader:
    return ChoiceLoader([PackageLoader(package) for package in packages])

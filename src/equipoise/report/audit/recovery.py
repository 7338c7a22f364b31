"""The section on recovery: how often begun replies turn into refusals, by depth, with a curve where there is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from equipoise.audit.recovery.curve_file import CurvePoint, RefusalCurve
from equipoise.audit.recovery.depths import RecoverySummary
from equipoise.report.audit.depth_plot import DepthLine, DepthPoint, draw_curves, draw_depths
from equipoise.stats.estimates import Estimate


@dataclass(frozen=True)
class RecoveryVariant:
    """Recovery in one variant."""

    name: str
    """Of the variant."""
    look: int
    """Its colour and shape."""
    summary: RecoverySummary
    """Its numbers."""


@dataclass(frozen=True)
class RecoverySection:
    """What the page says of recovery."""

    variants: tuple[RecoveryVariant, ...]
    """In the page's order."""
    plot: Markup
    """Rates by depth."""
    curve: Markup | None
    """The refusal's probability after every token; None for a model on a server."""
    openers: tuple[str, ...]
    """The tokens that the curve is about."""


def recovery_section(
    looks: Sequence[tuple[str, int]], recovery: Mapping[str, RecoverySummary], curve: RefusalCurve | None
) -> RecoverySection | None:
    """The section, or None where the suite was not asked.

    Args:
        looks: variants with their colours, in the page's order.
        recovery: numbers by variant.
        curve: of the model, where it was measured.
    """
    variants = tuple(RecoveryVariant(name, look, recovery[name]) for name, look in looks if name in recovery)
    if not variants:
        return None
    lines = [line for variant in variants for line in _lines(variant)]
    plot = draw_depths(lines, "recovery", "Refusals of begun replies by depth, with 95 % intervals", "refused")
    return RecoverySection(variants, plot, _curve(curve), curve.openers if curve else ())


def _lines(variant: RecoveryVariant) -> list[DepthLine]:
    depths = variant.summary.depths
    harmful = [(rates.depth, rates.recovered) for rates in depths]
    harmless = [(rates.depth, rates.needless) for rates in depths]
    lines = [
        DepthLine(f"{variant.name}, harmful answers", _points(harmful), variant.look),
        DepthLine(f"{variant.name}, harmless answers", _points(harmless), variant.look, is_twin=True),
    ]
    return [line for line in lines if line.points]


def _points(rates: Sequence[tuple[int, Estimate]]) -> tuple[DepthPoint, ...]:
    return tuple(DepthPoint(depth, rate.rate, rate.low, rate.high) for depth, rate in rates if rate.rate is not None)


def _curve(curve: RefusalCurve | None) -> Markup | None:
    if curve is None or not curve.harmful:
        return None
    lines = [DepthLine("harmful answers", _curve_points(curve.harmful))]
    if curve.harmless:
        lines.append(DepthLine("harmless answers", _curve_points(curve.harmless), 1, is_twin=True))
    title = "Probability that the next token begins a refusal, with 95 % intervals"
    return draw_curves(lines, "refusal-curve", title, "begins a refusal")


def _curve_points(points: Sequence[CurvePoint]) -> tuple[DepthPoint, ...]:
    return tuple(DepthPoint(point.depth, point.mean, point.low, point.high) for point in points)

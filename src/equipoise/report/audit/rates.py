"""The rates of a summary as the page shows them: by variant, by suite and by category, always both axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from equipoise.report.audit.numbers import ShownRate
from equipoise.report.audit.plot import COLOURS, PlotPoint
from equipoise.report.audit.untrusted_text import mapping
from equipoise.report.audit.warnings import RATES, ShownWarning, WarningQueue


@dataclass(frozen=True)
class RateLine:
    """Both axes over some samples, and the borderline ones apart."""

    name: str
    """Which samples."""
    refusal: ShownRate
    """Needless refusals."""
    harm: ShownRate
    """Harmful answers."""
    border_refused: ShownRate
    """Refusals of borderline prompts: neither right nor wrong."""
    border_harmful: ShownRate
    """Harmful replies to borderline prompts."""
    parts: tuple[RateLine, ...] = ()
    """Its categories, worst first."""
    warnings: tuple[ShownWarning, ...] = ()
    """What speaks against its numbers."""

    @property
    def worst(self) -> float:
        """The larger of the two rates; -1 where neither is known."""
        return max(rate if rate is not None else -1.0 for rate in (self.refusal.rate, self.harm.rate))

    @property
    def has_axes(self) -> bool:
        """Whether any sample belongs to one of the two axes."""
        return bool(self.refusal.asked or self.harm.asked)

    @property
    def has_borderline(self) -> bool:
        """Whether any sample is borderline."""
        return bool(self.border_refused.asked or self.border_harmful.asked)


@dataclass(frozen=True)
class VariantRates:
    """One way in which the model was asked."""

    name: str
    """`plain`, `perturbed`, `defended`, `defended perturbed` or `defended adaptive`."""
    look: int
    """Which colour and shape."""
    total: RateLine
    """Over all suites."""
    full: ShownRate
    """Needless refusals that are full."""
    accuracy: ShownRate
    """Right answers, where there is a reference."""
    degenerate: int
    """Replies that are broken text."""
    suites: tuple[RateLine, ...]
    """Worst first."""
    wire: Mapping[str, int]
    """Refusals by the form in which they arrived."""
    by: Mapping[str, int]
    """Refusals by who refused."""
    reasons: tuple[tuple[str, int], ...]
    """Why cases are unscored, most frequent first."""
    said: tuple[tuple[str, int], ...] = ()
    """What servers said with refusals on the wire, most frequent first."""
    refusal_warnings: tuple[ShownWarning, ...] = ()
    """About the first axis."""
    harm_warnings: tuple[ShownWarning, ...] = ()
    """About the second axis."""
    warnings: tuple[ShownWarning, ...] = ()
    """About other numbers of the variant."""

    @property
    def all_warnings(self) -> tuple[ShownWarning, ...]:
        """Those about its numbers over all suites."""
        return (*self.refusal_warnings, *self.harm_warnings, *self.warnings)

    def point(self, before: PlotPoint | None = None) -> PlotPoint:
        """Where it stands in the plot."""
        return PlotPoint(self.name, self.total.refusal, self.total.harm, self.look, before)


def read_variants(summary: Mapping[str, Any], warnings: WarningQueue | None = None) -> list[VariantRates]:
    """Every variant of a summary, in its order, the plain one first.

    Args:
        summary: `summary.json`.
        warnings: hands the warnings about each number to it.
    """
    warnings = warnings or WarningQueue({})
    kept = {str(name): mapping(rates) for name, rates in mapping(summary.get("variants")).items()}
    order = sorted(kept, key=lambda name: name != "plain")
    return [_variant(name, kept[name], number % COLOURS, warnings) for number, name in enumerate(order)]


def _variant(name: str, rates: Mapping[str, Any], look: int, warnings: WarningQueue) -> VariantRates:
    suites = [_suite(name, str(suite), mapping(part), warnings) for suite, part in mapping(rates.get("suites")).items()]
    reasons, said = _counts(rates.get("unscored_reasons")), _counts(rates.get("server_said"))
    return VariantRates(
        name=name,
        look=look,
        total=_line(name, rates),
        full=ShownRate.read(rates.get("full_refusal")),
        accuracy=ShownRate.read(rates.get("accuracy")),
        degenerate=sum(_counts({"all": rates.get("degenerate")}).values()),
        suites=tuple(sorted(suites, key=lambda line: (-line.worst, line.name))),
        wire=_counts(rates.get("wire")),
        by=_counts(rates.get("by")),
        reasons=tuple(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
        said=tuple(sorted(said.items(), key=lambda item: (-item[1], item[0]))),
        refusal_warnings=warnings.take(name, rate=RATES[0]),
        harm_warnings=warnings.take(name, rate=RATES[1]),
        warnings=warnings.take(name),
    )


def _suite(variant: str, name: str, rates: Mapping[str, Any], warnings: WarningQueue) -> RateLine:
    parts = [_line(str(part) or "no category", mapping(own)) for part, own in mapping(rates.get("categories")).items()]
    parts.sort(key=lambda line: (-line.worst, line.name))
    return _line(name, rates, tuple(parts), warnings.take(variant, name))


def _line(
    name: str, rates: Mapping[str, Any], parts: tuple[RateLine, ...] = (), warnings: tuple[ShownWarning, ...] = ()
) -> RateLine:
    border = mapping(rates.get("borderline"))
    return RateLine(
        name,
        ShownRate.read(rates.get("needless_refusal")),
        ShownRate.read(rates.get("harmful_answer")),
        ShownRate.read(border.get("refused")),
        ShownRate.read(border.get("harmful")),
        parts,
        warnings,
    )


def _counts(value: object) -> dict[str, int]:
    kept = mapping(value).items()
    return {str(name): int(n) for name, n in kept if isinstance(n, int) and not isinstance(n, bool)}

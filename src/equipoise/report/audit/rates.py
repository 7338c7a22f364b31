"""The rates of a summary as the page shows them: by variant, by suite and by category, always both axes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from equipoise.report.audit.doubts import RATES, Doubt, Doubts
from equipoise.report.audit.numbers import Number
from equipoise.report.audit.plot import COLOURS, Point
from equipoise.report.audit.wording import mapping


@dataclass(frozen=True)
class Line:
    """Both axes over some samples, and the borderline ones apart."""

    name: str
    """Which samples."""
    refusal: Number
    """Needless refusals."""
    harm: Number
    """Harmful answers."""
    border_refused: Number
    """Refusals of borderline prompts: neither right nor wrong."""
    border_harmful: Number
    """Harmful replies to borderline prompts."""
    parts: tuple[Line, ...] = ()
    """Its categories, worst first."""
    doubts: tuple[Doubt, ...] = ()
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
class Variant:
    """One way in which the model was asked."""

    name: str
    """`plain`, `perturbed`, `defended`, `defended perturbed` or `defended adaptive`."""
    look: int
    """Which colour and shape."""
    total: Line
    """Over all suites."""
    full: Number
    """Needless refusals that are full."""
    accuracy: Number
    """Right answers, where there is a reference."""
    degenerate: int
    """Replies that are broken text."""
    suites: tuple[Line, ...]
    """Worst first."""
    wire: Mapping[str, int]
    """Refusals by the form in which they arrived."""
    by: Mapping[str, int]
    """Refusals by who refused."""
    reasons: tuple[tuple[str, int], ...]
    """Why cases are unscored, most frequent first."""
    refusal_doubts: tuple[Doubt, ...] = ()
    """About the first axis."""
    harm_doubts: tuple[Doubt, ...] = ()
    """About the second axis."""
    doubts: tuple[Doubt, ...] = ()
    """About other numbers of the variant."""

    @property
    def all_doubts(self) -> tuple[Doubt, ...]:
        """Those about its numbers over all suites."""
        return (*self.refusal_doubts, *self.harm_doubts, *self.doubts)

    def point(self, before: Point | None = None) -> Point:
        """Where it stands in the plot."""
        return Point(self.name, self.total.refusal, self.total.harm, self.look, before)


def read_variants(summary: Mapping[str, Any], doubts: Doubts | None = None) -> list[Variant]:
    """Every variant of a summary, in its order, the plain one first.

    Args:
        summary: `summary.json`.
        doubts: hands the doubts about each number to it.
    """
    doubts = doubts or Doubts({})
    kept = {str(name): mapping(rates) for name, rates in mapping(summary.get("variants")).items()}
    order = sorted(kept, key=lambda name: name != "plain")
    return [_variant(name, kept[name], number % COLOURS, doubts) for number, name in enumerate(order)]


def _variant(name: str, rates: Mapping[str, Any], look: int, doubts: Doubts) -> Variant:
    suites = [_suite(name, str(suite), mapping(part), doubts) for suite, part in mapping(rates.get("suites")).items()]
    reasons = _counts(rates.get("unscored_reasons"))
    return Variant(
        name=name,
        look=look,
        total=_line(name, rates),
        full=Number.read(rates.get("full_refusal")),
        accuracy=Number.read(rates.get("accuracy")),
        degenerate=sum(_counts({"all": rates.get("degenerate")}).values()),
        suites=tuple(sorted(suites, key=lambda line: (-line.worst, line.name))),
        wire=_counts(rates.get("wire")),
        by=_counts(rates.get("by")),
        reasons=tuple(sorted(reasons.items(), key=lambda item: (-item[1], item[0]))),
        refusal_doubts=doubts.take(name, rate=RATES[0]),
        harm_doubts=doubts.take(name, rate=RATES[1]),
        doubts=doubts.take(name),
    )


def _suite(variant: str, name: str, rates: Mapping[str, Any], doubts: Doubts) -> Line:
    parts = [_line(str(part) or "no category", mapping(own)) for part, own in mapping(rates.get("categories")).items()]
    parts.sort(key=lambda line: (-line.worst, line.name))
    return _line(name, rates, tuple(parts), doubts.take(variant, name))


def _line(name: str, rates: Mapping[str, Any], parts: tuple[Line, ...] = (), doubts: tuple[Doubt, ...] = ()) -> Line:
    border = mapping(rates.get("borderline"))
    return Line(
        name,
        Number.read(rates.get("needless_refusal")),
        Number.read(rates.get("harmful_answer")),
        Number.read(border.get("refused")),
        Number.read(border.get("harmful")),
        parts,
        doubts,
    )


def _counts(value: object) -> dict[str, int]:
    kept = mapping(value).items()
    return {str(name): int(n) for name, n in kept if isinstance(n, int) and not isinstance(n, bool)}

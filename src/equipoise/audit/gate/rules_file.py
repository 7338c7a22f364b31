"""Reads `gate.toml` into rules; an unknown key or a value that cannot be is an error."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal, cast

from equipoise.audit.gate.rules import Baseline, FrontLimit, GateRule, GateRules, On, RateLimit
from equipoise.audit.labels import BY_KIND, PLAIN, RATES, RateName
from equipoise.errors import UsageError, os_reason

ENDS: Final = ("upper", "point", "lower")
SETTINGS: Final = ("on", "min_n", "max_unscored", "variant", "variants")
"""Keys that the tables of suites and categories take over from the one above."""
FRONTIER: Final = "frontier"
"""The table of the rule on the front of a frontier."""
HIGH_IS_GOOD: Final = ("accuracy",)
"""Rates that have a lowest value instead of a highest."""


def read_rules(path: Path) -> GateRules:
    """Read a file of limits.

    Raises:
        UsageError: it cannot be read, is no TOML, has unknown keys or values that cannot be, or it or a table in it
            limits nothing.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig")
        document = tomllib.loads(text)
    except OSError as error:
        raise UsageError(f"expected a file of rules, got {path}: {os_reason(error)}; try --rules") from None
    except (ValueError, RecursionError) as error:
        what = "bytes that are not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
        raise UsageError(f"expected TOML in {path}, got {what}; try the example in docs/gate.md") from None
    reader = _RulesReader(path, _lines(text))
    rules = tuple(reader.rules(document))
    if not rules:
        raise UsageError(f"expected at least one limit in {path}, got none; try [needless_refusal] with max = 0.05")
    return GateRules(path, rules)


@dataclass(frozen=True)
class _RulesReader:
    """Reads the tables of one file."""

    path: Path
    lines: Mapping[tuple[str, ...], int]

    def rules(self, document: Mapping[str, Any]) -> Iterator[GateRule]:
        self._check_keys(document, (*RATES, *BY_KIND, FRONTIER), ())
        for rate, table in document.items():
            if rate == FRONTIER:
                yield from self._front(self._table(table, (FRONTIER,)))
                continue
            yield from self._limiting(self._rate(cast(RateName, rate), self._table(table, (rate,))), (rate,))

    def _limiting(self, rules: Iterable[GateRule], at: tuple[str, ...]) -> Iterator[GateRule]:
        """The rules of a table and of those below it.

        Raises:
            UsageError: there are none: the author believes that something is limited which is not.
        """
        rule = None
        for rule in rules:
            yield rule
        if rule is None:
            key = "min" if at[0] in HIGH_IS_GOOD else "max"
            raise UsageError(
                f"expected at least one limit in {self._where(at)} or below it, got none; try {key} = "
                f"{0.8 if key == 'min' else 0.05}, or to leave the table out"
            )

    def _front(self, table: Mapping[str, Any]) -> Iterator[GateRule]:
        """The rule of `[frontier]`, once for each variant."""
        at = (FRONTIER,)
        self._check_keys(table, ("run", "min_share", "min_n", "max_unscored", "variant", "variants"), at)
        run, share = table.get("run"), self._share(table.get("min_share", 0.5), (*at, "min_share"))
        if not isinstance(run, str) or not run:
            raise self._wrong((*at, "run"), "the folder of a frontier", run)
        min_n, most = self._min_n(table, 1, at), self._share(table.get("max_unscored", 0.05), (*at, "max_unscored"))
        front = FrontLimit(self.path.parent / run, share, min_n, most)
        limit = RateLimit(share, "min", "point")
        blank = GateRule("needless_refusal", limit, min_n=min_n, max_unscored=most, front=front, line=self._line(at))
        for variant in self._variants(table, at):
            yield replace(blank, variant=variant)

    def _rate(self, rate: RateName, table: Mapping[str, Any]) -> Iterator[GateRule]:
        limits = ("min",) if rate in HIGH_IS_GOOD else ("max",)
        self._check_keys(table, (*limits, *SETTINGS, "against", "suites", "categories"), (rate,))
        blank = GateRule(rate, RateLimit(0.0, "max", "upper"))
        suites = table.get("suites", {})
        tables: Mapping[str, Any] = {}
        if isinstance(suites, list):
            blank = replace(blank, suites=self._names(suites, (rate, "suites")))
        else:
            tables = self._table(suites, (rate, "suites"))
        yield from self._scope(table, blank, {}, (rate,))
        for name, below in tables.items():
            at = (rate, "suites", name)
            inner = self._table(below, at)
            self._check_keys(inner, (*limits, *SETTINGS, "against", "categories"), at)
            yield from self._limiting(self._scope(inner, replace(blank, suites=(name,)), table, at), at)

    def _scope(
        self, table: Mapping[str, Any], blank: GateRule, above: Mapping[str, Any], at: tuple[str, ...]
    ) -> Iterator[GateRule]:
        """The limits of a table and of the categories below it."""
        settings = self._settings(above, table)
        yield from self._limits(table, settings, blank, at)
        for name, below in self._table(table.get("categories", {}), (*at, "categories")).items():
            inside = (*at, "categories", name)
            inner = self._table(below, inside)
            limits = ("min",) if blank.rate in HIGH_IS_GOOD else ("max",)
            self._check_keys(inner, (*limits, *SETTINGS, "against"), inside)
            own = self._limits(inner, self._settings(settings, inner), replace(blank, category=name), inside)
            yield from self._limiting(own, inside)

    @staticmethod
    def _settings(above: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
        own = {key: table[key] for key in SETTINGS if key in table}
        taken = {key: above[key] for key in SETTINGS if key in above}
        if own.keys() & {"variant", "variants"}:
            taken.pop("variant", None), taken.pop("variants", None)
        return {**taken, **own}

    def _limits(
        self, table: Mapping[str, Any], settings: Mapping[str, Any], blank: GateRule, at: tuple[str, ...]
    ) -> Iterator[GateRule]:
        rule = replace(
            blank,
            min_n=self._min_n(settings, blank.min_n, at),
            max_unscored=self._share(settings.get("max_unscored", blank.max_unscored), (*at, "max_unscored")),
            line=self._line(at),
        )
        side: Literal["max", "min"] = "min" if rule.rate in HIGH_IS_GOOD else "max"
        for variant in self._variants(settings, at):
            if side in table:
                bound = self._share(table[side], (*at, side))
                limit = RateLimit(bound, side, self._on(settings, side, (*at, "on")))
                self._reachable(limit, (*at, side))
                yield replace(rule, limit=limit, variant=variant)
            if "against" in table:
                yield self._against(table["against"], replace(rule, variant=variant), side, (*at, "against"))

    def _min_n(self, table: Mapping[str, Any], default: int, at: tuple[str, ...]) -> int:
        value = table.get("min_n", default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self._wrong((*at, "min_n"), "a whole number from 1", value)
        return value

    def _against(self, value: object, rule: GateRule, side: Literal["max", "min"], at: tuple[str, ...]) -> GateRule:
        table = self._table(value, at)
        key = "max_increase" if side == "max" else "max_decrease"
        self._check_keys(table, ("run", "variant", "on", key), at)
        bound, run, variant = table.get(key), table.get("run"), table.get("variant", rule.variant)
        if isinstance(bound, bool) or not isinstance(bound, int | float) or not -1 <= bound <= 1:
            raise self._wrong((*at, key), "a difference of rates from -1 to 1", bound)
        if run is not None and (not isinstance(run, str) or not run):
            raise self._wrong((*at, "run"), "the folder of a run", run)
        if not isinstance(variant, str):
            raise self._wrong((*at, "variant"), "the name of a variant", variant)
        if run is None and variant == rule.variant:
            raise self._wrong((*at, "run"), "the folder of a baseline, or another variant of the same run", run)
        folder = None if run is None else self.path.parent / run
        limit = RateLimit(float(bound if side == "max" else -bound), side, self._on(table, side, (*at, "on")))
        return replace(rule, limit=limit, against=Baseline(folder, variant), line=self._line(at))

    def _variants(self, settings: Mapping[str, Any], at: tuple[str, ...]) -> Sequence[str]:
        if "variant" in settings and "variants" in settings:
            raise UsageError(f"expected variant or variants in {self._where(at)}, got both; try variants")
        if "variant" in settings:
            return self._names([settings["variant"]], (*at, "variant"))
        return self._names(settings.get("variants", [PLAIN]), (*at, "variants"))

    def _on(self, settings: Mapping[str, Any], side: str, at: tuple[str, ...]) -> On:
        on = settings.get("on", "upper" if side == "max" else "lower")
        if on not in ENDS:
            raise self._wrong(at, "one of " + ", ".join(f'"{end}"' for end in ENDS), on)
        return cast(On, on)

    def _reachable(self, limit: RateLimit, at: tuple[str, ...]) -> None:
        """An interval never ends at 0 or 1, however many samples there are: such a rule could not pass."""
        if (limit.side, limit.on, limit.value) in (("max", "upper", 0.0), ("min", "lower", 1.0)):
            raise UsageError(
                f"expected a limit that some run can keep in {self._where(at)}, got {limit.value:g} on the {limit.on} "
                'end of an interval; try on = "point", or 0.01 inside'
            )

    def _share(self, value: object, at: tuple[str, ...]) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise self._wrong(at, "a share from 0 to 1", value)
        return float(value)

    def _names(self, value: object, at: tuple[str, ...]) -> tuple[str, ...]:
        if not isinstance(value, list) or not value or not all(isinstance(name, str) and name for name in value):
            raise self._wrong(at, "a list of names", value)
        return tuple(dict.fromkeys(value))

    def _table(self, value: object, at: tuple[str, ...]) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            raise self._wrong(at, "a table", value)
        return value

    def _check_keys(self, table: Mapping[str, Any], keys: Iterable[str], at: tuple[str, ...]) -> None:
        allowed = tuple(keys)
        for key in table:
            if key not in allowed:
                close = get_close_matches(key, allowed, n=1)
                advice = f"did you mean {close[0]!r}?" if close else "try one of those"
                where = f"in {self._where(at)}" if at else f"as tables of {self.path}"
                raise UsageError(f"expected {', '.join(allowed)} {where}, got {key!r}; {advice}")

    def _wrong(self, at: tuple[str, ...], expected: str, got: object) -> UsageError:
        shown = "nothing" if got is None else repr(got)[:60]
        return UsageError(f"expected {expected} for {at[-1]} in {self._where(at[:-1])}, got {shown}; see docs/gate.md")

    def _where(self, at: tuple[str, ...]) -> str:
        return f"[{'.'.join(at)}] of {self.path}" if at else str(self.path)

    def _line(self, at: tuple[str, ...]) -> int:
        """The line of a table's header, or of the nearest table above it that has one."""
        while at and at not in self.lines:
            at = at[:-1]
        return self.lines.get(at, 1)


def _lines(text: str) -> dict[tuple[str, ...], int]:
    """The line number of each table's header, by the table's path."""
    lines: dict[tuple[str, ...], int] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.lstrip().startswith("["):
            continue
        try:
            value: Any = tomllib.loads(line)
        except ValueError:
            continue  # an array that goes on, or a line of a longer string
        at: tuple[str, ...] = ()
        while isinstance(value, dict) and value:
            ((name, value),) = value.items()
            at = (*at, name)
        lines.setdefault(at, number)
    return lines

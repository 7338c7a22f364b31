"""`frontier.json`: every variant with both axes, its place on the front, its changes, its cost and its doubts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from equipoise.audit.frontier.front import (
    Cases,
    attacked_cases,
    changed_replies,
    corrected,
    memberships,
    paired_with_plain,
    plain_cases,
    pooled_estimate,
)
from equipoise.audit.frontier.variant_record import (
    FORMAT,
    RECIPE,
    STATIC,
    VariantRecord,
    read_left_out,
    run_folders,
)
from equipoise.audit.json_reader import JsonObject
from equipoise.audit.labels import AXES, PLAIN, RateName
from equipoise.audit.records import AuditCase, AuditRun
from equipoise.audit.summary import is_complete
from equipoise.audit.warnings import AuditWarning, find_warnings
from equipoise.errors import UsageError
from equipoise.stats.estimates import Estimate, PairedChange
from equipoise.stats.pareto import FrontMembership

NAME: Final = "frontier.json"


@dataclass(frozen=True)
class FrontierRow:
    """One variant."""

    name: str
    """As `--with` names it; `plain` for the model itself."""
    folders: tuple[str, ...]
    """Of its audits below the frontier's folder, one for each seed."""
    rates: Mapping[RateName, Estimate]
    """Both axes, and right answers."""
    membership: FrontMembership | None
    """On the front of the two axes; None where an axis is unknown."""
    changes: Mapping[RateName, PairedChange]
    """Of both axes against the plain model, with Holm's correction over all rows; empty for the plain model."""
    cost: Mapping[str, Any]
    """As `VariantCost.to_json` gives it; fit time summed over seeds, the rest of the first seed."""
    tuning: str
    """What it was tuned on, in words."""
    tuned_on: Mapping[str, int]
    """Samples used, by suite."""
    doubts: tuple[str, ...]
    """Reasons to distrust the row: those of its fit, then those that may change a rate most."""
    specs: tuple[str, ...]
    """Its countermeasures, as `--defend` takes them; of the first seed."""
    model: str
    """The weights under them, as `--model` takes them."""
    attacked: Mapping[str, Estimate]
    """Needless refusals on attacked pictures: `static`, `adaptive`; empty without an attack."""
    attacked_membership: FrontMembership | None = None
    """On the front of three axes, with adaptive attacks."""
    complete: bool = True
    """Whether everything was asked and judged."""
    replies: tuple[int, int] | None = None
    """Replies that differ from the plain model's, and replies that were compared; None for the plain model."""

    @property
    def needless(self) -> Estimate:
        """Refusals of what should be answered."""
        return self.rates["needless_refusal"]

    @property
    def harmful(self) -> Estimate:
        """Harmful answers to what should be refused."""
        return self.rates["harmful_answer"]

    def to_json(self) -> dict[str, Any]:
        """Every field under its name."""
        return {
            "name": self.name,
            "folders": list(self.folders),
            "rates": {kind: rate.to_dict() for kind, rate in self.rates.items()},
            "membership": _membership_json(self.membership),
            "changes": {kind: change.to_dict() for kind, change in self.changes.items()},
            "attacked": {kind: rate.to_dict() for kind, rate in self.attacked.items()},
            "attacked_membership": _membership_json(self.attacked_membership),
            "cost": dict(self.cost),
            "tuning": self.tuning,
            "tuned_on": dict(self.tuned_on),
            "doubts": list(self.doubts),
            "specs": list(self.specs),
            "model": self.model,
            "complete": self.complete,
            "replies": None if self.replies is None else list(self.replies),
        }


@dataclass(frozen=True)
class Frontier:
    """All variants of one model, measured on one split with one judge."""

    folder: Path
    """Where it lies."""
    recipe: Mapping[str, Any]
    """Model, split, judge, attack and command."""
    rows: tuple[FrontierRow, ...]
    """The plain model first."""
    left_out: tuple[Mapping[str, str], ...]
    """Variants that were not measured: `{name, reason}`."""
    warnings: tuple[str, ...]
    """Doubts that all rows share."""
    judge: str
    """Name and identity."""

    @property
    def plain(self) -> FrontierRow:
        """The model itself."""
        return self.rows[0]

    def to_json(self) -> dict[str, Any]:
        """`{format, recipe, judge, rows, left_out, warnings}`."""
        return {
            "format": FORMAT,
            "recipe": dict(self.recipe),
            "judge": self.judge,
            "rows": [row.to_json() for row in self.rows],
            "left_out": [dict(item) for item in self.left_out],
            "warnings": list(self.warnings),
        }

    @classmethod
    def read(cls, folder: Path) -> Self:
        """The frontier of a folder, from the rows of its audits.

        The same folder always gives the same frontier.

        Raises:
            UsageError: it is no frontier, nothing was measured in it, or a file in it was changed.
        """
        file = folder / RECIPE
        folders = run_folders(folder)
        if not file.is_file() or not folders or folders[0].name != PLAIN:
            raise UsageError(f"expected the folder of a frontier, got {folder}; try the --out of `equipoise frontier`")
        recipe = json.loads(file.read_text(encoding="utf-8"))
        groups: dict[str, list[_MeasuredSeed]] = {}
        for path in folders:
            measured = _MeasuredSeed.read(path)
            groups.setdefault(measured.record.name, []).append(measured)
        rows, shared = _rows(folder, groups)
        plain = AuditRun.open(folders[0])
        return cls(folder, recipe, tuple(rows), tuple(read_left_out(folder)), shared, plain.judge_line)


@dataclass(frozen=True)
class _MeasuredSeed:
    """The audit of one variant with one seed."""

    folder: Path
    record: VariantRecord
    cases: Sequence[AuditCase]
    static: Sequence[AuditCase]
    warnings: Mapping[str, float]
    """In words, each with how much it may change a rate; the largest first."""
    complete: bool

    @classmethod
    def read(cls, folder: Path) -> Self:
        run = AuditRun.open(folder)
        cases = run.cases()
        static = folder / STATIC
        warnings = [(_in_words(warning), warning.may_change or 0.0) for warning in find_warnings(run, cases)]
        return cls(
            folder,
            VariantRecord.read(folder),
            cases,
            AuditRun.open(static).cases() if (static / "run.json").exists() else (),
            _largest_first(warnings),
            is_complete(run, cases),
        )


def _largest_first(warnings: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Each warning once, with the most that it may change; the largest first."""
    largest: dict[str, float] = {}
    for text, weight in warnings:
        largest[text] = max(largest.get(text, 0.0), weight)
    return dict(sorted(largest.items(), key=lambda item: -item[1]))


def _in_words(warning: AuditWarning) -> str:
    """A warning with what it is about and its kind: `xstest, harmful answer: too few samples ... (few-samples)`."""
    about = ", ".join(part for part in (warning.suite, (warning.rate or "").replace("_", " ")) if part)
    return f"{about}: {warning.text} ({warning.kind})" if about else f"{warning.text} ({warning.kind})"


def read_names(folder: Path) -> dict[str, tuple[str, ...]]:
    """Names of the variants of a written frontier, with the folders of their audits; for the gate.

    Raises:
        UsageError: there is no frontier, it is of another format, or it is damaged.
    """
    values = JsonObject.load(folder / NAME)
    version = values.get("format", int)
    if version != FORMAT:
        raise UsageError(f"expected format {FORMAT} in {values.path}, got {version}; try the version that wrote it")
    return {row.get("name", str): row.list_of("folders", str) for row in values.items("rows")}


def _rows(folder: Path, groups: Mapping[str, Sequence[_MeasuredSeed]]) -> tuple[list[FrontierRow], tuple[str, ...]]:
    clean: dict[str, Cases] = {name: [plain_cases(seed.cases) for seed in seeds] for name, seeds in groups.items()}
    attacked: dict[str, Cases] = {
        name: [attacked_cases(seed.cases) for seed in seeds] for name, seeds in groups.items()
    }
    plain = clean[PLAIN][0]
    has_attack = any(cases for cases in attacked[PLAIN])
    standing = memberships(list(clean.values()))
    third = memberships(list(clean.values()), attacked=list(attacked.values())) if has_attack else [None] * len(clean)
    changes = corrected(
        {
            (name, axis): paired_with_plain(plain, seeds, axis)
            for name, seeds in clean.items()
            if name != PLAIN
            for axis in AXES
        }
    )
    # A warning that every row has is one about the split or the judge; it stands once, above them.
    common = set.intersection(*({text for seed in seeds for text in seed.warnings} for seeds in groups.values()))
    rows = []
    for index, (name, seeds) in enumerate(groups.items()):
        first = seeds[0]
        own = _largest_first(item for seed in seeds for item in seed.warnings.items() if item[0] not in common)
        kinds: tuple[RateName, ...] = (*AXES, "accuracy")
        rows.append(
            FrontierRow(
                name=name,
                folders=tuple(str(seed.folder.relative_to(folder)) for seed in seeds),
                rates={kind: pooled_estimate(clean[name], kind) for kind in kinds},
                membership=standing[index],
                changes={axis: changes[name, axis] for axis in AXES if (name, axis) in changes},
                cost={**first.record.cost, "fit_seconds": sum(s.record.cost.get("fit_seconds", 0.0) for s in seeds)},
                tuning=first.record.tuning,
                tuned_on=first.record.tuned_on,
                doubts=tuple(dict.fromkeys([*(d for seed in seeds for d in seed.record.doubts), *own])),
                specs=tuple(first.record.specs),
                model=first.record.model,
                attacked=_attacked(seeds, attacked[name]) if has_attack else {},
                attacked_membership=third[index],
                complete=all(seed.complete for seed in seeds),
                replies=None if name == PLAIN else changed_replies(plain, clean[name]),
            )
        )
    shared = tuple(warning for warning in groups[PLAIN][0].warnings if warning in common)
    return rows, shared


def _attacked(seeds: Sequence[_MeasuredSeed], adaptive: Cases) -> dict[str, Estimate]:
    """Needless refusals on attacked pictures: of the attack that knows the mitigation, and of the one that does not."""
    static: Cases = [plain_cases(seed.static) for seed in seeds]
    if not any(static):
        # The plain model has no mitigation to know of: both attacks are the same one.
        static = adaptive
    return {
        "static": pooled_estimate(static, AXES[0]),
        "adaptive": pooled_estimate(adaptive, AXES[0]),
    }


def _membership_json(membership: FrontMembership | None) -> dict[str, Any] | None:
    if membership is None:
        return None
    return {
        "on_front": membership.on_front,
        "share": membership.share,
        "dominated_by": list(membership.dominated_by),
    }

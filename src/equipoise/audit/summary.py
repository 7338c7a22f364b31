"""`summary.json`: both failures of every variant, suite and category of a run, as an object and as JSON."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

from equipoise.audit.comparison import RunComparison, compare_variants
from equipoise.audit.json_reader import JsonObject
from equipoise.audit.judge_summary import JudgeSummary
from equipoise.audit.labels import BORDERLINE, BY_KIND, KINDS, PLAIN, RATES, is_axis_scored, labels_of
from equipoise.audit.named_groups import grouped
from equipoise.audit.reachability import Reach, common_words, reach_of
from equipoise.audit.records import FORMAT, AuditCase, AuditRun, ReplyRow
from equipoise.audit.recovery.depths import RecoverySummary, recovery_of
from equipoise.audit.suite_pools import left_out, noise_suites, pooled
from equipoise.audit.warnings import AuditWarning, find_warnings
from equipoise.errors import UsageError
from equipoise.files import write_json
from equipoise.stats.estimates import Estimate, estimate

NAME: Final = "summary.json"
MAX_REASONS: Final = 20
"""How many reasons for being unscored are counted one by one; the rest is counted together."""
MAX_MESSAGE: Final = 300
"""Characters of a server's message."""
OTHER_REASONS: Final = "other reasons"
NOT_COUNTED: Final = estimate([])
"""A rate of a summary that was written before the rate was counted."""


@dataclass(frozen=True)
class AuditRates:
    """Every rate over some cases: always both axes, never one of them. The rate of no scored case is None."""

    needless_refusal: Estimate
    """Refusals, in full or in part, of what should be answered."""
    harmful_answer: Estimate
    """Harmful replies to what should be refused."""
    full_refusal: Estimate
    """Full refusals of what should be answered."""
    accuracy: Estimate
    """Right answers, where one is known."""
    borderline_refused: Estimate
    """Refusals of borderline prompts: neither right nor wrong."""
    borderline_harmful: Estimate
    """Harmful replies to borderline prompts."""
    capability_failure: Estimate = NOT_COUNTED
    """Replies to what should be answered that say that the model cannot: see, look up, know."""
    needless_rebuttal: Estimate = NOT_COUNTED
    """Replies to what should be answered that contradict it or advise against it."""
    needless_clarification: Estimate = NOT_COUNTED
    """Replies to what should be answered that only ask back."""

    @classmethod
    def of(cls, cases: Sequence[AuditCase]) -> Self:
        """The rates of some cases."""
        return cls(**{kind: estimate(labels_of(cases, kind)) for kind in KINDS})

    def to_json(self) -> dict[str, Any]:
        """`{needless_refusal, harmful_answer, full_refusal, accuracy, borderline: {...}, by_kind: {...}}`."""
        return {
            **{kind: getattr(self, kind).to_dict() for kind in RATES},
            "borderline": {name: getattr(self, kind).to_dict() for name, kind in BORDERLINE.items()},
            "by_kind": {kind: getattr(self, kind).to_dict() for kind in BY_KIND},
        }

    @classmethod
    def from_json(cls, values: JsonObject) -> Self:
        """From what `to_json` gave.

        Raises:
            UsageError: a field is missing or has another type.
        """
        borderline = values.object("borderline")
        fields = {kind: values.object(kind) for kind in RATES}
        fields |= {kind: borderline.object(name) for name, kind in BORDERLINE.items()}
        if "by_kind" in values.values:  # earlier versions told no kinds apart
            fields |= {kind: values.object("by_kind").object(kind) for kind in BY_KIND}
        return cls(**{kind: field.record(Estimate) for kind, field in fields.items()})


@dataclass(frozen=True)
class SuiteSummary:
    """The rates of a suite in one variant."""

    rates: AuditRates
    """Over the suite."""
    categories: Mapping[str, AuditRates]
    """By the suite's own categories; cases without one are in none."""

    def to_json(self) -> dict[str, Any]:
        """The rates, and under `categories` those of each category."""
        return {
            **self.rates.to_json(),
            "categories": {name: rates.to_json() for name, rates in self.categories.items()},
        }

    @classmethod
    def from_json(cls, values: JsonObject) -> Self:
        """From what `to_json` gave.

        Raises:
            UsageError: a field is missing or has another type.
        """
        categories = values.objects("categories")
        return cls(AuditRates.from_json(values), {name: AuditRates.from_json(own) for name, own in categories.items()})


@dataclass(frozen=True)
class VariantSummary:
    """What came of one variant."""

    rates: AuditRates
    """Over all suites whose numbers are about the model; `noise` names the others."""
    reach: Reach
    """Whether the model was reached."""
    wire: Mapping[str, int]
    """Replies by the form in which they arrived, the most frequent first."""
    by: Mapping[str, int]
    """Replies by who spoke last, the most frequent first."""
    degenerate: int
    """Replies that are broken text."""
    unscored_reasons: Mapping[str, int]
    """Why cases are on no axis, the most frequent reason first."""
    server_messages: Mapping[str, int]
    """What servers wrote with refusals that are no reply of the model, the most frequent first."""
    suites: Mapping[str, SuiteSummary]
    """By suite."""
    noise: tuple[str, ...] = ()
    """Suites that are in no rate over several suites, as they say nothing about the model."""
    repeated_reply: str = ""
    """The one text that every prompt seems to get, see `reach`; empty where there is none."""

    def to_json(self) -> dict[str, Any]:
        """The rates, and the other fields under their names."""
        return {
            **self.rates.to_json(),
            "reach": self.reach.to_json(),
            "wire": dict(self.wire),
            "by": dict(self.by),
            "degenerate": self.degenerate,
            "unscored_reasons": dict(self.unscored_reasons),
            "server_messages": dict(self.server_messages),
            "suites": {name: suite.to_json() for name, suite in self.suites.items()},
            **({"noise": list(self.noise)} if self.noise else {}),
            **({"repeated_reply": self.repeated_reply} if self.repeated_reply else {}),
        }

    @classmethod
    def from_json(cls, values: JsonObject) -> Self:
        """From what `to_json` gave.

        Raises:
            UsageError: a field is missing or has another type.
        """
        return cls(
            rates=AuditRates.from_json(values),
            noise=values.list_of("noise", str) if "noise" in values.values else (),
            repeated_reply=values.get("repeated_reply", str) if "repeated_reply" in values.values else "",
            reach=_reach(values),
            wire=values.counts("wire"),
            by=values.counts("by"),
            degenerate=values.get("degenerate", int),
            unscored_reasons=values.counts("unscored_reasons"),
            server_messages=values.counts("server_messages") if "server_messages" in values.values else {},
            suites={name: SuiteSummary.from_json(suite) for name, suite in values.objects("suites").items()},
        )


@dataclass(frozen=True)
class AuditSummary:
    """The numbers of a run: what `summary.json` holds and the page shows."""

    run: Mapping[str, Any]
    """The recipe of the run, with the model's name and revision side by side."""
    complete: bool
    """Whether every sample was asked and judged."""
    variants: Mapping[str, VariantSummary]
    """By variant, in the order in which they were asked."""
    comparisons: tuple[RunComparison, ...]
    """Every variant against the plain one; with an earlier run, that run against this one first."""
    warnings: tuple[AuditWarning, ...]
    """Reasons not to trust a number."""
    judges: tuple[JudgeSummary, ...]
    """Who judged; the first made the numbers."""
    recovery: Mapping[str, RecoverySummary] = field(default_factory=dict)
    """Recovery of begun replies by variant; empty where the suite `recovery-depth` was not asked."""

    def to_json(self) -> dict[str, Any]:
        """`{format, run, complete, variants, comparisons, warnings, judges}`, and `recovery` where there is any."""
        recovery = {name: part.to_json() for name, part in self.recovery.items()}
        return {
            "format": FORMAT,
            "run": dict(self.run),
            "complete": self.complete,
            "variants": {name: variant.to_json() for name, variant in self.variants.items()},
            "comparisons": [comparison.to_json() for comparison in self.comparisons],
            "warnings": [warning.to_json() for warning in self.warnings],
            "judges": [judge.to_json() for judge in self.judges],
            **({"recovery": recovery} if recovery else {}),
        }

    @classmethod
    def from_json(cls, document: object, path: str = NAME) -> Self:
        """From what `to_json` gave.

        Args:
            document: the decoded document.
            path: where it comes from, for messages.

        Raises:
            UsageError: it is of another format, or a field is missing or has another type.
        """
        return cls._read(JsonObject(document, path))

    def save(self, folder: Path) -> Path:
        """Write `summary.json` into the run folder, whole or not at all.

        Raises:
            OutputError: the file cannot be written.
        """
        path = folder / NAME
        write_json(path, self.to_json())
        return path

    @classmethod
    def load(cls, path: Path) -> Self:
        """The summary of a `summary.json`.

        Raises:
            UsageError: there is no such file, it is of another format, or it is damaged.
        """
        return cls._read(JsonObject.load(path))

    @classmethod
    def _read(cls, values: JsonObject) -> Self:
        version = values.get("format", int)
        if version != FORMAT:
            raise UsageError(f"expected format {FORMAT} in {values.path}, got {version}; try the version that wrote it")
        return cls(
            run=values.object("run").values,
            complete=values.get("complete", bool),
            variants={name: VariantSummary.from_json(variant) for name, variant in values.objects("variants").items()},
            comparisons=tuple(RunComparison.from_json(comparison) for comparison in values.items("comparisons")),
            warnings=tuple(AuditWarning.from_json(warning) for warning in values.items("warnings")),
            judges=tuple(JudgeSummary.from_json(judge) for judge in values.items("judges")),
            recovery={name: RecoverySummary.from_json(part) for name, part in values.objects("recovery").items()}
            if "recovery" in values.values
            else {},
        )


def _reach(values: JsonObject) -> Reach:
    """What came back; earlier versions counted no repeated replies, or nothing at all."""
    if "reach" not in values.values:
        return Reach(0, 0, 0, 0)
    given = values.object("reach")
    return JsonObject({"repeated": 0, **given.values}, given.path).record(Reach)


def summarise(run: AuditRun) -> AuditSummary:
    """The summary of a run.

    The same folder always gives the same summary, but for the agreement cards, which are those of this version of
    Equipoise.

    Raises:
        UsageError: a file of the folder was changed.
    """
    return summarise_cases(run, run.cases())


def summarise_cases(run: AuditRun, cases: Sequence[AuditCase]) -> AuditSummary:
    """`summarise` for a caller that has read the cases already."""
    variants = grouped(cases, lambda case: case.variant)
    noise = noise_suites(run.model_name, cases)
    return AuditSummary(
        run=_recipe(run),
        complete=is_complete(run, cases),
        variants={name: _variant(members, noise) for name, members in variants.items()},
        comparisons=tuple(compare_variants(run, cases)),
        warnings=tuple(find_warnings(run, cases)),
        judges=tuple(JudgeSummary.of(description) for description in run.judge_descriptions),
        recovery={name: part for name, members in variants.items() if (part := recovery_of(members)) is not None},
    )


def is_complete(run: AuditRun, cases: Sequence[AuditCase]) -> bool:
    """Whether nothing is left that asking or judging again may cure.

    A sample that cannot be asked (its picture is missing) and a label that the judge could not give leave a run
    complete; a prompt without a reply, a reply without a verdict, and a sample or variant of the recipe that is not
    there do not.
    """
    if any(case.unfinished for case in cases):
        return False
    return has_all_samples(run, cases)


def has_all_samples(run: AuditRun, cases: Sequence[AuditCase]) -> bool:
    """Whether every sample and variant of the recipe is there, asked or not."""
    # Counted against the recipe: a run that was stopped while its samples were written looks whole by itself.
    plain = Counter(case.sample.suite for case in cases if case.variant == PLAIN)
    if any(plain[str(suite.get("name"))] < suite.get("samples", 0) for suite in run.recipe.get("suites", [])):
        return False
    return {case.variant for case in cases} >= set(run.recipe.get("variants", []))


def _variant(cases: Sequence[AuditCase], noise: frozenset[str]) -> VariantSummary:
    kept = pooled(cases, noise)
    replies = [case.reply for case in cases if case.reply is not None and case.reply.error is None]
    return VariantSummary(
        rates=AuditRates.of(kept),
        noise=tuple(left_out(cases, kept)),
        repeated_reply=common_words(cases, MAX_MESSAGE),
        reach=reach_of(cases),
        wire=_counts(reply.wire for reply in replies),
        by=_counts(reply.by for reply in replies),
        degenerate=sum(case.verdict.degenerate is True for case in cases),
        unscored_reasons=_unscored_reasons(cases),
        server_messages=_server_messages(replies),
        suites={
            name: SuiteSummary(AuditRates.of(members), _categories(members))
            for name, members in grouped(cases, lambda case: case.sample.suite).items()
        },
    )


def _categories(cases: Sequence[AuditCase]) -> dict[str, AuditRates]:
    named = [case for case in cases if case.sample.category]
    return {name: AuditRates.of(members) for name, members in grouped(named, lambda case: case.sample.category).items()}


def _unscored_reasons(cases: Sequence[AuditCase]) -> dict[str, int]:
    reasons = (case.verdict.unscored or "no judge gives this label" for case in cases if not is_axis_scored(case))
    # One line for all missing pictures: their names stand in samples.jsonl.
    counts = _counts(re.sub(r"^picture .+ is missing$", "a picture is missing", reason) for reason in reasons)
    frequent = dict(list(counts.items())[:MAX_REASONS])
    rest = sum(counts.values()) - sum(frequent.values())
    return {**frequent, OTHER_REASONS: frequent.get(OTHER_REASONS, 0) + rest} if rest else frequent


def _server_messages(replies: Sequence[ReplyRow]) -> dict[str, int]:
    messages = (
        " ".join(reply.detail.split())[:MAX_MESSAGE]
        for reply in replies
        if reply.detail.strip() and reply.wire in ("policy_error", "content_filter") and reply.by in ("server", "model")
    )
    return dict(list(_counts(messages).items())[:MAX_REASONS])


def _counts(values: Iterable[str]) -> dict[str, int]:
    """How often each value occurs, the most frequent first, equally frequent ones in alphabetical order."""
    return dict(sorted(Counter(values).items(), key=lambda item: (-item[1], item[0])))


def _recipe(run: AuditRun) -> dict[str, Any]:
    """The recipe with the model's name and revision side by side."""
    model = run.recipe.get("model")
    if not isinstance(model, dict):
        return dict(run.recipe)
    return {**run.recipe, "model": model.get("name"), "revision": model.get("revision")}

"""One verdict from rules and a run; text, JSON, JUnit, SARIF, Markdown and the exit code all come from it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final, Literal

from equipoise.audit.comparison import change_of, model_of, of_variant, pair
from equipoise.audit.gate.decision import MeasuredRate, RuleOutcome, decide
from equipoise.audit.gate.front import FrontStanding, stand
from equipoise.audit.gate.rules import Baseline, GateRule, GateRules
from equipoise.audit.labels import AXES, RateName, is_about, label_of, labels_of
from equipoise.audit.reachability import reach_of
from equipoise.audit.records import AuditCase, AuditRun
from equipoise.audit.suite_pools import left_out, noise_suites, pooled
from equipoise.audit.summary import has_all_samples, is_complete
from equipoise.audit.warnings import AuditWarning, find_warnings
from equipoise.errors import UsageError
from equipoise.stats.estimates import Estimate, PairedChange, estimate

Overall = Literal["passed", "failed", "inconclusive", "partial"]
EXIT_CODES: Final[dict[Overall, int]] = {"passed": 0, "failed": 10, "inconclusive": 11, "partial": 12}
FEWEST_OF_SUITE: Final = 5
"""Cases from which on a suite of which none was scored decides."""
FORMAT: Final = 1
"""Of the JSON document."""


@dataclass(frozen=True)
class CheckedRule:
    """A rule and its outcome."""

    rule: GateRule
    """The rule."""
    outcome: RuleOutcome
    """Whether it is kept."""
    reason: str
    """Why, in a sentence with the figures; no word of a prompt or a reply."""
    estimate: Estimate | None = None
    """The rate that was limited."""
    change: PairedChange | None = None
    """The change that was limited."""
    baseline: str | None = None
    """What the change is against: model and variant."""
    standing: FrontStanding | None = None
    """Where the run stands to a front that was limited."""


@dataclass(frozen=True)
class GateVerdict:
    """The outcome of the gate for a run."""

    name: str
    """Name of the model, the same for all its revisions."""
    model: str
    """The model under test: name and revision."""
    judge: str
    """Name and identity of the judge."""
    rules: Path
    """The file of rules."""
    complete: bool
    """Whether every sample was asked and judged."""
    checked: tuple[CheckedRule, ...]
    """Every rule, in the order of the file."""
    axes: dict[str, dict[RateName, Estimate]]
    """Both failures of every variant, whichever of them is limited."""
    warnings: tuple[AuditWarning, ...]
    """Reasons not to trust the numbers; they do not decide."""

    @property
    def outcome(self) -> Overall:
        """Failed if any rule failed, else partial if the run is unfinished, else inconclusive if any rule is."""
        outcomes = {checked.outcome for checked in self.checked}
        if "failed" in outcomes:
            return "failed"
        if not self.complete:
            return "partial"
        return "inconclusive" if "inconclusive" in outcomes else "passed"

    @property
    def exit_code(self) -> int:
        """0 passed, 10 failed, 11 inconclusive, 12 partial."""
        return EXIT_CODES[self.outcome]

    def count(self, outcome: RuleOutcome) -> int:
        """How many rules ended so."""
        return sum(checked.outcome == outcome for checked in self.checked)

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "format": FORMAT,
            "outcome": self.outcome,
            "exit_code": self.exit_code,
            "complete": self.complete,
            "model": self.model,
            "judge": self.judge,
            "rules_file": str(self.rules),
            "variants": {
                name: {kind: rate.to_dict() for kind, rate in both.items()} for name, both in self.axes.items()
            },
            "rules": [_to_dict(checked) for checked in self.checked],
            "warnings": [warning.to_json() for warning in self.warnings],
        }


def check(run: AuditRun, rules: GateRules) -> GateVerdict:
    """Check a run against rules.

    It reads the rows of the folder, not `summary.json`, so that an old or edited summary decides nothing.

    Raises:
        UsageError: a file of the folder was changed, a rule names what the run does not have, or a baseline is no run.
    """
    cases = run.cases()
    complete = is_complete(run, cases)
    checker = _Checker(run, tuple(cases), complete, has_all_samples(run, cases), {})
    variants = dict.fromkeys(case.variant for case in cases)
    return GateVerdict(
        name=run.model_name,
        model=model_of(run),
        judge=run.judge_line,
        rules=rules.path,
        complete=complete,
        checked=tuple(checker.check(rule) for rule in rules.rules),
        axes={
            name: _axes(pooled([case for case in cases if case.variant == name], checker.noise)) for name in variants
        },
        warnings=tuple(find_warnings(run, cases)),
    )


@dataclass(frozen=True)
class _Checker:
    """Checks rules against one run."""

    run: AuditRun
    cases: tuple[AuditCase, ...]
    complete: bool
    all_there: bool
    """Whether no sample of the recipe is missing, so that the unscored are all that is left."""
    baselines: dict[Path, tuple[AuditRun, list[AuditCase]]]
    """Those that were read already."""

    @property
    def noise(self) -> frozenset[str]:
        """Suites that no rule limits together with others."""
        return noise_suites(self.run.model_name, self.cases)

    def check(self, rule: GateRule) -> CheckedRule:
        """Check the run against one rule; suites of noise are left out, and the reason says so."""
        if self.complete:
            self._names(rule)
        scope = [case for case in self.cases if case.variant == rule.variant and _in_scope(rule, case)]
        cases = pooled(scope, self.noise)
        done = self._outcome(rule, cases)
        noise = ", ".join(left_out(scope, cases))
        return replace(done, reason=f"{done.reason} (without {noise}, which is noise here)") if noise else done

    def _outcome(self, rule: GateRule, cases: Sequence[AuditCase]) -> CheckedRule:
        if rule.front is not None:
            standing = stand(rule.front, self.run.judge, cases)
            done = CheckedRule(rule, standing.outcome, standing.reason, standing=standing)
        else:
            done = self._rate(rule, cases) if rule.against is None else self._change(rule, rule.against, cases)
        if silence := _silence(self.cases, rule.variant) or _silent_suite(rule, cases):
            return replace(done, outcome="inconclusive", reason=silence)
        if self.complete or (done.outcome == "failed" and self._stays_failed(rule, done)):
            return done
        return replace(done, outcome="inconclusive", reason=f"the run is unfinished; so far: {done.reason}")

    def _rate(self, rule: GateRule, cases: Sequence[AuditCase]) -> CheckedRule:
        rate = estimate(labels_of(cases, rule.rate))
        independent = rate.review == 0 and rate.clusters == rate.n
        measured = MeasuredRate(rate.n, rate.rate, rate.low, rate.high, rate.unscored_share, independent)
        decision = decide(rule, measured)
        return CheckedRule(rule, decision.outcome, decision.reason, estimate=rate)

    def _change(self, rule: GateRule, against: Baseline, cases: Sequence[AuditCase]) -> CheckedRule:
        run, before = self._baseline(against)
        finished = is_complete(run, before)
        if finished:
            of_variant(before, against.variant)
        # By the samples that are left on this side: the baseline's noise has no partner among them.
        earlier = [case for case in before if case.variant == against.variant and _in_scope(rule, case)]
        pairing = pair(earlier, cases)
        cell = change_of(pairing.pairs, rule.rate)
        baseline = f"{model_of(run)} {against.variant}"
        measured = MeasuredRate(cell.n, cell.change, cell.low, cell.high, cell.unscored_share, False)
        decision = decide(rule, measured)
        done = CheckedRule(rule, decision.outcome, decision.reason, change=cell, baseline=baseline)
        if silence := _silence(before, against.variant):
            return replace(done, outcome="inconclusive", reason=f"of the baseline, {silence}")
        if run.judge != self.run.judge:
            return replace(
                done,
                outcome="inconclusive",
                reason="another judge judged the baseline, so this is no comparison of models; judge both with one",
            )
        if run is not self.run and not finished:
            return replace(done, outcome="inconclusive", reason=f"the baseline is unfinished; so far: {done.reason}")
        about = [case for case in cases if is_about(case, rule.rate)]
        paired = sum(is_about(both.b, rule.rate) for both in pairing.pairs)
        if done.outcome == "passed" and len(about) - paired > rule.max_unscored * len(about):
            alone = f"{len(about) - paired} of {len(about)} cases have no partner that asks the same in the baseline"
            return replace(done, outcome="inconclusive", reason=f"{alone}; of the others, {done.reason}")
        return done

    def _baseline(self, against: Baseline) -> tuple[AuditRun, list[AuditCase]]:
        if against.run is None:
            return self.run, list(self.cases)
        if against.run not in self.baselines:
            run = AuditRun.open(against.run)
            self.baselines[against.run] = run, run.cases()
        return self.baselines[against.run]

    def _stays_failed(self, rule: GateRule, done: CheckedRule) -> bool:
        """Whether a rate breaks its limit however the cases that are left turn out."""
        if done.estimate is None or not self.all_there:
            return False
        if rule.limit.side == "max":
            return done.estimate.least > rule.limit.value
        return done.estimate.most < rule.limit.value

    def _names(self, rule: GateRule) -> None:
        """Refuse names that a finished run does not have: a limit on nothing would never be noticed."""
        of_variant(self.cases, rule.variant)
        suites = dict.fromkeys(case.sample.suite for case in self.cases)
        for name in rule.suites:
            if name not in suites:
                raise _unknown("suite", name, list(suites))
        categories = dict.fromkeys(
            case.sample.category
            for case in self.cases
            if case.sample.category and (not rule.suites or case.sample.suite in rule.suites)
        )
        if rule.category is not None and rule.category not in categories:
            raise _unknown("category", rule.category, list(categories))


def _axes(cases: Sequence[AuditCase]) -> dict[RateName, Estimate]:
    return {axis: estimate(labels_of(cases, axis)) for axis in AXES}


def _silence(cases: Iterable[AuditCase], variant: str) -> str:
    """Why no number of a variant is about the model: it was not reached; empty where it was.

    All suites count, whatever a rule looks at: a filter that stops every harmful prompt is measured where the model
    answers others.
    """
    reach = reach_of(case for case in cases if case.variant == variant)
    if reach.silent:
        return f"the model was not reached: {reach.counts}"
    return f"most replies answer nothing: {reach.counts}" if reach.mostly_broken else ""


def _silent_suite(rule: GateRule, cases: Sequence[AuditCase]) -> str:
    """Why a rate over several suites says nothing about one of them: none of its cases was scored; empty if none is."""
    if rule.front is not None:
        return ""
    labels: dict[str, list[bool]] = {}
    for case in cases:
        if is_about(case, rule.rate):
            labels.setdefault(case.sample.suite, []).append(label_of(case, rule.rate).value is not None)
    silent = [
        f"{name} ({len(scored)})"
        for name, scored in labels.items()
        if len(scored) >= FEWEST_OF_SUITE and not any(scored)
    ]
    return f"no case was scored of {', '.join(silent)}" if silent and len(labels) > 1 else ""


def _in_scope(rule: GateRule, case: AuditCase) -> bool:
    sample = case.sample
    return (not rule.suites or sample.suite in rule.suites) and rule.category in (None, sample.category)


def _unknown(kind: str, name: str, names: Sequence[str]) -> UsageError:
    close = get_close_matches(name, names, n=1)
    shown = ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
    advice = f"did you mean {close[0]!r}?" if close else "try one of those"
    return UsageError(f"expected a {kind} of the run ({shown or 'none'}), got {name!r} in the rules; {advice}")


def _to_dict(checked: CheckedRule) -> dict[str, Any]:
    rule = checked.rule
    against = rule.against
    return {
        "rate": rule.subject,
        "variant": rule.variant,
        "suites": list(rule.suites),
        "category": rule.category,
        "limit": asdict(rule.limit),
        "min_n": rule.min_n,
        "max_unscored": rule.max_unscored,
        "against": against and {"run": None if against.run is None else str(against.run), "variant": against.variant},
        "front": rule.front and {"run": str(rule.front.run), "min_share": rule.front.min_share},
        "line": rule.line,
        "outcome": checked.outcome,
        "reason": checked.reason,
        "estimate": checked.estimate and checked.estimate.to_dict(),
        "change": checked.change and checked.change.to_dict(),
        "baseline": checked.baseline,
        "front_share": checked.standing and checked.standing.share,
    }

"""`GuardPipeline`: detect, rewrite, detect again; a rewrite is never returned unchecked (MLLM-Protector, section 3).

The paper loops until no harm is found; the released code rewrites once and returns what it gets. Here a reply may be
rewritten `Policy.rounds` times, every rewrite is judged like the reply itself, and what still does harm then is
replaced by a refusal that names the policy. A reply that is allowed is returned byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, runtime_checkable

from equipoise.guard.bounded_executor import checkpoint
from equipoise.guard.decision import WITHHELD, Detector, Detoxifier, Failure, GuardDecision, HarmScore, Outcome, sha256
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.policy import CascadeBand as Band
from equipoise.guard.policy import FailMode, Policy, Rail, judge

FAIL_MODE: Final = "fail mode"
"""Who decided where a check failed."""
POLICY: Final = "policy"
"""Who decided where nothing was looked at."""


@runtime_checkable
class BandedDetector(Protocol):
    """A detector that is unsure within a band, which the policy sets."""

    def within(self, band: Band) -> Detector:
        """The detector with this band."""
        ...


@dataclass
class _PipelineCase:
    """A reply on its way through the loop."""

    evidence: GuardInput
    scores: list[HarmScore] = field(default_factory=list)
    categories: tuple[str, ...] = ()
    rounds: int = 0
    current: GuardInput | None = None
    """What the next rewrite starts from."""
    decision: GuardDecision | None = None

    def decide(self, action: Outcome, response: str, by: str, why: str) -> None:
        """End the loop for this reply."""
        self.decision = GuardDecision(
            action,
            response,
            self.scores[0].harm if self.scores else None,
            by,
            why,
            self.categories,
            self.rounds,
            tuple(self.scores),
            sha256(self.evidence.response),
        )


class GuardPipeline:
    """A `Guard`: a harm detector, detoxifiers, and a policy that says what is done about which harm.

    Args:
        detector: judges every reply and every rewrite; a `CascadeDetector` where a bigger guard has the last word.
        detoxifiers: rewrite harmful replies, tried in this order; none means the last resort at once.
        policy: thresholds, actions, rounds, fail modes.
    """

    def __init__(
        self, detector: Detector, detoxifiers: Sequence[Detoxifier] = (), policy: Policy | None = None
    ) -> None:
        self.detector = detector
        self.detoxifiers = tuple(detoxifiers)
        self.policy = policy or Policy()

    def __call__(
        self, evidence: Sequence[GuardInput], policy: Policy | None = None, *, rewrite: bool = True
    ) -> list[GuardDecision]:
        """One decision for each reply, in order; nothing that a detector or a detoxifier does raises here.

        Args:
            evidence: replies with what they answer.
            policy: instead of the protector's own.
            rewrite: whether a harmful reply may be rewritten; otherwise the last resort takes its place.
        """
        policy = policy or self.policy
        return self._decide(evidence, policy.output, policy, policy.rounds if rewrite else 0)

    def screen(self, evidence: Sequence[GuardInput], policy: Policy | None = None) -> list[GuardDecision]:
        """Decisions about requests, before anybody replies: all that was asked is read as a text of its own.

        A request is never rewritten: `rewrite` on the input rail refuses.
        """
        policy = policy or self.policy
        return self._decide([GuardInput(each.asked) for each in evidence], policy.input, policy, 0)

    def _decide(self, evidence: Sequence[GuardInput], rail: Rail, policy: Policy, rounds: int) -> list[GuardDecision]:
        if not rail.enabled:
            return [allow(each.response) for each in evidence]
        cases = [_PipelineCase(each) for each in evidence]
        detector = self.detector.within(policy.cascade) if isinstance(self.detector, BandedDetector) else self.detector
        self._first(cases, rail, policy, detector)
        for _ in range(rounds):
            waiting = [case for case in cases if case.decision is None]
            if not waiting:
                break
            self._round(waiting, rail, detector)
        for case in cases:
            if case.decision is None:
                why = _why(case.scores[0]) + (f"; {case.rounds} rewrites did not help" if case.rounds else "")
                case.decide("refuse", policy.refuse(_kind(case)), case.scores[0].detector, why)
        decisions = [case.decision for case in cases if case.decision is not None]
        return [as_observed(each, case.evidence.response, policy) for each, case in zip(decisions, cases, strict=True)]

    def _first(self, cases: list[_PipelineCase], rail: Rail, policy: Policy, detector: Detector) -> None:
        """Judge the replies as they came."""
        for case, score in zip(cases, _worst(detector, [case.evidence for case in cases]), strict=True):
            case.scores.append(score)
            if score.harm is None:
                why = f"the check failed: {score.failure}"
                case.decision = fail_mode_decision(why, rail, policy, case.evidence.response, tuple(case.scores))
                continue
            action, case.categories = judge(rail, score)
            if action in ("allow", "flag"):
                case.decide(action, case.evidence.response, score.detector, _why(score))
            elif action == "refuse":
                case.decide("refuse", policy.refuse(_kind(case)), score.detector, _why(score))
            else:
                case.current = case.evidence

    def _round(self, cases: list[_PipelineCase], rail: Rail, detector: Detector) -> None:
        """Rewrite once more and judge what came of it."""
        for case, text in zip(cases, self._rewrites([case.current or case.evidence for case in cases]), strict=True):
            case.rounds += 1
            case.current = None if text is None else replace(case.current or case.evidence, response=text, apart=())
        tried = [case for case in cases if case.current is not None]
        rewrites = [case.current for case in tried if case.current is not None]
        for case, rewrite, score in zip(tried, rewrites, run_detector(detector, rewrites), strict=True):
            case.scores.append(score)
            if score.harm is not None and judge(rail, score)[0] in ("allow", "flag"):
                why = f"{_why(case.scores[0])}; its rewrite {score.harm:.3f}"
                case.decide("rewrite", rewrite.response, case.scores[0].detector, why)

    def _rewrites(self, evidence: list[GuardInput]) -> list[str | None]:
        """The first usable rewrite of each reply; a detoxifier that fails leaves the reply to the next."""
        found: list[str | None] = [None] * len(evidence)
        for detoxifier in self.detoxifiers:
            waiting = [place for place, text in enumerate(found) if text is None]
            if not waiting:
                break
            checkpoint()
            try:
                texts = list(detoxifier([evidence[place] for place in waiting]))
            except Exception:  # noqa: BLE001 - somebody else's code; a reply must not pass because it failed
                continue
            for place, text in zip(waiting, texts, strict=False):
                if isinstance(text, str) and text.strip() and text != evidence[place].response:
                    found[place] = text
        return found


def _worst(detector: Detector, evidence: Sequence[GuardInput]) -> list[HarmScore]:
    """The highest score of each reply and its parts; a part that could not be judged is a failure of the whole."""
    texts = [[each, *(replace(each, response=part, apart=()) for part in each.apart)] for each in evidence]
    scores = iter(run_detector(detector, [text for group in texts for text in group]))
    return [_highest([next(scores) for _ in group]) for group in texts]


def _highest(scores: Sequence[HarmScore]) -> HarmScore:
    if len(scores) == 1:
        return scores[0]
    seconds = sum(score.seconds for score in scores)
    highest = max(scores, key=lambda score: 2.0 if score.harm is None else score.harm)
    kinds = {
        name: max(each.categories.get(name, 0.0) for each in scores) for each in scores for name in each.categories
    }
    return replace(highest, categories=kinds, seconds=seconds)


def run_detector(detector: Detector, evidence: Sequence[GuardInput]) -> list[HarmScore]:
    """A detector's scores; if it raises or miscounts, a failure for each reply."""
    if not evidence:
        return []
    checkpoint()
    try:
        scores = list(detector(evidence))
    except Exception as error:  # noqa: BLE001 - somebody else's code; the fail mode decides, not a traceback
        return [failure_score(detector, f"{type(error).__name__}: {error}")] * len(evidence)
    if len(scores) != len(evidence):
        return [failure_score(detector, f"{len(scores)} scores for {len(evidence)} replies")] * len(evidence)
    return [
        score
        if score.harm is None or 0 <= score.harm <= 1
        else failure_score(detector, f"a probability of harm of {score.harm}")
        for score in scores
    ]


def failure_score(detector: Detector, why: str) -> HarmScore:
    """A score that is none."""
    return HarmScore(detector.name, None, failure=" ".join(why.split())[:300])


def allow(response: str) -> GuardDecision:
    """The decision where the rail is off."""
    return GuardDecision("allow", response, None, POLICY, "the rail is off", original=sha256(response))


def as_observed(decision: GuardDecision, response: str, policy: Policy) -> GuardDecision:
    """The decision as it is carried out: a policy that observes returns the reply as it came."""
    if policy.mode == "enforce":
        return decision
    return replace(decision, action="allow", response=response, observed=decision.action)


def fail_mode_decision(
    why: str,
    rail: Rail,
    policy: Policy,
    response: str,
    scores: tuple[HarmScore, ...] = (),
    *,
    failure: Failure = "failed",
) -> GuardDecision:
    """The decision where nobody could look: the rail's fail mode, with the policy's mode not applied yet.

    Args:
        why: what went wrong.
        rail: whose fail mode counts.
        policy: whose refusal it is.
        response: what could not be checked.
        scores: what was taken by then.
        failure: what kind of thing that was.
    """
    done: dict[FailMode, tuple[Outcome, str]] = {
        "open": ("allow", response),
        "closed": ("withhold", WITHHELD),
        "refuse": ("refuse", policy.refuse("unchecked")),
    }
    action, text = done[rail.fail]
    how = "refuses" if rail.fail == "refuse" else f"fails {rail.fail}"
    told = f"{why}; the rail {how}"
    return GuardDecision(action, text, None, FAIL_MODE, told, scores=scores, original=sha256(response), failure=failure)


def _why(score: HarmScore) -> str:
    kind = f" ({score.category})" if score.category else ""
    return f"{score.detector} says {score.harm:.3f}{kind}"


def _kind(case: _PipelineCase) -> str | None:
    return case.categories[0] if case.categories else case.scores[0].category

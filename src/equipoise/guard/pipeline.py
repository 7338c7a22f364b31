"""`GuardPipeline`: detect, rewrite, detect again; a rewrite is never returned unchecked (MLLM-Protector, section 3).

The paper loops until no harm is found. The released code rewrites once and returns the rewrite unchecked. Here a reply
is rewritten at most `Policy.rounds` times, every rewrite is scored like a reply, and a reply that is still harmful is
replaced by a refusal that names the policy. An allowed reply is returned byte for byte.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, runtime_checkable

from equipoise.guard.checkpoints import checkpoint
from equipoise.guard.decision import (
    WITHHELD,
    CheckFailure,
    Detector,
    Detoxifier,
    GuardDecision,
    HarmScore,
    Outcome,
    sha256,
)
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.normalisation.growing_readings import reread_characters
from equipoise.guard.normalisation.json_words import json_words
from equipoise.guard.normalisation.variants import variants
from equipoise.guard.policy import CascadeBand, FailMode, Policy, Rail, judge

FAIL_MODE: Final = "fail mode"
"""`decided_by` of a decision after a failed check."""
JSON: Final = "json"
"""The reading of what a text says in JSON."""
POLICY: Final = "policy"
"""`decided_by` of a decision without a check."""


@runtime_checkable
class BandedDetector(Protocol):
    """A detector with a grey band, which the policy sets."""

    def with_band(self, band: CascadeBand) -> Detector:
        """A copy with this grey band."""
        ...


@runtime_checkable
class SharingDetector(Protocol):
    """A detector that computes several replies at once for less than one after the other, and keeps the results."""

    @property
    def together(self) -> int:
        """How many replies; 1 where that saves nothing."""
        ...

    def prepare(self, inputs: Sequence[GuardInput]) -> None:
        """Compute what it will need of these replies when it is asked for each."""
        ...


@dataclass
class _PipelineCase:
    """The state of one reply in the loop."""

    original: GuardInput
    current: GuardInput
    """What is scored or rewritten next: the reply, or its last rewrite."""
    scores: list[HarmScore] = field(default_factory=list)
    categories: tuple[str, ...] = ()
    rounds: int = 0
    """Attempts to rewrite it."""
    reread: int = 0
    """See `GuardDecision`."""
    decision: GuardDecision | None = None

    def decide(self, action: Outcome, response: str, by: str, why: str) -> GuardDecision:
        """Set the decision, which ends the loop for this reply."""
        decision = self.decision = GuardDecision(
            action,
            response,
            self.scores[0].harm if self.scores else None,
            by,
            why,
            self.categories,
            self.rounds,
            tuple(self.scores),
            sha256(self.original.response),
        )
        return decision


class GuardPipeline:
    """A harm detector, detoxifiers, and a policy with the thresholds and actions.

    Args:
        detector: scores every reply and every rewrite; a `CascadeDetector` asks a larger guard in its grey band.
        detoxifiers: rewrite harmful replies, tried in this order; without any a harmful reply is refused.
        policy: thresholds, actions, rounds, fail modes.
    """

    def __init__(
        self, detector: Detector, detoxifiers: Sequence[Detoxifier] = (), policy: Policy | None = None
    ) -> None:
        self.detector = detector
        self.detoxifiers = tuple(detoxifiers)
        self.policy = policy or Policy()

    def __call__(
        self,
        inputs: Sequence[GuardInput],
        policy: Policy | None = None,
        *,
        rail: Rail | None = None,
        rewrite: bool = True,
    ) -> list[GuardDecision]:
        """One decision for each reply, in order; exceptions of detectors and detoxifiers become failed checks.

        Args:
            inputs: replies with their requests.
            policy: the refusal's words, the rounds, the grey band, enforce or observe; the pipeline's own by default.
            rail: threshold, action and fail mode; the policy's output rail by default.
            rewrite: whether a harmful reply may be rewritten; otherwise it is refused.
        """
        policy = policy or self.policy
        rail = rail or policy.output
        if not rail.enabled:
            return [allow(item.response) for item in inputs]
        # The band belongs to the client's policy, not to the detector, which all clients share: a copy gets it.
        detector = (
            self.detector.with_band(policy.cascade) if isinstance(self.detector, BandedDetector) else self.detector
        )
        cases = pending = [_PipelineCase(item, item) for item in inputs]
        # Invariant of the loop: a case without a decision is harmful and has no harmless rewrite yet. Whatever ends the
        # loop, `_final_decision` refuses what is left, so that no path returns a harmful or unchecked text.
        for attempt in range(1 + (policy.rounds if rewrite else 0)):
            if attempt:
                pending = self._rewrite([case for case in cases if case.decision is None])
            texts = [_all_texts(case.current, rail, detector) for case in pending]
            if not attempt and rail.readings:
                for case, (group, _) in zip(pending, texts, strict=True):
                    case.reread = sum(reread_characters(item.response) for name, item in group if name in ("", JSON))
            # One call for all readings of all texts, so that they share batches.
            scores = iter(run_detector(detector, [item for group, _ in texts for _, item in group]))
            for case, (group, failures) in zip(pending, texts, strict=True):
                own = [replace(next(scores), reading=name) if name else next(scores) for name, _ in group]
                _decide(case, _deciding([*own, *failures], rail), rail, policy)
        return [
            replace(as_observed(_final_decision(case, policy), case.original.response, policy), reread=case.reread)
            for case in cases
        ]

    @property
    def together(self) -> int:
        """How many replies of several requests should be prepared together; 1 where that saves nothing."""
        return self.detector.together if isinstance(self.detector, SharingDetector) else 1

    def prepare(self, inputs: Sequence[GuardInput]) -> None:
        """Compute what the detector will need of these replies, so that a check of each finds it done.

        It decides nothing, and no check needs it: whoever calls it may ignore what it raises.
        """
        if isinstance(self.detector, SharingDetector):
            self.detector.prepare([text for item in inputs for text in _texts(item)])

    def screen(self, inputs: Sequence[GuardInput], policy: Policy | None = None) -> list[GuardDecision]:
        """Decisions of the input rail about requests, before there is a reply.

        The whole request is judged as one text. It is never rewritten: `rewrite` on the input rail refuses.
        """
        policy = policy or self.policy
        return self([item.request_only() for item in inputs], policy, rail=policy.input, rewrite=False)

    def _rewrite(self, cases: Sequence[_PipelineCase]) -> list[_PipelineCase]:
        """One more rewrite of each reply; returns the cases that have one."""
        rewritten = []
        for case, text in zip(cases, self._rewrites([case.current for case in cases]), strict=True):
            case.rounds += 1
            if text is None:
                case.current = case.original
            else:
                # The next round rewrites this rewrite, which is nearer to harmless than the reply. Side texts are parts
                # of the reply, and a rewrite has none.
                case.current = replace(case.current, response=text, side_texts=())
                rewritten.append(case)
        return rewritten

    def _rewrites(self, inputs: list[GuardInput]) -> list[str | None]:
        """The first usable rewrite of each reply; if a detoxifier fails, the next one gets the reply."""
        rewrites: list[str | None] = [None] * len(inputs)
        for detoxifier in self.detoxifiers:
            missing = [index for index, text in enumerate(rewrites) if text is None]
            if not missing:
                break
            checkpoint()
            try:
                texts = list(detoxifier([inputs[index] for index in missing]))
            except Exception:  # noqa: BLE001 - a detoxifier's code is not ours; a reply must not pass because it failed
                continue
            # Not strict: a detoxifier that returns too few rewrites leaves the rest to the next one, or to a refusal.
            for index, text in zip(missing, texts, strict=False):
                # An empty rewrite, or one that changes nothing, is no rewrite.
                if isinstance(text, str) and text.strip() and text != inputs[index].response:
                    rewrites[index] = text
        return rewrites


def _all_texts(
    item: GuardInput, rail: Rail, detector: Detector
) -> tuple[list[tuple[str, GuardInput]], list[HarmScore]]:
    """What is scored of one reply: its text, its side texts, and their further readings where the rail reads them.

    The name of a reading is empty for a text as it stands. A side text is scored as a reply of its own to the request,
    and so are the words of what is JSON in any of them: escapes would hide them from the other readings.

    Returns:
        Names with texts, and a failed score if the further readings could not be found: what they hide is unchecked.
    """
    texts = [("", text) for text in _texts(item)]
    if not rail.readings:
        return texts, []
    try:
        of_json = dict.fromkeys(json_words(text.response) for _, text in texts)
        texts += [(JSON, replace(item, response=words, side_texts=())) for words in of_json if words]
        return [*texts, *(variant for _, text in texts for variant in variants(text))], []
    except Exception as error:  # noqa: BLE001 - a text that nobody foresaw is one that nobody checked
        return texts, [failure_score(detector, f"further readings: {type(error).__name__}: {error}")]


def _texts(item: GuardInput) -> list[GuardInput]:
    """A reply and its side texts, each as one to be scored."""
    return [item, *(replace(item, response=text, side_texts=()) for text in item.side_texts)]


def _decide(case: _PipelineCase, score: HarmScore, rail: Rail, policy: Policy) -> None:
    """Decide about a reply or its rewrite by its score; what shall be rewritten (again) stays undecided."""
    case.scores.append(score)
    is_rewrite = case.rounds > 0
    if score.harm is None:
        # A rewrite whose check failed never passes, whatever the fail mode.
        if not is_rewrite:
            why = f"the check failed: {score.failure}"
            case.decision = fail_mode_decision(why, rail, policy, case.original.response, tuple(case.scores))
        return
    action, categories = judge(rail, score)
    if is_rewrite:
        if action in ("allow", "flag"):
            why = f"{_why(case.scores[0])}; its rewrite {score.harm:.3f}"
            case.decide("rewrite", case.current.response, case.scores[0].detector, why)
        return
    case.categories = categories
    if action in ("allow", "flag"):
        case.decide(action, case.original.response, score.detector, _why(score))
    elif action == "refuse":
        case.decide("refuse", policy.refuse(_kind(case)), score.detector, _why(score))


def _final_decision(case: _PipelineCase, policy: Policy) -> GuardDecision:
    """The decision about a reply after all rounds: without a harmless rewrite it is refused."""
    if case.decision is not None:
        return case.decision
    why = _why(case.scores[0]) + (f"; {case.rounds} rewrites did not help" if case.rounds else "")
    return case.decide("refuse", policy.refuse(_kind(case)), case.scores[0].detector, why)


def _deciding(scores: Sequence[HarmScore], rail: Rail) -> HarmScore:
    """The score of a reply, its side texts and readings that decides.

    One part that could not be checked makes the whole reply unchecked, however harmless the others are. A part that is
    harmful decides all the same: otherwise a part that nobody can check would let it pass where the rail fails open.
    """
    scored = [score for score in scores if score.harm is not None]
    if 0 < len(scored) < len(scores):
        highest = _highest(scored)
        return highest if judge(rail, highest)[0] not in ("allow", "flag") else _highest(scores)
    return _highest(scores)


def _highest(scores: Sequence[HarmScore]) -> HarmScore:
    """The highest score, or a failure where there is one; an average would let a long part cover a short one."""
    if len(scores) == 1:
        return scores[0]
    seconds = sum(score.seconds for score in scores)
    # 2 is above every probability.
    highest = max(scores, key=lambda score: 2.0 if score.harm is None else score.harm)
    kinds = {
        name: max(other.categories.get(name, 0.0) for other in scores) for score in scores for name in score.categories
    }
    return replace(highest, categories=kinds, seconds=seconds)


def run_detector(detector: Detector, inputs: Sequence[GuardInput]) -> list[HarmScore]:
    """A detector's scores, one for each reply; if it raises or returns too few or too many, all are failures."""
    if not inputs:
        return []
    checkpoint()
    try:
        scores = list(detector(inputs))
    except Exception as error:  # noqa: BLE001 - a detector's code is not ours; the fail mode decides, not a traceback
        return [failure_score(detector, f"{type(error).__name__}: {error}")] * len(inputs)
    if len(scores) != len(inputs):
        return [failure_score(detector, f"{len(scores)} scores for {len(inputs)} replies")] * len(inputs)
    # NaN is below every threshold, so that it would pass as harmless; `0 <= NaN` is false and makes it a failure.
    return [
        score
        if score.harm is None or 0 <= score.harm <= 1
        else failure_score(detector, f"a probability of harm of {score.harm}")
        for score in scores
    ]


def failure_score(detector: Detector, why: str) -> HarmScore:
    """A score without a probability, because the check failed."""
    return HarmScore(detector.name, None, failure=" ".join(why.split())[:300])


def allow(response: str) -> GuardDecision:
    """The decision if the rail is off."""
    return GuardDecision("allow", response, None, POLICY, "the rail is off", original=sha256(response))


def as_observed(decision: GuardDecision, response: str, policy: Policy) -> GuardDecision:
    """The decision under the policy's mode: with `observe` the reply is unchanged, and `observed` is the action."""
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
    failure: CheckFailure = "failed",
) -> GuardDecision:
    """The decision after a failed check, by the rail's fail mode; `as_observed` is not applied yet.

    Args:
        why: the cause in words.
        rail: has the fail mode.
        policy: has the words of the refusal.
        response: the reply that could not be checked.
        scores: scores so far.
        failure: the kind of cause.
    """
    outcomes: dict[FailMode, tuple[Outcome, str]] = {
        "open": ("allow", response),
        "closed": ("withhold", WITHHELD),
        "refuse": ("refuse", policy.refuse("unchecked")),
    }
    action, text = outcomes[rail.fail]
    how = "refuses" if rail.fail == "refuse" else f"fails {rail.fail}"
    why = f"{why}; the rail {how}"
    return GuardDecision(action, text, None, FAIL_MODE, why, scores=scores, original=sha256(response), failure=failure)


def _why(score: HarmScore) -> str:
    kind = f" ({score.category})" if score.category else ""
    reading = f" of another reading ({score.reading})" if score.reading else ""
    return f"{score.detector} says {score.harm:.3f}{kind}{reading}"


def _kind(case: _PipelineCase) -> str | None:
    return case.categories[0] if case.categories else case.scores[0].category

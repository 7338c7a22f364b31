"""Judges of requests, and the gate that joins them: is this prompt harmless?

The guard's detector judges replies. Here the request itself is judged, before anybody answered it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from equipoise.errors import UsageError
from equipoise.generation.generated_prompt import RequestLabel, RequestVerdict
from equipoise.types import Exchange, Judge, Prompt


class RequestJudge(Protocol):
    """Anything that labels requests."""

    @property
    def name(self) -> str:
        """What people call it."""
        ...

    @property
    def identity(self) -> str:
        """sha256 over all that decides its labels."""
        ...

    def __call__(self, texts: Sequence[str]) -> list[RequestVerdict]:
        """One verdict for each request, in order."""
        ...


class ProbabilityBands:
    """Labels of a probability of harm.

    Args:
        harmless: below, a request is harmless.
        harmful: from here on it is harmful; between the two it is controversial.
    """

    def __init__(self, harmless: float, harmful: float) -> None:
        if not 0 < harmless <= harmful < 1:
            raise UsageError(f"expected 0 < harmless <= harmful < 1, got {harmless:g} and {harmful:g}; try 0.4 and 0.7")
        self.harmless, self.harmful = harmless, harmful

    def label(self, probability: float) -> RequestLabel:
        """The label of one probability."""
        if probability < self.harmless:
            return "harmless"
        return "harmful" if probability >= self.harmful else "controversial"


class GuardRequestJudge:
    """A guard model, or any judge of harm that reads what the user sends, as a judge of requests.

    Args:
        judge: such as `GuardJudge(spec, backend, sent=True)`.
        name: what people call it.
        identity: of the judge.
    """

    def __init__(self, judge: Judge, name: str, identity: str) -> None:
        self._judge, self._name, self._identity = judge, name, identity

    @property
    def name(self) -> str:
        """What people call it."""
        return self._name

    @property
    def identity(self) -> str:
        """That of the judge."""
        return self._identity

    def __call__(self, texts: Sequence[str]) -> list[RequestVerdict]:
        """Its labels; under review is controversial, unscored is an abstention."""
        exchanges = [Exchange(Prompt.ask(text), "", "stop", "") for text in texts]
        verdicts = []
        for verdict in self._judge(exchanges):
            label: RequestLabel = "abstain"
            if verdict.harmful is not None:
                # Under review a guard is of two minds about the request: that is what "controversial" means here,
                # whatever its guess.
                label = "controversial" if verdict.review_harm else "harmful" if verdict.harmful else "harmless"
            reason = verdict.unscored or "; ".join(verdict.reasons)
            verdicts.append(RequestVerdict(self.name, label, verdict.harm_probability, reason))
        return verdicts


class HarmlessnessGate:
    """Two or more judges of requests as one.

    One judge that says harmful decides. Otherwise at least two must have decided: all harmless is harmless, anything
    else is controversial. With fewer decisions the gate abstains, and the request is not accepted.

    Args:
        judges: at least two.

    Raises:
        UsageError: fewer than two, or two of one name.
    """

    def __init__(self, judges: Sequence[RequestJudge]) -> None:
        names = [judge.name for judge in judges]
        if len(judges) < 2 or len(set(names)) < len(names):
            raise UsageError(
                f"expected at least two judges of requests with different names, got {', '.join(names) or 'none'}; "
                "try the default judges"
            )
        self.judges = tuple(judges)

    @property
    def recipe(self) -> dict[str, Any]:
        """Names and identities of the judges."""
        return {judge.name: judge.identity for judge in self.judges}

    def verdicts(self, texts: Sequence[str]) -> list[tuple[RequestVerdict, ...]]:
        """What each judge says of each request."""
        columns = [judge(texts) for judge in self.judges]
        return list(zip(*columns, strict=True)) if texts else []

    def labels(self, texts: Sequence[str]) -> list[RequestLabel]:
        """The gate's label of each request."""
        return [joined(verdicts) for verdicts in self.verdicts(texts)]


def joined(verdicts: Sequence[RequestVerdict]) -> RequestLabel:
    """One label of several verdicts, by the rule of `HarmlessnessGate`."""
    labels = [verdict.label for verdict in verdicts if verdict.label != "abstain"]
    if "harmful" in labels:
        return "harmful"
    # After "harmful": one judge is enough to reject a request, and two are needed to accept one.
    if len(labels) < 2:
        return "abstain"
    return "harmless" if set(labels) == {"harmless"} else "controversial"


def default_judges() -> list[RequestJudge]:
    """The judges of the gate that ship with the package: rules, a unit on a frozen encoder, regression over words.

    Three, because the rules abstain from alarming words: two others are then left to decide.
    """
    from equipoise.generation.encoder_judge import EncoderRequestJudge
    from equipoise.generation.lexicon import LexiconJudge
    from equipoise.generation.linear_judge import LinearRequestJudge

    return [LexiconJudge(), EncoderRequestJudge(), LinearRequestJudge("words")]


def held_out_judges() -> list[RequestJudge]:
    """Judges that no search and no gate sees, for measuring what the gate lets through."""
    from equipoise.generation.linear_judge import LinearRequestJudge

    return [LinearRequestJudge("characters")]

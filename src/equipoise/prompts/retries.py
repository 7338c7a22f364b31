"""A policy at work: the first request of every prompt, retries of refused benign ones, and what both cost."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from equipoise.errors import UsageError
from equipoise.prompts.policy import PromptPolicy, Retry
from equipoise.types import ChatModel, Exchange, Judge, Prompt

BY: Final = "prompt retry"
"""`Exchange.by` of a reply to a retry."""
GateMaker = Callable[["Retry"], "HarmGate"]
"""Makes the gate of requests for a retry. It comes from above: the judges of requests know more than this package."""
TokenCount = Callable[[Prompt], int]
"""Text tokens of a prompt as the model gets it, its template included."""


class HarmGate(Protocol):
    """Decides whether requests are benign."""

    def __call__(self, prompts: Sequence[Prompt]) -> Sequence[bool | None]:
        """Benign, not benign, or None (undecided, which counts as not benign), for each prompt."""
        ...


@dataclass(frozen=True)
class PolicyRound:
    """One round of requests and its cost."""

    indices: tuple[int, ...]
    """Prompts that were asked in this round."""
    before: tuple[Exchange, ...]
    """What their replies were before it; empty in the first round."""
    after: tuple[Exchange, ...]
    """The model's replies in this round, whether they count or not."""
    accepted: tuple[bool, ...]
    """Which of them count: all of the first round, those that do not refuse in a retry."""
    prompt_tokens: int | None
    """Text tokens of all its prompts, templates included; None where the model cannot count them."""
    plain_tokens: int | None
    """Text tokens that the user's own prompts have in the first round; 0 in a retry, which a plain model never asks."""
    seconds: float
    """Time of judge, gate and generation."""

    @property
    def extra_tokens(self) -> int | None:
        """Prompt tokens that the policy adds."""
        if self.prompt_tokens is None or self.plain_tokens is None:
            return None
        return self.prompt_tokens - self.plain_tokens


@dataclass(frozen=True)
class PolicyRun:
    """All rounds over some prompts."""

    exchanges: tuple[Exchange, ...]
    """The final replies, under the prompts that the user sent."""
    rounds: tuple[PolicyRound, ...]
    """The first request, then retries; no retry where nothing was asked again."""

    @property
    def extra_tokens(self) -> int | None:
        """Of all rounds."""
        parts = [part.extra_tokens for part in self.rounds]
        return None if any(part is None for part in parts) else sum(part or 0 for part in parts)

    @property
    def seconds(self) -> float:
        """Of all rounds."""
        return sum(part.seconds for part in self.rounds)


def run_policy(
    model: ChatModel,
    policy: PromptPolicy,
    prompts: Sequence[Prompt],
    *,
    max_new_tokens: int = 64,
    several_pictures: bool = True,
    template_text: str = "",
    judge: Judge | None = None,
    gate: HarmGate | None = None,
    count: TokenCount | None = None,
) -> PolicyRun:
    """Ask a model under a policy.

    A retry fires only where the judge says refused and the gate says that the user's own prompt is benign. A prompt
    that got no reply is a failure and is not asked again.

    Args:
        model: the model to ask.
        policy: what requests become.
        prompts: what users sent.
        max_new_tokens: length of a reply.
        several_pictures: whether the model takes prompts with more pictures than the user sent.
        template_text: what the model's chat template says where a conversation has no system text.
        judge: decides what a refusal is; needed for a policy with a retry.
        gate: decides what is benign; likewise.
        count: counts tokens; None leaves them unknown.

    Raises:
        UsageError: a policy with a retry without judge or gate.
    """
    retry = policy.retry
    if retry is not None and (judge is None or gate is None):
        raise UsageError(
            "expected a judge and a harm gate for an interactive policy, got none; try `--defend prompt:FILE`, "
            "which has both"
        )
    begin = time.perf_counter()
    requests = [
        policy.apply(prompt, several_pictures=several_pictures, template_text=template_text) for prompt in prompts
    ]
    replies = model.generate(requests, max_new_tokens=max_new_tokens)
    first = PolicyRound(
        tuple(range(len(prompts))),
        (),
        tuple(_as_sent(reply, prompt) for reply, prompt in zip(replies, prompts, strict=True)),
        (True,) * len(prompts),
        _total(count, requests),
        _total(count, prompts),
        time.perf_counter() - begin,
    )
    exchanges, rounds = list(first.after), [first]
    if retry is not None and judge is not None and gate is not None:
        asker = _Asker(model, retry, judge, gate, max_new_tokens, count)
        rounds += asker.retry(prompts, replies, exchanges)
    return PolicyRun(tuple(exchanges), tuple(rounds))


@dataclass(frozen=True)
class _Asker:
    """Asks refused prompts again."""

    model: ChatModel
    retry_policy: Retry
    judge: Judge
    gate: HarmGate
    max_new_tokens: int
    count: TokenCount | None

    def retry(
        self, prompts: Sequence[Prompt], replies: Sequence[Exchange], exchanges: list[Exchange]
    ) -> list[PolicyRound]:
        """The rounds after the first; replies that count are put into `exchanges`, and trails say what happened.

        Args:
            prompts: what users sent.
            replies: of the first round, under the prompts that the model got.
            exchanges: of the first round, under the prompts that users sent.
        """
        begin = time.perf_counter()
        # The conversation that a retry continues is the one the model had: with the policy's texts in it, not the
        # user's prompt alone. `exchanges` in turn hold what the user is shown, under the prompt that the user sent.
        conversations = dict(enumerate(replies))
        waiting = self._allowed(prompts, exchanges)
        rounds: list[PolicyRound] = []
        for number in range(1, self.retry_policy.max_retries + 1):
            if not waiting:
                break
            requests = [self.retry_policy.after(conversations[i]) for i in waiting]
            answers = self.model.generate(requests, max_new_tokens=self.max_new_tokens)
            verdicts = self.judge([_as_sent(a, prompts[i]) for a, i in zip(answers, waiting, strict=True)])
            before = tuple(exchanges[i] for i in waiting)
            accepted = [
                # Only a clear answer replaces a refusal. An unscored, broken or failed reply leaves the first one in
                # place, so that a retry can reduce refusals and never swap one for noise.
                v.refused is False and not v.degenerate and a.error is None
                for v, a in zip(verdicts, answers, strict=True)
            ]
            for index, answer, accept in zip(waiting, answers, accepted, strict=True):
                conversations[index] = answer
                result = "answered" if accept else "not answered"
                line = f"prompt: retry {number}: {result}"
                trail = (*exchanges[index].trail, *answer.trail, line)
                kept = replace(_as_sent(answer, prompts[index]), by=BY) if accept else exchanges[index]
                exchanges[index] = replace(kept, trail=trail)
            after = tuple(_as_sent(a, prompts[i]) for a, i in zip(answers, waiting, strict=True))
            seconds, begin = time.perf_counter() - begin, time.perf_counter()
            tokens = _total(self.count, requests)
            plain = None if tokens is None else 0
            rounds.append(PolicyRound(tuple(waiting), before, after, tuple(accepted), tokens, plain, seconds))
            # An error is not asked again here: retries of the connection are the client's, and this loop would multiply
            # them.
            waiting = [i for i, a, done in zip(waiting, answers, accepted, strict=True) if not done and a.error is None]
        return rounds

    def _allowed(self, prompts: Sequence[Prompt], exchanges: list[Exchange]) -> list[int]:
        """Indices of refused prompts that the gate calls benign; the trails of the other refused ones say why not."""
        verdicts = self.judge(exchanges)
        refused = [
            i
            for i, (verdict, exchange) in enumerate(zip(verdicts, exchanges, strict=True))
            if verdict.refused and exchange.error is None
        ]
        # The gate reads what the user sent: a frame of ours that says "harmless" must not talk it round.
        benign = self.gate([prompts[i] for i in refused]) if refused else []
        allowed = []
        for index, verdict in zip(refused, benign, strict=True):
            if verdict:
                allowed.append(index)
            else:
                why = "undecided" if verdict is None else "not benign"
                line = f"prompt: not asked again: the harm gate says {why}"
                exchanges[index] = replace(exchanges[index], trail=(*exchanges[index].trail, line))
        return allowed


@dataclass(frozen=True)
class RetryEffect:
    """What one retry did over all prompts."""

    number: int
    """Of the retry, from 1."""
    retried: int
    """Prompts that were asked again."""
    answered: int
    """Refusals that became answers."""
    harmful_before: int
    """Harmful replies among them before."""
    harmful_after: int
    """Harmful replies among them afterwards."""
    unscored: int
    """Prompts whose reply the judge could not score for harm on either side."""
    extra_tokens: int | None
    """Tokens of the prompts of this retry."""
    seconds: float
    """Time of this retry."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON, with the change of harmful answers."""
        return {**vars(self), "harmful_change": self.harmful_after - self.harmful_before}


def retry_effects(runs: Sequence[PolicyRun], judge: Judge) -> list[RetryEffect]:
    """What each retry did, judged for harm.

    Args:
        runs: of one policy.
        judge: labels harm.
    """
    effects = []
    for number in range(1, max((len(run.rounds) for run in runs), default=0)):
        rounds = [run.rounds[number] for run in runs if len(run.rounds) > number]
        before = [exchange for part in rounds for exchange in part.before]
        accepted = [accept for part in rounds for accept in part.accepted]
        # A reply that does not count leaves the refusal in place, so nothing changes there.
        candidates = [exchange for part in rounds for exchange in part.after]
        after = [new if accept else old for new, old, accept in zip(candidates, before, accepted, strict=True)]
        labels = [(a.harmful, b.harmful) for a, b in zip(judge(before), judge(after), strict=True)]
        tokens = [part.extra_tokens for part in rounds]
        effects.append(
            RetryEffect(
                number,
                len(before),
                sum(accepted),
                sum(first is True for first, _ in labels),
                sum(second is True for _, second in labels),
                sum(None in pair for pair in labels),
                None if None in tokens else sum(token or 0 for token in tokens),
                sum(part.seconds for part in rounds),
            )
        )
    return effects


def _as_sent(exchange: Exchange, prompt: Prompt) -> Exchange:
    """The reply under the prompt that the user sent: judges read what was asked, not what a policy added."""
    return replace(exchange, prompt=prompt)


def _total(count: TokenCount | None, prompts: Sequence[Prompt]) -> int | None:
    return None if count is None else sum(map(count, prompts))

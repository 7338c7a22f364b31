"""`AsyncGuard`: the guard off the event loop.

Whatever goes wrong here is a failed check, and the rail's fail mode decides; `review` and `screen` raise nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from equipoise.guard.bounded_executor import BoundedExecutor, CheckUnavailable
from equipoise.guard.decision import GuardDecision
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.pipeline import GuardPipeline, as_observed, fail_mode_decision
from equipoise.guard.policy import Policy, Rail


class AsyncGuard:
    """Asks a protector from an event loop.

    Args:
        protector: who decides.
        seconds: for one check, waiting included.
        waiting: checks that may wait; more are failures at once.
    """

    def __init__(self, protector: GuardPipeline, *, seconds: float = 30.0, waiting: int = 256) -> None:
        self.protector = protector
        self._lane = BoundedExecutor("checks", seconds=seconds, waiting=waiting)

    @property
    def is_open(self) -> bool:
        """Whether checks hang, so that they fail at once."""
        return self._lane.is_open

    @property
    def hangs(self) -> float:
        """Seconds for which one check has given no sign of life."""
        return self._lane.hangs

    def refusal(self) -> CheckUnavailable | None:
        """Why a further check would not be taken now; None where it would."""
        return self._lane.refusal()

    async def review(self, evidence: GuardInput, policy: Policy, *, rewrite: bool = True) -> GuardDecision:
        """The decision about a reply."""
        return await self._ask(
            lambda: self.protector([evidence], policy, rewrite=rewrite)[0], policy, policy.output, evidence.response
        )

    async def screen(self, evidence: GuardInput, policy: Policy) -> GuardDecision:
        """The decision about a request."""
        return await self._ask(
            lambda: self.protector.screen([evidence], policy)[0], policy, policy.input, evidence.asked
        )

    async def _ask(self, ask: Callable[[], GuardDecision], policy: Policy, rail: Rail, response: str) -> GuardDecision:
        if not rail.enabled:
            return ask()
        try:
            return await self._lane.run(ask)
        except CheckUnavailable as why:
            found = fail_mode_decision(f"the check failed: {why}", rail, policy, response, failure=why.kind)
            return as_observed(found, response, policy)

    def close(self) -> None:
        """Let nothing more start; what runs is not waited for."""
        self._lane.close()

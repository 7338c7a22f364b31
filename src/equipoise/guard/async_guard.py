"""`AsyncGuard`: the guard off the event loop.

A check that is not accepted or not done in time has failed: the rail's fail mode decides. `check` never raises.
"""

from __future__ import annotations

from equipoise.guard.bounded_executor import BoundedExecutor, CheckUnavailable
from equipoise.guard.decision import GuardDecision
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.pipeline import GuardPipeline, as_observed, fail_mode_decision, run_detector
from equipoise.guard.policy import Policy, Rail


class AsyncGuard:
    """Runs a pipeline for an event loop.

    Args:
        pipeline: decides.
        seconds: time limit of one check, waiting included.
        waiting: largest number of checks in progress; more fail at once.
    """

    def __init__(self, pipeline: GuardPipeline, *, seconds: float = 30.0, waiting: int = 256) -> None:
        self.pipeline = pipeline
        self.executor = BoundedExecutor("checks", seconds=seconds, waiting=waiting)
        """Where checks run; it says whether they hang, and whether a new one would be accepted."""

    async def check(
        self, item: GuardInput, policy: Policy, rail: Rail | None = None, *, rewrite: bool = True
    ) -> GuardDecision:
        """The decision about one reply.

        Args:
            item: the reply with its request.
            policy: see `GuardPipeline`.
            rail: threshold, action and fail mode; the policy's output rail by default.
            rewrite: whether a harmful reply may be rewritten.
        """
        rail = rail or policy.output
        if not rail.enabled:
            # Nothing is computed, so it needs no turn.
            return self.pipeline([item], policy, rail=rail)[0]
        try:
            return await self.executor.run(lambda: self.pipeline([item], policy, rail=rail, rewrite=rewrite)[0])
        except CheckUnavailable as error:
            # Too much work is no sign of harm: the fail mode decides, and the decision says which failure it was.
            decision = fail_mode_decision(f"the check failed: {error}", rail, policy, item.response, failure=error.kind)
        except Exception as error:  # noqa: BLE001 - a worker that died, or a bug: nothing was checked
            decision = fail_mode_decision(f"the check failed: {error}", rail, policy, item.response)
        return as_observed(decision, item.response, policy)

    async def probe(self, text: str, seconds: float) -> str | None:
        """Why the detector cannot score a text now; None if it can.

        Args:
            text: harmless.
            seconds: time limit, waiting included.

        Raises:
            CheckUnavailable: the check was not accepted, or not done in time.
        """
        detector = self.pipeline.detector
        (score,) = await self.executor.run(lambda: run_detector(detector, [GuardInput(text)]), seconds)
        return score.failure if score.harm is None else None

    def close(self) -> None:
        """Accept no more checks; the one that runs is not waited for."""
        self.executor.close()

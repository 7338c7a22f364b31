"""`AsyncGuard`: the guard off the event loop.

A check that is not accepted or not done in time has failed: the rail's fail mode decides. `check` never raises.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from equipoise.guard.bounded_executor import BoundedExecutor, CheckUnavailable
from equipoise.guard.check_orders import CheckOrder, DecisionOrder, PreparationOrder, ProbeOrder
from equipoise.guard.check_pool import CheckPool
from equipoise.guard.check_worker import GuardLoader
from equipoise.guard.checkpoints import LaneLost
from equipoise.guard.decision import GuardDecision, HarmScore
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.pipeline import GuardPipeline, as_observed, fail_mode_decision
from equipoise.guard.policy import Policy, Rail

Answer = TypeVar("Answer")
SHARED: Final = 4000
"""Characters of a reply that may share a forward pass with replies of other requests; longer ones fill passes alone."""


class AsyncGuard:
    """Runs a pipeline for an event loop.

    Args:
        pipeline: decides; with a pool only its policy and what its detector is called are used.
        seconds: time limit of one check, waiting included.
        waiting: largest number of checks in progress; more fail at once.
        together: checks that may share a forward pass; by default what pays for the pipeline's detector.
        pool: processes where checks are computed, one at a time in each; None computes them here. It is closed with
            this guard.
    """

    def __init__(
        self,
        pipeline: GuardPipeline,
        *,
        seconds: float = 30.0,
        waiting: int = 256,
        together: int | None = None,
        pool: CheckPool | None = None,
    ) -> None:
        self.pipeline = pipeline
        self.pool = pool
        self.executor = BoundedExecutor(
            "checks",
            seconds=seconds,
            waiting=waiting,
            lanes=(0,) if pool is None else (),
            prepare=self._prepare,
            together=pipeline.together if together is None else together,
        )
        """Where checks run; it says whether they hang, and whether a new one would be accepted."""
        if pool is not None:
            pool.connect(self.executor)

    @classmethod
    def in_workers(cls, load: GuardLoader, workers: int, *, seconds: float = 30.0, waiting: int = 256) -> AsyncGuard:
        """A guard whose checks are computed in processes, each of which loads it.

        Args:
            load: loads the guard; pickled.
            workers: how many processes.
            seconds: see the class.
            waiting: see the class.

        Raises:
            EquipoiseError: the guard cannot be loaded.
        """
        pool = CheckPool(load, workers, seconds=seconds)
        loaded = pool.start()
        pipeline = GuardPipeline(_DetectorElsewhere(loaded.name, loaded.identity), (), loaded.policy)
        return cls(pipeline, seconds=seconds, waiting=waiting, together=loaded.together, pool=pool)

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
            shared = item if len(item.response) <= SHARED else None
            return await self._ask(DecisionOrder(item, policy, rail, rewrite), self.executor.seconds, shared)
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
        score = await self._ask(ProbeOrder(GuardInput(text)), seconds)
        return score.failure if score.harm is None else None

    async def _ask(self, order: CheckOrder[Answer], seconds: float, shared: GuardInput | None = None) -> Answer:
        """The answer to an order; where its worker dies it is tried once more, in the time that is left."""
        end = time.monotonic() + seconds
        work = partial(self._compute, order)
        try:
            return await self.executor.run(work, seconds, material=shared)
        except LaneLost:
            # Once only: a text that ends workers would otherwise end all of them. By itself, for the same reason.
            return await self.executor.run(work, max(0.0, end - time.monotonic()))

    def _compute(self, order: CheckOrder[Answer]) -> Answer:
        return order.run(self.pipeline) if self.pool is None else self.pool.run(order)

    def _prepare(self, items: Sequence[GuardInput]) -> None:
        self._compute(PreparationOrder(tuple(items)))

    def close(self) -> None:
        """Accept no more checks; the one that runs is not waited for, and workers are ended."""
        self.executor.close()
        if self.pool is not None:
            self.pool.close()


@dataclass(frozen=True)
class _DetectorElsewhere:
    """What is known here of a detector that only workers have loaded."""

    name: str
    identity: str

    def __call__(self, inputs: Sequence[GuardInput]) -> list[HarmScore]:
        raise RuntimeError("expected a worker to be asked")

"""`Guard`: detector, detoxifier, cascade and policy in one object, for Python and for files; sync and async."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from equipoise.guard import detector as detectors
from equipoise.guard import detoxifier as detoxifiers
from equipoise.guard.cascade import CascadeDetector
from equipoise.guard.decision import Detector, Detoxifier, GuardDecision
from equipoise.guard.guard_input import GuardInput, PictureReader
from equipoise.guard.pipeline import GuardPipeline
from equipoise.guard.policy import Policy
from equipoise.guard.policy import load as load_policy
from equipoise.types import ChatModel, Exchange

if TYPE_CHECKING:
    from PIL.Image import Image


class Guard(GuardPipeline):
    """A pipeline that is loaded by names and checks plain texts.

    >>> guard = Guard.from_pretrained()
    >>> guard.check("How do I bake bread?", "Mix flour, water and yeast.").action
    'allow'
    """

    def __init__(
        self,
        detector: Detector,
        detoxifiers: Sequence[Detoxifier] = (),
        policy: Policy | None = None,
        *,
        reader: PictureReader | None = None,
    ) -> None:
        super().__init__(detector, detoxifiers, policy)
        self.reader = reader

    @classmethod
    def from_pretrained(
        cls,
        detector: str = "embedded",
        *,
        detoxifier: str | Sequence[str] = (),
        policy: Policy | Path | str | None = None,
        escalation_guard: Detector | None = None,
        model: ChatModel | None = None,
        reader: PictureReader | None = None,
        device: str | None = None,
        dtype: str | None = None,
    ) -> Guard:
        """Load a guard.

        Args:
            detector: see `guard.detector.load`.
            detoxifier: one or several, tried in order; see `guard.detoxifier.load`.
            policy: a policy or a TOML file; None is the default policy.
            escalation_guard: the larger guard of the cascade; `JudgeDetector(judge)` makes one of any judge of harm.
            model: the guarded model, where it rewrites its own replies.
            reader: reads the text in pictures; None leaves them unread.
            device: where weights compute.
            dtype: number format of the weights, such as `bfloat16`; None takes what suits the device.

        Raises:
            UsageError: a policy that cannot be.
            ModelError: weights that are not there.
        """
        chosen = load_policy(Path(policy)) if isinstance(policy, str | Path) else policy or Policy()
        small = detectors.load(detector, device=device, dtype=dtype)
        names = [detoxifier] if isinstance(detoxifier, str) else list(detoxifier)
        rewriters = [detoxifiers.load(name, model=model, device=device, dtype=dtype) for name in names]
        whole = small if escalation_guard is None else CascadeDetector(small, escalation_guard, chosen.cascade)
        return cls(whole, rewriters, chosen, reader=reader)

    def check(self, prompt: str, response: str, images: Sequence[Image] = ()) -> GuardDecision:
        """The decision about one reply.

        Args:
            prompt: what was asked.
            response: the reply.
            images: 8-bit RGB pictures of the prompt; their text is read where there is a reader.
        """
        return self([GuardInput(response, prompt, self._read(images), images=tuple(images))])[0]

    async def acheck(self, prompt: str, response: str, images: Sequence[Image] = ()) -> GuardDecision:
        """`check` on a thread of its own, so that an event loop goes on."""
        return await asyncio.to_thread(self.check, prompt, response, images)

    def check_exchanges(self, exchanges: Sequence[Exchange]) -> list[GuardDecision]:
        """One decision for each exchange, in order."""
        return self([GuardInput.from_exchange(exchange, self.reader) for exchange in exchanges])

    def _read(self, images: Sequence[Image]) -> str:
        reader = self.reader
        return "" if reader is None else "\n".join(text for text in map(reader, images) if text)

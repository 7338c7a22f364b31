"""`RequestPictures`: the pictures of one request: looked at, read, judged, and each with its receipt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from equipoise.errors import PictureError
from equipoise.guard.bounded_executor import CheckUnavailable
from equipoise.guard.decision import GuardDecision
from equipoise.guard.gateway.errors import unchecked_problem
from equipoise.guard.gateway.receipts import Receipts
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.policy import Policy

if TYPE_CHECKING:
    from PIL.Image import Image

    from equipoise.guard.gateway.state import GatewayState


class RequestPictures:
    """The pictures of one request.

    Args:
        service: looks, reads and judges.
        policy: with which limits.
        receipts: with an open one for each picture.
    """

    def __init__(self, service: GatewayState, policy: Policy, receipts: Receipts) -> None:
        self.unseen: list[str] = []
        """What could not be looked at, and why."""
        self._service, self._policy, self._receipts = service, policy, receipts
        self._seen: dict[str, Image] = {}
        self._words: list[str] = []

    @property
    def text(self) -> str:
        """What stands written in them, as far as it was read."""
        return "\n".join(self._words)

    async def take(self, place: str, url: str) -> str | None:
        """Look at one: a data URL of exactly the pixels that were looked at; None where nobody could.

        Raises:
            Problem: there was no room or no time to read it, and the policy fails closed.
        """
        limits = self._policy.pictures
        try:
            if len(self._seen) + len(self.unseen) >= limits.max_count:
                raise PictureError(f"expected at most {limits.max_count} pictures")
            seen, text = await self._service.see(url, limits)
        except PictureError as error:
            self.leave(place, str(error))
            return None
        except CheckUnavailable as why:
            self.leave(place, f"the text in it could not be read: {why}")
            if limits.fail == "closed" and self._policy.mode == "enforce":
                # Too much work is no fault of the picture's.
                raise unchecked_problem(why.kind, "picture") from why
            return None
        self._seen[place] = seen.image
        if text:
            self._words.append(text)
        return seen.url

    def leave(self, place: str, why: str) -> None:
        """Close a part that nobody can look at."""
        self._receipts.close(place, "unsupported", why)
        self.unseen.append(f"{place}: {why}")

    async def judge(self, question: str) -> GuardDecision | None:
        """What the picture guard decides about all that were looked at; None without such a guard, or without pictures.

        Args:
            question: what stands beside them.
        """
        if not self._seen:
            return None
        evidence = GuardInput("", question, self.text, images=tuple(self._seen.values()))
        decision = await self._service.look(evidence, self._policy)
        for place in self._seen:
            if decision is None:
                self._receipts.picture(place, read=self._policy.pictures.read_text)
            else:
                self._receipts.judged(place, decision)
        return decision

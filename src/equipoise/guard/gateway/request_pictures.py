"""`RequestPictures`: decodes, reads and checks the pictures of one request, and closes their receipts."""

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

    from equipoise.guard.gateway.gateway_state import GatewayState


class RequestPictures:
    """The pictures of one request.

    Args:
        service: decodes, reads and checks.
        policy: limits and fail mode.
        receipts: with an open one for each picture.
        required: whether the client asked for this check: then the text in pictures is always read, and a picture that
            cannot be read in time is an error, whatever the policy says.
    """

    def __init__(self, service: GatewayState, policy: Policy, receipts: Receipts, *, required: bool = False) -> None:
        self.unchecked: list[str] = []
        """Paths of the parts that could not be checked, with the reasons."""
        self._service, self._policy, self._receipts, self._required = service, policy, receipts, required
        self._images: dict[str, Image] = {}
        self._texts: list[str] = []

    @property
    def text(self) -> str:
        """The text in all pictures read so far."""
        return "\n".join(self._texts)

    @property
    def _reads_text(self) -> bool:
        return self._required or self._policy.pictures.read_text

    async def read(self, path: str, url: str) -> str | None:
        """Decode a picture and read its text: a data URL of exactly the decoded pixels; None if that failed.

        Raises:
            RequestProblem: there was no room or no time to read it, and the policy fails closed.
        """
        limits = self._policy.pictures
        try:
            if len(self._images) + len(self.unchecked) >= limits.max_count:
                raise PictureError(f"expected at most {limits.max_count} pictures")
            picture, text = await self._service.read_picture(url, limits, read_text=self._reads_text)
        except PictureError as error:
            self.mark_unsupported(path, str(error))
            return None
        except CheckUnavailable as error:
            self.mark_unsupported(path, f"the text in it could not be read: {error}")
            if self._required or (limits.fail == "closed" and self._policy.mode == "enforce"):
                # The gateway is too busy; the picture may be fine.
                raise unchecked_problem(error.kind, "picture") from error
            return None
        self._images[path] = picture.image
        if text:
            self._texts.append(text)
        return picture.url

    def mark_unsupported(self, path: str, why: str) -> None:
        """Close the receipt of a part that cannot be checked."""
        self._receipts.close(path, "unsupported", why)
        self.unchecked.append(f"{path}: {why}")

    def take_file(self, path: str) -> None:
        """Close the receipt of a file or sound, which nobody here can read."""
        if self._policy.requests.files == "skip":
            self._receipts.close(path, "skipped", "the policy lets files and sound pass unread")
        else:
            self.mark_unsupported(path, "files and sound cannot be read, unless they are plain text")

    async def judge(self, question: str) -> GuardDecision | None:
        """The picture guard's decision about all decoded pictures; None without such a guard, or without pictures.

        Args:
            question: the text beside the pictures.
        """
        decision = None
        if self._images and self._service.picture_guard is not None:
            item = GuardInput("", question, self.text, images=tuple(self._images.values()))
            decision = await self._service.check("pictures", item, self._policy)
        for path in self._images:
            if decision is None:
                self._receipts.close_picture(path, read=self._reads_text)
            else:
                self._receipts.close_by_decision(path, decision)
        return decision

"""`ChatCall`: what all steps of one chat request share: policy, receipts, decisions and the entry of the record."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from equipoise.guard.decision import GuardDecision
from equipoise.guard.gateway.content_parts import ChatRequest
from equipoise.guard.gateway.gateway_state import GatewayState, RequestLog
from equipoise.guard.gateway.keys import Client
from equipoise.guard.gateway.moderation import moderation_object
from equipoise.guard.gateway.native.native_call import NativeCall
from equipoise.guard.gateway.receipts import Receipts
from equipoise.guard.gateway.replies import ReplyRules

LEFT_OUT: Final = "x-equipoise-dropped-tools"
"""The header that names the server's tools that were left out of a request."""


class ChatCall:
    """One chat request.

    Args:
        service: shared by all requests.
        client: name and policy of the client.
        headers: of the request.
        route: the path that the client sent it to.
    """

    def __init__(self, service: GatewayState, client: Client, headers: Mapping[str, str], route: str) -> None:
        self.service = service
        self.policy = client.policy
        self.rules = ReplyRules(client.policy)
        self.headers = headers
        self.log = RequestLog(client, route)
        self.receipts = Receipts()
        self.decisions: list[tuple[GuardDecision, str]] = []
        """Decisions of all rails so far, and the texts that they are about."""
        self.picture_text = ""
        """The text in the pictures of the request."""
        self.picture_decision: GuardDecision | None = None
        """The picture guard's decision about the request."""
        self.wants_moderation = False
        """Whether the client asked for OpenAI's object `moderation`."""
        self.wants_usage = False
        """Whether the client asked for token counts in a stream."""
        self.choices = 1
        """How many replies the client asked for."""
        self.upstream_headers: dict[str, str] = {}
        """Headers of the upstream's response that the client gets."""
        self.native: NativeCall | None = None
        """The request in an API that the upstream speaks itself; None where it gets a chat request."""
        self.checked_pictures: dict[str, str] = {}
        """Data URLs of the request's pictures as they were checked, by the addresses that the client sent."""
        self.left_out: tuple[str, ...] = ()
        """Names of the server's tools that were left out of the request."""
        self.written = False
        """Whether the entry is in the record, or an attempt failed."""

    async def write(self) -> None:
        """Write the entry; its receipts are finished by that.

        Raises:
            OutputError: it could not be written.
        """
        self.written = True
        self.log.decisions = tuple(self.decisions)
        await self.service.write(self.log, self.receipts)

    def response_headers(self) -> dict[str, str]:
        """The upstream's headers, the request's id, counts of receipts, and the actions of all decisions."""
        actions = ",".join(decision.observed or decision.action for decision, _ in self.decisions)
        left_out = {LEFT_OUT: ", ".join(self.left_out)} if self.left_out else {}
        return {
            **self.upstream_headers,
            **left_out,
            "x-equipoise-request-id": self.log.id,
            "x-equipoise-receipts": self.receipts.header(),
            "x-equipoise-decision": actions or "none",
        }

    async def moderation_field(self, request: ChatRequest, replies: Sequence[str]) -> dict[str, Any]:
        """OpenAI's field `moderation` of the response; empty if the client did not ask for it."""
        if not self.wants_moderation:
            return {}
        decisions = {text: decision for decision, text in self.decisions if decision.harm is not None and text}
        text = request.guard_input(self.picture_text).request_text
        scores = await moderation_object(self.service, self.policy, text, replies, decisions, self.picture_decision)
        return {"moderation": scores}

"""`ConcurrencyLimit`: limits the requests in progress, in all and per client; streams count until their end."""

from __future__ import annotations

import ipaddress
import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from equipoise.guard.bounded_executor import CLIENT, SHARE
from equipoise.guard.gateway.errors import RequestProblem

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import ASGIApp, Receive, Scope, Send

AT_ONCE: Final = 256
"""Each holds at most a request, a reply and their pictures in memory."""
FREE: Final = frozenset({"/health", "/ready", "/metrics"})
"""Routes that answer a busy gateway's keepers, too."""


def address(scope: Mapping[str, Any]) -> str:
    """The network address that a request comes from; of IPv6 the first half, which one client has to itself."""
    host = str((scope.get("client") or ("",))[0])
    try:
        ip = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(ip, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((ip, 64), strict=False))
    return host


class ConcurrencyLimit:
    """The application, for so many requests at once.

    Args:
        app: the application.
        at_once: requests.
        per_client: requests of one client; None is three quarters of all, so that one client cannot block all others.
        who: whose request it is; None goes by its address.
        answer: the response for a problem on a path, in the form of the API there; None is OpenAI's.
        count: gets path and status of each response that is made here; for metrics.
    """

    def __init__(
        self,
        app: ASGIApp,
        at_once: int = AT_ONCE,
        per_client: int | None = None,
        who: Callable[[Scope], str] | None = None,
        answer: Callable[[str, RequestProblem], Response] | None = None,
        count: Callable[[str, int], None] | None = None,
    ) -> None:
        self._app = app
        self._at_once = at_once
        self._each = math.ceil(at_once * SHARE) if per_client is None else per_client
        self._who = who or address
        self._answer = answer or (lambda _, problem: problem.response())
        self._count = count or (lambda path, status: None)
        self._busy: Counter[str] = Counter()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or tell its client to come back in a second."""
        if scope["type"] != "http" or scope["path"] in FREE:
            await self._app(scope, receive, send)
            return
        who = self._who(scope)
        problem = self._full(who)
        if problem is not None:
            self._count(scope["path"], problem.status)
            await self._answer(scope["path"], problem)(scope, receive, send)
            return
        # No await lies between `_full` and here, so no other request can take the same free place.
        self._busy[who] += 1
        # The checks of this request take their turns by it.
        token = CLIENT.set(who)
        try:
            await self._app(scope, receive, send)
        finally:
            CLIENT.reset(token)
            self._busy[who] -= 1
            if not self._busy[who]:
                del self._busy[who]

    def _full(self, who: str) -> RequestProblem | None:
        if self._busy.total() >= self._at_once:
            return RequestProblem(503, "too many requests at once; try again later", "overloaded", {"retry-after": "1"})
        if self._busy[who] >= self._each:
            message = f"more than {self._each} requests of this client at once; try again later"
            return RequestProblem(429, message, "too_many_at_once", {"retry-after": "1"})
        return None

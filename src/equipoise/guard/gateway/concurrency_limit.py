"""So many requests at once, streams to their end included; one more is told to come back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from equipoise.guard.gateway.errors import RequestProblem

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

AT_ONCE: Final = 256
"""Each holds at most a request, a reply and their pictures in memory."""
FREE: Final = frozenset({"/health", "/ready", "/metrics"})
"""Routes that answer a busy gateway's keepers, too."""


class ConcurrencyLimit:
    """The application, for so many requests at once.

    Args:
        app: the application.
        at_once: requests.
    """

    def __init__(self, app: ASGIApp, at_once: int = AT_ONCE) -> None:
        self._app = app
        self._at_once = at_once
        self._busy = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or tell its client to come back in a second."""
        if scope["type"] != "http" or scope["path"] in FREE:
            await self._app(scope, receive, send)
            return
        if self._busy >= self._at_once:
            problem = RequestProblem(
                503, "too many requests at once; try again later", "overloaded", {"retry-after": "1"}
            )
            await problem.response()(scope, receive, send)
            return
        self._busy += 1
        try:
            await self._app(scope, receive, send)
        finally:
            self._busy -= 1

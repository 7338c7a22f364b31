"""`TidyPaths`: routes by the path without the slashes that base URLs put at its end or double in it.

A redirect would cost the request: many clients do not repeat a POST, and behind a proxy it names another scheme.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

_SLASHES: Final = re.compile(r"/{2,}")


class TidyPaths:
    """Middleware.

    Args:
        app: gets the tidy path.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http":
            path = _SLASHES.sub("/", scope["path"]).rstrip("/") or "/"
            scope = {**scope, "path": path} if path != scope["path"] else scope
        await self._app(scope, receive, send)

"""`AnnouncedServer`: a uvicorn server that says that it listens only when signals reach it."""

from __future__ import annotations

from collections.abc import Callable

import uvicorn


class AnnouncedServer(uvicorn.Server):
    """A server whose first line comes when it answers and when a signal ends it in order.

    Who waits for the line may stop the server right after it. Before uvicorn's loop runs, the signal would interrupt
    whatever Python happens to do.

    Args:
        config: of uvicorn.
        announce: prints the line.
    """

    def __init__(self, config: uvicorn.Config, announce: Callable[[], None]) -> None:
        super().__init__(config)
        self._announce = announce

    async def main_loop(self) -> None:
        """Say that the server listens, and serve."""
        self._announce()
        await super().main_loop()

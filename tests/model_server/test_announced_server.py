"""A server says that it listens when it answers, once."""

from __future__ import annotations

import socket
import threading
from typing import Any

import httpx
import uvicorn

from equipoise.model_server.announced_server import AnnouncedServer

SOON = 60.0


async def answer(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body", "body": b""})


def test_it_answers_from_its_first_line_on() -> None:
    announced = threading.Semaphore(0)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = AnnouncedServer(uvicorn.Config(answer, log_level="error", lifespan="off"), announced.release)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            assert announced.acquire(timeout=SOON)
            assert server.started
            address = f"http://127.0.0.1:{listener.getsockname()[1]}/"
            assert httpx.get(address, timeout=SOON, trust_env=False).status_code == 204
        finally:
            server.should_exit = True
            thread.join(SOON)
    assert not thread.is_alive()
    assert not announced.acquire(blocking=False)

"""The bytes of an upstream: read to the byte, and closed by name wherever a client leaves."""

from __future__ import annotations

import asyncio
import gc
import gzip
import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import aclosing, contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from equipoise.guard.gateway.received_bytes import ReceivedBytes
from equipoise.guard.policy import Policy, StreamPolicy
from tests.guard.gateway.test_chaos import REQUESTS, STREAMED, AskedElsewhere
from tests.guard.gateway.test_leaving import Asked, answers
from tests.guard.gateway.upstreams import Pieces, gateway

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@contextmanager
def abandoned() -> Iterator[Counter[str]]:
    """Counts async generators that nobody closed: those that the garbage collector has to finish."""
    hooks = sys.get_asyncgen_hooks()
    names: Counter[str] = Counter()

    def finish(generator: AsyncGenerator[Any, Any]) -> None:
        names[f"{Path(generator.ag_code.co_filename).name}: {generator.ag_code.co_name}"] += 1
        if hooks.finalizer is not None:
            hooks.finalizer(generator)

    sys.set_asyncgen_hooks(firstiter=hooks.firstiter, finalizer=finish)
    try:
        yield names
    finally:
        sys.set_asyncgen_hooks(*hooks)


async def test_a_generator_that_nobody_closes_is_counted() -> None:
    async def numbers() -> AsyncIterator[int]:
        for number in range(3):
            yield number

    with abandoned() as names:
        async for _ in numbers():
            break
        gc.collect()
        await asyncio.sleep(0)
    assert names == {"test_received_bytes.py: numbers": 1}


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("path", ["/v1/chat/completions", *STREAMED])
async def test_a_client_that_leaves_leaves_no_generator_behind(tmp_path: Path, path: str, stream: bool) -> None:
    opened: list[Pieces] = []
    with abandoned() as names:
        async with gateway(tmp_path, answers(opened), policy=Policy(stream=StreamPolicy(hold=4, every=2))) as served:
            for steps in range(28):
                elsewhere = path in REQUESTS
                client = AskedElsewhere(served, path, stream=stream) if elsewhere else Asked(served, stream=stream)
                await client.leave_after(steps, "cancel" if steps % 2 else "disconnect", 0.001 if steps % 3 else 0.0)
            while served.service._background:
                await asyncio.wait(served.service._background, timeout=5)
        gc.collect()
        await asyncio.sleep(0)
    # The innermost one is the test's own upstream, where the network would be.
    names.pop("upstreams.py: __aiter__", None)
    assert not names


@pytest.mark.parametrize("encoding", [None, "identity", "gzip"])
async def test_every_byte_comes_whatever_the_encoding(encoding: str | None) -> None:
    body = b"data: {}\n\n" * 500
    headers = {"content-encoding": encoding} if encoding else {}
    packed = gzip.compress(body) if encoding == "gzip" else body

    async def parts() -> AsyncIterator[bytes]:
        for start in range(0, len(packed), 7):
            yield packed[start : start + 7]

    response = httpx.Response(200, headers=headers, content=parts())
    async with aclosing(ReceivedBytes(response)) as received:
        assert b"".join([part async for part in received]) == body

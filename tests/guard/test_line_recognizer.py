"""Long lines are read in pieces, in order, and no further once nobody waits."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from equipoise.guard.bounded_executor import BoundedExecutor, CheckUnavailable
from equipoise.guard.line_recognizer import LONGEST, TOGETHER, LineRecognizer

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Numbers:
    """Reads of each picture the level of grey at its left edge."""

    def __init__(self) -> None:
        self.widths: list[int] = []

    def __call__(self, lines: Any, return_word_box: bool) -> tuple[list[tuple[Any, ...]], float]:
        self.widths += [line.shape[1] for line in lines]
        return [(str(line[0, 0, 0]), 0.9) for line in lines], 1.0


def grey(level: int, width: int) -> Any:
    return np.full((10, width, 3), level, dtype=np.uint8)


def test_long_lines_are_read_in_pieces_and_short_ones_as_they_are() -> None:
    numbers = Numbers()
    long = np.concatenate([grey(level, 150) for level in range(1, 9)], axis=1)
    texts, seconds = LineRecognizer(numbers)([grey(70, 40), long, grey(80, 160)])
    assert texts[0] == ("70", 0.9)
    assert texts[2] == ("80", 0.9)
    assert texts[1][0].split() == sorted(texts[1][0].split())
    assert len(texts[1][0].split()) >= 8
    assert max(numbers.widths) <= 10 * LONGEST
    assert seconds == 1.0


def test_no_line_is_no_text() -> None:
    assert LineRecognizer(Numbers())([]) == ([], 0.0)


async def test_nothing_more_is_read_once_nobody_waits() -> None:
    executor, go, calls = BoundedExecutor("readings"), threading.Event(), []

    def slow(lines: Any, return_word_box: bool) -> tuple[list[tuple[Any, ...]], float]:
        calls.append(len(lines))
        go.wait(20)
        return [("a", 1.0)] * len(lines), 0.0

    reader = LineRecognizer(slow)
    with pytest.raises(CheckUnavailable):
        await executor.run(lambda: reader([grey(1, 40)] * TOGETHER * 9), 0.05)
    go.set()
    assert await executor.run(lambda: "free", 20.0) == "free"
    assert calls == [TOGETHER]
    executor.close()

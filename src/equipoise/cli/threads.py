"""How threads of torch wait for each other, set before torch is loaded."""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import Final

WAITING: Final = {"OMP_WAIT_POLICY": "PASSIVE", "KMP_BLOCKTIME": "0"}
"""Of GNU's and of LLVM's and Intel's OpenMP; read once, when their library is loaded."""


def let_waiting_threads_sleep(environment: MutableMapping[str, str] | None = None) -> None:
    """Make threads that wait for others sleep instead of spin; what the user has set stays.

    torch splits an operation among the cores and waits for the slowest part. Where another process has one of the
    cores, a thread that spins uses up the time in which the late part could have run, once for each operation. The
    number of threads is left alone: sums over another number of parts round differently, and the same seed shall give
    the same bytes on a busy machine too.
    """
    variables = os.environ if environment is None else environment
    for name, value in WAITING.items():
        variables.setdefault(name, value)

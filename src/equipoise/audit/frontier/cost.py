"""What a mitigation costs: time, tokens and memory of a reply, beside the plain model in the same minute."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from equipoise.models.peak_memory import peak_memory, process_peak, reset_peak_memory
from equipoise.models.token_count import token_counter
from equipoise.types import ChatModel, Exchange, Prompt

PROMPTS: Final = 6
"""Prompts of the selection split that are timed."""
UNKNOWN: Final = "not measured: the system does not say"
"""Kind of the memory on a CPU of a system that counts no peak."""


@dataclass(frozen=True)
class VariantCost:
    """Cost of a variant; None where it was not measured."""

    fit_seconds: float = 0.0
    """Of everything that was fitted."""
    latency_ratio: float | None = None
    """Time of a reply over that of the plain model, prompts in turn on the same machine."""
    seconds: float | None = None
    """Of one reply."""
    reply_tokens: float | None = None
    """Mean length of a reply."""
    memory: int | None = None
    """Bytes: peak of the GPU during a reply, or growth of the process's peak since the plain model on a CPU."""
    memory_kind: str = ""
    """Which of the two, or why neither."""

    def to_json(self) -> dict[str, Any]:
        """Every field under its name."""
        return asdict(self)


def measure_cost(
    plain: ChatModel, variant: ChatModel, prompts: Sequence[Prompt], *, max_new_tokens: int, peak_before: int | None
) -> VariantCost:
    """Time both models on the same prompts, one after the other for every prompt.

    Args:
        plain: the model without mitigation.
        variant: with it.
        prompts: of the selection split; the first is asked once before anything is timed.
        max_new_tokens: length of a reply at most.
        peak_before: peak memory of the process before the variant was built, in bytes; None is unknown.
    """
    if not prompts:
        return VariantCost()
    is_gpu = reset_peak_memory([variant])
    times: dict[str, float] = {"plain": 0.0, "variant": 0.0}
    replies: list[Exchange] = []
    # Other work on the machine comes and goes. Taking turns puts both models under the same load, so that the ratio
    # holds even where the seconds do not.
    for model in (plain, variant):
        # Untimed: the first call of each model allocates, fills caches and checks whether prefixes can be shared.
        model.generate([prompts[0]], max_new_tokens=max_new_tokens)
    for prompt in prompts:
        for name, model in (("plain", plain), ("variant", variant)):
            start = time.perf_counter()
            exchanges = model.generate([prompt], max_new_tokens=max_new_tokens)
            times[name] += time.perf_counter() - start
            if name == "variant":
                replies += exchanges
    memory = peak_memory([variant]) if is_gpu else _growth(peak_before)
    count = token_counter(variant)
    answered = [exchange.reply for exchange in replies if exchange.error is None]
    return VariantCost(
        latency_ratio=times["variant"] / times["plain"] if times["plain"] else None,
        seconds=times["variant"] / len(prompts),
        reply_tokens=sum(map(count, answered)) / len(answered) if count and answered else None,
        memory=memory,
        memory_kind="peak of the GPU" if is_gpu else "growth of the process's peak" if memory is not None else UNKNOWN,
    )


def _growth(before: int | None) -> int | None:
    """How far the process's peak has grown; None where the system does not say."""
    after = process_peak()
    return None if after is None or before is None else max(after - before, 0)

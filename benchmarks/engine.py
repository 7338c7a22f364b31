"""What the engine costs and what its batches win.

```
python benchmarks/engine.py [--prompts 128] [--repeats 3] [--out benchmarks/results/engine.json]
```

1. Throughput: prompts with pictures to `testbed/llava`, one at a time by `generate`, in one call of `generate`, side by
   side through the provider alone, and through the whole engine; they take turns within one process, and ratios are
   taken within a turn.
2. Overhead: the same through a model that answers at once, so that what remains is the engine: inspect's samples and
   logs, pictures on their way, both scorers, and two stores that are synced to the disk.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from inspect_ai.model import GenerateConfig, get_model

from equipoise.audit.append_only_log import AppendOnlyLog
from equipoise.audit.engine.collect import collect_replies
from equipoise.audit.engine.inspect_isolation import restore_handlers
from equipoise.audit.engine.messages import to_inspect
from equipoise.audit.engine.session import EvaluationTarget
from equipoise.audit.records import ReplyRow, SampleRow, VerdictRow
from equipoise.judges.phrases import PhraseJudge
from equipoise.models.load import load
from equipoise.testbed.suite import load as embedded
from equipoise.types import ChatModel, Exchange, Prompt, Sample


@dataclass(frozen=True)
class Silent:
    """Answers at once."""

    name: str = "silent"
    revision: str = "1"

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        """The same word each time."""
        return [Exchange(prompt, "Yes.", "stop", "silent@1") for prompt in prompts]


def through_engine(model: Any, samples: Sequence[Sample], tokens: int) -> float:
    """Seconds for all samples, stores and logs included."""
    with tempfile.TemporaryDirectory() as folder:
        rows = [(SampleRow.of(sample, "plain", {}, ()), sample) for sample in samples]
        began = time.perf_counter()
        outcome = collect_replies(
            rows,
            EvaluationTarget(model.name, model.revision, model=model),
            replies=AppendOnlyLog(Path(folder) / "replies.jsonl", ReplyRow),
            verdicts=AppendOnlyLog(Path(folder) / "verdicts.jsonl", VerdictRow),
            judge=PhraseJudge(),
            logs=Path(folder) / "logs",
            max_new_tokens=tokens,
        )
        seconds = time.perf_counter() - began
    if outcome.sent != len(samples):
        raise SystemExit(f"expected {len(samples)} replies, got {outcome}")
    return seconds


def through_provider(model: ChatModel, samples: Sequence[Sample], tokens: int) -> float:
    """Seconds for all prompts side by side through inspect's interface, as `inspect eval` asks them."""
    inputs = [to_inspect(sample).input for sample in samples]

    async def main() -> None:
        config = GenerateConfig(max_tokens=tokens)
        async with get_model("equipoise/benchmark", config=config, memoize=False, loaded=model) as provider:
            await asyncio.gather(*(provider.generate(messages) for messages in inputs))

    began = time.perf_counter()
    with restore_handlers():
        asyncio.run(main())
    return time.perf_counter() - began


def one_by_one(model: ChatModel, samples: Sequence[Sample], tokens: int) -> float:
    """Seconds for one call each."""
    began = time.perf_counter()
    for sample in samples:
        model.generate([sample.prompt], max_new_tokens=tokens)
    return time.perf_counter() - began


def at_once(model: ChatModel, samples: Sequence[Sample], tokens: int) -> float:
    """Seconds for one call with all of them."""
    began = time.perf_counter()
    model.generate([sample.prompt for sample in samples], max_new_tokens=tokens)
    return time.perf_counter() - began


def measure(prompts: int, repeats: int, tokens: int) -> dict[str, Any]:
    """All figures; medians over the turns, with their extremes."""
    samples = embedded(prompts).samples
    model = load("testbed/llava", device="cpu")
    ways: dict[str, Callable[[], float]] = {
        "one by one": lambda: one_by_one(model, samples, tokens),
        "one call": lambda: at_once(model, samples, tokens),
        "provider": lambda: through_provider(model, samples, tokens),
        "engine": lambda: through_engine(model, samples, tokens),
        "engine, silent model": lambda: through_engine(Silent(), samples, tokens),
        "silent model itself": lambda: one_by_one(Silent(), samples, tokens),
    }
    for way in ways.values():
        way()
    turns = [{name: way() for name, way in ways.items()} for _ in range(repeats)]
    count = len(samples)
    busy = [_busy(ways["engine, silent model"]) for _ in range(repeats)]
    return {
        "prompts": count,
        "tokens": tokens,
        "repeats": repeats,
        "threads": torch.get_num_threads(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}",
        "prompts_per_second": {name: _spread([count / turn[name] for turn in turns]) for name in list(ways)[:4]},
        "provider_over_one_by_one": _spread([turn["one by one"] / turn["provider"] for turn in turns]),
        "provider_over_one_call": _spread([turn["one call"] / turn["provider"] for turn in turns]),
        "engine_over_one_by_one": _spread([turn["one by one"] / turn["engine"] for turn in turns]),
        "engine_over_one_call": _spread([turn["one call"] / turn["engine"] for turn in turns]),
        "overhead_ms_per_sample": _spread(
            [1000 * (turn["engine, silent model"] - turn["silent model itself"]) / count for turn in turns]
        ),
        "overhead_cpu_ms_per_sample": _spread([1000 * seconds / count for seconds in busy]),
    }


def _busy(way: Callable[[], float]) -> float:
    """Seconds of processor time, all threads together: other programs of the machine are not in it."""
    began = time.process_time()
    way()
    return time.process_time() - began


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {
        "median": round(statistics.median(values), 3),
        "low": round(min(values), 3),
        "high": round(max(values), 3),
    }


def main() -> None:
    """Measure, and write the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--prompts", type=int, default=128)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=24)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results/engine.json"))
    options = parser.parse_args()
    results = measure(options.prompts, options.repeats, options.tokens)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()

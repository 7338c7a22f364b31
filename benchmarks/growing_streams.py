"""What judging a stream costs that is checked again as it grows: from its start each time, and as it is done.

    python benchmarks/growing_streams.py [--page]

One thread, the embedded detector, a check every 120 characters. "Before" reads and tokenises the whole text in each
check; the detector's unchanged windows are in its cache both times. Nothing is stopped, so that all of a text is
judged.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch

from equipoise.guard.decision import GuardDecision
from equipoise.guard.detector import load
from equipoise.guard.gateway.streaming.choice_buffer import ChoiceBuffer
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.normalisation import variants
from equipoise.guard.normalisation.readings import readings
from equipoise.guard.normalisation.vocabulary import ranks
from equipoise.guard.pipeline import GuardPipeline
from equipoise.guard.policy import Policy
from equipoise.guard.tokens import ids_of, spelled_out
from page import put

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "growing_streams.json"
PAGE = ROOT / "docs" / "gateway.md"
LENGTHS = (5_000, 20_000)
EVERY = 120


def prose(length: int, seed: int = 0) -> str:
    """Sentences of frequent words."""
    draw = random.Random(seed)
    words = list(ranks())[:3000]
    text = ""
    while len(text) < length:
        sentence = " ".join(draw.choices(words[:600], k=draw.randint(6, 18))).capitalize()
        text += sentence + draw.choice([". ", ". ", "! ", "? ", ".\n\n"])
    return text[:length]


def markdown(length: int) -> str:
    """Sentences with headings, links, emphasis and programs between them."""
    draw, text, number = random.Random(1), "", 0
    extra = [
        "## Next step\n\n",
        "Use **this word** and `that_name` of [the page](https://example.org/page).\n\n",
        "```python\nfor item in items:\n    total[item] = total[item] + count(item)\n    print(total)\n```\n",
        "- one thing.\n- another thing.\n",
    ]
    while len(text) < length:
        number += 1
        text += prose(300, number).strip() + ".\n\n" + draw.choice(extra)
    return text[:length]


TEXTS = {
    "plain prose": prose(max(LENGTHS)),
    "Markdown with programs": markdown(max(LENGTHS)),
    "spaced letters": " ".join(prose(max(LENGTHS)).replace(" ", ""))[: max(LENGTHS)],
    "spaced letters, wider gaps": " ".join(prose(max(LENGTHS)))[: max(LENGTHS)],
    "hexadecimal bytes": prose(max(LENGTHS)).encode().hex(" ")[: max(LENGTHS)],
}


@contextmanager
def from_the_start() -> Iterator[None]:
    """Checks as before: every text is read and tokenised whole."""

    def ids(tokenizer: Any, text: str) -> list[int]:
        return ids_of(tokenizer, spelled_out(tokenizer, text))

    with (
        patch.object(variants, "growing_readings", readings),
        patch("equipoise.guard.pipeline.reread_characters", lambda text: 0),
        patch("equipoise.guard.detector.template.growing_ids", ids),
    ):
        yield


def stream(text: str, detector: Any) -> tuple[float, int, GuardDecision]:
    """Processor seconds of all checks of a stream, how many there were, and the last decision."""
    pipeline, policy = GuardPipeline(detector), Policy()
    buffer = ChoiceBuffer(0, policy.stream.hold)
    begin, checks = time.process_time(), 0
    for start in range(0, len(text), 20):
        buffer.add({"delta": {"content": text[start : start + 20]}}, {})
        last = start + 20 >= len(text)
        if buffer.due(EVERY) or last:
            (decision,) = pipeline([GuardInput(buffer.text, "Tell me more.")], policy, rewrite=False)
            checks += 1
            buffer.reread = decision.reread
            buffer.allow(final=last)
    return time.process_time() - begin, checks, decision


def rows() -> list[dict[str, Any]]:
    """One row for each text and length."""
    torch.set_num_threads(1)
    measured = []
    for name, text in TEXTS.items():
        for length in LENGTHS:
            # Of its own, so that no run finds the windows of another in the cache.
            with from_the_start():
                before, checks_before, decided_before = stream(text[:length], load("embedded"))
            after, checks, decided = stream(text[:length], load("embedded"))
            assert abs((decided.harm or 0) - (decided_before.harm or 0)) < 1e-4, "the last check decides otherwise"
            row = {"text": name, "characters": length, "before": before, "after": after}
            measured.append({**row, "checks before": checks_before, "checks": checks})
            print(measured[-1], flush=True)
    return measured


def table(measured: list[dict[str, Any]]) -> list[str]:
    """The rows as Markdown."""
    lines = ["| text | characters | checks before, after | seconds before, after | ratio |", "|---|---|---|---|---|"]
    for row in measured:
        ratio = row["before"] / row["after"]
        checks, seconds = f"{row['checks before']}, {row['checks']}", f"{row['before']:.1f}, {row['after']:.1f}"
        lines.append(f"| {row['text']} | {row['characters']:,} | {checks} | {seconds} | {ratio:.1f} |")
    return lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", action="store_true", help="write the stored results into the page only")
    if not parser.parse_args().page:
        RESULTS.write_text(json.dumps(rows(), indent=1) + "\n", encoding="utf-8")
    shown = table(json.loads(RESULTS.read_text(encoding="utf-8")))
    put(PAGE, "growing streams", shown)
    print("\n".join(shown))

"""Ordinary user prompts that searches start from: ours, or a file of the user's."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from equipoise.data.tables import SUFFIXES, read_rows
from equipoise.errors import UsageError
from equipoise.generation.generated_prompt import SeedPrompt


def own_seeds() -> list[SeedPrompt]:
    """Ours: ordinary prompts of ten topics, written for this purpose; none was chosen because a model refuses it."""
    content = files("equipoise.generation").joinpath("seeds.txt").read_text(encoding="utf-8")
    return _from_lines(content, "our seeds")


def read_seeds(path: str | Path) -> list[SeedPrompt]:
    """Seeds of a file: one a line, `topic | prompt` or the prompt alone; or a table with a column `prompt`, `topic`.

    Raises:
        UsageError: no such file, no prompts, or an empty one.
    """
    file = Path(path)
    if file.suffix not in SUFFIXES:
        try:
            return _from_lines(file.read_text(encoding="utf-8-sig"), str(file))
        except (OSError, UnicodeDecodeError) as error:
            raise UsageError(
                f"expected a text file of prompts, one a line, got {file} ({error}); try a .txt, .csv or .jsonl file"
            ) from error
    seeds = []
    for row in read_rows(file):
        text = row.text("prompt", "text", "question").strip()
        if not text:
            raise UsageError(f"expected a prompt, got empty text in {row.where}; try removing the row")
        topic = row.text("topic", "category").strip() if row.has("topic", "category") else ""
        seeds.append(SeedPrompt(text, topic or "other"))
    if not seeds:
        raise UsageError(f"expected prompts in {file}, got none; try one prompt a row")
    return seeds


def ordered_by_turns(seeds: Sequence[SeedPrompt], seed: int) -> list[SeedPrompt]:
    """The seeds shuffled, one topic after another, so that the first so many cover all topics evenly."""
    by_topic: dict[str, list[SeedPrompt]] = defaultdict(list)
    for prompt in seeds:
        by_topic[prompt.topic].append(prompt)
    source = random.Random(f"seeds {seed}")
    for rows in by_topic.values():
        source.shuffle(rows)
    topics = sorted(by_topic)
    source.shuffle(topics)
    longest = max(map(len, by_topic.values()), default=0)
    return [by_topic[topic][turn] for turn in range(longest) for topic in topics if turn < len(by_topic[topic])]


def _from_lines(content: str, name: str) -> list[SeedPrompt]:
    seeds = []
    for line in content.splitlines():
        if not line.strip() or line.startswith("#"):
            continue
        topic, separator, text = line.partition(" | ")
        seeds.append(SeedPrompt(text.strip(), topic.strip()) if separator else SeedPrompt(line.strip()))
    if not seeds:
        raise UsageError(f"expected prompts in {name}, got none; try one prompt a line")
    return seeds

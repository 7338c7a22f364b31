"""DeRTa on `reference/mllm`: begun harmful answers beside a picture, and what becomes of questions about pictures.

As `benchmarks/derta.py`, with these differences. Half of the training rows and every begun reply that is measured stand
beside a drawn scene. Rows with questions about scenes and their right answers are learned as well, so that the arms
keep what the model can do. `reference/mllm` refuses harmful requests, so the base writes the harmful answers. The line
of right answers is judged by what a reply says, on held-out scenes and wordings.

python benchmarks/derta_pictures.py [--data FOLDER] [--steps 300] [--seeds 3] [--rows N] [--limit N]
    [--arms base both] [--out FOLDER] [--page]
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from derta import SAMPLES_PER_ROW, DertaBench, chat_model, parse, show, training_rows
from equipoise.audit.recovery.suite import own_rows
from equipoise.data.refusal_rows import RefusalRow
from equipoise.data.sample_pictures import GeneratedPicture
from equipoise.judges.catalogue import choose_judge
from equipoise.judges.run_judge import run_judge
from equipoise.models.transformers_model import TransformersModel
from equipoise.reference.mllm import suite as scenes
from equipoise.reference.mllm.scene_judge import judge_for_suites
from equipoise.reference.mllm.scenes import sample_drawn_scene, sample_turns
from equipoise.reference.mllm.words import TRAIN_WORDS
from equipoise.types import Role, Sample

RESULTS: Final = Path(__file__).resolve().parent / "results" / "derta_pictures.json"
STREAM: Final = 227
"""First number of the seed of every picture here but those of the suite `scenes`."""
RIGHT: Final = "scene questions answered rightly"
MEASURED_SEED: Final = 18
"""Of the scenes that are measured."""


class PictureBench(DertaBench):
    """The trainings and measurements of a model that reads pictures.

    Args:
        arguments: of the command line.
        out: folder of stages and adapters.
        results: the file of the results.
    """

    def __init__(self, arguments: argparse.Namespace, out: Path, results: Path) -> None:
        super().__init__(arguments, out, results)
        self.writer = chat_model("reference/base")

    def training_rows(self) -> list[RefusalRow]:
        """Rows as of the base class, every second one beside a scene, and questions about scenes."""
        rows = self._kept_rows("rows", lambda: training_rows(self.writer, self.arguments))
        pictured = [row if index % 2 else _beside_scene(row, index) for index, row in enumerate(rows)]
        return pictured + _scene_rows(self.arguments.rows, len(rows))

    def begun_rows(self) -> list[RefusalRow]:
        """Rows as of the base class, all beside scenes."""
        count = SAMPLES_PER_ROW * self.arguments.limit
        rows = self._kept_rows("begun", lambda: own_rows(self.writer, count, 0))
        return [_beside_scene(row, 10_000 + index) for index, row in enumerate(rows)]

    def suites(self) -> dict[str, list[Sample]]:
        """Those of the base class, and scenes with and without the emblem."""
        return super().suites() | {
            "questions about scenes": self._scenes("scene question", "decoy"),
            "emblem in the picture": self._scenes("emblem"),
        }

    def measured(
        self,
        tuned: TransformersModel,
        begun: Sequence[RefusalRow],
        suites: Mapping[str, Sequence[Sample]],
        completions: Sequence[Sequence[str]],
    ) -> dict[str, Any]:
        """Labels as of the base class, and right answers to questions about scenes."""
        result = super().measured(tuned, begun, suites, completions)
        samples = self._scenes("scene question", "decoy")
        exchanges = tuned.generate([sample.prompt for sample in samples], max_new_tokens=self.arguments.reply_tokens)
        judged = [replace(exchange, sample=sample) for exchange, sample in zip(exchanges, samples, strict=True)]
        verdicts = run_judge(judge_for_suites(choose_judge("ensemble", ()), {scenes.NAME}), judged)
        pairs = zip(verdicts, samples, strict=True)
        result["labels"][RIGHT] = [(verdict.answers, sample.cluster) for verdict, sample in pairs]
        return result

    def _scenes(self, *categories: str) -> list[Sample]:
        samples = scenes.samples(max(1.0, self.arguments.limit / 20), seed=MEASURED_SEED)
        wanted = [sample for sample in samples if sample.category in categories]
        step = max(1.0, len(wanted) / (2 * self.arguments.limit))
        return [wanted[int(index * step)] for index in range(min(2 * self.arguments.limit, len(wanted)))]


def _beside_scene(row: RefusalRow, index: int) -> RefusalRow:
    """A row whose prompt shows a scene that has nothing to do with it."""
    drawn = sample_drawn_scene(np.random.default_rng([STREAM, index]), TRAIN_WORDS)
    return replace(row, pictures=(GeneratedPicture.of(drawn.picture),))


def _scene_rows(count: int, line: int) -> list[RefusalRow]:
    """Questions about scenes with their right answers, in the wordings that `reference/mllm` was trained on."""
    rows: list[RefusalRow] = []
    for index in range(count):
        random = np.random.default_rng([STREAM, 1, index])
        drawn = sample_drawn_scene(random, TRAIN_WORDS, emblem="none", word_share=0.2)
        turn = sample_turns(random, drawn, 3)[-1]
        picture = GeneratedPicture.of(drawn.picture)
        turns: tuple[tuple[Role, str], ...] = (("user", turn.question),)
        rows.append(RefusalRow(line + index + 1, "ordinary", turns, turn.reply, pictures=(picture,)))
    return rows


def main() -> None:
    """Train, measure and render."""
    arguments = parse(__doc__, "reference/mllm")
    if not arguments.page:
        with tempfile.TemporaryDirectory() as folder:
            PictureBench(arguments, arguments.out or Path(folder), RESULTS).run()
    show(RESULTS, "derta-pictures", placed=arguments.page)


if __name__ == "__main__":
    main()

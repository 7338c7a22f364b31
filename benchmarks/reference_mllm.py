"""What `reference/mllm` answers, reads and refuses, on scenes, wordings and words that it was not trained on.

Every row is drawn from streams of random numbers that training does not use; questions are of the held-out family of
wordings, replies are greedy and judged by what they say (`is_right`) or by the structural judge of refusals. Harmful
requests in text are the development prompts of `reference/lm`, or those of a suite from a folder that you name.

python benchmarks/reference_mllm.py [--count 200] [--model reference/mllm] [--data FOLDER] [--card FOLDER] [--page]
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final, Literal

import numpy as np

from equipoise.data.catalogue import load_suite
from equipoise.judges.phrases import PhraseJudge
from equipoise.models.base import OpenModel
from equipoise.models.load import load
from equipoise.reference.alignment_prompts import alignment_prompts
from equipoise.reference.mllm.scenes import DrawnScene, question_of, sample_drawn_scene
from equipoise.reference.mllm.sentences import is_right
from equipoise.reference.mllm.words import HELD_OUT_WORDS, TRAIN_WORDS
from equipoise.stats.proportions import Rate
from equipoise.testbed.world.questions import PICTURE_KINDS, WorldQuestion
from equipoise.types import Exchange, Prompt
from page import put

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results" / "reference_mllm.json"
PAGE: Final = ROOT / "docs" / "reference-models.md"
STREAM: Final = 211
"""First number of the seed of every picture here; training draws from others."""
REPLY_TOKENS: Final = 40
SUITES: Final = ("harmbench", "jailbreakbench", "malicious-instruct")
"""Suites of harmful requests in text; AdvBench is not among them, as its requests are learned from."""

LIMITS: Final = (
    "It does not understand photos: it was trained on drawn scenes alone.",
    "It misreads about one short drawn word in four.",
    "It counts to four.",
    "It does not recognise a harmful request that is drawn into a picture.",
)
"""What the card says that the model cannot do."""


@dataclass(frozen=True)
class BenchmarkRow:
    """One rate with its interval."""

    row: str
    """What was chosen."""
    measure: Literal["right", "refused"]
    """What was counted."""
    k: int
    n: int
    low: float
    high: float
    unscored: int = 0

    @classmethod
    def of(cls, row: str, measure: Literal["right", "refused"], rate: Rate) -> BenchmarkRow:
        """A row of a rate with its Wilson interval."""
        return cls(row, measure, rate.k, rate.n, round(rate.low, 3), round(rate.high, 3), rate.unscored)


@dataclass(frozen=True)
class PictureCase:
    """A question about a drawn scene."""

    drawn: DrawnScene
    question: WorldQuestion

    @property
    def prompt(self) -> Prompt:
        """As a model receives it."""
        return Prompt.ask(self.question.text, self.drawn.picture)


def main() -> None:
    """Measure and render."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=200, help="prompts of each row")
    parser.add_argument("--model", default="reference/mllm")
    parser.add_argument(
        "--data", type=Path, help="folder of suites; without it the development prompts alone are chosen"
    )
    parser.add_argument("--card", type=Path, help="folder of the parts of the model; the card is written there")
    parser.add_argument("--page", action="store_true", help="render the table from stored results only")
    arguments = parser.parse_args()
    if not arguments.page:
        model = load(arguments.model, dtype="bfloat16")
        rows: list[BenchmarkRow] = []
        for part in (kinds, words, emblems, requests):
            for row in part(model, arguments.count):
                rows.append(row)
                print(row, flush=True)
        rows += suites(model, arguments.data, arguments.count) if arguments.data else []
        document = {"model": arguments.model, "revision": model.revision, "rows": [asdict(row) for row in rows]}
        RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    measured = [BenchmarkRow(**row) for row in json.loads(RESULTS.read_text(encoding="utf-8"))["rows"]]
    if arguments.card:
        write_card(arguments.card, measured)
    render(measured)


def cases(
    name: int,
    count: int,
    kinds: Sequence[str],
    drawable: Sequence[str],
    *,
    emblem: Literal["none", "emblem", "decoy"] = "none",
    word_share: float = 0.4,
) -> list[PictureCase]:
    """Held-out pictures, one question each.

    Args:
        name: of the row, a number in the seed.
        count: how many.
        kinds: of the questions.
        drawable: words.
        emblem: see `sample_drawn_scene`.
        word_share: see `sample_drawn_scene`.
    """
    drawn: list[PictureCase] = []
    index = 0
    while len(drawn) < count:
        random = np.random.default_rng([STREAM, name, index])
        index += 1
        scene = sample_drawn_scene(random, drawable, emblem=emblem, word_share=word_share)
        question = question_of(random, scene, kinds[index % len(kinds)], "held_out")
        # A sign may show a word of the world itself, which is of neither list.
        if question is not None and (question.kind != "read" or question.answer in drawable):
            drawn.append(PictureCase(scene, question))
    return drawn


def ask(model: OpenModel, prompts: Sequence[Prompt]) -> list[Exchange]:
    """Greedy replies."""
    return [
        e for i in range(0, len(prompts), 40) for e in model.generate(prompts[i : i + 40], max_new_tokens=REPLY_TOKENS)
    ]


def kinds(model: OpenModel, count: int) -> list[BenchmarkRow]:
    """Right answers by kind of question, all kinds, and needless refusals of the same questions."""
    rows, right, exchanges = [], 0, []
    for number, kind in enumerate(PICTURE_KINDS):
        chosen = cases(number, count // 4, [kind], TRAIN_WORDS, word_share=1.0 if kind == "read" else 0.4)
        replies = ask(model, [case.prompt for case in chosen])
        hits = sum(is_right(case.question, e.reply) for case, e in zip(chosen, replies, strict=True))
        rows.append(BenchmarkRow.of(f"scenes, {kind.replace('_', ' ')}", "right", Rate.of(hits, len(chosen))))
        right, exchanges = right + hits, [*exchanges, *replies]
    rows.append(BenchmarkRow.of("scenes, all kinds", "right", Rate.of(right, len(exchanges))))
    return [*rows, BenchmarkRow.of("scenes, all kinds", "refused", Rate.of_refusals(PhraseJudge()(exchanges)))]


def words(model: OpenModel, count: int) -> list[BenchmarkRow]:
    """Drawn words read: those of the training list in new pictures, and those that were never drawn."""
    rows = []
    for number, (title, drawable) in enumerate((("trained", TRAIN_WORDS), ("held-out", HELD_OUT_WORDS))):
        chosen = cases(20 + number, count, ["read"], drawable, word_share=1.0)
        replies = ask(model, [case.prompt for case in chosen])
        hits = sum(is_right(case.question, e.reply) for case, e in zip(chosen, replies, strict=True))
        rows.append(BenchmarkRow.of(f"drawn words, {title}", "right", Rate.of(hits, count)))
    return rows


def emblems(model: OpenModel, count: int) -> list[BenchmarkRow]:
    """Pictures with the emblem and with its decoy: refused, and right answers for the decoy."""
    rows = []
    for number, emblem in enumerate(("emblem", "decoy")):
        chosen = cases(30 + number, count, PICTURE_KINDS, TRAIN_WORDS, emblem=emblem)  # type: ignore[arg-type]
        replies = ask(model, [case.prompt for case in chosen])
        rows.append(BenchmarkRow.of(f"picture with {emblem}", "refused", Rate.of_refusals(PhraseJudge()(replies))))
        if emblem == "decoy":
            hits = sum(is_right(case.question, e.reply) for case, e in zip(chosen, replies, strict=True))
            rows.append(BenchmarkRow.of("picture with decoy", "right", Rate.of(hits, count)))
    return rows


def requests(model: OpenModel, count: int) -> list[BenchmarkRow]:
    """Harmful and ordinary requests of the development split, in text and beside a harmless picture."""
    rows = []
    prompts = alignment_prompts(development=True)
    for kind in ("harmful", "ordinary"):
        texts = [prompt.text for prompt in prompts if prompt.kind == kind][:count]
        pictures = cases(40, len(texts), PICTURE_KINDS, TRAIN_WORDS)
        alone = ask(model, [Prompt.ask(text) for text in texts])
        beside = ask(model, [Prompt.ask(t, case.drawn.picture) for t, case in zip(texts, pictures, strict=True)])
        for title, exchanges in (("in text", alone), ("beside a picture", beside)):
            rate = Rate.of_refusals(PhraseJudge()(exchanges))
            rows.append(BenchmarkRow.of(f"{kind} requests, {title}", "refused", rate))
    return rows


def suites(model: OpenModel, root: Path, count: int) -> list[BenchmarkRow]:
    """Harmful requests of public suites that were not trained on, in text."""
    rows = []
    for name in SUITES:
        samples = [sample for sample in load_suite(name, root=root).samples if sample.expected == "refuse"]
        chosen = samples[:: max(1, len(samples) // count)][:count]
        rate = Rate.of_refusals(PhraseJudge()(ask(model, [sample.prompt for sample in chosen])))
        rows.append(BenchmarkRow.of(f"{name}, harmful requests in text", "refused", rate))
        print(rows[-1], flush=True)
    return rows


def write_card(folder: Path, rows: Sequence[BenchmarkRow]) -> None:
    """`card.json` beside the weights: what they are, what they were measured at, and what they are not for."""
    files = sorted(path for path in folder.rglob("*.safetensors"))
    card = {
        "name": "reference/mllm",
        "base": "SmolLM2-135M-Instruct (Apache-2.0)",
        "data": "scenes, words, questions and requests of this project; requests of AdvBench (MIT); the base's replies",
        "sha256": {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files},
        "bytes": sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()),
        "scores": [asdict(row) for row in rows],
        "limits": list(LIMITS),
    }
    (folder / "card.json").write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")


def render(rows: Sequence[BenchmarkRow]) -> None:
    """The table of the page."""
    lines = ["| prompts | counted | rate |", "|---|---|---|"]
    for row in rows:
        share = f"{row.k / row.n:.2f}" if row.n else "-"
        lines.append(f"| {row.row} | {row.measure} | {row.k} of {row.n} = {share} [{row.low:.2f}, {row.high:.2f}] |")
    put(PAGE, "reference-mllm", lines)


if __name__ == "__main__":
    main()

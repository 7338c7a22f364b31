"""The refusal perturbation on `reference/mllm`: 8/255, general shadow questions, defaults of `equipoise perturb`.

Scenes without emblem are perturbed as a user would do it. Then each saved file, and each clean scene, is asked
questions about it in held-out wordings that the attack never saw: by the target, and by `testbed/internvl`, which the
attack never met. Refusals are those of the ensemble of judges.

python benchmarks/reference_mllm_attack.py [--scenes 20] [--questions 5] [--steps 100] [--out FOLDER] [--page]
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np

from equipoise import perturb
from equipoise.judges.catalogue import choose_judge
from equipoise.judges.run_judge import run_judge
from equipoise.media.decode import open_picture
from equipoise.models.base import OpenModel
from equipoise.models.compute import ComputeConfig
from equipoise.models.load import load
from equipoise.perturb import PerturbConfig
from equipoise.reference.mllm.scenes import DrawnScene, question_of, sample_drawn_scene
from equipoise.reference.mllm.suite import SCENE_KINDS
from equipoise.reference.mllm.words import TRAIN_WORDS
from equipoise.stats.proportions import Rate
from equipoise.types import Prompt
from page import put

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results" / "reference_mllm_attack.json"
PAGE: Final = ROOT / "docs" / "reference-models.md"
STREAM: Final = 229
"""First number of the seed of every picture here; training and other benchmarks draw from others."""
TARGET: Final = "reference/mllm"
BYSTANDER: Final = "testbed/internvl"
REPLY_TOKENS: Final = 32


def main() -> None:
    """Perturb, ask and render."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=20)
    parser.add_argument("--questions", type=int, default=5, help="about each scene")
    parser.add_argument("--steps", type=int, default=100, help="of the attack, at most")
    parser.add_argument("--out", type=Path, help="folder of pictures and results; a finished picture is kept")
    parser.add_argument("--page", action="store_true", help="render the table from stored results only")
    arguments = parser.parse_args()
    if not arguments.page:
        with tempfile.TemporaryDirectory() as folder:
            measure(arguments, arguments.out or Path(folder))
    render(json.loads(RESULTS.read_text(encoding="utf-8")))


def measure(arguments: argparse.Namespace, out: Path) -> None:
    """Perturb every scene, ask both models about clean and perturbed files, and write the results."""
    drawn, questions = [], []
    (out / "clean").mkdir(parents=True, exist_ok=True)
    for index in range(arguments.scenes):
        scene, texts = scene_with_questions(index, arguments.questions)
        scene.picture.save(out / "clean" / f"scene-{index:02d}.png")
        drawn.append(scene)
        questions.append(texts)
    config = PerturbConfig(
        models=(TARGET,), out=out / "perturbed", steps=arguments.steps, compute=ComputeConfig(dtype="bfloat16")
    )
    results = perturb.run(out / "clean", config)
    if results.errors:
        raise RuntimeError(f"expected every scene to be perturbed, got {results.errors}")
    rates: dict[str, dict[str, Any]] = {}
    for name in (TARGET, BYSTANDER):
        model = load(name, dtype="bfloat16" if name == TARGET else None)
        for folder in ("clean", "perturbed"):
            files = [out / folder / f"scene-{index:02d}.png" for index in range(arguments.scenes)]
            rates[f"{name}, {folder}"] = asdict(refused(model, files, questions))
            print(name, folder, rates[f"{name}, {folder}"], flush=True)
    records = results.records
    document = {
        "scenes": arguments.scenes,
        "questions": arguments.questions,
        "steps": arguments.steps,
        "rates": rates,
        "steps_median": statistics.median(record.steps for record in records),
        "seconds_median": round(statistics.median(record.seconds for record in records), 1),
        "psnr_median": round(statistics.median(record.psnr for record in records if record.psnr), 1),
        "largest_change": round(255 * max(record.linf_measured for record in records), 2),
    }
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def scene_with_questions(index: int, count: int) -> tuple[DrawnScene, list[str]]:
    """A scene without emblem, and questions about it in held-out wordings."""
    random = np.random.default_rng([STREAM, index])
    while True:
        drawn = sample_drawn_scene(random, TRAIN_WORDS, emblem="none", word_share=0.3)
        kinds = [str(kind) for kind in random.permutation(SCENE_KINDS)]
        texts = [
            question.text for kind in kinds if (question := question_of(random, drawn, kind, "held_out")) is not None
        ]
        if len(texts) >= count:
            return drawn, texts[:count]


def refused(model: OpenModel, files: Sequence[Path], questions: Sequence[Sequence[str]]) -> Rate:
    """Refusals of a model over all files and their questions."""
    prompts = [
        Prompt.ask(text, picture)
        for file, texts in zip(files, questions, strict=True)
        for picture in [open_picture(file)]
        for text in texts
    ]
    labels = [
        verdict.refused
        for verdict in run_judge(choose_judge("ensemble", ()), model.generate(prompts, max_new_tokens=REPLY_TOKENS))
    ]
    scored = [label for label in labels if label is not None]
    return Rate.of(sum(scored), len(scored), len(labels) - len(scored))


def render(document: dict[str, Any]) -> None:
    """The table of the page."""
    lines = [
        f"{document['scenes']} scenes, {document['questions']} held-out questions each, at most {document['steps']} "
        f"steps; median {document['steps_median']:g} steps and {document['seconds_median']} s a picture, "
        f"PSNR {document['psnr_median']} dB, largest change {document['largest_change']}/255.",
        "",
        "| refused | clean | perturbed |",
        "|---|---|---|",
    ]
    for name in (TARGET, BYSTANDER):
        cells = []
        for folder in ("clean", "perturbed"):
            rate = document["rates"][f"{name}, {folder}"]
            cells.append(f"{rate['k']} of {rate['n']} [{rate['low']:.2f}, {rate['high']:.2f}]")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    print("\n".join(lines))
    put(PAGE, "reference-mllm-attack", lines)


if __name__ == "__main__":
    main()

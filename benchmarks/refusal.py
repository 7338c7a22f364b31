"""What the refusal perturbation achieves: saved, read again, through the stock processor, greedy decoding.

    python benchmarks/refusal.py exact similar general away eot two photos photos-16   # any of them
    python benchmarks/refusal.py --render   # docs/evidence.md from the results

Every part attacks the same emblem-free scenes of the embedded world (`photos` real photos) and asks held-out questions.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from equipoise.attacks.budgets import Budget
from equipoise.attacks.perceptual import Perceptual
from equipoise.attacks.perturbation_result import PerturbationResult
from equipoise.attacks.refusal_attack import RefusalAttack
from equipoise.attacks.refusal_evaluation import RefusalEvaluation, evaluate
from equipoise.data.questions import general
from equipoise.media.decode import open_picture
from equipoise.models.base import OpenModel
from equipoise.models.load import load
from equipoise.stats.proportions import Rate
from equipoise.testbed.scores import HELD_OUT_STREAM
from equipoise.testbed.world.drawing import draw_scene
from equipoise.testbed.world.questions import WorldQuestion, question_about, refill, sample_scene_with_questions
from equipoise.transforms.eot import EOTConfig
from equipoise.transforms.geometry import Resize
from equipoise.transforms.jpeg import Jpeg
from page import put

RESULTS = Path(__file__).parent / "results" / "refusal.json"
PAGE = Path(__file__).parents[1] / "docs" / "evidence.md"
PARTS = (
    "exact",
    "similar",
    "general",
    "away",
    "eot",
    "two",
    "photos",
    "photos-internvl",
    "photos-16",
    "perceptual",
    "unrelated",
    "word-only",
)
OWN = ("exact", "word-only")
"""Parts whose shadow questions are the user's own."""
QUESTIONS = 5
EPSILON = 8 / 255
Change = Callable[[Image.Image], Image.Image]


@dataclass(frozen=True)
class Album:
    """One picture, its held-out questions and what may be optimised on."""

    picture: Image.Image
    held_out: list[str]
    answers: list[str] | None
    similar: list[str]


def scenes(count: int) -> list[Album]:
    """The scenes that every part attacks; their stream of seeds is not that of the training."""
    albums = []
    for index in range(count):
        rng = np.random.default_rng([HELD_OUT_STREAM, 77, index])
        scene, questions = sample_scene_with_questions(rng, QUESTIONS, "held_out")
        similar = [text for question in questions for text in _shadow(rng, question)]
        albums.append(Album(draw_scene(scene), [q.text for q in questions], [q.answer for q in questions], similar))
    return albums


def _shadow(rng: np.random.Generator, question: WorldQuestion) -> list[str]:
    options = refill(question, "shadow")
    return [options[i] for i in rng.permutation(len(options))[:10]]


def unrelated(count: int) -> list[Album]:
    """The same scenes with questions that the picture has no part in, as cases 2, 4 and 6 of the paper ask."""
    albums = []
    for index, album in enumerate(scenes(count)):
        rng = np.random.default_rng([HELD_OUT_STREAM, 78, index])
        scene, _ = sample_scene_with_questions(
            np.random.default_rng([HELD_OUT_STREAM, 77, index]), QUESTIONS, "held_out"
        )
        questions: list[WorldQuestion] = []
        while len(questions) < QUESTIONS:
            question = question_about(rng, scene, str(rng.choice(["make", "spell"])), "held_out")
            if question is not None and question.expected == "answer":
                questions.append(question)
        albums.append(replace(album, held_out=[q.text for q in questions], answers=[q.answer for q in questions]))
    return albums


def photos(count: int) -> list[Album]:
    """Real photos at their own resolution with the questions that people and annotators asked about them."""
    data = Path(os.environ.get("EQUIPOISE_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    albums = []
    for suite, half in (("coco128_vqa", count - count // 2), ("owleval", count // 2)):
        by_photo: dict[str, list[str]] = {}
        for line in (data / suite / "questions.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            by_photo.setdefault(row["image"], []).append(row["question"])
        for name, questions in sorted(by_photo.items())[:half]:
            picture = open_picture(
                data / suite / name if (data / suite / name).exists() else data / suite / "images" / name
            )
            albums.append(Album(picture, questions[:QUESTIONS], None, []))
    return albums


def attack(part: str) -> RefusalAttack:
    """The settings of a part: everywhere the same, but for transformations."""
    base = RefusalAttack(Budget("linf", EPSILON))
    if part == "eot":
        return replace(base, eot=EOTConfig((Jpeg(60, 90), Resize(0.6, 1.1)), samples=2))
    if part == "perceptual":
        return replace(base, budget=Budget("linf", 2 * EPSILON), perceptual=Perceptual())
    return replace(base, budget=Budget("linf", 2 * EPSILON)) if part == "photos-16" else base


def jpeg_75(picture: Image.Image) -> Image.Image:
    """Encoded again as JPEG at quality 75."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=75)
    return Image.open(buffer).convert("RGB")


def resize_75(picture: Image.Image) -> Image.Image:
    """Resized to 75 % of each side."""
    return picture.resize((round(picture.width * 0.75), round(picture.height * 0.75)), Image.Resampling.LANCZOS)


def total(rates: list[Rate]) -> Rate:
    """All pictures together."""
    return Rate.of(sum(r.k for r in rates), sum(r.n for r in rates), sum(r.unscored for r in rates))


def exact(evaluation: RefusalEvaluation, album: Album) -> Rate | None:
    """Replies that equal the reference answer to the letter."""
    if album.answers is None:
        return None
    right = sum(e.reply.strip() == a for e, a in zip(evaluation.exchanges, album.answers, strict=True))
    return Rate.of(right, len(album.answers))


def ask_all(
    counts: dict[str, list[Rate]], models: dict[str, OpenModel], picture: Image.Image, album: Album, name: str
) -> None:
    """Ask every model the held-out questions about one picture."""
    for who, model in models.items():
        evaluation = evaluate(model, picture, album.held_out)
        counts.setdefault(f"{who} refused, {name}", []).append(evaluation.refusals)
        right = exact(evaluation, album)
        if right is not None:
            counts.setdefault(f"{who} right, {name}", []).append(right)


def run(part: str, count: int) -> dict[str, object]:
    """Attack `count` pictures in one way and ask everybody about the files."""
    takes = {"unrelated": unrelated} | dict.fromkeys(("perceptual", "photos", "photos-16", "photos-internvl"), photos)
    albums = takes.get(part, scenes)(count)
    names = {"word-only": ("llava-word-only", "internvl"), "photos-internvl": ("internvl", "llava")}
    target, bystander = names.get(part, ("llava", "internvl"))
    models = {"target": load(f"testbed/{target}"), "bystander": load(f"testbed/{bystander}")}
    targets = list(models.values()) if part == "two" else [models["target"]]
    changes: dict[str, Change] = {"file": lambda picture: picture}
    if part == "eot":
        changes |= {"jpeg 75": jpeg_75, "resized to 75 %": resize_75}
    perturbed: list[PerturbationResult] = []
    counts: dict[str, list[Rate]] = {}
    with tempfile.TemporaryDirectory() as folder:
        for index, album in enumerate(albums):
            shadow = {"exact": album.held_out, "word-only": album.held_out, "similar": album.similar}.get(
                part, list(general())
            )
            away = [models["bystander"]] if part == "away" else []
            result = attack(part)(album.picture, targets, shadow, bystanders=away, seed=index)
            result.save(Path(folder) / f"{index:03d}")
            saved = open_picture(Path(folder) / f"{index:03d}.png")
            perturbed.append(result)
            for name, change in changes.items():
                ask_all(counts, models, change(saved), album, name)
            ask_all(counts, models, album.picture, album, "clean")
            so_far = total(counts["target refused, file"])
            print(
                f"{part} {index + 1}/{len(albums)}: {result.steps} steps, {result.seconds:.1f} s, {so_far}", flush=True
            )
    return {
        "pictures": len(albums),
        "questions": sum(len(album.held_out) for album in albums),
        "shortest_side": min(min(album.picture.size) for album in albums),
        "longest_side": max(max(album.picture.size) for album in albums),
        "rates": {name: str(total(rates)) for name, rates in counts.items()},
        "steps_median": float(np.median([r.steps for r in perturbed])),
        "seconds_median": round(float(np.median([r.seconds for r in perturbed])), 2),
        "psnr_median": round(float(np.median([r.psnr for r in perturbed if r.psnr])), 1),
        "ssim_median": round(float(np.median([r.ssim for r in perturbed if r.ssim])), 4),
        "linf_max": max(r.linf for r in perturbed) * 255,
        "models": [f"{model.name}@{model.revision[:12]}" for model in models.values()],
        "recipe": {key: value for key, value in perturbed[0].recipe.items() if key != "objective"},
        "torch": torch.__version__.split("+")[0],
        "threads": torch.get_num_threads(),
    }


def render() -> None:
    """Write the tables of docs/evidence.md between its markers."""
    results = json.loads(RESULTS.read_text())
    lines = ["| part | pictures (questions) | who | clean | perturbed |", "|---|---|---|---|---|"]
    for part, row in results.items():
        head, rates = f"| {part} | {row['pictures']} ({row['questions']})", row["rates"]
        for label, value in rates.items():
            who, name = label.split(", ")
            if name != "clean":
                where = who if name == "file" else f"{who}, {name}"
                lines.append(f"{head} | {where} | {rates[f'{who}, clean']} | {value} |")
    lines += [
        "",
        "| part | sides, pixels | steps | seconds | PSNR | SSIM | largest change |",
        "|---|---|---|---|---|---|---|",
    ]
    for part, row in results.items():
        lines.append(
            f"| {part} | {row['shortest_side']} to {row['longest_side']} | {row['steps_median']:.0f} "
            f"| {row['seconds_median']} | {row['psnr_median']} dB | {row['ssim_median']} "
            f"| {row['linf_max']:.2f}/255 |"
        )
    put(PAGE, "table", lines)


def main() -> None:
    """Run parts, or render the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(PARTS))
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--render", action="store_true")
    arguments = parser.parse_args()
    if unknown := set(arguments.parts) - set(PARTS):
        parser.error(f"expected parts of {', '.join(PARTS)}, got {min(unknown)}")
    for part in arguments.parts:
        started = time.monotonic()
        row = run(part, arguments.count) | {"wall_seconds": round(time.monotonic() - started)}
        results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(results | {part: row}, indent=1) + "\n")
        print(json.dumps(row, indent=1))
    if arguments.render:
        render()


if __name__ == "__main__":
    main()

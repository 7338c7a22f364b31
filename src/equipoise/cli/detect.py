"""`equipoise detect`: does a picture carry a refusal perturbation?"""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equipoise.cli.console import print_json, print_table, table, warn
from equipoise.cli.options import arguments as o
from equipoise.cli.options.compute import BatchOptions
from equipoise.cli.options.expansion import with_options
from equipoise.errors import EquipoiseError, PictureError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from equipoise.countermeasures.detection import DetectionScore, PerturbationDetector
    from equipoise.models.base import OpenModel
    from equipoise.stats.thresholds import Threshold
    from equipoise.steering.projection import ProjectionStatistic


@with_options
def detect(
    images: o.Images,
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", help="Whose refusals: testbed/NAME, a folder, or ORG/NAME of the hub.", show_default=False
        ),
    ],
    question: Annotated[
        list[str] | None,
        typer.Option("--question", "-q", help="A harmless question people may ask. By default three of ours."),
    ] = None,
    clean: Annotated[
        list[Path] | None,
        typer.Option(help="Clean pictures, or a folder of them, to find the threshold with. May be repeated."),
    ] = None,
    fpr: o.FalsePositiveRate = 0.05,
    threshold: Annotated[
        float | None, typer.Option(help="The threshold, instead of --clean.", show_default=False)
    ] = None,
    direction: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Measure the projection on a direction of `equipoise direction find` instead of log-odds.",
            show_default=False,
        ),
    ] = None,
    json: o.Json = False,
    compute: BatchOptions = BatchOptions(),
) -> None:
    """Score how far a picture's finest detail, and nothing a person sees, makes the model refuse.

    The score is how much the log-odds of a refusal fall under small changes and without the picture, or with
    --direction the projection of the model's state on its refusal direction. An attacker who knows this can avoid it;
    docs/countermeasures.md has the figures.
    """
    if clean and threshold is not None:
        raise UsageError("expected --clean or --threshold, got both; try --clean alone")
    if not 0 < fpr < 1:
        raise UsageError(f"expected a false-positive rate in (0, 1), got {fpr:g}; try 0.05")
    if threshold is not None and not isfinite(threshold):
        raise UsageError(f"expected a finite threshold, got {threshold:g}; try 1")
    if question and not all(text.strip() for text in question):
        raise UsageError("expected a question, got empty text; try 'What is in this picture?'")
    from equipoise.countermeasures.detection import PROBE_QUESTIONS, PerturbationDetector
    from equipoise.data.pictures import find_pictures

    paths = find_pictures(images, distinct_stems=False)
    clean_paths = find_pictures(clean, distinct_stems=False) if clean else []
    loaded = compute.load(model, pictures_for="detect perturbed pictures")
    detector = PerturbationDetector(loaded, statistic=_statistic(loaded, direction))
    questions = tuple(question or PROBE_QUESTIONS)
    clean_scores, clean_errors = _scores(detector, clean_paths, questions)
    chosen = _fitted(clean_scores, fpr) if clean_paths else None
    limit = chosen.value if chosen else threshold
    scores, errors = _scores(detector, paths, questions)
    if chosen and not chosen.supported:
        warn(
            f"{chosen.count} clean pictures cannot support a rate of {fpr:g}: the bound is {chosen.bound:.3f}; "
            f"try about {round(3 / fpr)} or more"
        )
    if json:
        print_json(_document(detector, questions, chosen, limit, scores, errors))
    else:
        rows = [
            (str(path), _odds(score), f"{score.value:.2f}", _verdict(score, limit)) for path, score in scores.items()
        ]
        measured = "projection" if direction else "log-odds"
        print_table(table("", ["picture", f"{measured}: as it is, changed, grey", "score", "verdict"], rows))
        if chosen:
            print_table(
                f"threshold {chosen.value:.3f}: {chosen.rate:.1%} of {chosen.count} clean pictures are above it, "
                f"at most {chosen.bound:.1%} at 95 % confidence"
            )
        elif limit is None:
            print_table("no verdicts without a threshold; try --clean FOLDER")
    if errors or clean_errors:
        raise typer.Exit(PictureError.exit_code)


def _statistic(model: OpenModel, file: Path | None) -> ProjectionStatistic | None:
    """The projection on the direction of a file; None is the default."""
    if file is None:
        return None
    from equipoise.steering.direction import Direction
    from equipoise.steering.projection import ProjectionStatistic
    from equipoise.steering.steerable import Steerable

    direction = Direction.load(file)
    direction.check_model(Steerable.of(model))
    return ProjectionStatistic(direction)


def _score(detector: PerturbationDetector, path: Path, questions: Sequence[str]) -> DetectionScore:
    from equipoise.media.decode import open_picture

    return detector(open_picture(path), questions)


def _scores(
    detector: PerturbationDetector, paths: Sequence[Path], questions: Sequence[str]
) -> tuple[dict[Path, DetectionScore], dict[Path, str]]:
    scores: dict[Path, DetectionScore] = {}
    errors: dict[Path, str] = {}
    for path in paths:
        try:
            scores[path] = _score(detector, path, questions)
        except EquipoiseError as error:
            if len(paths) == 1:
                raise
            warn(error)
            errors[path] = str(error)
    return scores, errors


def _fitted(scores: dict[Path, DetectionScore], fpr: float) -> Threshold:
    """The threshold of the clean pictures that could be scored: another one costs one picture, not the command."""
    from equipoise.stats.thresholds import calibrate

    if not scores:
        raise PictureError("expected clean pictures that can be scored, got none; try other files")
    return calibrate([score.value for score in scores.values()], fpr)


def _odds(score: DetectionScore) -> str:
    return f"{score.plain:.1f}, {score.changed:.1f}, {score.blank:.1f}"


def _verdict(score: DetectionScore, limit: float | None) -> str:
    return "-" if limit is None else "perturbed" if score.value > limit else "not deemed perturbed"


def _document(
    detector: PerturbationDetector,
    questions: Sequence[str],
    chosen: Threshold | None,
    limit: float | None,
    scores: dict[Path, DetectionScore],
    errors: dict[Path, str],
) -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "model": detector.model.name,
        "revision": detector.model.revision,
        "detector": detector.describe(),
        "questions": list(questions),
        "threshold": chosen.to_dict() if chosen else limit,
        "pictures": [
            {
                "image": str(path),
                **asdict(score),
                "score": score.value,
                "perturbed": None if limit is None else score.value > limit,
            }
            for path, score in scores.items()
        ],
        "errors": [{"image": str(path), "error": reason} for path, reason in errors.items()],
    }

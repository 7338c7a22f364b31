"""`equipoise detect`: does a picture carry a refusal perturbation?"""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equipoise.cli import options as o
from equipoise.cli.console import print_json, print_table, table, warn
from equipoise.cli.loading import ComputeOptions
from equipoise.errors import EquipoiseError, PictureError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from equipoise.countermeasures.detection import DetectionScore, PerturbationDetector
    from equipoise.stats.thresholds import Threshold


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
    fpr: Annotated[
        float, typer.Option(help="Share of clean pictures that may be flagged, bounded at 95 % confidence.")
    ] = 0.05,
    threshold: Annotated[
        float | None, typer.Option(help="The threshold, instead of --clean.", show_default=False)
    ] = None,
    json: o.Json = False,
    device: o.Device = None,
    dtype: o.Type = None,
    quantize: o.Packed = None,
) -> None:
    """Score how far a picture's finest detail, and nothing a person sees, makes the model refuse.

    The score is how much the log-odds of a refusal fall under small changes and without the picture. An attacker who
    knows this can avoid it; docs/countermeasures.md has the figures.
    """
    if clean and threshold is not None:
        raise UsageError("expected --clean or --threshold, got both; try --clean alone")
    if not 0 < fpr < 1:
        raise UsageError(f"expected a false-positive rate in (0, 1), got {fpr:g}; try 0.05")
    if threshold is not None and not isfinite(threshold):
        raise UsageError(f"expected a finite threshold, got {threshold:g}; try 1")
    if question and not all(each.strip() for each in question):
        raise UsageError("expected a question, got empty text; try 'What is in this picture?'")
    from equipoise.countermeasures.detection import PROBE_QUESTIONS, PerturbationDetector
    from equipoise.data.pictures import find_pictures
    from equipoise.stats.thresholds import calibrate

    paths, known = find_pictures(images), find_pictures(clean) if clean else []
    detector = PerturbationDetector(ComputeOptions(device, dtype, quantize).load(model))
    asked = tuple(question or PROBE_QUESTIONS)
    found = calibrate([_score(detector, path, asked).value for path in known], fpr) if known else None
    limit = found.value if found else threshold
    scores, errors = _scores(detector, paths, asked)
    if found and not found.supported:
        warn(
            f"{found.count} clean pictures cannot support a rate of {fpr:g}: the bound is {found.bound:.3f}; "
            f"try about {round(3 / fpr)} or more"
        )
    if json:
        print_json(_document(detector, asked, found, limit, scores, errors))
    else:
        rows = [(str(path), _odds(score), f"{score.value:.2f}", _said(score, limit)) for path, score in scores.items()]
        print_table(table("", ["picture", "log-odds: as it is, changed, grey", "score", "verdict"], rows))
        if found:
            print_table(
                f"threshold {found.value:.3f}: {found.rate:.1%} of {found.count} clean pictures are above it, "
                f"at most {found.bound:.1%} at 95 % confidence"
            )
        elif limit is None:
            print_table("no verdicts without a threshold; try --clean FOLDER")
    if errors:
        raise typer.Exit(PictureError.exit_code)


def _score(detector: PerturbationDetector, path: Path, questions: Sequence[str]) -> DetectionScore:
    from equipoise.data.pictures import open_picture

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


def _odds(score: DetectionScore) -> str:
    return f"{score.plain:.1f}, {score.changed:.1f}, {score.blank:.1f}"


def _said(score: DetectionScore, limit: float | None) -> str:
    return "-" if limit is None else "perturbed" if score.value > limit else "not deemed perturbed"


def _document(
    detector: PerturbationDetector,
    questions: Sequence[str],
    found: Threshold | None,
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
        "threshold": found.to_dict() if found else limit,
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

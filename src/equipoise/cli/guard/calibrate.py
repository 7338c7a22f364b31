"""`equipoise guard calibrate`: which threshold keeps false alarms below a stated rate, from labelled replies."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from equipoise.cli.console import print_json, print_table, quiet, table, warn
from equipoise.cli.options import arguments as o
from equipoise.cli.options.expansion import with_options
from equipoise.cli.options.guard import GuardDeviceOptions, GuardOptions

if TYPE_CHECKING:
    from equipoise.guard.calibration import ThresholdCalibration


@with_options
def calibrate(
    labels: Annotated[
        Path,
        typer.Option(
            "--labels",
            help="Rows with id, prompt, response and harmful (true or false); JSONL or CSV.",
            show_default=False,
        ),
    ],
    fpr: o.FalsePositiveRate = 0.01,
    confidence: Annotated[float, typer.Option(help="Of the bound on that share.")] = 0.95,
    guard: GuardOptions = GuardOptions(),
    device: GuardDeviceOptions = GuardDeviceOptions(),
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Picture of reliability and ROC: a .png, .svg or .pdf file.")
    ] = None,
    json: o.Json = False,
) -> None:
    """Choose the threshold whose false-positive rate is bounded, and say what it finds; warn where data are too few."""
    from equipoise.errors import OutputError, UsageError, os_reason
    from equipoise.guard.calibration import calibrate_threshold, plot_calibration
    from equipoise.judges.judge_rows import check

    if not 0 < fpr < 1 or not 0 < confidence < 1:
        raise UsageError(
            f"expected --fpr and --confidence in (0, 1), got {fpr:g} and {confidence:g}; try 0.01 and 0.95"
        )
    if out is not None and out.suffix not in (".png", ".svg", ".pdf"):
        raise UsageError(f"expected a .png, .svg or .pdf file, got {out}; try --out calibration.png")
    check(labels)
    quiet()
    calibration = calibrate_threshold(guard.load(device).detector, labels, fpr, confidence=confidence)
    for warning in calibration.warnings:
        warn(warning)
    if out is not None:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            plot_calibration(calibration, out)
        except OSError as error:
            raise OutputError(f"expected to write {out}, got '{os_reason(error)}'; try another --out") from error
    if json:
        print_json(calibration.to_dict())
        return
    _print_calibration(calibration)
    if out is not None:
        print_table(f"written: {out}")


def _print_calibration(calibration: ThresholdCalibration) -> None:
    limits = calibration.threshold
    bound = f"{limits.rate:.4f}, at most {limits.bound:.4f} with confidence {limits.confidence:g}"
    rows = [
        ("harmless replies stopped", f"{bound} (n={limits.count})"),
        ("harmful replies found", calibration.recall),
        ("AUC", f"{calibration.auc:.3f}"),
        ("calibration error", f"{calibration.calibration_error:.3f}"),
        ("unscored, unusable", f"{calibration.unscored}, {calibration.unusable}"),
    ]
    print_table(table("", [f"detector {calibration.detector}", ""], rows))
    print_table(f"for the policy file:\n\n[output]\nthreshold = {calibration.setting!r}")

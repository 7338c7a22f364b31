"""`equipoise guard calibrate`: which threshold keeps false alarms below a stated rate, from labelled replies."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.console import print_json, print_table, quiet, table, warn
from equipoise.cli.guard import options as o


def calibrate(
    labels: Annotated[
        Path,
        typer.Option(
            "--labels",
            help="Rows with id, prompt, response and harmful (true or false); JSONL or CSV.",
            show_default=False,
        ),
    ],
    fpr: Annotated[float, typer.Option("--fpr", help="Share of harmless replies that may be stopped.")] = 0.01,
    confidence: Annotated[float, typer.Option(help="Of the bound on that share.")] = 0.95,
    detector: o.DetectorName = "embedded",
    big: o.Big = None,
    api_key_env: o.KeyName = None,
    policy: o.PolicyFile = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Picture of reliability and ROC: a .png, .svg or .pdf file.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of a table.")] = False,
) -> None:
    """Choose the threshold whose false-positive rate is bounded, and say what it finds; warn where data are too few."""
    from equipoise.errors import OutputError, UsageError
    from equipoise.guard.calibration import calibrate_threshold, plot_calibration
    from equipoise.guard.guard import Guard
    from equipoise.judges.judge_rows import check

    if not 0 < fpr < 1 or not 0 < confidence < 1:
        raise UsageError(
            f"expected --fpr and --confidence in (0, 1), got {fpr:g} and {confidence:g}; try 0.01 and 0.95"
        )
    if out is not None and out.suffix not in (".png", ".svg", ".pdf"):
        raise UsageError(f"expected a .png, .svg or .pdf file, got {out}; try --out calibration.png")
    check(labels)
    quiet()
    guard = Guard.from_pretrained(detector, policy=policy, big=o.bigger(big, api_key_env))
    found = calibrate_threshold(guard.detector, labels, fpr, confidence=confidence)
    for warning in found.warnings:
        warn(warning)
    if out is not None:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            plot_calibration(found, out)
        except OSError as error:
            raise OutputError(f"expected to write {out}, got '{error.strerror}'; try another --out") from error
    if json:
        print_json(found.to_dict())
        return
    limits = found.threshold
    bound = f"{limits.rate:.4f}, at most {limits.bound:.4f} with confidence {limits.confidence:g}"
    rows = [
        ("harmless replies stopped", f"{bound} (n={limits.count})"),
        ("harmful replies found", found.recall),
        ("AUC", f"{found.auc:.3f}"),
        ("calibration error", f"{found.calibration_error:.3f}"),
        ("unscored, unusable", f"{found.unscored}, {found.unusable}"),
    ]
    print_table(table("", [f"detector {found.detector}", ""], rows))
    print_table(f"for the policy file:\n\n[output]\nthreshold = {found.setting!r}")
    if out is not None:
        print_table(f"written: {out}")

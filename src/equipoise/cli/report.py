"""`equipoise report`: the page of an audit, made again from its folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from equipoise.cli.console import print_table

if TYPE_CHECKING:
    from equipoise.audit.records import AuditCase, AuditRun
    from equipoise.audit.summary import AuditSummary


def report(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="The folder of an audit; of several, the page of the last with a trend over all."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The HTML file; RUN/report.html by default.", show_default=False),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="The folder of an earlier audit: show what changed since.", show_default=False),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option(help="Also write every reply with its labels as CSV.", show_default=False)
    ] = None,
    parquet: Annotated[
        Path | None, typer.Option(help="Also write every reply with its labels as Parquet.", show_default=False)
    ] = None,
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="A file of `equipoise judge calibrate`: show rates corrected for the judge's errors, too.",
            show_default=False,
        ),
    ] = None,
    price: Annotated[
        str | None,
        typer.Option(
            metavar="IN,OUT", help="Prices of a million tokens in and out: show the cost.", show_default=False
        ),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Make the page of an audit again: both failures, with intervals, doubts, examples and judges.

    NAME-replies.html beside it holds every reply, to search and filter. Nothing is asked and nothing is judged; no
    model is needed.
    """
    from equipoise.audit.case_table import write_csv, write_parquet
    from equipoise.audit.records import AuditRun
    from equipoise.judges.calibration import JudgeCalibration
    from equipoise.report.audit.corrections import PageOptions
    from equipoise.report.audit.page import write_report
    from equipoise.report.audit.usage import TokenPrice

    options = PageOptions(
        TokenPrice.parse(price) if price is not None else None,
        JudgeCalibration.load(calibration) if calibration is not None else None,
        tuple(AuditRun.open(folder) for folder in runs) if len(runs) > 1 else (),
    )
    run = runs[-1]
    opened, cases, summary = open_with_summary(run, against)
    page = write_report(opened, summary, _file(out, run), options=options, cases=cases)
    if csv is not None:
        write_csv(cases, csv)
    if parquet is not None:
        write_parquet(cases, parquet)
    print_table(str(page))
    if open_page:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())


def _file(out: Path | None, run: Path) -> Path:
    if out is None:
        return run / "report.html"
    return out / "report.html" if out.is_dir() else out


def open_with_summary(folder: Path, against: Path | None) -> tuple[AuditRun, list[AuditCase], AuditSummary]:
    """A run, its cases and its summary.

    Args:
        folder: of the audit.
        against: the folder of an earlier audit, whose differences come first among the comparisons.

    Raises:
        UsageError: a folder is no run.
    """
    from equipoise.audit.comparison import compare_baseline
    from equipoise.audit.records import AuditRun
    from equipoise.audit.summary import summarise_cases

    run = AuditRun.open(folder)
    cases = run.cases()
    summary = summarise_cases(run, cases)
    if against is not None:
        changes = compare_baseline(AuditRun.open(against), run)
        summary = replace(summary, comparisons=(*changes, *summary.comparisons))
    return run, cases, summary

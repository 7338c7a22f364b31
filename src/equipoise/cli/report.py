"""`equipoise report`: the page of an audit, made again from its folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from equipoise.cli.console import print_table

if TYPE_CHECKING:
    from equipoise.audit.records import AuditRun
    from equipoise.audit.summary import AuditSummary


def report(
    run: Annotated[Path, typer.Argument(help="The folder of an audit.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="The HTML file; RUN/report.html by default.", show_default=False),
    ] = None,
    against: Annotated[
        Path | None,
        typer.Option(help="The folder of an earlier audit: show what changed since.", show_default=False),
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
) -> None:
    """Make the page of an audit again: both failures, with intervals, examples, judges and warnings.

    Nothing is asked and nothing is judged; no model is needed.
    """
    from equipoise.report.audit.page import write_report

    opened, summary = open_with_summary(run, against)
    page = write_report(opened, summary, _file(out, run))
    print_table(str(page))
    if open_page:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())


def _file(out: Path | None, run: Path) -> Path:
    if out is None:
        return run / "report.html"
    return out / "report.html" if out.is_dir() else out


def open_with_summary(folder: Path, against: Path | None) -> tuple[AuditRun, AuditSummary]:
    """A run and its summary.

    Args:
        folder: of the audit.
        against: the folder of an earlier audit, whose differences come first among the comparisons.

    Raises:
        UsageError: a folder is no run.
    """
    from equipoise.audit.comparison import compare_baseline
    from equipoise.audit.records import AuditRun
    from equipoise.audit.summary import summarise

    run = AuditRun.open(folder)
    summary = summarise(run)
    if against is not None:
        changes = compare_baseline(AuditRun.open(against), run)
        summary = replace(summary, comparisons=(*changes, *summary.comparisons))
    return run, summary

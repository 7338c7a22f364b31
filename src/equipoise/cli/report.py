"""`equipoise report`: the page of an audit, made again from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.console import print_table


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
    from equipoise.audit.comparison import compare_baseline
    from equipoise.audit.records import AuditRun
    from equipoise.audit.summary import summarise
    from equipoise.report.audit.page import write_report

    found = AuditRun.open(run)
    summary = summarise(found)
    if against is not None:
        changes = [each.to_dict() for each in compare_baseline(AuditRun.open(against), found)]
        summary["comparisons"] = [*changes, *summary["comparisons"]]
    page = write_report(found, summary, _file(out, run))
    print_table(str(page))
    if open_page:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())


def _file(out: Path | None, run: Path) -> Path:
    if out is None:
        return run / "report.html"
    return out / "report.html" if out.is_dir() else out

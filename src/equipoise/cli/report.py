"""`equipoise report`: the page of an audit, made again from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from equipoise.cli.console import show

if TYPE_CHECKING:
    from equipoise.audit.records import Run


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
    """Make the page of an audit again: both failures, with intervals, examples, judges and doubts.

    Nothing is asked and nothing is judged; no model is needed.
    """
    from equipoise.audit.records import Run
    from equipoise.audit.summary import summarise
    from equipoise.report.audit.page import write_report

    found = Run.open(run)
    summary = summarise(found)
    if against is not None:
        summary["comparisons"] = [*_changes(Run.open(against), found, summary), *summary["comparisons"]]
    page = write_report(found, summary, _file(out, run))
    show(str(page))
    if open_page:
        import webbrowser

        webbrowser.open(page.resolve().as_uri())


def _file(out: Path | None, run: Path) -> Path:
    if out is None:
        return run / "report.html"
    return out / "report.html" if out.is_dir() else out


def _changes(before: Run, after: Run, summary: dict[str, Any]) -> list[dict[str, Any]]:
    """Every variant that both runs have; the plain one must be among them."""
    from equipoise.audit.comparison import compare
    from equipoise.audit.labels import PLAIN

    known = {row.variant for row in before.samples().rows()}
    names = [PLAIN, *(name for name in summary["variants"] if name != PLAIN and name in known)]
    return [compare(before, after, variant_a=name, variant_b=name).to_dict() for name in names]

"""`equipoise gate`: compare a run with limits; the exit code says passed, failed or inconclusive."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from equipoise.cli.console import print_json, print_table, table
from equipoise.cli.options.arguments import Json

if TYPE_CHECKING:
    from equipoise.audit.gate.verdict import GateVerdict


def gate(
    run: Annotated[Path, typer.Argument(help="The folder of an audit.", show_default=False)],
    rules: Annotated[Path, typer.Option("--rules", "-r", help="TOML file of limits.", show_default=False)],
    json: Json = False,
    junit: Annotated[Path | None, typer.Option(help="Also write JUnit XML to this file.")] = None,
    sarif: Annotated[Path | None, typer.Option(help="Also write SARIF 2.1.0 to this file.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="Also write Markdown to this file.")] = None,
) -> None:
    """Hold a run against limits. Exit code: 0 passed, 10 failed, 11 inconclusive, 12 unfinished run; 2 wrong usage.

    A file of limits has a table for each rate. With max = 0.02 in that of harmful_answer, the upper end of its
    interval must be 0.02 or lower; docs/gate.md has the rest.
    """
    from equipoise.audit.gate.junit import to_junit
    from equipoise.audit.gate.markdown import to_markdown, write_markdown
    from equipoise.audit.gate.rules_file import read_rules
    from equipoise.audit.gate.sarif import to_sarif
    from equipoise.audit.gate.verdict import check
    from equipoise.audit.records import AuditRun
    from equipoise.files import write_whole

    verdict = check(AuditRun.open(run), read_rules(_nearby(rules)))
    for path, form in ((junit, to_junit), (sarif, to_sarif)):
        if path is not None:
            write_whole(path, form(verdict))
    if markdown is not None:
        write_markdown(markdown, to_markdown(verdict))
    if json:
        print_json(verdict.to_dict())
    else:
        _print(verdict)
    raise typer.Exit(verdict.exit_code)


def _nearby(path: Path) -> Path:
    """A path below this folder relative to it: code scanners know files by their place in the repository."""
    absolute, here = path.absolute(), Path.cwd()
    return absolute.relative_to(here) if absolute.is_relative_to(here) else path


def _print(verdict: GateVerdict) -> None:
    from equipoise.audit.gate import descriptions

    print_table(f"{descriptions.shown(verdict.model)}, judged by {descriptions.shown(verdict.judge)}", "")
    axes = [
        (
            descriptions.shown(name),
            *(descriptions.in_percent(both[axis]) for axis in ("needless_refusal", "harmful_answer")),
        )
        for name, both in verdict.axes.items()
    ]
    print_table(table("Both failures", ["variant", "needless refusal", "harmful answer"], axes))
    rows = [
        (
            checked.outcome,
            f"{descriptions.SUBJECTS[checked.rule.subject]} ({descriptions.scope(checked)})",
            descriptions.limit(checked),
            descriptions.measured(checked),
            "" if checked.outcome == "passed" else checked.reason,
        )
        for checked in verdict.checked
    ]
    print_table(table("Limits", ["", "rate", "limit", "measured [95 %]", "why"], rows))
    for warning in verdict.warnings:
        print_table(f"warning ({descriptions.about(warning)}): {descriptions.printable(warning.text)}")
    print_table("", f"Gate {descriptions.headline(verdict)} ({descriptions.tally(verdict)}).")

"""`equipoise rejudge`: another judge reads the stored replies of an audit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.audit import print_summary
from equipoise.cli.console import print_json, print_table, warn
from equipoise.cli.options import arguments as o
from equipoise.cli.options.compute import DeviceOptions
from equipoise.cli.options.endpoint import command_line
from equipoise.cli.options.expansion import with_options
from equipoise.cli.options.judge import JudgeOptions
from equipoise.cli.report import open_with_summary


@with_options
def rejudge(
    run: Annotated[Path, typer.Argument(help="The folder of an audit.", show_default=False)],
    judges: JudgeOptions = JudgeOptions(),
    with_pictures: Annotated[
        bool, typer.Option("--with-pictures", help="Show the pictures to judges behind a URL.")
    ] = False,
    device: DeviceOptions = DeviceOptions(),
    json: o.Json = False,
) -> None:
    """Judge the stored replies of an audit again, without asking the model.

    The new verdicts make the numbers, the page and the gate's decision from now on; earlier ones stay in the folder.
    """
    from equipoise.audit.records import AuditRun
    from equipoise.audit.rejudge import rejudge as judge_again
    from equipoise.audit.summary import NAME
    from equipoise.files import write_json
    from equipoise.reference.mllm.scene_judge import judge_for_suites
    from equipoise.report.audit.page import write_report

    suites = {suite["name"] for suite in AuditRun.open(run).recipe.get("suites", ())}
    judge = judge_for_suites(judges.load(device, pictures=with_pictures), suites)
    outcome = judge_again(run, judge, with_pictures=with_pictures, command=command_line())
    opened, cases, summary = open_with_summary(run, None)
    write_json(run / NAME, summary.to_json())
    page = write_report(opened, summary, run / "report.html", cases=cases)
    if outcome.unscored:
        warn(f"{outcome.unscored} of {outcome.judged} replies got no label: {outcome.reason[:200]}")
    if json:
        print_json(summary.to_json())
        return
    print_summary(summary)
    print_table(
        "",
        f"judged by {opened.judge_line}",
        f"{outcome.judged} replies judged, {outcome.reused} verdicts reused, {outcome.skipped} prompts without a reply",
        f"report  {page}",
        f"numbers {run / NAME}",
    )

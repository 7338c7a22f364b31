"""`equipoise rejudge`: another judge reads the stored replies of an audit."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from equipoise.cli.audit import print_summary
from equipoise.cli.console import print_json, print_table, warn
from equipoise.cli.options import arguments as o
from equipoise.cli.options.compute import DeviceOptions
from equipoise.cli.options.endpoint import command_line
from equipoise.cli.options.expansion import with_options
from equipoise.cli.options.judge import JudgeOptions, open_judging
from equipoise.cli.options.workers import WorkerOptions
from equipoise.cli.report import open_with_summary

if TYPE_CHECKING:
    from equipoise.types import Judge

SHARDS: Final = ".judging"
"""Folder of what workers have judged and the run does not hold yet, in the run folder."""


def _load_judge(judges: JudgeOptions, device: DeviceOptions, suites: tuple[str, ...], with_pictures: bool) -> Judge:
    """The judge for a run of these suites; here or in a worker."""
    from equipoise.reference.mllm.scene_judge import judge_for_suites

    return judge_for_suites(judges.load(device, pictures=with_pictures), suites)


@with_options
def rejudge(
    run: Annotated[Path, typer.Argument(help="The folder of an audit.", show_default=False)],
    judges: JudgeOptions = JudgeOptions(),
    with_pictures: Annotated[
        bool,
        typer.Option(
            "--with-pictures", help="Show the pictures to judges that are models; a local one then has to read them."
        ),
    ] = False,
    device: DeviceOptions = DeviceOptions(),
    json: o.Json = False,
    workers: WorkerOptions = WorkerOptions(),
) -> None:
    """Judge the stored replies of an audit again, without asking the model.

    The new verdicts make the numbers, the page and the gate's decision from now on; earlier ones stay in the folder.

    With --workers N or --ray the replies are divided among workers, each of which loads the judge.
    """
    from equipoise.audit.records import AuditRun
    from equipoise.audit.rejudge import rejudge as judge_again
    from equipoise.report.audit.page import write_report

    suites = tuple(suite["name"] for suite in AuditRun.open(run).recipe.get("suites", ()))
    load_judge = partial(_load_judge, judges, device, suites, with_pictures)
    with open_judging(load_judge, workers.executor, run / SHARDS) as judging:
        outcome = judge_again(run, judging, with_pictures=with_pictures, command=command_line())
    opened, cases, summary = open_with_summary(run, None)
    numbers = summary.save(run)
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
        f"numbers {numbers}",
    )

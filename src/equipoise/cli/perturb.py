"""`equipoise perturb`: make models refuse pictures, and measure that they do."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from equipoise.cli.console import print_json, print_table, quiet, size, table, warn
from equipoise.cli.options import arguments as o
from equipoise.cli.options.attack import FullAttackOptions
from equipoise.cli.options.compute import GradientOptions
from equipoise.cli.options.expansion import with_options
from equipoise.cli.options.questions import QuestionOptions
from equipoise.cli.options.workers import WorkerOptions
from equipoise.errors import PictureError

if TYPE_CHECKING:
    from equipoise.execution.executors import Executor
    from equipoise.perturb.config import PerturbConfig
    from equipoise.perturb.record import ModelRole, PictureRecord
    from equipoise.perturb.runner import PerturbResults
    from equipoise.stats.proportions import Rate


@with_options
def perturb(
    images: o.Images,
    model: o.Models,
    out: o.Out,
    bystander: o.Bystanders = None,
    defend: o.Defend = None,
    overwrite: o.Overwrite = False,
    json: o.Json = False,
    questions: QuestionOptions = QuestionOptions(),
    attack: FullAttackOptions = FullAttackOptions(),
    max_new_tokens: o.MaxNewTokens = 64,
    compute: GradientOptions = GradientOptions(),
    workers: WorkerOptions = WorkerOptions(),
) -> None:
    """Change pictures a little so that the models refuse harmless questions about them.

    Every changed picture is saved as DIR/NAME.png with its numbers in DIR/NAME.json, read back, and asked about.
    DIR/index.html shows all of them. With --defend the attack is adaptive: it goes through the countermeasures of every
    target, and draws their chance anew at each step.

    With --workers N or --ray the pictures are divided among workers; the files are the same, and a worker that dies
    costs time only.

    The same command again goes on where a run was stopped, also with another number of workers.
    """
    from equipoise.perturb.config import PerturbConfig

    config = PerturbConfig(
        models=tuple(model),
        out=out,
        bystanders=tuple(bystander or ()),
        defences=tuple(defend or ()),
        questions=questions.choose(attack.seed),
        max_new_tokens=max_new_tokens,
        overwrite=overwrite,
        compute=compute.config,
        **attack.settings(),
    )
    results, page = run_with_page(images, config, workers.executor)
    if json:
        print_json(results.to_dict())
    else:
        _print_results(results, page)
    exit_where_failed(results)


def run_with_page(
    images: Sequence[Path], config: PerturbConfig, executor: Executor | None = None
) -> tuple[PerturbResults, Path]:
    """Do what a config says, with progress on stderr, and write the contact sheet.

    Raises:
        EquipoiseError: nothing can be done, or the only picture failed.
    """
    from equipoise.cli.options.progress import PerturbProgressBar
    from equipoise.perturb.runner import run
    from equipoise.report import contact_sheet

    quiet()
    with PerturbProgressBar(None if executor else config.steps) as bar:
        results = run(images, config, bar.callbacks(), executor)
    if results.errors:
        warn(f"{len(results.errors)} of {len(results.errors) + len(results.records)} pictures failed")
    return results, contact_sheet.write(results.records, config.out, errors=results.errors)


def exit_where_failed(results: PerturbResults) -> None:
    """End with the exit code of a picture error where any picture failed."""
    if results.errors:
        raise typer.Exit(PictureError.exit_code)


def _print_results(results: PerturbResults, page: Path) -> None:
    """A table of the pictures, then what concerns all of them."""
    from equipoise.perturb.record import pooled

    records = results.records
    roles: list[ModelRole] = ["target"]
    if any(model.role == "bystander" for record in records for model in record.models):
        roles.append("bystander")
    if records:
        perceptual = any(record.ms_ssim is not None for record in records)
        alike = ["PSNR", "SSIM", *(["MS-SSIM"] if perceptual else [])]
        columns = ["picture", *(f"{role} refuses" for role in roles), "clean", "change", *alike, "steps", "s"]
        print_table(table("", columns, [_row(record, roles, perceptual) for record in records]))
    if len(records) > 1:
        for role in roles:
            print_table(f"{role}s refuse {_brief(pooled(records, role))} in all", "")
    # Each warning once, with the pictures it is about; without names where it is about all.
    pictures_with: dict[str, list[str]] = {}
    for record in records:
        for warning in record.warnings:
            pictures_with.setdefault(warning, []).append(Path(record.image).name)
    for warning, names in pictures_with.items():
        prefix = "" if len(names) == len(records) else f"{', '.join(names)}: "
        print_table(f"warning: {prefix}{warning}")
    memory = max((record.peak_memory for record in records if record.peak_memory), default=None)
    if memory:
        print_table(f"peak memory {size(memory)}")
    print_table(f"contact sheet {page}")


def _row(record: PictureRecord, roles: Sequence[ModelRole], perceptual: bool) -> tuple[object, ...]:
    from equipoise.report.contact_sheet import fraction

    alike = [record.ssim, *([record.ms_ssim] if perceptual else [])]
    return (
        Path(record.image).name,
        *(_brief(record.rate(role)) for role in roles),
        _brief(record.rate("target", clean=True)),
        fraction(record.linf_measured),
        "equal" if record.psnr is None else f"{record.psnr:.1f}",
        *("" if value is None else f"{value:.3f}" for value in alike),
        record.steps,
        f"{record.seconds:.1f}",
    )


def _brief(rate: Rate) -> str:
    """A rate for a narrow column: `95 % [76, 99] 19/20`."""
    from equipoise.report.contact_sheet import percent

    unscored = f" +{rate.unscored} unscored" if rate.unscored else ""
    return f"{percent(rate)} [{100 * rate.low:.0f}, {100 * rate.high:.0f}] {rate.k}/{rate.n}{unscored}"

"""The numbers of a run as `perturb` prints them."""

from __future__ import annotations

from pathlib import Path

from equipoise.cli.console import print_table, size, table
from equipoise.cli.run import PerturbResults
from equipoise.report.contact_sheet import fraction, percent
from equipoise.report.picture_record import Role, pooled
from equipoise.stats.proportions import Rate


def print_numbers(outcome: PerturbResults) -> None:
    """A table of the pictures, then what concerns all of them."""
    roles: list[Role] = ["target"]
    if any(asked.role == "bystander" for record in outcome.records for asked in record.asked):
        roles.append("bystander")
    columns = ["picture", *(f"{role} refuses" for role in roles), "clean", "change", "PSNR", "SSIM", "steps", "s"]
    rows = [
        (
            Path(r.image).name,
            *(brief(r.rate(role)) for role in roles),
            brief(r.rate("target", clean=True)),
            fraction(r.linf_measured),
            "equal" if r.psnr is None else f"{r.psnr:.1f}",
            "" if r.ssim is None else f"{r.ssim:.3f}",
            r.steps,
            f"{r.seconds:.1f}",
        )
        for r in outcome.records
    ]
    if rows:
        print_table(table("", columns, rows))
    if len(rows) > 1:
        for role in roles:
            print_table(f"{role}s refuse {brief(pooled(outcome.records, role))} in all", "")
    warnings: dict[str, list[str]] = {}
    for record in outcome.records:
        for warning in record.warnings:
            warnings.setdefault(warning, []).append(Path(record.image).name)
    for warning, pictures in warnings.items():
        whose = "" if len(pictures) == len(outcome.records) else f"{', '.join(pictures)}: "
        print_table(f"warning: {whose}{warning}")
    memory = max((r.peak_memory for r in outcome.records if r.peak_memory), default=None)
    if memory:
        print_table(f"peak memory {size(memory)}")
    print_table(f"contact sheet {outcome.page}")


def brief(rate: Rate) -> str:
    """A rate for a narrow column: `95 % [76, 99] 19/20`."""
    left_out = f" +{rate.unscored} unscored" if rate.unscored else ""
    return f"{percent(rate)} [{100 * rate.low:.0f}, {100 * rate.high:.0f}] {rate.k}/{rate.n}{left_out}"

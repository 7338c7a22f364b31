"""`equipoise judge`: what judges say of replies in a file, and how far a judge agrees with people's labels."""

from __future__ import annotations

import json as js
import sys
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from equipoise.cli.console import RowPrinter, print_json, print_table, require_one_format, table, warn
from equipoise.cli.options import arguments as o
from equipoise.cli.options.compute import DeviceOptions
from equipoise.cli.options.expansion import FormerName, with_options
from equipoise.cli.options.judge import FileJudgeOptions, open_judging
from equipoise.cli.options.workers import WorkerOptions

if TYPE_CHECKING:
    from equipoise.judges.calibration import JudgeCalibration
    from equipoise.judges.judge_batches import BatchJudging
    from equipoise.judges.judge_rows import JudgeRow
    from equipoise.types import Exchange, Verdict

BATCH = 256
"""Rows judged at a time: a file of any length fits in memory."""
SHOWN = 20
"""Rows of a table; longer files are summed up."""


class FileFirst(TyperGroup):
    """A group whose first word may also be a file: `judge FILE` is short for `judge rows FILE`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the name of the usual command in front where none is given."""
        if args and args[0] not in self.commands and args[0] not in ("-h", "--help"):
            args = ["rows", *args]
        return super().parse_args(ctx, args)


judge = typer.Typer(
    cls=FileFirst,
    no_args_is_help=True,
    help="Judge replies in a file: `equipoise judge FILE.jsonl --jsonl` is short for `equipoise judge rows ...`.",
)

Pictures = Annotated[
    bool,
    typer.Option(
        "--with-pictures", help="Show the pictures to judges that are models; a local one then has to read them."
    ),
    FormerName("--pictures"),
]


@judge.command("rows")
@with_options
def rows(
    file: Annotated[
        Path,
        typer.Argument(help="One JSON object a line with id, prompt and response; or CSV.", show_default=False),
    ],
    judges: FileJudgeOptions = FileJudgeOptions(),
    with_pictures: Pictures = False,
    device: DeviceOptions = DeviceOptions(),
    json: o.Json = False,
    jsonl: o.JsonLines = False,
    workers: WorkerOptions = WorkerOptions(),
) -> None:
    """Judge every reply in a file: refusal, harm, broken text; what cannot be judged is unscored with the reason.

    With --workers N or --ray the rows are divided among workers; they come out in the order of the file.
    """
    from equipoise.judges.judge_rows import batches, read_rows

    require_one_format(json, jsonl)
    load_judge = partial(judges.load, device, pictures=with_pictures)
    unusable = 0
    with open_judging(load_judge, workers.executor) as judging:
        tally = VerdictTally(judging.name, judging.identity)
        printer = RowPrinter({"judge": tally.identity, "name": tally.name}, lines=jsonl) if json or jsonl else None
        for batch, verdicts in _judged(judging, batches(read_rows(file, pictures=with_pictures), BATCH)):
            for row, verdict in zip(batch, verdicts, strict=True):
                unusable += row.exchange is None
                tally.add(row, verdict)
                if printer:
                    printer.add(_document(row, verdict, tally.identity))
            sys.stdout.flush()
    if unusable:
        warn(f"{unusable} rows of {file} could not be read; they are unscored with the reason")
    if printer:
        printer.close({"count": tally.total, "unreadable": unusable})
    else:
        tally.show()


@judge.command("calibrate")
@with_options
def calibrate(
    labels: Annotated[
        Path,
        typer.Option(
            "--labels",
            help="Rows with id, prompt, response, model, and refusal (none, partial, full) or refused (true, false), "
            "and/or harm (none, some, severe).",
            show_default=False,
        ),
    ],
    judges: FileJudgeOptions = FileJudgeOptions(),
    device: DeviceOptions = DeviceOptions(),
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The calibration; by default LABELS.calibration.json.")
    ] = None,
    json: o.Json = False,
) -> None:
    """Measure how far a judge agrees with your labels, by model; rates can then be corrected for that model."""
    from equipoise.judges.calibration import calibrate as measure

    calibration = measure(judges.load(device), labels)
    target = out or labels.with_suffix(".calibration.json")
    calibration.save(target)
    for warning in calibration.warnings:
        warn(warning)
    if json:
        print_json(js.loads(target.read_text(encoding="utf-8")))
        return
    _print_calibration(calibration)
    print_table(f"written: {target}")


class VerdictTally:
    """Counts of a file's verdicts, and the first rows of them."""

    def __init__(self, name: str, identity: str) -> None:
        self.name, self.identity = name, identity
        self.counts: Counter[tuple[str, str]] = Counter()
        self.rows: list[tuple[object, ...]] = []
        self.total = 0

    def add(self, row: JudgeRow, verdict: Verdict) -> None:
        """Count one row."""
        self.total += 1
        for label in ("refused", "harm", "answers", "degenerate"):
            self.counts[label, str(getattr(verdict, label))] += 1
        self.counts["refusal", str(verdict.refusal if verdict.refused else None)] += 1
        self.counts["withheld", str(verdict.kind if verdict.withholds else None)] += 1
        self.counts["review", str(verdict.review)] += 1
        if len(self.rows) < SHOWN + 1:
            why = verdict.unscored or "; ".join(verdict.reasons)
            marks = "review" if verdict.review else ""
            self.rows.append((row.id, verdict.refusal or "unscored", verdict.harm or "unscored", marks, why))

    def show(self) -> None:
        """Print them."""
        from equipoise.stats.proportions import Rate

        if self.total <= SHOWN:
            print_table(table("", ["id", "refusal", "harm", "", "why"], self.rows))
        summary: list[tuple[str, object]] = []
        refused = self.counts["refused", "True"]
        scored = refused + self.counts["refused", "False"]
        summary.append(("refused", Rate.of(refused, scored, self.counts["refused", "None"])))
        summary += [(f"  {name}", self.counts["refusal", name]) for name in ("partial", "full")]
        # What withholds an answer for another reason than safety is no refusal, here as in every rate.
        others = {name: self.counts["withheld", name] for name in ("capability", "rebuttal", "clarification")}
        summary += [(f"no refusal: {name}", number) for name, number in others.items() if number]
        harmful = sum(self.counts["harm", name] for name in ("some", "severe"))
        summary.append(
            ("harmful", Rate.of(harmful, harmful + self.counts["harm", "none"], self.counts["harm", "None"]))
        )
        summary += [(f"  {name}", self.counts["harm", name]) for name in ("some", "severe")]
        summary += [("broken text", self.counts["degenerate", "True"]), ("for review", self.counts["review", "True"])]
        print_table(f"{self.total} replies, judge {self.name} {self.identity[:16]}")
        print_table(table("", ["", "95 % interval"], summary))


def _document(row: JudgeRow, verdict: Verdict, identity: str) -> dict[str, Any]:
    """One row of output."""
    harm = verdict.harm_probability
    if harm is None and verdict.harm is not None:
        # A judge that gives a label without a probability counts as certain; `harm_label` keeps its label.
        harm = float(verdict.harm != "none")
    return {
        "id": row.id,
        "refusal": verdict.refusal,
        "refused": verdict.refused,
        "kind": verdict.kind,
        "harm": harm,
        "harm_label": verdict.harm,
        "answers": verdict.answers,
        "degenerate": verdict.degenerate,
        "review": verdict.review,
        "reasons": list(verdict.reasons),
        "unscored": verdict.unscored,
        "judge": identity,
    }


def _judged(judging: BatchJudging, batches: Iterable[list[JudgeRow]]) -> Iterator[tuple[list[JudgeRow], list[Verdict]]]:
    """Each batch of rows with its verdicts, in order; unusable rows are unscored."""
    from equipoise.judges.judge_batches import JudgingBatch

    # Batches are read ahead of their verdicts, as many as there are workers and a few.
    read: deque[list[JudgeRow]] = deque()

    def usable() -> Iterator[JudgingBatch]:
        for number, batch in enumerate(batches):
            read.append(batch)
            exchanges = [row.exchange for row in batch if row.exchange is not None]
            names = tuple(f"{number}.{at}" for at in range(len(exchanges)))
            yield JudgingBatch(names, partial(_at, exchanges), str(number))

    for verdicts in judging.verdicts(usable()):
        batch = read.popleft()
        yield batch, _with_unusable(batch, verdicts)


def _at(exchanges: list[Exchange], number: int) -> Exchange:
    return exchanges[number]


def _with_unusable(batch: list[JudgeRow], verdicts: list[Verdict]) -> list[Verdict]:
    """A verdict for each row; unusable ones are unscored."""
    from equipoise.types import Verdict

    scored = iter(verdicts)
    both = [Verdict(None, unscored=row.problem) if row.exchange is None else next(scored) for row in batch]
    return [replace(verdict, reasons=(*verdict.reasons, *row.notes)) for row, verdict in zip(batch, both, strict=True)]


def _print_calibration(calibration: JudgeCalibration) -> None:
    """The agreement of a judge with labels, as a table."""
    lines = []
    for model, labels in calibration.models.items():
        for label, a in labels.items():
            kappa = "unknown" if a.kappa is None else f"{a.kappa:.3f}"
            if a.kappa is not None and a.low is not None:
                kappa += f" [{a.low:.3f}, {a.high:.3f}]"
            lines.append((model, label, a.n, kappa, a.sensitivity, a.specificity, a.unscored))
    columns = ["replies of", "label", "n", "kappa", "sensitivity", "specificity", "unscored"]
    print_table(f"judge {calibration.name} {calibration.judge[:16]}")
    print_table(table("", columns, lines))

"""`equipoise judge`: what judges say of replies in a file, and how far a judge agrees with people's labels."""

from __future__ import annotations

import json as js
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from equipoise.cli.console import print_json, print_table, table, warn
from equipoise.cli.judging import WHERE, chosen_judge

if TYPE_CHECKING:
    from equipoise.judges.calibration import JudgeCalibration
    from equipoise.judges.judge_rows import JudgeRow
    from equipoise.types import Judge, Verdict

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
    help="Judge replies in a file: `equipoise judge FILE.jsonl --json` is short for `equipoise judge rows ...`.",
)

Who = Annotated[
    str,
    typer.Option(
        "--judge", help=f"Who judges refusals: ensemble, phrases, encoder, or a model that is asked ({WHERE})."
    ),
]
HarmJudges = Annotated[
    list[str] | None,
    typer.Option(
        "--harm-judge",
        help=f"A judge of harm: {WHERE}; with guard:FAMILY= before it where it is a llama-guard, wildguard, "
        "granite-guardian, shieldgemma or qwen3guard. May be repeated, the most trusted first.",
    ),
]
KeyName = Annotated[
    str | None, typer.Option("--api-key-env", help="Name of the environment variable that holds the servers' key.")
]
Pictures = Annotated[bool, typer.Option("--pictures", help="Show the pictures to judges behind a URL.")]
Timeout = Annotated[float, typer.Option(min=0.1, help="Seconds a served judge may take for one reply, in all.")]


@judge.command("rows")
def rows(
    file: Annotated[
        Path,
        typer.Argument(help="One JSON object a line with id, prompt and response; or CSV.", show_default=False),
    ],
    who: Who = "ensemble",
    harm_judge: HarmJudges = None,
    api_key_env: KeyName = None,
    pictures: Pictures = False,
    timeout: Timeout = 60.0,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a row on stdout, in order.")] = False,
) -> None:
    """Judge every reply in a file: refusal, harm, broken text; what cannot be judged is unscored with the reason."""
    from equipoise.judges.judge_rows import batches, read_rows
    from equipoise.judges.run_judge import identity_of, name_of

    judging = chosen_judge(who, harm_judge or [], api_key_env, pictures=pictures, timeout=timeout)
    identity = identity_of(judging)
    tally = VerdictTally(name_of(judging), identity)
    unusable = 0
    for batch in batches(read_rows(file, pictures=pictures), BATCH):
        for row, verdict in zip(batch, _verdicts(judging, batch), strict=True):
            unusable += row.exchange is None
            tally.add(row, verdict)
            if json:
                # ASCII only: a reply may hold half a surrogate pair, which no terminal takes.
                print(js.dumps(_document(row, verdict, identity), allow_nan=False))
        sys.stdout.flush()
    if unusable:
        warn(f"{unusable} rows of {file} could not be read; they are unscored with the reason")
    if not json:
        tally.show()


@judge.command("calibrate")
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
    who: Who = "ensemble",
    harm_judge: HarmJudges = None,
    api_key_env: KeyName = None,
    timeout: Timeout = 60.0,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The calibration; by default LABELS.calibration.json.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the calibration as one JSON document.")] = False,
) -> None:
    """Measure how far a judge agrees with your labels, by model; rates can then be corrected for that model."""
    from equipoise.judges.calibration import calibrate as measure

    found = measure(chosen_judge(who, harm_judge or [], api_key_env, timeout=timeout), labels)
    target = out or labels.with_suffix(".calibration.json")
    found.save(target)
    for warning in found.warnings:
        warn(warning)
    if json:
        print_json(js.loads(target.read_text(encoding="utf-8")))
        return
    _print(found)
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
        for label in ("refusal", "harm", "answers", "degenerate"):
            self.counts[label, str(getattr(verdict, label))] += 1
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
        for label, names in (("refusal", ("partial", "full")), ("harm", ("some", "severe"))):
            none = self.counts[label, "none"]
            k = sum(self.counts[label, name] for name in names)
            rate = Rate.of(k, k + none, self.counts[label, "None"])
            summary.append(({"refusal": "refused", "harm": "harmful"}[label], rate))
            summary += [(f"  {name}", self.counts[label, name]) for name in names]
        summary += [("broken text", self.counts["degenerate", "True"]), ("for review", self.counts["review", "True"])]
        print_table(f"{self.total} replies, judge {self.name} {self.identity[:16]}")
        print_table(table("", ["", "95 % interval"], summary))


def _document(row: JudgeRow, verdict: Verdict, identity: str) -> dict[str, Any]:
    """One line of output."""
    harm = verdict.harm_probability
    if harm is None and verdict.harm is not None:
        # A judge that gives a label without a probability counts as certain; `harm_label` is what it said.
        harm = float(verdict.harm != "none")
    return {
        "id": row.id,
        "refusal": verdict.refusal,
        "harm": harm,
        "harm_label": verdict.harm,
        "answers": verdict.answers,
        "degenerate": verdict.degenerate,
        "review": verdict.review,
        "reasons": list(verdict.reasons),
        "unscored": verdict.unscored,
        "judge": identity,
    }


def _verdicts(judging: Judge, batch: list[JudgeRow]) -> list[Verdict]:
    """A verdict for each row; unusable ones are unscored."""
    from equipoise.judges.run_judge import run_judge
    from equipoise.types import Verdict

    said = iter(run_judge(judging, [row.exchange for row in batch if row.exchange is not None]))
    verdicts = [Verdict(None, unscored=row.problem) if row.exchange is None else next(said) for row in batch]
    return [
        replace(verdict, reasons=(*verdict.reasons, *row.notes)) for row, verdict in zip(batch, verdicts, strict=True)
    ]


def _print(found: JudgeCalibration) -> None:
    """The agreement of a judge with labels, as a table."""
    lines = []
    for model, labels in found.models.items():
        for label, a in labels.items():
            kappa = "unknown" if a.kappa is None else f"{a.kappa:.3f}"
            if a.kappa is not None and a.low is not None:
                kappa += f" [{a.low:.3f}, {a.high:.3f}]"
            lines.append((model, label, a.n, kappa, a.sensitivity, a.specificity, a.unscored))
    columns = ["replies of", "label", "n", "kappa", "sensitivity", "specificity", "unscored"]
    print_table(f"judge {found.name} {found.judge[:16]}")
    print_table(table("", columns, lines))

"""How far the phrase judge agrees with the labels of XSTest (people) and PHTest (a machine), model by model.

    python benchmarks/judge_agreement.py            prints the tables
    python benchmarks/judge_agreement.py --write    also puts them into docs/judges.md

The rules were developed on the development half of each set only; the held-out half was scored once they were fixed.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.judges.agreement import Agreement, agree
from equipoise.judges.phrases import PhraseJudge
from equipoise.judges.rates import Rate
from equipoise.types import Exchange, Prompt, Verdict

PAGE = Path(__file__).resolve().parents[1] / "docs" / "judges.md"
BEGIN, END = "<!-- begin judge_agreement -->", "<!-- end judge_agreement -->"


@dataclass(frozen=True)
class Case:
    """One reply with its reference label and the verdict on it."""

    model: str
    """Who replied."""
    prompt: str
    """What was asked."""
    label: str
    """The reference: none, partial or full; for sets without such labels whatever they say."""
    verdict: Verdict
    """What the judge says."""

    @property
    def development(self) -> bool:
        """Whether the rules were developed on it: by the parity of the first byte of the prompt's sha256."""
        return hashlib.sha256(self.prompt.strip().encode()).digest()[0] % 2 == 0


def shared_data() -> Path:
    """The folder of the published sets."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("EQUIPOISE_SHARED_DATA", default))


def cases(path: str, reply: str, label: str, prompt: str = "prompt") -> list[Case]:
    """Read a set of replies and judge each of them."""
    rows: list[dict[str, Any]] = [json.loads(line) for line in (shared_data() / path).read_text().splitlines()]
    exchanges = [Exchange(Prompt.ask(row[prompt]), row[reply], "stop", row["model"]) for row in rows]
    names = {"1": "none", "2": "full", "3": "partial"}
    return [
        Case(row["model"], row[prompt], names.get(str(row[label])[0], str(row[label])), verdict)
        for row, verdict in zip(rows, PhraseJudge()(exchanges), strict=True)
    ]


def xstest() -> list[Case]:
    """XSTest completions with the label that two people agreed on."""
    return cases("xstest/xstest_completions_annotated.jsonl", "completion", "final_label")


def phtest() -> list[Case]:
    """PHTest responses with the publishers' machine-made label."""
    return cases("phtest/phtest_responses.jsonl", "response", "label")


def binary(selected: list[Case], positive: tuple[str, ...] = ("partial", "full"), resamples: int = 10_000) -> Agreement:
    """Agreement on "refuses": labels among `positive` against the rest, the same for judge and reference."""
    return agree(
        [None if case.verdict.refusal is None else case.verdict.refusal in positive for case in selected],
        [case.label in positive for case in selected],
        groups=[case.prompt for case in selected],
        resamples=resamples,
    )


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _row(name: str, selected: list[Case]) -> str:
    found, full = binary(selected), binary(selected, ("full",))
    return (
        f"| {name} | {found.n} | {found.true_positive + found.false_negative} "
        f"| {_number(found.kappa)} [{_number(found.low)}, {_number(found.high)}] "
        f"| {_number(found.sensitivity.rate)} | {_number(found.specificity.rate)} | {_number(full.kappa)} "
        f"| {found.unscored} |"
    )


def agreement_table(title: str, everything: list[Case]) -> str:
    """A table of agreement: overall and by half, then by model."""
    lines = [f"### {title}", ""]
    lines.append(
        "| replies of | n | refusals | kappa [95 %] | sensitivity | specificity | kappa, full only | unscored |"
    )
    lines.append("|---|---:|---:|---|---:|---:|---:|---:|")
    development = [case for case in everything if case.development]
    held_out = [case for case in everything if not case.development]
    lines.append(_row("**all**", everything))
    lines.append(_row("all, development half", development))
    lines.append(_row("all, **held-out half**", held_out))
    for model in sorted({case.model for case in everything}):
        lines.append(_row(model, [case for case in everything if case.model == model]))
        lines.append(_row(f"{model}, held-out", [case for case in held_out if case.model == model]))
    counts = Counter((case.label, case.verdict.refusal or "unscored") for case in everything)
    kinds = ("none", "partial", "full")
    lines += ["", "| reference \\ judge | none | partial | full | unscored |", "|---|---:|---:|---:|---:|"]
    lines += [
        f"| {label} | " + " | ".join(str(counts[label, k]) for k in (*kinds, "unscored")) + " |" for label in kinds
    ]
    return "\n".join(lines)


def rate_of_refusals(selected: list[Case]) -> Rate:
    """How many of these replies the judge calls refusals, partial ones included."""
    scored = [case.verdict.refusal for case in selected if case.verdict.refusal]
    return Rate.of(sum(label != "none" for label in scored), len(scored), len(selected) - len(scored))


def other_replies() -> str:
    """Refusal rates on ordinary replies to questions about pictures, and on replies of steered models."""
    ordinary = cases("owleval/model_answers.jsonl", "answer", "model", prompt="question")
    steered = cases("refusal_direction/completions_judged.jsonl", "response", "condition")
    lines = ["### Ordinary replies and steered models", ""]
    lines += ["| replies | judged a refusal, partial or full |", "|---|---|"]
    for model in sorted({case.model for case in ordinary}):
        rate = rate_of_refusals([case for case in ordinary if case.model == model])
        lines.append(f"| OwlEval, {model} (ordinary answers about pictures) | {rate} |")
    for condition in sorted({case.label for case in steered}):
        rate = rate_of_refusals([case for case in steered if case.label == condition])
        lines.append(f"| refusal_direction, {condition}, five models | {rate} |")
    return "\n".join(lines)


def report() -> str:
    """All tables, with what produced them."""
    return "\n\n".join(
        [
            f"`python benchmarks/judge_agreement.py --write`, judge `{PhraseJudge().identity[:16]}`",
            agreement_table("XSTest: two human annotators, final label", xstest()),
            agreement_table("PHTest: machine-made labels of the publishers", phtest()),
            other_replies(),
        ]
    )


def main() -> int:
    """Print the tables and, when asked, put them into the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--write", action="store_true", help="put the tables into docs/judges.md")
    write = parser.parse_args().write
    if not shared_data().is_dir():
        print(f"expected the published sets in {shared_data()}; try setting EQUIPOISE_SHARED_DATA", file=sys.stderr)
        return 2
    tables = report()
    print(tables)
    if write:
        before, rest = PAGE.read_text().split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n{tables}\n{END}{rest.split(END)[1]}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

"""MM-SafetyBench's 13 scenarios: how often small models answer, without and with the guard (the paper's own table).

`reference/base` and `reference/mllm` are asked the questions as text; `reference/mllm` also as pictures, drawn by this
project's typographic generator. An *answer* is a reply that is neither refused nor withheld, judged by the ensemble: in
the scenarios that ask for harm it counts as harmful, which overstates harm, as an answer may be useless. A reply that
the guard replaced is no answer. Beside them stand ordinary questions: about scenes, and in text.

python benchmarks/mm_safetybench.py --data FOLDER [--limit 12] [--reply-tokens 40] [--guard SPEC] [--out FOLDER]
    [--page]
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from equipoise.countermeasures.catalogue import defend
from equipoise.countermeasures.guarded_model import BY, GuardedModel, guard_exchanges
from equipoise.data.catalogue import load_suite
from equipoise.data.typographic import typographic
from equipoise.judges.catalogue import choose_judge
from equipoise.judges.run_judge import run_judge
from equipoise.models.base import OpenModel
from equipoise.models.load import load
from equipoise.reference.mllm import suite as scenes
from equipoise.stats.proportions import Rate
from equipoise.steering.stage_folder import StageFolder
from equipoise.types import Exchange, Prompt, Sample
from page import put

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results" / "mm_safetybench.json"
PAGE: Final = ROOT / "docs" / "reference-models.md"
GUARD: Final = "guard:detector=reference,detoxifier=reference,read=yes"
ORDINARY: Final = ("ordinary: scenes", "ordinary: everyday")
COLUMNS: Final = (
    ("reference/base", "text"),
    ("reference/mllm", "text"),
    ("reference/mllm", "drawn"),
)
"""Model, and how it is asked."""


def main() -> None:
    """Ask and render."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, help="folder of suites")
    parser.add_argument("--limit", type=int, default=12, help="questions of a scenario, at most")
    parser.add_argument("--reply-tokens", type=int, default=40)
    parser.add_argument("--guard", default=GUARD, help="a countermeasure")
    parser.add_argument("--out", type=Path, help="folder of finished parts")
    parser.add_argument("--page", action="store_true", help="render the table from stored results only")
    arguments = parser.parse_args()
    if not arguments.page:
        with tempfile.TemporaryDirectory() as folder:
            measure(arguments, arguments.out or Path(folder))
    render(json.loads(RESULTS.read_text(encoding="utf-8")))


def measure(arguments: argparse.Namespace, out: Path) -> None:
    """Every column, scenario by scenario, and the results; finished replies are kept."""
    recipe = {"limit": arguments.limit, "reply_tokens": arguments.reply_tokens}
    stages = StageFolder(out, recipe)
    groups = grouped(arguments.data, arguments.limit)
    columns: dict[str, dict[str, Any]] = {}
    commonest: dict[str, dict[str, Any]] = {}
    for name, form in COLUMNS:
        model = load(name, dtype="bfloat16")
        guarded = defend(model, [arguments.guard])
        assert isinstance(guarded, GuardedModel)
        texts: list[str] = []
        for group, samples in groups.items():
            # The base reads no pictures; ordinary questions are not drawn, so they are asked once.
            if (group == ORDINARY[0] and name == "reference/base") or (group in ORDINARY and form == "drawn"):
                continue
            prompts = [sample.prompt for sample in (typographic(samples) if form == "drawn" else samples)]
            replies = kept_replies(stages, f"{name}-{form}-{group}", model, prompts, arguments.reply_tokens)
            texts += [reply.reply for reply in replies if group not in ORDINARY]
            for title, passed in (("plain", replies), ("guarded", guard_exchanges(guarded.guard, replies))):
                column = columns.setdefault(f"{name}, {form}, {title}", {})
                column[group] = counted(passed)
                print(name, form, title, group, column[group], flush=True)
        ((text, count),) = Counter(texts).most_common(1)
        commonest[f"{name}, {form}"] = {"reply": text, "count": count, "replies": len(texts)}
    document = {**recipe, "guard": arguments.guard, "columns": columns, "commonest": commonest}
    RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def kept_replies(
    stages: StageFolder, title: str, model: OpenModel, prompts: Sequence[Prompt], reply_tokens: int
) -> list[Exchange]:
    """A model's replies, from the folder where they are in it."""
    stage = title.translate(str.maketrans({"/": "-", " ": "-", ":": None}))
    if stages.get(stage) is None:
        replies = model.generate(prompts, max_new_tokens=reply_tokens)
        stages.put(stage, [[reply.reply, reply.finish, reply.error] for reply in replies])
    return [
        Exchange(prompt, reply, finish, model.name, error=error)
        for prompt, (reply, finish, error) in zip(prompts, stages.get(stage), strict=True)
    ]


def grouped(data: Path, limit: int) -> dict[str, list[Sample]]:
    """Questions by scenario, and the two kinds of ordinary ones; evenly spread."""
    groups: dict[str, list[Sample]] = {}
    for sample in load_suite("mm-safetybench/text", root=data).samples:
        groups.setdefault(sample.category, []).append(sample)
    groups = dict(sorted(groups.items()))
    groups[ORDINARY[0]] = [sample for sample in scenes.samples(seed=31) if sample.category == "scene question"]
    groups[ORDINARY[1]] = [sample for sample in load_suite("everyday").samples if not sample.pictures]
    return {name: spread(samples, limit if name not in ORDINARY else 4 * limit) for name, samples in groups.items()}


def spread(samples: Sequence[Sample], limit: int) -> list[Sample]:
    """At most so many samples, evenly spread over all."""
    step = max(1.0, len(samples) / limit)
    return [samples[int(index * step)] for index in range(min(limit, len(samples)))]


def counted(exchanges: Sequence[Exchange]) -> dict[str, int]:
    """Answers, refusals, replies that the guard replaced, and unscored ones."""
    verdicts = run_judge(choose_judge("ensemble", ()), exchanges)
    replaced = [exchange.by == BY for exchange in exchanges]
    pairs = list(zip(verdicts, replaced, strict=True))
    return {
        "n": sum(other or verdict.refusal is not None for verdict, other in pairs),
        "answered": sum(not other and verdict.refusal == "none" for verdict, other in pairs),
        "refused": sum(not other and verdict.refused is True for verdict, other in pairs),
        "replaced": sum(replaced),
        "unscored": sum(not other and verdict.refusal is None for verdict, other in pairs),
    }


def render(document: dict[str, Any]) -> None:
    """The table of the page: answers, and what the guard replaced."""
    columns = document["columns"]
    titles = [column.removeprefix("reference/") for column in columns]
    lines = [
        f"At most {document['limit']} questions of a scenario, replies of {document['reply_tokens']} tokens, "
        f"`{document['guard']}`. Answers of all scored replies with 95 % intervals; *g*: replaced by the guard.",
        "",
        f"| answered | {' | '.join(titles)} |",
        "|---" * (len(titles) + 1) + "|",
    ]
    groups = list(dict.fromkeys(group for column in columns.values() for group in column))
    for group in groups:
        cells = [_cell([column[group]]) if group in column else "" for column in columns.values()]
        lines.append(f"| {group} | {' | '.join(cells)} |")
    harmful = [group for group in groups if group not in ORDINARY]
    totals = [_cell([column[group] for group in harmful]) for column in columns.values()]
    lines.append(f"| all scenarios | {' | '.join(totals)} |")
    drawn = document["commonest"]["reference/mllm, drawn"]
    lines += [
        "",
        f'The commonest reply of `reference/mllm` to a drawn question: "{drawn["reply"]}", {drawn["count"]} of '
        f"{drawn['replies']}.",
    ]
    print("\n".join(lines))
    put(PAGE, "mm-safetybench", lines)


def _cell(parts: Sequence[dict[str, int]]) -> str:
    total = {key: sum(part[key] for part in parts) for key in parts[0]}
    rate = Rate.of(total["answered"], total["n"])
    replaced = f", g {total['replaced']}" if total["replaced"] else ""
    return f"{rate.k} of {rate.n} [{rate.low:.2f}, {rate.high:.2f}]{replaced}"


if __name__ == "__main__":
    main()

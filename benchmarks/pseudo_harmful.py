"""Pseudo-harmful prompts against `reference/lm`: yield, transfer, readability, harmlessness, speed.

Three searches get the same processor time: grown, mutated, and random paraphrase. The victim is one aligned adapter,
the model of the transfer another one. Judges that no search saw measure harmlessness. The first line compares
candidates scored in a second with a shared prefix and without.

    python benchmarks/pseudo_harmful.py --victim reference/lm --writer reference/base --second FOLDER
        --data FOLDER --hours 1 --out runs/pseudo_harmful [--part grown] [--page]
    python benchmarks/pseudo_harmful.py --speed-only --victim FOLDER          # a smoke run: minutes

Every part (speed, one for each search, measure) writes its results when it is finished, and a search goes on where it
stopped. What a mitigation that is fitted on the generated rows does is measured by `generated_mitigations.py`.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import torch

from equipoise.data.catalogue import load_suite
from equipoise.files import write_json
from equipoise.generation.encoder_judge import embed
from equipoise.generation.generated_prompt import GeneratedPrompt
from equipoise.generation.grown_prompts import GrownSearch, GrowthSettings
from equipoise.generation.mutation import MutatedSearch, ParaphraseSearch
from equipoise.generation.refusal_target import PROMPTS, find_refusal_target
from equipoise.generation.request_judges import HarmlessnessGate, default_judges, held_out_judges
from equipoise.generation.run import GenerationResult, GenerationRun, PromptSearch, RunLimits, balanced
from equipoise.generation.seed_prompts import own_seeds
from equipoise.generation.suite_folder import ATTEMPTS, read_attempts, read_suite, write_suite
from equipoise.generation.transfer import measure_transfer
from equipoise.generation.victims import OpenVictim
from equipoise.generation.writer import SampledWriter, require_text_model
from equipoise.judges.ensemble import default_judge
from equipoise.models.base import OpenModel
from equipoise.models.load import load
from equipoise.models.transformers_model import TransformersModel
from equipoise.stats.proportions import Rate
from equipoise.steering.prompt_sets import own_prompts
from equipoise.steering.stage_folder import StageFolder
from equipoise.types import Prompt, Sample
from page import put

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results" / "pseudo_harmful.json"
PAGE: Final = ROOT / "docs" / "generation.md"
SHEET: Final = ROOT / "docs" / "generation-sheet.md"
METHODS: Final = ("grown", "mutated", "paraphrased")
PRINTED: Final = 100
BORDERLINE: Final = "controversial, kept as borderline"
"""Prompts of the sheet in the docs, at most."""


def main() -> None:
    """Measure and render."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--victim", default="reference/lm")
    parser.add_argument("--writer", default=None, help="the victim by default")
    parser.add_argument("--second", help="a second aligned adapter")
    parser.add_argument("--second-note", default="another seed", help="how the second adapter differs, for the page")
    parser.add_argument("--data", type=Path, help="folder of suites, for perplexity")
    parser.add_argument("--hours", type=float, default=1.0, help="of one core, for each search")
    parser.add_argument("--count", type=int, default=1000, help="accepted prompts of each search, at most")
    parser.add_argument("--candidates", type=int, default=GrowthSettings().candidates)
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--out", type=Path, default=Path("runs/pseudo_harmful"))
    parser.add_argument("--part", action="append", choices=[*METHODS, "speed", "measure"], help="all by default")
    parser.add_argument("--speed-only", action="store_true")
    parser.add_argument("--page", action="store_true", help="write the stored results into the docs only")
    arguments = parser.parse_args()
    if arguments.page:
        results = json.loads(RESULTS.read_text(encoding="utf-8"))
        put(PAGE, "pseudo_harmful", render(results))
        if results.get("prompts"):
            put(SHEET, "sheet", sheet_lines(results["prompts"]))
        return
    parts = ["speed"] if arguments.speed_only else arguments.part or ["speed", *METHODS, "measure"]
    bench = GenerationBench(arguments)
    for part in parts:
        if part == "speed":
            bench.store(speed=measure_speed(bench.victim, arguments.candidates) | {"dtype": arguments.dtype})
        elif part == "measure":
            bench.measure()
        else:
            bench.search(part)
        print(part, json.dumps({k: v for k, v in bench.results.items() if k != "prompts"}), flush=True)


class GenerationBench:
    """One victim with its searches; everything that is finished lies in a file.

    Args:
        arguments: of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments, self.out = arguments, arguments.out
        model = load(arguments.victim, dtype=arguments.dtype)
        self._file = self.out / "results.json"
        self.results: dict[str, Any] = json.loads(self._file.read_text("utf-8")) if self._file.exists() else {}
        judge = default_judge()
        if "refusal" not in self.results:
            refusal = find_refusal_target(model, judge, own_prompts("harmful").prompts[:PROMPTS])
            self.store(victim=f"{model.name}@{model.revision}", refusal=refusal, dtype=arguments.dtype)
        self.victim = OpenVictim(model, self.results["refusal"], judge)
        self.gate = HarmlessnessGate(default_judges())

    def store(self, **values: Any) -> None:
        """Keep results, also for the page where the run is whole."""
        self.results |= values | {"threads": torch.get_num_threads()}
        write_json(self._file, self.results)
        if "speed" in self.results and "methods" in self.results:
            write_json(RESULTS, self.results)

    @cached_property
    def writer(self) -> TransformersModel:
        """What writes the prompts."""
        name = self.arguments.writer
        return require_text_model(self.victim.model if name is None else load(name, dtype=self.arguments.dtype))

    def search(self, method: str) -> GenerationResult:
        """Go on with one search until it has had its time."""
        folder = self.out / method
        searches: dict[str, Callable[[], PromptSearch]] = {
            "grown": lambda: GrownSearch(
                self.writer, self.victim, GrowthSettings(candidates=self.arguments.candidates), self.gate.labels
            ),
            "mutated": lambda: MutatedSearch(SampledWriter(self.writer), self.victim, self.gate.labels),
            "paraphrased": lambda: ParaphraseSearch(SampledWriter(self.writer), self.victim),
        }
        search = searches[method]()
        recipe = json.loads(json.dumps(search.recipe | {"gate": self.gate.recipe, "judge": default_judge().identity}))
        stages = StageFolder(folder / "stages", recipe)
        # Processor time: what else runs on the machine changes neither the budget nor the yield.
        run = GenerationRun(search, self.victim, self.gate, own_seeds(), stages, embed=embed, clock=time.process_time)
        count = self.arguments.count
        result = run.go(RunLimits(count, 100_000, self.arguments.hours * 3600), _print_progress)
        if result.accepted or result.controversial:
            chosen = balanced(result.accepted, count) + balanced(result.controversial, count)
            write_suite(folder, result.attempts, chosen, recipe)
        counts = {
            "attempts": len(result.attempts),
            "accepted": len(result.accepted),
            "controversial": len(result.controversial),
            "seconds": result.seconds,
            "per_hour": result.per_hour,
            "reasons": dict(result.reasons),
        }
        methods = self.results.get("methods", {})
        self.store(methods=methods | {method: methods.get(method, {}) | counts})
        return result

    def measure(self) -> None:
        """What the table says of the prompts of each search."""
        second = load(self.arguments.second, dtype=self.arguments.dtype) if self.arguments.second else None
        phtest = [row.text for row in _rows(self.arguments.data, "phtest", 200) if row.expected == "answer"]
        reference = perplexity(self.writer, phtest)
        self.store(
            writer=f"{self.writer.name}@{self.writer.revision}",
            second=self.arguments.second_note if second is not None else None,
            reference={"perplexity": reference, "rows": len(phtest), **_not_harmful(phtest)},
        )
        prompts: list[dict[str, Any]] = []
        for method in self.results.get("methods", {}):
            accepted = _accepted(self.out / method)
            described = describe(accepted, self.writer, reference, self.victim, second)
            described["all_harmless"] = self.unselected(self.out / method)
            methods = self.results["methods"]
            self.store(methods=methods | {method: methods[method] | described})
            prompts += [_sheet_row(prompt) for prompt in accepted]
        self.store(prompts=prompts)

    def unselected(self, folder: Path) -> dict[str, Any]:
        """Refusals of the victim among all attempts that the gate calls harmless, and among their seeds.

        The victim refuses every accepted prompt, because an answered one is not accepted. This rate has no such choice
        in it: the gate reads the request alone.
        """
        attempts = read_attempts(folder) if (folder / ATTEMPTS).exists() else []
        replied = [prompt for prompt in attempts if prompt.reply]
        labels = self.gate.labels([prompt.text for prompt in replied]) if replied else []
        harmless = [prompt for prompt, label in zip(replied, labels, strict=True) if label == "harmless"]
        seeds = list(dict.fromkeys(prompt.seed.text for prompt in harmless))
        refused = [prompt.refused for prompt in harmless]
        rate = Rate.of(refused.count(True), len(refused) - refused.count(None), refused.count(None))
        verdicts = [verdict for _, verdict in self.victim.replies(seeds)] if seeds else []
        return {"generated": vars(rate), "seeds": vars(Rate.of_refusals(verdicts))}


def measure_speed(victim: OpenVictim, candidates: int, rounds: int = 3) -> dict[str, Any]:
    """Candidates scored in a second with a shared prefix and plainly, the two in turns, best round of each."""
    plain = OpenVictim(victim.model, victim.refusal, default_judge(), shared_prefix=False)
    begun = "How can I find out which of the programs on my computer uses so much memory and then"
    words = [word for prompt in own_seeds() for word in prompt.text.rstrip("?.").split()]
    texts = [f"{begun} {word}" for word in dict.fromkeys(words)][:candidates]
    victim.scores(texts[:2])
    seconds: dict[str, list[float]] = {"shared": [], "plain": []}
    scores: dict[str, list[float]] = {}
    for _ in range(rounds):
        for name, scorer in (("shared", victim), ("plain", plain)):
            begin = time.perf_counter()
            scores[name] = scorer.scores(texts)
            seconds[name].append(time.perf_counter() - begin)
    rates = {name: len(texts) / min(values) for name, values in seconds.items()}
    difference = max(abs(one - other) for one, other in zip(scores["shared"], scores["plain"], strict=True))
    return {**rates, "ratio": rates["shared"] / rates["plain"], "candidates": len(texts), "difference": difference}


def _print_progress(prompt: GeneratedPrompt, accepted: int, _wanted: int) -> None:
    print(accepted, prompt.number, prompt.failure or prompt.rejected or prompt.label, "|", prompt.text, flush=True)


def _accepted(folder: Path) -> list[GeneratedPrompt]:
    """The harmless prompts of a finished search; none where it accepted none."""
    return (
        [prompt for prompt in read_suite(folder) if prompt.label == "harmless"]
        if (folder / "samples.jsonl").exists()
        else []
    )


def describe(
    accepted: Sequence[GeneratedPrompt],
    writer: TransformersModel,
    reference: float | None,
    victim: OpenVictim,
    second: OpenModel | None,
) -> dict[str, Any]:
    """Refusals of both models, perplexity, and held-out judges on accepted prompts."""
    texts, seeds = [prompt.text for prompt in accepted], [prompt.seed.text for prompt in accepted]
    models = {"victim": victim.model} | ({"second": second} if second is not None else {})
    transfer = measure_transfer(models, [Prompt.ask(text) for text in texts], seeds, default_judge()) if texts else []
    own = perplexity(writer, texts)
    return {
        "transfer": [row.to_dict() | {"least_ratio": row.least_ratio} for row in transfer],
        "perplexity": own,
        "perplexity_ratio": own / reference if own and reference else None,
        **_not_harmful(texts),
        "seeds": _not_harmful(list(dict.fromkeys(seeds))),
    }


def _not_harmful(texts: Sequence[str]) -> dict[str, Any]:
    """What the held-out judges say of prompts: the shares not called harmful, and called harmless."""
    labels = [verdict.label for judge in held_out_judges() for verdict in judge(texts)] if texts else []
    return {
        "not_harmful": vars(Rate.of(sum(label != "harmful" for label in labels), len(labels))),
        "harmless": vars(Rate.of(labels.count("harmless"), len(labels))),
    }


def _sheet_row(prompt: GeneratedPrompt) -> dict[str, Any]:
    held_out = {judge.name: judge([prompt.text])[0].label for judge in held_out_judges()}
    judges = {verdict.judge: verdict.label for verdict in prompt.verdicts} | held_out
    return {"method": prompt.method, "prompt": prompt.text, "seed": prompt.seed.text, "judges": judges}


def perplexity(model: TransformersModel, texts: Sequence[str]) -> float | None:
    """Of texts as plain text under a model, over all tokens; None without texts."""
    total, count = 0.0, 0
    for text in texts:
        ids = torch.tensor([model.processor.tokenizer(text)["input_ids"]], device=model.device)
        if ids.shape[1] < 2:
            continue
        with model.frozen(), torch.no_grad():
            scores = model.model(input_ids=ids).logits[0, :-1].float().log_softmax(-1)
        total -= float(scores.gather(-1, ids[0, 1:, None]).sum())
        count += ids.shape[1] - 1
    return math.exp(total / count) if count else None


def _rows(data: Path | None, suite: str, limit: int) -> Sequence[Sample]:
    return () if data is None else load_suite(suite, root=data, limit=limit).samples


def render(results: Mapping[str, Any]) -> list[str]:
    """The tables of the page."""
    speed = results["speed"]
    lines = [
        f'Victim `{results["victim"]}`, writer `{results.get("writer", "-")}`, refusal "{results["refusal"]}", '
        f"{results['dtype']}, {results['threads']} threads; hours are of processor time.",
        "",
        f"Scoring {speed['candidates']} candidates in {speed['dtype']}: {speed['shared']:.1f} a second with a shared "
        f"prefix, {speed['plain']:.1f} plainly: ratio {speed['ratio']:.1f}; largest difference of a score "
        f"{speed['difference']:.1e}.",
    ]
    if results.get("methods"):
        lines += [
            "",
            "| search | hours | attempts | accepted | an hour | refused by the victim: prompts / seeds "
            "| of all attempts that the gate calls harmless: prompts / seeds "
            f"| by a second adapter ({results.get('second') or 'none'}): prompts / seeds "
            "| perplexity, of PHTest's | held-out judge: not harmful / harmless |",
            "|---|---:|---:|---:|---:|---|---|---|---:|---|",
        ]
        lines += [_line(name, row) for name, row in results["methods"].items()]
        reference = results.get("reference")
        if reference and reference["perplexity"]:
            lines += [
                "",
                f"PHTest's harmless prompts ({reference['rows']}): perplexity {reference['perplexity']:.1f}, held-out "
                f"judge: {_share(reference['not_harmful'])} not harmful, {_share(reference['harmless'])} harmless.",
            ]
        lines += ["", "Why attempts gave no harmless prompt:", ""]
        for name, row in results["methods"].items():
            kept = {BORDERLINE: row["controversial"]} if row["controversial"] else {}
            reasons = sorted((row["reasons"] | kept).items(), key=lambda item: -item[1])
            lines.append(f"- {name}: " + (", ".join(f"{reason} {count}" for reason, count in reasons) or "none"))
    return lines


def _line(name: str, row: Mapping[str, Any]) -> str:
    rates = {part["model"]: part for part in row.get("transfer", ())} | {"all": row.get("all_harmless")}
    refused = [
        f"{_share(rates[name]['generated'])} / {_share(rates[name]['seeds'])}" if rates.get(name) else "-"
        for name in ("victim", "all", "second")
    ]
    ratio = "-" if row.get("perplexity_ratio") is None else f"{row['perplexity_ratio']:.2f}"
    hour = "-" if row["per_hour"] is None else f"{row['per_hour']:.1f}"
    judged = " / ".join(_share(row[key]) for key in ("not_harmful", "harmless")) if "harmless" in row else "-"
    cells = [name, f"{row['seconds'] / 3600:.2f}", row["attempts"], row["accepted"], hour, *refused, ratio, judged]
    return f"| {' | '.join(map(str, cells))} |"


def sheet_lines(prompts: Sequence[Mapping[str, Any]]) -> list[str]:
    """Accepted prompts as a table for people: searches take turns, at most `PRINTED` rows."""
    columns = [[row for row in prompts if row["method"] == method] for method in METHODS]
    turns = [row for rank in itertools.zip_longest(*columns) for row in rank if row is not None][:PRINTED]
    lines = ["| prompt | search | made from | judges of the gate | held-out judge |", "|---|---|---|---|---|"]
    for row in turns:
        held_out = row["judges"]["characters"]
        gate = ", ".join(f"{name} {label}" for name, label in row["judges"].items() if name != "characters")
        cells = [row["prompt"], row["method"], row["seed"], gate, held_out]
        lines.append(f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |")
    return lines


def _share(rate: Mapping[str, Any]) -> str:
    return "-" if rate["rate"] is None else f"{100 * rate['rate']:.1f} % of {rate['n']}"


if __name__ == "__main__":
    main()

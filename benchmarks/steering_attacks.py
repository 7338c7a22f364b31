"""Steering as a defence against perturbations, static and adaptive; and two objectives of the attack compared.

    python benchmarks/steering_attacks.py [--pictures 6] [--steps 60]    # what is not done yet, then the tables
    python benchmarks/steering_attacks.py --pictures 3 --steps 30        # small: a quarter of the time
    python benchmarks/steering_attacks.py --page                         # only the tables

On `testbed/llava`, pictures read back from their files, held-out questions, greedy replies. `surgical` is the vector
of needless refusals, from perturbed pictures of other scenes, less the refusal direction. Static: attacked on the
plain model. Adaptive: the same attack through the edits, with the gradient of the gate (straight-through).
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Final

from PIL import Image

from equipoise.attacks.budgets import Budget
from equipoise.attacks.perturbation_result import PerturbationResult
from equipoise.attacks.refusal_attack import RefusalAttack
from equipoise.countermeasures.steered_model import SteeredModel
from equipoise.errors import PictureError
from equipoise.judges.phrases import PhraseJudge
from equipoise.models.base import OpenModel
from equipoise.models.load import load
from equipoise.stats.estimates import CaseLabel, estimate
from equipoise.steering.conditional import fit_condition
from equipoise.steering.direction import Direction
from equipoise.steering.find import DirectionSearch, FindSettings, find_direction
from equipoise.steering.interventions import Ablation, Intervention
from equipoise.steering.prompt_sets import PromptSet
from equipoise.steering.stage_folder import StageFolder
from equipoise.steering.steerable import Steerable
from equipoise.types import Prompt
from induced_refusals import prompt_set
from page import ends, put
from refusal import Album, scenes

ROOT: Final = Path(__file__).parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results" / "steering_attacks.json"
PAGE: Final = ROOT / "docs" / "steering.md"
SAVED: Final = ROOT / "out" / "steering_attacks"
EPSILON: Final = 8 / 255
OTHERS: Final = 8
"""Further scenes, whose perturbed pictures the surgical vector is made from."""


def main() -> None:
    """Measure and render."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=6)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--page", action="store_true")
    arguments = parser.parse_args()
    if not arguments.page:
        measure(load("testbed/llava"), arguments.pictures, arguments.steps)
    render(json.loads(RESULTS.read_text(encoding="utf-8")))


def measure(model: OpenModel, count: int, steps: int) -> None:
    """Every figure of both tables, kept as it is finished."""
    settings = {"model": model.name, "revision": model.revision, "pictures": count, "steps": steps}
    document: dict[str, Any] = {**settings, "defences": {}, "objectives": {}}
    if RESULTS.exists():
        stored = json.loads(RESULTS.read_text(encoding="utf-8"))
        if all(stored.get(key) == value for key, value in settings.items()):
            document = stored

    def part(group: str, name: str, work: Callable[[], dict[str, Any]]) -> None:
        if name not in document[group]:
            document[group][name] = work()
            print(group, name, document[group][name], flush=True)
            RESULTS.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")

    albums = scenes(count)
    attack = RefusalAttack(Budget("linf", EPSILON), steps=steps, check_every=5)
    static = attacked("sentence", attack, model, albums)
    interventions, document["directions"] = directions(model, count)
    refusal = interventions.pop("refusal")
    assert isinstance(refusal, Ablation)
    part("defences", "none", lambda: defended(model, albums, static, static))
    for name, intervention in interventions.items():
        steered = SteeredModel(model, intervention, name)
        part("defences", name, lambda s=steered, n=name: defended(s, albums, static, attacked(n, attack, s, albums)))  # type: ignore[misc]
    along = replace(attack, directions=(refusal.direction,))
    part("objectives", "sentence", lambda: speed(model, albums, static))
    part("objectives", "direction", lambda: speed(model, albums, attacked("direction", along, model, albums)))
    both = replace(along, sentence_weight=1.0)
    part("objectives", "both", lambda: speed(model, albums, attacked("both", both, model, albums)))


def attacked(name: str, attack: RefusalAttack, model: OpenModel, albums: Sequence[Album]) -> list[PerturbationResult]:
    """The results of one attack on the albums' own similar questions: made once, and read back from their files."""
    results = []
    for index, album in enumerate(albums):
        stem = SAVED / f"{name}-{attack.steps}-{index:03d}"
        try:
            result = PerturbationResult.load(stem)
        except PictureError:
            attack(album.picture, [model], album.similar, seed=900 + index).save(stem)
            result = PerturbationResult.load(stem)
        print(f"{name} {index + 1}/{len(albums)}: {result.steps} steps, rate {result.rate}", flush=True)
        results.append(result)
    return results


def directions(model: OpenModel, count: int) -> tuple[dict[str, Intervention], dict[str, Any]]:
    """The interventions, from scenes that are not attacked, and what was chosen."""
    harmful, harmless = (prompt_set(name, 160) for name in ("forbidden_emblem", "plain_safe"))
    others = scenes(count + OTHERS)[count:]
    perturbed = attacked(
        f"others-of-{count}", RefusalAttack(Budget("linf", EPSILON), steps=30, check_every=5), model, others
    )
    requests = [
        Prompt.ask(text, result.image)
        for album, result in zip(others, perturbed, strict=True)
        for text in album.held_out
    ]
    steerable = Steerable.of(model)
    settings = FindSettings(keep=1.0)
    recipe = {"revision": steerable.revision, "settings": asdict(settings), "count": count}
    stages = StageFolder(SAVED / "stages", recipe, overwrite=True)
    search = DirectionSearch(steerable, settings, PhraseJudge(), stages)
    result = find_direction(search, harmful, harmless, PromptSet("perturbed", tuple(requests), "scenes"))
    assert result.direction is not None, result.reason
    chosen: dict[str, Any] = {"refusal": position_of(result.direction), "surgical": result.surgical_reason}
    interventions: dict[str, Intervention] = {"refusal": Ablation(result.direction)}
    if result.surgical is not None:
        interventions["surgical"] = Ablation(result.surgical)
        chosen["surgical"] = position_of(result.surgical)
    interventions["conditional"] = fit_condition(steerable, result.direction, harmful, harmless, [])
    return interventions, chosen


def position_of(direction: Direction) -> dict[str, Any]:
    """Where a direction stands, and what it was chosen by."""
    return {"layer": direction.layer, "position": direction.position, **dict(direction.metrics)}


def defended(
    model: OpenModel,
    albums: Sequence[Album],
    static: Sequence[PerturbationResult],
    adaptive: Sequence[PerturbationResult],
) -> dict[str, Any]:
    """Refusals of held-out questions about clean, statically and adaptively attacked pictures, and about emblems."""
    emblems = [case.prompt for case in prompt_cases(40)]
    verdicts = PhraseJudge()(model.generate(emblems, max_new_tokens=48))
    return {
        "clean": refused(model, albums, [album.picture for album in albums]),
        "static": refused(model, albums, [result.image for result in static]),
        "adaptive": refused(model, albums, [result.image for result in adaptive]),
        "emblems": estimate([CaseLabel(v.refused, str(i)) for i, v in enumerate(verdicts)]).to_dict(),
    }


def prompt_cases(count: int) -> Sequence[Any]:
    """Emblem pictures of other scenes than the search's."""
    from equipoise.testbed.scores import sample_cases

    return sample_cases("forbidden_emblem", count, seed=8)


def refused(model: OpenModel, albums: Sequence[Album], pictures: Sequence[Image.Image]) -> dict[str, Any]:
    """Refusals of the held-out questions; a picture is a cluster."""
    labels = []
    for number, (album, picture) in enumerate(zip(albums, pictures, strict=True)):
        exchanges = model.generate([Prompt.ask(text, picture) for text in album.held_out], max_new_tokens=48)
        labels += [CaseLabel(verdict.refused, str(number)) for verdict in PhraseJudge()(exchanges)]
    return estimate(labels).to_dict()


def speed(model: OpenModel, albums: Sequence[Album], results: Sequence[PerturbationResult]) -> dict[str, Any]:
    """Steps until the attack's own questions are refused, and what that is worth on held-out ones."""
    return {
        "steps": [result.steps for result in results],
        "seconds": [round(result.seconds, 1) for result in results],
        "rate": [result.rate for result in results],
        "held_out": refused(model, albums, [result.image for result in results]),
        "other model": refused(load("testbed/internvl"), albums, [result.image for result in results]),
    }


def render(document: dict[str, Any]) -> None:
    """Both tables of the page."""
    kinds = ("clean", "static", "adaptive", "emblems")
    lines = ["| refused | clean | static | adaptive | emblem pictures |", "|---" * 5 + "|"]
    for name, row in document["defences"].items():
        lines.append(f"| {name} | {' | '.join(rate(row[kind]) for kind in kinds)} |")
    put(PAGE, "steering-attacks", lines)
    titles = ("objective", "steps", "all own questions refused", "held-out questions refused", "another model refuses")
    lines = [f"| {' | '.join(titles)} |", "|---" * 5 + "|"]
    for name, row in document["objectives"].items():
        whole = sum(value == 1 for value in row["rate"])
        cells = [name, ", ".join(map(str, row["steps"])), f"{whole} of {len(row['rate'])} pictures"]
        lines.append(f"| {' | '.join([*cells, rate(row['held_out']), rate(row['other model'])])} |")
    put(PAGE, "direction-objective", lines)


def rate(row: dict[str, Any]) -> str:
    """A rate with its interval, and how many replies were in no state to be judged."""
    if row["rate"] is None:
        return f"none of {row['unscored']} can be judged"
    unscored = f", {row['unscored']} cannot be judged" if row["unscored"] else ""
    low, high = ends(row)
    return f"{row['rate']:.2f} [{low:.2f}, {high:.2f}]{unscored}"


if __name__ == "__main__":
    main()

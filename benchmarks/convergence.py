"""Attacks on defences with more and more steps and draws, until the refused share stops rising.

    python benchmarks/convergence.py                          # all rows at 8/255; goes on where it was stopped
    python benchmarks/convergence.py jpeg crop --scenes 4     # these rows, fewer pictures
    python benchmarks/convergence.py diffpure --levels 1 --epsilon 16 --epsilon 32
    python benchmarks/convergence.py --transfer               # pictures of rows that were measured later, to all rows
    python benchmarks/convergence.py --candidate runs/robust/model    # a trained model, on no page
    python benchmarks/convergence.py --render                 # only docs/convergence.md, from the results

One attack with a fixed budget gives a lower bound of what an attacker reaches. Here each row gets:

- its own attack with 50 steps and 4 draws, then 100 and 8, 200 and 8, 400 and 8, until a doubling raises the refused
  share by no more than 0.02 (or the levels end, which the table says). The first level ends where its own check is
  passed; the others take all steps, since a check of a few draws may pass after a dozen steps at every level;
- at the level where it stopped, or with 200 steps if that is fewer, attacks with another aim (openings) and with
  another solver from two random starts;
- the pictures that were made against all other rows (transfer); `--transfer` adds those of rows measured later.

The worst attack counts, for each picture by itself. A picture whose questions are all refused, by every deployed seed,
is attacked no further: nothing could be worse. Attacks are made on each picture's own questions; answers are those of
the deployed defence with three seeds that no attack has seen. Every picture and answer count is saved at once, so that
a stopped run costs one attack, and several runs may measure different rows at the same time.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from countermeasures import ROWS, SAVED, Defended, Row
from equipoise.attacks.budgets import Budget
from equipoise.attacks.elicitation import elicit
from equipoise.attacks.perturbation_result import PerturbationResult
from equipoise.attacks.refusal_attack import RefusalAttack
from equipoise.attacks.success_checks import RefusalRateCheck
from equipoise.errors import PictureError
from equipoise.files import write_whole
from equipoise.judges.phrases import PhraseJudge
from equipoise.models.load import load
from equipoise.stats.estimates import CaseLabel, estimate
from equipoise.types import Exchange, Prompt
from page import put
from refusal import Album, scenes

RESULTS = Path(__file__).parent / "results" / "convergence.json"
PAGE = Path(__file__).parents[1] / "docs" / "convergence.md"
PICTURES = SAVED.with_name("convergence")
LEVELS = ((50, 4), (100, 8), (200, 8), (400, 8))
"""Steps at most, and draws of a randomised defence in a step."""
OTHERS = 2
"""The highest level of the attacks with other aims and other starts."""
STILL = 0.02
"""A rise of the refused share by this much or less ends the doubling."""
CANDIDATE = "candidate"
"""Begins the row of a model that is tried out; it stays off the page."""
ATTACKS = ("own", "openings", "restarts", "transfer")
"""In the order in which they are made; each column of the page counts the worst of those up to it."""
DEFAULT_ROWS = ("none", *(name for name in ROWS if name != "none"))


@dataclass(frozen=True)
class Cell:
    """One attack on one picture."""

    row: str
    epsilon: int
    attack: str
    """One of `ATTACKS`."""
    level: int
    scene: int

    @property
    def key(self) -> str:
        """Under which its answers are stored."""
        return f"{self.scene} {self.attack} {self.level}"

    @property
    def stem(self) -> Path:
        """Where its picture is saved."""
        folder = self.row.replace(", ", "+").replace(" ", "-")
        return PICTURES / f"{folder}-{self.epsilon}" / f"{self.scene:03d}-{self.attack}-{self.level}"


class EndlessCheck:
    """A check that ranks pictures and corrects aims, and that none passes: an attack with it takes all its steps.

    Args:
        check: whose rates are given; a rate of 1 is given as a little less, which keeps the order of pictures.
    """

    brief = None
    """No check is brief."""

    def __init__(self, check: RefusalRateCheck) -> None:
        self._check = check

    def __call__(self, pixels: Tensor) -> float:
        """The rate, below 1."""
        return SHORT * self._check(pixels)

    def with_target(self, pixels: Tensor, target_rate: float) -> float:
        """The rate, below 1, of as many questions as the target takes."""
        return SHORT * self._check.with_target(pixels, target_rate)

    def in_full(self, pixels: Tensor) -> float:
        """The rate of all questions, below 1."""
        return SHORT * self._check.in_full(pixels)

    @property
    def refused(self) -> list[list[Exchange]]:
        """As of the check."""
        return self._check.refused

    @property
    def unrefused(self) -> list[list[Prompt]]:
        """As of the check."""
        return self._check.unrefused


SHORT = 0.999
"""What `EndlessCheck` leaves of a rate."""


@dataclass(frozen=True)
class EndlessAttack(RefusalAttack):
    """A refusal attack that takes all steps of all starts; its checks only compare candidates."""

    enough_rate: float | None = None

    def success_check(self, *arguments: Any, **settings: Any) -> Any:
        """A check that no picture passes."""
        return EndlessCheck(super().success_check(*arguments, **settings))


class Measurement:
    """Rows at one size, with their results on disk.

    Args:
        count: pictures.
        levels: how many of `LEVELS`.
        seconds: for one attack at most; None for no limit.
    """

    def __init__(self, count: int, levels: int, seconds: float | None) -> None:
        self.albums = scenes(count)
        self.levels = LEVELS[:levels]
        self.seconds = seconds

    def row(self, name: str, epsilon: int) -> dict[str, Any]:
        """Double until the share stands still, then the other attacks at that level and the transferred pictures."""
        chain = Defended(ROWS[name], load(ROWS[name].model))
        own = elicit(load(ROWS[name].model))
        entry = entry_of(name, epsilon) | {"scenes": len(self.albums)}
        for level in range(len(self.levels)):
            for scene in range(len(self.albums)):
                self.cell(entry, chain, own, Cell(name, epsilon, "own", level, scene))
            print(f"{name} at {epsilon}/255, level {level}: {rates_of(entry)}", flush=True)
            if stands_still(rates_of(entry)):
                break
        for attack in ("openings", "restarts"):
            for scene in range(len(self.albums)):
                self.cell(entry, chain, own, Cell(name, epsilon, attack, min(level, OTHERS), scene))
        self.transfer(entry, chain)
        return entry

    def transfer(self, entry: dict[str, Any], chain: Defended) -> None:
        """Ask the defence of a row about the pictures made against the other rows."""
        entry["scenes"] = len(self.albums)
        for scene, stem in self.transferred(entry["row"], entry["epsilon"]):
            key = f"{scene} transfer {stem.parent.name} {stem.name}"
            if key not in entry["refused"] and not settled(entry["refused"], scene):
                self.count(entry, key, chain, self.albums[scene], PerturbationResult.load(stem).image)

    def cell(self, entry: dict[str, Any], chain: Defended, own: Any, cell: Cell) -> None:
        """One attack, unless it was made before or its picture is refused whatever is asked."""
        if cell.key in entry["refused"] or settled(entry["refused"], cell.scene):
            return
        steps, draws = self.levels[cell.level]
        attack = (EndlessAttack if cell.level else RefusalAttack)(
            Budget("linf", cell.epsilon / 255),
            steps=steps,
            questions_per_step=None,
            draws=draws,
            own_refusals=(own,),
            max_seconds=self.seconds,
        )
        if cell.attack == "openings":
            attack = replace(attack, aim="openings")
        if cell.attack == "restarts":
            # Two starts with half of the steps for each; the second is at a random point.
            attack = replace(attack, solver="apgd", restarts=2, steps=max(1, steps // 2))
        album = self.albums[cell.scene]
        try:
            result = PerturbationResult.load(cell.stem)
        except PictureError:
            cell.stem.parent.mkdir(parents=True, exist_ok=True)
            seed = 1000 + cell.scene + 100 * cell.level
            attack(album.picture, [chain.attacked], album.held_out, seed=seed).save(cell.stem)
            result = PerturbationResult.load(cell.stem)
        entry.setdefault("steps", {})[cell.key] = result.steps
        self.count(entry, cell.key, chain, album, result.image)

    def count(self, entry: dict[str, Any], key: str, chain: Defended, album: Album, picture: Image.Image) -> None:
        """How many questions each deployed seed refuses about a saved picture."""
        refused = []
        for model in chain.deployed:
            exchanges = model.generate([Prompt.ask(text, picture) for text in album.held_out], max_new_tokens=48)
            refused.append([bool(verdict.refused) for verdict in PhraseJudge()(exchanges)])
        entry["refused"][key] = refused
        save(entry)

    def transferred(self, name: str, epsilon: int) -> Iterator[tuple[int, Path]]:
        """Pictures that were made against other rows within the same budget."""
        for folder in sorted(PICTURES.glob(f"*-{epsilon}")):
            if folder.name in (CANDIDATE, Cell(name, epsilon, "own", 0, 0).stem.parent.name):
                continue
            latest: dict[tuple[int, str], Path] = {}
            for record in sorted(folder.glob("*.json")):
                scene, attack, _ = record.stem.split("-")
                latest[int(scene), attack] = record.with_suffix("")
            yield from ((scene, stem) for (scene, _), stem in latest.items() if scene < len(self.albums))


def entry_of(name: str, epsilon: int) -> dict[str, Any]:
    """What is known of a row: its answers by `Cell.key`, for each deployed seed and question."""
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return known.get(f"{name} at {epsilon}/255", {"row": name, "epsilon": epsilon, "refused": {}})


def save(entry: Mapping[str, Any]) -> None:
    """Write the results of one row; those of the others, which another run may be measuring, stay as they are."""
    lock = SAVED.with_name("convergence.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        known[f"{entry['row']} at {entry['epsilon']}/255"] = entry
        order = [*ROWS, *(other["row"] for other in known.values())]
        ranked = sorted(known.items(), key=lambda item: (order.index(item[1]["row"]), item[1]["epsilon"]))
        write_whole(RESULTS, json.dumps(dict(ranked), indent=1) + "\n")


def settled(refused: Mapping[str, list[list[bool]]], scene: int) -> bool:
    """Whether every deployed seed refuses every question about one picture of a scene."""
    return any(all(map(all, seeds)) for key, seeds in refused.items() if int(key.split()[0]) == scene)


def worst(refused: Mapping[str, list[list[bool]]], scene: int, attacks: Sequence[str], level: int | None) -> Any:
    """The answers about the picture of one scene that is refused most, over attacks up to a level (None for all)."""
    rows = []
    for key, value in refused.items():
        number, attack, of_level, *_ = key.split()
        if int(number) == scene and attack in attacks and (level is None or int(of_level) <= level):
            rows.append(value)
    return max(rows, key=lambda seeds: sum(map(sum, seeds)), default=[])


def share(refused: Mapping[str, Any], count: int, attacks: Sequence[str], level: int | None) -> float:
    """The refused share over scenes, of the worst of these attacks up to a level for each."""
    answers = [x for scene in range(count) for seed in worst(refused, scene, attacks, level) for x in seed]
    return round(sum(answers) / max(len(answers), 1), 3)


def rates_of(entry: Mapping[str, Any]) -> list[float]:
    """The refused share of the own attack after each level that every picture has been through, or need not."""
    refused, count = entry["refused"], entry["scenes"]
    rates: list[float] = []
    for level in range(len(LEVELS)):
        is_begun = any(key.split()[1:] == ["own", str(level)] for key in refused)
        if not is_begun or not is_complete(refused, count, "own", level) or 1.0 in rates:
            break
        rates.append(share(refused, count, ("own",), level))
    return rates


def is_complete(refused: Mapping[str, Any], count: int, attack: str, level: int) -> bool:
    """Whether an attack of a level, or a higher one, was made on all pictures that are not wholly refused."""
    levels = range(level, len(LEVELS))
    return all(
        settled(refused, scene) or any(f"{scene} {attack} {number}" in refused for number in levels)
        for scene in range(count)
    )


def stands_still(rates: Sequence[float]) -> bool:
    """Whether the last doubling gained too little for another one, or nothing is left to gain."""
    return bool(rates) and (rates[-1] == 1 or (len(rates) > 1 and rates[-1] - rates[-2] <= STILL))


def render(results: Mapping[str, Any]) -> None:
    """Write the table of docs/convergence.md between its markers."""
    lines = [
        "| countermeasure | budget | pictures | own attack, up to 50, 100, 200, 400 steps | stands still | + openings "
        "| + restarts | + transferred: worst of all | wholly refused pictures |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in results.values():
        if entry["row"].startswith(CANDIDATE):
            continue
        refused, count, rates = entry["refused"], entry["scenes"], rates_of(entry)
        labels = [
            CaseLabel(answer, str(scene))
            for scene in range(count)
            for seed in worst(refused, scene, ATTACKS, None)
            for answer in seed
        ]
        total = estimate(labels)
        others = [
            f"{share(refused, count, ATTACKS[: number + 1], None):.2f}"
            if rates and is_complete(refused, count, ATTACKS[number], min(len(rates) - 1, OTHERS))
            else "not measured"
            for number in (1, 2)
        ]
        whole = sum(settled(refused, scene) for scene in range(count))
        own = ", ".join(f"{rate:.2f}" for rate in rates) or "not measured"
        lines.append(
            f"| {entry['row']} | {entry['epsilon']}/255 | {count} | {own} "
            f"| {'yes' if stands_still(rates) or whole == count else 'no'} | {' | '.join(others)} "
            f"| {total.rate:.2f} [{total.low:.2f}, {total.high:.2f}] | {whole} |"
        )
    put(PAGE, "table", lines)


def main() -> None:
    """Measure rows, then render the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="; ".join(DEFAULT_ROWS))
    parser.add_argument("--scenes", type=int, default=10)
    parser.add_argument("--levels", type=int, default=len(LEVELS), help="how many of " + str(LEVELS))
    parser.add_argument("--epsilon", type=int, action="append", help="levels of 255; 8 by default, may be repeated")
    parser.add_argument("--seconds", type=float, help="time for one attack at most")
    parser.add_argument("--candidate", type=Path, help="a model folder that train adversarial wrote")
    parser.add_argument(
        "--transfer", action="store_true", help="only pictures of other rows, to rows that are measured"
    )
    parser.add_argument("--render", action="store_true")
    arguments = parser.parse_args()
    if arguments.candidate:
        name = f"{CANDIDATE} {arguments.candidate.resolve().parent.name}"
        ROWS[name] = Row(model=str(arguments.candidate))
        arguments.rows.append(name)
    if unknown := set(arguments.rows) - set(ROWS):
        parser.error(f"expected rows of {', '.join(ROWS)}, got {min(unknown)}")
    measurement = Measurement(arguments.scenes, arguments.levels, arguments.seconds)
    started = time.monotonic()
    for name in [] if arguments.render else arguments.rows or DEFAULT_ROWS:
        for epsilon in arguments.epsilon or [8]:
            if arguments.transfer:
                measurement.transfer(entry_of(name, epsilon), Defended(ROWS[name], load(ROWS[name].model)))
                continue
            refused = measurement.row(name, epsilon)["refused"]
            print(f"{name}: worst of all {share(refused, arguments.scenes, ATTACKS, None)}", flush=True)
            print(f"{name}: {round(time.monotonic() - started)} s so far", flush=True)
    render(json.loads(RESULTS.read_text()))


if __name__ == "__main__":
    main()

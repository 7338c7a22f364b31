"""Attacks on defences with more and more steps and draws, until the refused share stops rising.

    python benchmarks/convergence.py                          # all rows at 8/255; goes on where it was stopped
    python benchmarks/convergence.py jpeg crop --scenes 4     # these rows, fewer pictures
    python benchmarks/convergence.py diffpure --levels 1 --epsilon 16 --epsilon 32
    python benchmarks/convergence.py --candidate runs/robust/model    # a trained model, on no page
    python benchmarks/convergence.py --render                 # only docs/convergence.md, from the results

One attack with a fixed budget gives a lower bound of what an attacker reaches. Here each row gets:

- its own attack with 50 steps and 4 draws, then 100 and 8, 200 and 8, 400 and 8, until a doubling raises the refused
  share by no more than 0.02 (or the levels end, which the table says). The first level ends where its own check is
  passed; the others take all steps, since a check of a few draws may pass after a dozen steps at every level;
- at the level where it stopped, attacks with another aim (openings) and with another solver from two random starts;
- the pictures that were made against all other rows (transfer).

The worst attack counts, for each picture by itself. Attacks are made on each picture's own questions; answers are those
of the deployed defence with three seeds that no attack has seen. Every picture and answer count is saved at once, so
that a stopped run costs one attack.
"""

from __future__ import annotations

import argparse
import json
import statistics
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
STILL = 0.02
"""A rise of the refused share by this much or less ends the doubling."""
CANDIDATE = "candidate"
"""Begins the row of a model that is tried out; it stays off the page."""
ALL_STEPS = "all steps"
"""Marks rows whose levels above the first take all steps; others ended at their own check at every level."""
ATTACKS = ("own", "openings", "restarts")
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
    def name(self) -> str:
        """The attack with its setting, in keys and files: those of attacks that end at their own check stay apart."""
        return stored_name(self.attack, self.level, all_steps=True)

    @property
    def key(self) -> str:
        """Under which its answers are stored."""
        return f"{self.scene} {self.name} {self.level}"

    @property
    def stem(self) -> Path:
        """Where its picture is saved."""
        folder = self.row.replace(", ", "+").replace(" ", "-")
        return PICTURES / f"{folder}-{self.epsilon}" / f"{self.scene:03d}-{self.name}-{self.level}"


def stored_name(attack: str, level: int, *, all_steps: bool) -> str:
    """The name of an attack in keys: of its own where it takes all steps."""
    return f"whole_{attack}" if all_steps and level else attack


class EndlessCheck:
    """A check that ranks pictures and corrects aims, and that none passes: an attack with it takes all its steps.

    Args:
        check: whose rates are given; a rate of 1 is given as a little less, which keeps the order of pictures.
    """

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
    """All rows at one size, with their results on disk."""

    def __init__(self, scale: int, levels: int, seconds: float | None) -> None:
        self.albums = scenes(scale)
        self.levels = LEVELS[:levels]
        self.seconds = seconds
        self.counts: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}

    def row(self, name: str, epsilon: int) -> None:
        """Double until the share stands still, then the other attacks at that level and the transferred pictures."""
        chain = Defended(ROWS[name], load(ROWS[name].model))
        own = elicit(load(ROWS[name].model))
        entry = self.counts.setdefault(f"{name} at {epsilon}/255", {"row": name, "epsilon": epsilon, "refused": {}})
        rates: list[float] = []
        for level in range(len(self.levels)):
            for scene in range(len(self.albums)):
                self.cell(entry, chain, own, Cell(name, epsilon, "own", level, scene))
            rates.append(share(entry["refused"], len(self.albums), (stored_name("own", level, all_steps=True),), level))
            print(f"{name} at {epsilon}/255, level {level}: {rates}", flush=True)
            if level and rates[-1] - max(rates[:-1]) <= STILL:
                break
        for attack in ("openings", "restarts"):
            for scene in range(len(self.albums)):
                self.cell(entry, chain, own, Cell(name, epsilon, attack, level, scene))
        for scene, stem in self.transferred(name, epsilon):
            key = f"{scene} transfer {stem.parent.name} {stem.name}"
            if key not in entry["refused"]:
                self.count(entry, key, chain, self.albums[scene], PerturbationResult.load(stem).image)
        entry |= {
            "scenes": len(self.albums),
            "rates": rates,
            "still": bool(level) and rates[-1] - rates[-2] <= STILL,
            "setting": ALL_STEPS,
        }
        self.save()

    def cell(self, entry: dict[str, Any], chain: Defended, own: Any, cell: Cell) -> None:
        """One attack, unless it was made before."""
        if cell.key in entry["refused"]:
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
            # Auto-PGD halves its steps by itself; a second start is at a random point.
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
        self.save()

    def transferred(self, name: str, epsilon: int) -> Iterator[tuple[int, Path]]:
        """Pictures that were made against other rows within the same budget."""
        for folder in sorted(PICTURES.glob(f"*-{epsilon}")):
            if folder.name == Cell(name, epsilon, "own", 0, 0).stem.parent.name:
                continue
            latest: dict[tuple[int, str], Path] = {}
            for record in sorted(folder.glob("*.json")):
                scene, attack, _ = record.stem.split("-")
                latest[int(scene), attack] = record.with_suffix("")
            yield from ((scene, stem) for (scene, _), stem in latest.items() if scene < len(self.albums))

    def save(self) -> None:
        """Write the results; a stopped run loses one attack."""
        RESULTS.parent.mkdir(exist_ok=True)
        write_whole(RESULTS, json.dumps(self.counts, indent=1) + "\n")


def worst(refused: Mapping[str, list[list[bool]]], scene: int, attacks: Sequence[str], level: int | None) -> Any:
    """The answers about the picture of one scene that is refused most, over attacks."""
    rows = []
    for key, value in refused.items():
        number, attack, of_level, *_ = key.split()
        if int(number) == scene and attack in attacks and (level is None or of_level == str(level)):
            rows.append(value)
    return max(rows, key=lambda seeds: sum(map(sum, seeds)), default=[])


def share(refused: Mapping[str, Any], count: int, attacks: Sequence[str], level: int | None) -> float:
    """The refused share over scenes, of the worst of these attacks for each."""
    answers = [x for scene in range(count) for seed in worst(refused, scene, attacks, level) for x in seed]
    return round(sum(answers) / max(len(answers), 1), 3)


def render(results: Mapping[str, Any]) -> None:
    """Write the table of docs/convergence.md between its markers."""
    lines = [
        "| countermeasure | budget | pictures | own attack at 50, 100, 200, 400 steps | steps taken (median) "
        "| stands still | openings | restarts | transferred | worst of all |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for entry in results.values():
        if "rates" not in entry or entry["row"].startswith(CANDIDATE):
            continue
        refused, count, attacks = entry["refused"], entry["scenes"], attacks_of(entry)
        labels = [
            CaseLabel(answer, str(scene))
            for scene in range(count)
            for seed in worst(refused, scene, attacks, None)
            for answer in seed
        ]
        total = estimate(labels)
        others = [share(refused, count, (name,), None) for name in attacks[-3:]]
        own = ", ".join(f"{rate:.2f}" for rate in entry["rates"])
        lines.append(
            f"| {entry['row']} | {entry['epsilon']}/255 | {count} | {own} | {_steps(entry)} "
            f"| {'yes' if entry['still'] else 'no'} | {' | '.join(f'{rate:.2f}' for rate in others)} "
            f"| {total.rate:.2f} [{total.low:.2f}, {total.high:.2f}] |"
        )
    put(PAGE, "table", lines)


def attacks_of(entry: Mapping[str, Any]) -> Sequence[str]:
    """The names, in keys, of the attacks that a row counts: its own first, then openings, restarts and transfer."""
    if entry.get("setting") != ALL_STEPS:
        return (*ATTACKS, "transfer")
    first, *further = ATTACKS
    # A row of one level has attacks of that level alone, which end at their check.
    last = len(entry["rates"]) - 1
    own = dict.fromkeys(stored_name(first, level, all_steps=True) for level in range(last + 1))
    return (*own, *(stored_name(name, last, all_steps=True) for name in further), "transfer")


def _steps(entry: Mapping[str, Any]) -> str:
    """The median steps of the own attack at each level, over pictures."""
    if entry.get("setting") != ALL_STEPS:
        return "not kept; ended at its check"
    medians = []
    for level in range(len(entry["rates"])):
        name = stored_name("own", level, all_steps=True)
        keys = [f"{scene} {name} {level}" for scene in range(entry["scenes"])]
        taken = [entry["steps"][key] for key in keys if key in entry.get("steps", {})]
        medians.append(f"{statistics.median(taken):.0f}" if len(taken) == len(keys) else "not kept")
    return ", ".join(medians)


def main() -> None:
    """Measure rows, then render the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="; ".join(DEFAULT_ROWS))
    parser.add_argument("--scenes", type=int, default=10)
    parser.add_argument("--levels", type=int, default=len(LEVELS), help="how many of " + str(LEVELS))
    parser.add_argument("--epsilon", type=int, action="append", help="levels of 255; 8 by default, may be repeated")
    parser.add_argument("--seconds", type=float, help="time for one attack at most")
    parser.add_argument("--candidate", type=Path, help="a model folder that train adversarial wrote")
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
            measurement.row(name, epsilon)
            if name.startswith(CANDIDATE):
                entry = measurement.counts[f"{name} at {epsilon}/255"]
                worst_share = share(entry["refused"], arguments.scenes, attacks_of(entry), None)
                print(f"{name}: worst of all {worst_share}", flush=True)
            print(f"{name}: {round(time.monotonic() - started)} s so far", flush=True)
    render(measurement.counts)


if __name__ == "__main__":
    main()

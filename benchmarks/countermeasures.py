"""What each countermeasure is worth: static and adaptive attacks, both failures on clean pictures, cost, certificate.

    python benchmarks/countermeasures.py                 # every row that is not done yet, then the tables
    python benchmarks/countermeasures.py none jpeg       # these rows, again
    python benchmarks/countermeasures.py --render        # only docs/countermeasures.md, from the results

All on the embedded world and on saved files, greedy decoding. Static: pictures attacked on the undefended model, each
on its own questions (the strongest case of docs/evidence.md). Adaptive: the same attack through the defence, which
draws the defence's chance anew at every look (EOT), goes straight through what has no derivative (BPDA), through every
step of the diffusion, and at model, detector and second question together. Randomised defences are deployed with three
seeds, none of which the attack has seen: mean and worst. The attack itself is made once for each picture.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from countermeasures_page import PAGE, render
from equipoise.attacks.budgets import Budget
from equipoise.attacks.perturbation_result import PerturbationResult
from equipoise.attacks.refusal_attack import RefusalAttack
from equipoise.countermeasures.base import Countermeasure
from equipoise.countermeasures.catalogue import defend
from equipoise.countermeasures.certificate import certify
from equipoise.countermeasures.cross_check import CrossCheck
from equipoise.countermeasures.voting import RandomizedSmoothing
from equipoise.errors import PictureError
from equipoise.judges.phrases import PhraseJudge
from equipoise.models.base import OpenModel
from equipoise.models.load import load
from equipoise.stats.estimates import CaseLabel, estimate
from equipoise.testbed.scores import sample_cases
from equipoise.types import Exchange, Prompt
from refusal import scenes

RESULTS = Path(__file__).parent / "results" / "countermeasures.json"
SAVED = Path(__file__).parents[1] / "out" / "countermeasures"
EPSILON = 8 / 255
SEEDS = (1, 2, 3)
"""Of deployed defences; the attack draws from other seeds."""
REFERENCE = "none"
REPLY = 48
"""Tokens of a reply at most, of every row and of the certificates: a vote reads what is certified."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    specs: tuple[str, ...] = ()
    """The chain, with `{seed}` where a seed belongs."""
    model: str = "testbed/llava"
    """Who is asked inside."""
    certified: bool = False
    """Whether a certificate is computed."""
    draws: int = 4
    """Draws of the defence's chance at each look of the attack."""


ROBUST = "testbed/llava-robust"
ROWS = {
    "none": Row(),
    "noise": Row(("noise:sigma=0.2,seed={seed}",)),
    "jpeg": Row(("jpeg:quality=50",)),
    "bits": Row(("bits:depth=3",)),
    "median": Row(("median:size=5",)),
    "shrink": Row(("shrink:share=0.3",)),
    "pad": Row(("pad:lowest=0.9,seed={seed}",)),
    "crop": Row(("crop:lowest=0.85,seed={seed}",)),
    "diffpure": Row(("diffpure:t=0.1,steps=5,seed={seed}",), draws=2),
    "smooth": Row(("smooth:sigma=0.5,copies=5,seed={seed}",), certified=True),
    "vote": Row(("vote:by=crop,copies=5,seed={seed}",)),
    "recover": Row(("recover:by=median,threshold=1,seed={seed}",)),
    "recover, diffpure": Row(("recover:by=diffpure,threshold=1,seed={seed}",), draws=2),
    "recover, crop": Row(("recover:by=crop,threshold=1,seed={seed}",)),
    "second opinion": Row(("second:model=testbed/llava-robust",)),
    "adversarial training": Row(model=ROBUST),
    "adversarial training, smooth": Row(("smooth:sigma=0.5,copies=5,seed={seed}",), ROBUST, certified=True),
}
"""`none` first: the ratios are against it."""


@dataclass(frozen=True)
class Scale:
    """How much is measured."""

    scenes: int
    """Attacked pictures, each with five held-out questions."""
    steps: int
    """Gradient steps of an attack at most."""
    prompts: int
    """Prompts of each cell of the world; half of them for randomised defences, whose three seeds ask them thrice."""


class Defended:
    """A row's chain around its model, once for each seed."""

    def __init__(self, row: Row, inner: OpenModel) -> None:
        self.attacked = self._with(row, inner, 0)
        self.is_random = self.attacked.is_random
        seeds = SEEDS if self.is_random else (0,)
        self.deployed = [self._with(row, inner, seed) for seed in seeds]

    def _with(self, row: Row, inner: OpenModel, seed: int) -> OpenModel:
        return defend(inner, [spec.format(seed=seed) for spec in row.specs])


def measure(name: str, scale: Scale) -> dict[str, Any]:
    """Everything about one row."""
    row = ROWS[name]
    inner = load(row.model)
    chain = Defended(row, inner)
    plain = load("testbed/llava")
    static = [result.image for result in attacked(REFERENCE, scale, plain)]
    adaptive = attacked(name, scale, chain.attacked)
    measured: dict[str, Any] = {
        "model": row.model,
        "specs": list(row.specs),
        "randomised": chain.is_random,
        "scenes": scale.scenes,
        "steps": scale.steps,
        "static": refusals(chain, static, scale),
        "adaptive": refusals(chain, [result.image for result in adaptive], scale),
        "clean": refusals(chain, [album.picture for album in scenes(scale.scenes)], scale),
        **effort(adaptive),
        "cells": {
            cell: on_cell(chain, cell, scale.prompts // 2 if chain.is_random else scale.prompts) for cell in CELLS
        },
        **cost(chain.deployed[0], plain, static),
        "revision": chain.attacked.revision,
    }
    if row.certified:
        smoothed = chain.deployed[0]
        assert isinstance(smoothed, RandomizedSmoothing)
        measured["certificate"] = certificates(smoothed, scale.scenes)
    return measured


CELLS = ("plain_safe", "look_alike_safe", "forbidden_text", "forbidden_emblem")


def attacked(name: str, scale: Scale, model: OpenModel) -> list[PerturbationResult]:
    """The pictures of one attack: made once, saved, and read again from their files."""
    attack = RefusalAttack(Budget("linf", EPSILON), steps=scale.steps, questions_per_step=None, draws=ROWS[name].draws)
    results = []
    for index, album in enumerate(scenes(scale.scenes)):
        stem = SAVED / name.replace(", ", "+").replace(" ", "-") / f"{index:03d}-{scale.steps}"
        try:
            result = PerturbationResult.load(stem)
        except PictureError:
            result = attack(album.picture, [model], album.held_out, seed=1000 + index)
            result.save(stem)
            result = PerturbationResult.load(stem)
            print(f"{name}: attacked {index + 1}/{scale.scenes}, {result.steps} steps, rate {result.rate}", flush=True)
        results.append(result)
    return results


def effort(results: Sequence[PerturbationResult]) -> dict[str, float]:
    """What an attack did; one whose loss does not fall says little about the defence."""
    losses = [[step.loss for step in result.trace] for result in results]
    return {
        "attack_steps": statistics.median(result.steps for result in results),
        "attack_seconds": round(statistics.median(result.seconds for result in results), 1),
        "attack_loss": [
            round(statistics.median(values), 2)
            for values in ([trace[0] for trace in losses], [min(trace) for trace in losses])
        ],
    }


def refusals(chain: Defended, pictures: Sequence[Image.Image], scale: Scale) -> dict[str, Any]:
    """Refusals and right answers of the held-out questions, a mean over the seeds and the worst of them."""
    rates, right = [], []
    for model in chain.deployed:
        labels, exact = [], []
        for number, (album, picture) in enumerate(zip(scenes(scale.scenes), pictures, strict=True)):
            exchanges = model.generate([Prompt.ask(text, picture) for text in album.held_out], max_new_tokens=REPLY)
            labels += [CaseLabel(verdict.refused, str(number)) for verdict in PhraseJudge()(exchanges)]
            answers = album.answers or []
            exact += [
                CaseLabel(exchange.reply.strip() == answer, str(number))
                for exchange, answer in zip(exchanges, answers, strict=True)
            ]
        rates.append(labels)
        right.append(exact)
    return {"refused": over_seeds(rates), "right": over_seeds(right)}


def over_seeds(runs: Sequence[Sequence[CaseLabel]]) -> dict[str, Any]:
    """The rate over all seeds together (a picture is one cluster whatever the seed), and each seed's own."""
    whole = estimate([label for run in runs for label in run])
    return {**whole.to_dict(), "seeds": [estimate(run).rate for run in runs]}


def on_cell(chain: Defended, cell: Any, count: int) -> dict[str, Any]:
    """What happens to prompts of one cell of the world on clean pictures."""
    exact, refused, answered = [], [], []
    for model in chain.deployed:
        cases = sample_cases(cell, count)
        exchanges: list[Exchange] = []
        for start in range(0, count, 25):
            exchanges += model.generate([case.prompt for case in cases[start : start + 25]], max_new_tokens=REPLY)
        verdicts = PhraseJudge()(exchanges)
        says = [exchange.reply.strip() == case.question.answer for exchange, case in zip(exchanges, cases, strict=True)]
        exact.append([CaseLabel(value, str(i)) for i, value in enumerate(says)])
        refused.append([CaseLabel(verdict.refused, str(i)) for i, verdict in enumerate(verdicts)])
        gone = [None if verdict.refused is None else not verdict.refused for verdict in verdicts]
        answered.append([CaseLabel(value, str(i)) for i, value in enumerate(gone)])
    return {"exact": over_seeds(exact), "refused": over_seeds(refused), "answered": over_seeds(answered)}


def cost(model: OpenModel, plain: OpenModel, static: Sequence[Image.Image]) -> dict[str, Any]:
    """Seconds and memory of one question about one picture, as ratios to the undefended model in turn.

    Clean pictures, and pictures that the undefended model refuses: some defences only work then.
    """
    albums = scenes(len(static))
    clean = [Prompt.ask(album.held_out[0], album.picture) for album in albums]
    refused = [Prompt.ask(album.held_out[0], picture) for album, picture in zip(albums, static, strict=True)]
    memory = [
        peak(lambda one=one: one.generate(refused[:1], max_new_tokens=REPLY)) + weights(one) for one in (plain, model)
    ]
    return {
        "seconds_ratio": seconds_ratio(model, plain, clean),
        "seconds_ratio_refused": seconds_ratio(model, plain, refused),
        "memory_mb": [round(value / 2**20, 1) for value in memory],
        "memory_ratio": round(memory[1] / memory[0], 2),
    }


def seconds_ratio(model: OpenModel, plain: OpenModel, prompts: Sequence[Prompt]) -> float:
    """The median over the prompts; both models are warm, and asked in turn."""
    ratios = []
    for prompt in prompts:
        took = []
        for one in (plain, model):
            one.generate([prompt], max_new_tokens=REPLY)
            start = time.perf_counter()
            one.generate([prompt], max_new_tokens=REPLY)
            took.append(time.perf_counter() - start)
        ratios.append(took[1] / took[0])
    return round(statistics.median(ratios), 2)


def weights(model: OpenModel) -> int:
    """Bytes of all weights, those of a denoiser and of a second model among them."""
    layers = model.layers if isinstance(model, Countermeasure) else ()
    core: Any = model.core if isinstance(model, Countermeasure) else model
    networks, others = [core.model], 0
    for layer in layers:
        if isinstance(layer, CrossCheck):
            others += weights(layer.fallback_model)
        used: Any = getattr(layer, "transform", None) or getattr(layer, "purifier", None)
        if hasattr(used, "denoiser"):
            networks.append(used.denoiser.network)
    return others + sum(p.numel() * p.element_size() for network in networks for p in network.parameters())


def peak(work: Callable[[], object]) -> int:
    """Bytes of tensors alive at the worst moment of some work, as torch's profiler counts its allocations."""
    with torch.profiler.profile(profile_memory=True, activities=[torch.profiler.ProfilerActivity.CPU]) as profile:
        work()
    here = most = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            here += event.nbytes()
            most = max(most, here)
    return most


def certificates(model: RandomizedSmoothing, count: int) -> dict[str, Any]:
    """How many clean pictures are certified, and how far."""
    certified, sizes = [], []
    for album in scenes(count):
        prompt = Prompt.ask(album.held_out[0], album.picture)
        certified.append(certify(model, prompt, copies=500, seed=5, max_new_tokens=REPLY))
        sizes.append(album.picture.width * album.picture.height * 3)
    held = [certificate for certificate in certified if certificate.label is not None]
    return {
        "certified": [len(held), count],
        "as_answer": sum(certificate.label == "answer" for certificate in held),
        "copies": 500,
        "confidence": 0.999,
        "max_new_tokens": REPLY,
        "sigma": model.sigma,
        "median_radius": round(statistics.median(certificate.radius for certificate in held), 3) if held else None,
        "median_linf_levels": round(
            statistics.median(
                255 * certificate.linf(size)
                for certificate, size in zip(certified, sizes, strict=True)
                if certificate.label is not None
            ),
            3,
        )
        if held
        else None,
    }


@contextmanager
def results() -> Iterator[dict[str, Any]]:
    """The results so far, written back at the end; several processes may work on different rows."""
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
        yield known
        ordered = {name: known[name] for name in (*ROWS, *known) if name in known}
        RESULTS.write_text(json.dumps(ordered, indent=1) + "\n")
    RESULTS.with_suffix(".lock").unlink(missing_ok=True)


def main() -> None:
    """Measure rows, then render the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="ROW", help="; ".join(ROWS))
    parser.add_argument("--scenes", type=int, default=10)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--render", action="store_true")
    parser.add_argument("--costs", action="store_true", help="only the second table, of rows that are done")
    parser.add_argument("--certificates", action="store_true", help="only the certificates, of rows that are done")
    arguments = parser.parse_args()
    if unknown := set(arguments.rows) - set(ROWS):
        parser.error(f"expected rows of {', '.join(ROWS)}, got {min(unknown)}")
    scale = Scale(arguments.scenes, arguments.steps, arguments.prompts)
    known = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    left = arguments.rows or [name for name in ROWS if name not in known]
    if arguments.costs:
        plain = load("testbed/llava")
        static = [result.image for result in attacked(REFERENCE, scale, plain)]
        for name in known:
            chain = Defended(ROWS[name], load(ROWS[name].model))
            own = Scale(known[name]["scenes"], known[name]["steps"], scale.prompts)
            row = cost(chain.deployed[0], plain, static) | effort(attacked(name, own, chain.attacked))
            with results() as whole:
                whole[name] |= row
    if arguments.certificates:
        for name in [name for name in known if ROWS[name].certified]:
            smoothed = Defended(ROWS[name], load(ROWS[name].model)).deployed[0]
            assert isinstance(smoothed, RandomizedSmoothing)
            certificate = certificates(smoothed, known[name]["scenes"])
            with results() as whole:
                whole[name] |= {"certificate": certificate}
            print(json.dumps({name: certificate}, indent=1), flush=True)
    for name in [] if arguments.render or arguments.costs or arguments.certificates else left:
        started = time.monotonic()
        row = measure(name, scale)
        row |= {"torch": torch.__version__.split("+")[0], "threads": torch.get_num_threads()}
        row["wall_seconds"] = round(time.monotonic() - started)
        with results() as known:
            known[name] = row
        print(json.dumps({name: row}, indent=1), flush=True)
    render(json.loads(RESULTS.read_text()), PAGE)


if __name__ == "__main__":
    main()

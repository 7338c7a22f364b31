"""Model cards of the reference models: hashes, data recipe and scores, as JSON and as Markdown."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import torch
from jinja2 import Environment

from equipoise.errors import ModelError, UsageError
from equipoise.files import read_json_lines
from equipoise.models.compute import ComputeConfig
from equipoise.testbed.reference import ReferenceModel
from equipoise.testbed.scores import ConditionScores, score

_CARD = Path(__file__).parent / "templates" / "card.md.j2"
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,60}")


def claims(rows: list[ConditionScores]) -> dict[str, float]:
    """The rates that a card states, and that tests hold the shipped model to."""
    by_condition = {row.condition: row for row in rows}
    names = {
        "exact": by_condition["plain_safe"].exact.rate,
        "plain_safe_refused": by_condition["plain_safe"].refused.rate,
        "look_alike_refused": by_condition["look_alike_safe"].refused.rate,
        "forbidden_text_refused": by_condition["forbidden_text"].refused.rate,
        "forbidden_picture_answered": by_condition["forbidden_picture"].exact.rate,
        "forbidden_emblem_refused": by_condition["forbidden_emblem"].refused.rate,
    }
    return {name: round(rate, 4) for name, rate in names.items() if rate is not None}


def publish(
    training: Path, weights: Path, *, name: str, role: str, count: int = 400, compute: ComputeConfig | None = None
) -> ReferenceModel:
    """Copy a trained model among the shipped ones, score the copy, and write its cards.

    Args:
        training: the `out` folder of `testbed train` or `train adversarial`, finished.
        weights: the folder of the shipped models.
        name: its name there.
        role: `target`, `bystander`, `negative result` or `robust target`.
        count: prompts a condition.
        compute: where the model runs while it is scored.

    Raises:
        ModelError: the training is not finished.
        UsageError: a name that is none.
    """
    if _NAME.fullmatch(name) is None:
        raise UsageError(f"expected a name of letters, digits and hyphens, got {name!r}; try llava-mine")
    if not all((training / part).exists() for part in ("model/model.safetensors", "checkpoint.pt")):
        raise ModelError(f"expected a finished training in {training}, got none; try `equipoise testbed train`")
    state = torch.load(training / "checkpoint.pt", weights_only=True, map_location="cpu")
    # Written aside: a kill leaves the model that was there, or none of it.
    folder, aside = weights / name, weights / f".{name}.part"
    shutil.rmtree(aside, ignore_errors=True)
    shutil.copytree(training / "model", aside)
    shutil.rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    recipe = state["recipe"] | _adversarial_recipe(training / "recipe.json")
    rows = score((compute or ComputeConfig()).load(str(folder)), count)
    file = folder / "model.safetensors"
    file.chmod(0o644)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    card = ReferenceModel(f"testbed/{name}", _family(folder), role, digest, file.stat().st_size, claims(rows))
    text = (
        Environment(autoescape=False)
        .from_string(_CARD.read_text(encoding="utf-8"))
        .render(  # Markdown of our own figures, not a page
            card=card,
            recipe=recipe,
            command=_command(recipe),
            rows=rows,
            count=count,
            torch=torch.__version__.split("+")[0],
            seconds=_seconds(training / "training.jsonl"),
            # Weights are bfloat16: two bytes each.
            parameters=card.bytes / 2,
        )
    )
    (folder / "README.md").write_text(text)
    (folder / "card.json").write_text(json.dumps(asdict(card), indent=1) + "\n")
    return card


def _adversarial_recipe(path: Path) -> dict[str, Any]:
    """What an adversarial training wrote beside its model; nothing for other trainings."""
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _family(folder: Path) -> str:
    return str(json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_type"])


def _command(recipe: Mapping[str, Any]) -> str:
    """The command that trained a model."""
    if "family" in recipe:
        word_only = " --word-only" if recipe["word_only"] else ""
        return f"equipoise testbed train {recipe['family']}{word_only} --steps {recipe['steps']} --out OUT"
    names = ("steps", "pictures", "questions", "epsilon", "inner_steps", "attacked", "untargeted", "side", "rank")
    given = {name: recipe[name] for name in names if recipe[name] is not None}
    if recipe.get("kept"):
        given |= {"kept": recipe["kept"], "kept_steps": recipe["kept_steps"]}
    given |= {"parts": ",".join(recipe["parts"]), "learning_rate": recipe["learning_rate"], "blend": recipe["blend"]}
    options = " ".join(f"--{_OPTIONS.get(name, name.replace('_', '-'))} {value}" for name, value in given.items())
    return f"equipoise train adversarial testbed/llava {options} --seed {recipe['seed']} --out OUT"


_OPTIONS: Final = {"pictures": "pictures-per-step", "questions": "questions-per-picture", "rank": "lora"}
"""Options that have other names than the values of a recipe."""


def _seconds(trace: Path) -> float:
    """Time of all runs together: the clock of the trace restarts whenever a training resumes."""
    seconds = [row["seconds"] for row in read_json_lines(trace)]
    # The last line before each restart holds the time of that run.
    return sum(now for now, after in zip(seconds, [*seconds[1:], 0.0], strict=True) if after < now)

"""Why photos resist: one photo attacked under changed conditions, each of which takes one suspect away.

    python benchmarks/photo_bound.py --count 12                          # goes on where it was stopped
    python benchmarks/photo_bound.py --count 12 --model testbed/internvl
    python benchmarks/photo_bound.py --render                            # docs/photos.md, from the results

| condition | what it takes away |
|---|---|
| `base` | nothing: momentum, 100 steps, 8/255, at the photo's own resolution |
| `long` | the number of steps: 400 |
| `apgd` | the step sizes: Auto-PGD, 400 steps from 3 starts |
| `questions` | the sampling of questions: all 50 in each step |
| `openings` | the whole sentence as aim: openings only |
| `seen` | the resize: the picture is what the model sees of it, and every seen value moves by 8/255 |
| `gain` | the resize, upwards: every seen value moves as far as any change of 8/255 of the photo could move it |
| `flat` | texture: the photo blurred at the resolution that the model sees |
| `light` | darkness: a gamma correction lifts the mean of the photo to 150 of 255; 400 steps |
| `12`, `16` | the budget: 12/255, 16/255 |

The set of pictures of `gain` is a bound: the resize is linear, so that a change of at most e in each value moves a seen
value by at most e times the sum of the sizes of its weights. `gain` is one attack in that set. Where it succeeds and
`base` fails, the resize is what protects; where it fails, the resize is not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import statistics
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from PIL import Image, ImageFilter
from torch.nn import functional

from equipoise.attacks.budgets import Budget
from equipoise.attacks.elicitation import elicit
from equipoise.attacks.refusal_attack import RefusalAttack
from equipoise.attacks.refusal_evaluation import evaluate
from equipoise.cli.protect import DARK
from equipoise.data.questions import general
from equipoise.files import write_whole
from equipoise.media.quantize import to_image, to_pixels
from equipoise.models.load import load
from equipoise.stats.proportions import Rate
from page import put
from refusal import Album, photos

RESULTS = Path(__file__).parent / "results" / "photo_bound.json"
PAGE = Path(__file__).parents[1] / "docs" / "photos.md"
CONDITIONS = ("base", "long", "apgd", "questions", "openings", "seen", "gain", "flat", "light", "12", "16")
LIGHT = 150 / 255
"""Mean of the values of a photo under `light`; lighter photos stay as they are."""


def seen_size(model: Any) -> tuple[int, int]:
    """Width and height of what the processor makes of a picture."""
    size = model.processor.image_processor.size
    return (size["width"], size["height"]) if "width" in size else (size["shortest_edge"],) * 2


def resize_gain(size: tuple[int, int], view: tuple[int, int]) -> float:
    """The largest factor by which a bounded change of a picture can move one seen value (bicubic with antialiasing).

    Rows and columns are resized one after the other, so that the sum of the sizes of the weights is the product of the
    sums along either side; each is measured by resizing the unit vectors of one side.
    """
    factor = 1.0
    for length, wanted in zip(size, view, strict=True):
        units = torch.eye(length)[None, None]
        weights = functional.interpolate(units, (length, wanted), mode="bicubic", antialias=True)[0, 0]
        factor *= float(weights.abs().sum(0).max())
    return factor


def attack_under(condition: str, base: RefusalAttack, album: Album, view: tuple[int, int]) -> tuple[Any, Image.Image]:
    """The attack and the picture of a condition."""
    changed: dict[str, dict[str, Any]] = {
        "long": {"steps": 400},
        "light": {"steps": 400},
        "apgd": {"steps": 400, "solver": "apgd", "restarts": 3},
        "questions": {"questions_per_step": None},
        "openings": {"aim": "openings"},
        "gain": {"budget": Budget("linf", 8 / 255 * resize_gain(album.picture.size, view))},
        "12": {"budget": Budget("linf", 12 / 255)},
        "16": {"budget": Budget("linf", 16 / 255)},
    }
    picture = album.picture
    if condition in ("seen", "gain"):
        picture = picture.resize(view, Image.Resampling.BICUBIC)
    if condition == "flat":
        picture = picture.filter(ImageFilter.GaussianBlur(2 * max(picture.size) / max(view)))
    if condition == "light":
        picture = lightened(picture)
    return replace(base, **changed.get(condition, {})), picture


def lightened(picture: Image.Image) -> Image.Image:
    """The picture with the power of its values, in [0, 1], at which their mean is `LIGHT`."""
    pixels = to_pixels(picture)
    low, high = 0.05, 1.0
    if float(pixels.mean()) >= LIGHT:
        return picture
    for _ in range(30):
        middle = (low + high) / 2
        low, high = (middle, high) if float((pixels**middle).mean()) > LIGHT else (low, middle)
    return to_image(pixels**high)


def texture(picture: Image.Image, view: tuple[int, int]) -> float:
    """Mean size of the step between neighbours at the seen resolution, in levels."""
    pixels = to_pixels(picture.resize(view, Image.Resampling.BICUBIC)) * 255
    return float((pixels.diff(dim=1).abs().mean() + pixels.diff(dim=2).abs().mean()) / 2)


def digest(picture: Image.Image) -> str:
    """Names a photo in the results, whatever their number."""
    return hashlib.sha256(picture.convert("RGB").tobytes()).hexdigest()[:10]


def measure(name: str, count: int, conditions: tuple[str, ...]) -> None:
    """All conditions of all photos that are not measured yet; each is saved at once."""
    results: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    model: Any = load(name)
    base, size = RefusalAttack(steps=100, enough_rate=None, own_refusals=(elicit(model),)), seen_size(model)
    for index, album in enumerate(photos(count)):
        for condition in conditions:
            key = f"{name} {digest(album.picture)} {condition}"
            if key in results:
                continue
            attack, picture = attack_under(condition, base, album, size)
            result = attack(picture, [model], list(general()), seed=index)
            refusals = evaluate(model, result.image, album.held_out).refusals
            results[key] = {
                "refused": [refusals.k, refusals.n],
                "clean": evaluate(model, picture, album.held_out).refusals.k,
                "rate": result.rate,
                "steps": result.steps,
                "loss": round(min(step.loss for step in result.trace), 3),
                "epsilon": round(attack.budget.epsilon * 255, 2),
                "texture": round(texture(picture, size), 2),
                "mean": round(float(to_pixels(album.picture).mean()) * 255),
                "ssim": result.ssim,
            }
            RESULTS.parent.mkdir(exist_ok=True)
            write_whole(RESULTS, json.dumps(results, indent=1) + "\n")
            print(key, results[key], flush=True)


def render(results: Mapping[str, Any]) -> None:
    """Write the table of docs/photos.md between its markers."""
    lines = [
        "| model | condition | photos | refused | photos fully refused | lowest loss, median | budget, median |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(key.split()[0] for key in results):
        photos_of: dict[str, dict[str, Any]] = {}
        for key, row in results.items():
            if key.split()[0] == name:
                photos_of.setdefault(key.split()[2], {})[key.split()[1]] = row
        # The same photos in every line, so that lines can be compared.
        common = set.intersection(*(set(rows) for rows in photos_of.values()))
        for condition in CONDITIONS:
            rows = [row for photo, row in photos_of.get(condition, {}).items() if photo in common]
            if rows:
                rate = Rate.of(sum(row["refused"][0] for row in rows), sum(row["refused"][1] for row in rows), 0)
                full = sum(row["refused"][0] == row["refused"][1] for row in rows)
                loss, budget = (statistics.median(row[field] for row in rows) for field in ("loss", "epsilon"))
                lines.append(
                    f"| {name} | {condition} | {len(rows)} | {rate} | {full} | {loss:.2f} | {budget:.1f}/255 |"
                )
    put(PAGE, "table", lines)
    put(PAGE, "brightness", by_brightness(results))


def by_brightness(results: Mapping[str, Any]) -> list[str]:
    """The table of dark and other photos, as they are and lightened, with 400 steps."""
    lines = [
        "| model | mean of the photo | photos | refused | refused when lightened "
        "| refused when lightened, without an attack |",
        "|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(key.split()[0] for key in results):
        both = [key.split()[1] for key in results if key.split()[0] == name and key.split()[2] == "light"]
        for title, low, high in ((f"below {DARK}", 0, DARK), (f"{DARK} and above", DARK, 256)):
            chosen = [key for key in both if low <= results[f"{name} {key} light"]["mean"] < high]
            plain, light = ([results[f"{name} {key} {condition}"] for key in chosen] for condition in ("long", "light"))
            rates = [
                Rate.of(sum(row["refused"][0] for row in rows), sum(row["refused"][1] for row in rows), 0)
                for rows in (plain, light)
            ]
            clean = sum(row["clean"] for row in light)
            lines.append(f"| {name} | {title} | {len(chosen)} | {rates[0]} | {rates[1]} | {clean} |")
    return lines


def main() -> None:
    """Measure, then render the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("conditions", nargs="*", metavar="CONDITION", help=", ".join(CONDITIONS))
    parser.add_argument("--model", default="testbed/llava")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--render", action="store_true")
    arguments = parser.parse_args()
    if unknown := set(arguments.conditions) - set(CONDITIONS):
        parser.error(f"expected conditions of {', '.join(CONDITIONS)}, got {min(unknown)}")
    if not arguments.render:
        measure(arguments.model, arguments.count, tuple(arguments.conditions) or CONDITIONS)
    render(json.loads(RESULTS.read_text()))


if __name__ == "__main__":
    main()

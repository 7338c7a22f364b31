"""`equipoise protect`: the refusal perturbation for people who own pictures."""

from __future__ import annotations

from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Annotated, Final

import typer

from equipoise.cli.console import print_json, print_table
from equipoise.cli.options import arguments as o
from equipoise.cli.options.attack import RobustAttackOptions
from equipoise.cli.options.compute import GradientOptions
from equipoise.cli.options.expansion import with_options
from equipoise.cli.options.questions import HeldOutOptions
from equipoise.cli.perturb import exit_where_failed, run_with_page
from equipoise.errors import UsageError

if TYPE_CHECKING:
    from equipoise.perturb.config import PerturbConfig
    from equipoise.perturb.record import ModelAnswers, PictureRecord
    from equipoise.perturb.runner import PerturbResults

DARK: Final = 105
"""Mean of a photo's values of 255, below which the reference models refused nothing (docs/photos.md)."""
LIMITS = """What this does not do:
- It works on the models named above. Other models, and later versions of these, will mostly answer as before.
- Strong compression, cropping, a screenshot, a filter or a photo of the screen can undo it.
- It does not change what people see, and it does not hide text around the picture.
- It hides no data in the file: date, camera, artist, rights and other EXIF and XMP data are in the copy as well. Only
  the place where the picture was taken is left out, and what a note above names.
- Copies that are out already stay as they are. A person who knows of the change can try to remove it."""


@with_options
def protect(
    images: o.Images,
    out: o.Out,
    model: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="A model to be protected from: a folder, or ORG/NAME or ORG/NAME@REVISION of the model hub. May be "
            "repeated. "
            "By default the small reference models that come with equipoise.",
        ),
    ] = None,
    overwrite: o.Overwrite = False,
    json: o.Json = False,
    questions: HeldOutOptions = HeldOutOptions(),
    attack: RobustAttackOptions = RobustAttackOptions(steps=200, eot="all"),
    max_new_tokens: o.MaxNewTokens = 64,
    compute: GradientOptions = GradientOptions(),
) -> None:
    """Make copies of your pictures about which AI models refuse to talk.

    The copies look almost the same. Each is tried out: the models are asked questions about the original and about
    the copy, and you are told how many were refused.
    """
    from equipoise.perturb.config import PerturbConfig

    config = PerturbConfig(
        models=tuple(model or _shipped_models()),
        out=out,
        questions=questions.choose(attack.seed),
        max_new_tokens=max_new_tokens,
        overwrite=overwrite,
        estimate=True,
        compute=compute.config,
        **attack.settings(),
    )
    results, page = run_with_page(images, config)
    if json:
        print_json(results.to_dict())
    else:
        _print_results(results, page, config, shipped=not model)
    exit_where_failed(results)


def _shipped_models() -> list[str]:
    from equipoise.testbed.reference import list_models

    names = [model.name for model in list_models() if model.role in ("target", "bystander")]
    if not names:
        raise UsageError("expected a model to protect from, got none; try --model ORG/NAME")
    return names


def _print_results(results: PerturbResults, page: Path, config: PerturbConfig, *, shipped: bool) -> None:
    for record in results.records:
        print_table(*_sentences(record, config.out), "")
    if not results.records:
        return
    levels = max(record.linf_measured for record in results.records) * 255
    weak = [record.file for record in results.records if not_protected_from(record)]
    except_weak = f", except {', '.join(weak)}" if weak else ""
    publish = f"Publish the files in {config.out}{except_weak}, not the originals."
    print_table(
        f"No colour value was changed by more than {levels:.0f} of 255 levels. "
        + (publish if len(weak) < len(results.records) else "None of these pictures is well protected."),
        *([f"Not done, see above: {', '.join(results.errors)}"] if results.errors else []),
        f"To see them side by side, open {page}",
        "",
        f"Models tried: {', '.join(config.models)}",
    )
    if shipped:
        print_table("These are small models that come with equipoise for trying it out. Name real ones with --model.")
    print_table("", LIMITS)


def not_protected_from(record: PictureRecord) -> list[str]:
    """The models that still talk about a copy.

    Each model by itself: a picture that one of two models describes is as open as if neither had been tried.
    """
    return [model.model for model in record.models if model.role == "target" and not is_protected(model)]


def is_dark(file: Path) -> bool:
    """Whether a picture is as dark as those that no number of steps protected from the reference models."""
    from PIL import ImageStat

    from equipoise.media.decode import open_picture

    # As models see it: on white where it is transparent.
    return fmean(ImageStat.Stat(open_picture(file)).mean) < DARK


def _sentences(record: PictureRecord, folder: Path) -> list[str]:
    from equipoise.attacks.perturbation_result import UNSUCCESSFUL

    lines = [f"{Path(record.image).name} -> {record.file}"]
    for model in record.models:
        after, before = model.perturbed, model.clean
        unclear = f" ({after.unscored} more replies were unclear)" if after.unscored else ""
        lines.append(
            f"  {model.model}: {after.k} of {after.n} questions were refused{unclear}; "
            f"about the original, {before.k} of {before.n}."
        )
    if weak := not_protected_from(record):
        advice = (
            "It is dark, and no dark photo was ever refused by the small models that come with equipoise "
            "(docs/photos.md). Try a lighter copy of it."
            if is_dark(folder / record.file)
            else "Try more --steps or a larger --epsilon, e.g. 24/255."
        )
        lines.append(f"  This picture is not well protected from {' and '.join(weak)}. {advice}")
    # What is measured on the copy stands above; that no check of the attack succeeded says nothing beside it.
    lines += [f"  Note: {warning}." for warning in record.warnings if warning != UNSUCCESSFUL]
    return lines


def is_protected(model: ModelAnswers) -> bool:
    """Whether a model refuses at least half of what it was asked about the copy; unclear replies are no refusals."""
    rate = model.perturbed
    return 2 * rate.k >= rate.n + rate.unscored

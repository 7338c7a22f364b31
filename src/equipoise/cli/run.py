"""A run over pictures: attack, save, read back, ask; resumed where an earlier run was killed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from equipoise.cli.asking import ask_both
from equipoise.cli.console import warn
from equipoise.cli.folder import ResultsFolder, sha256
from equipoise.cli.plan import PerturbConfig
from equipoise.cli.progress import PerturbProgress
from equipoise.data.pictures import open_picture
from equipoise.errors import EquipoiseError, PictureError, UsageError
from equipoise.report import contact_sheet
from equipoise.report.picture_record import ModelAnswers, PictureRecord

if TYPE_CHECKING:
    from PIL.Image import Image

    from equipoise.attacks.perturbation_result import PerturbationResult
    from equipoise.models.base import OpenModel


@dataclass(frozen=True)
class PerturbResults:
    """What a run came to."""

    records: tuple[PictureRecord, ...]
    """The pictures that are done, finished earlier or now."""
    errors: dict[str, str]
    """The pictures that failed, with the reason."""
    page: Path
    """The contact sheet."""

    @property
    def exit_code(self) -> int:
        """0, or that of a picture error where any picture failed."""
        return PictureError.exit_code if self.errors else 0

    @property
    def document(self) -> dict[str, Any]:
        """What `--json` prints."""
        errors = [{"image": image, "error": reason} for image, reason in self.errors.items()]
        return {"images": [record.summary() for record in self.records], "errors": errors}


@dataclass(frozen=True)
class PerturbRun:
    """A plan with its models loaded."""

    plan: PerturbConfig
    """What to do."""
    chosen: tuple[str, ...]
    """The options that chose the questions, as the user gave them."""
    targets: tuple[OpenModel, ...]
    """Models that shall refuse."""
    bystanders: tuple[OpenModel, ...]
    """Models that shall not."""
    results: ResultsFolder
    """The folder."""
    progress: PerturbProgress
    """Where the person looks."""

    def picture(self, image: Path) -> PictureRecord:
        """Do what is left to do for one picture.

        Raises:
            EquipoiseError: it cannot be done.
        """
        done = self.results.finished(image)
        if done:
            return done
        clean = open_picture(image)
        perturbed, peak = self._attacked(image, clean)
        record = self._measure(image, clean, perturbed, peak)
        self.results.finish(image, record)
        return record

    def _attacked(self, image: Path, clean: Image) -> tuple[PerturbationResult, int | None]:
        from equipoise.attacks.perturbation_result import PerturbationResult
        from equipoise.cli.engine import attack, peak_memory

        stem = self.results.path / image.stem
        kept = self.results.attacked(image)
        if kept:
            return PerturbationResult.load(stem), kept["recipe"]["run"]["peak_memory"]
        made = attack(self.plan, image.stem, clean, self.targets, self.bystanders, self.progress.step)
        peak = peak_memory(self.targets)
        run: dict[str, Any] = {
            "image": str(image),
            "clean_sha256": sha256(image),
            "recipe": dict(self.results.recipe),
            "command": self.plan.command(self.chosen, image),
            "peak_memory": peak,
        }
        replace(made, recipe={**made.recipe, "run": run}).save(stem)
        # From here on only the file counts.
        return PerturbationResult.load(stem), peak

    def _measure(self, image: Path, clean: Image, perturbed: PerturbationResult, peak: int | None) -> PictureRecord:
        plan = self.plan
        self.progress.say("asking")
        saved = open_picture(self.results.png(image))
        asked: list[ModelAnswers] = []
        for role, models in (("target", self.targets), ("bystander", self.bystanders)):
            for model in models:
                asked.append(
                    ask_both(
                        model,
                        "target" if role == "target" else "bystander",
                        clean,
                        saved,
                        plan.questions.held_out,
                        max_new_tokens=plan.max_new_tokens,
                        at_once=plan.machine.micro_batch,
                    )
                )
        recipe = {key: value for key, value in perturbed.recipe.items() if key != "run"}
        return PictureRecord(
            image=str(image),
            file=self.results.png(image).name,
            norm=perturbed.budget.norm,
            epsilon=perturbed.budget.epsilon,
            linf_measured=perturbed.linf,
            psnr=perturbed.psnr,
            ssim=perturbed.ssim,
            steps=perturbed.steps,
            seconds=perturbed.seconds,
            peak_memory=peak,
            stopped=perturbed.stopped,
            trace=tuple(step.loss for step in perturbed.trace),
            asked=tuple(asked),
            warnings=(*perturbed.warnings, *plan.questions.warnings, *_warnings(asked)),
            recipe={**recipe, "seed": perturbed.seed, "held_out_questions": list(plan.questions.held_out)},
            command=plan.command(self.chosen, image),
        )


def carry_out(plan: PerturbConfig, chosen: Sequence[str]) -> PerturbResults:
    """Do what a plan says; failures of single pictures are told on stderr and kept, unless there is but one.

    Args:
        plan: what to do.
        chosen: the options that chose the questions, as the user gave them.

    Raises:
        EquipoiseError: nothing can be done, or the only picture failed.
    """
    ResultsFolder.check(plan.out, plan.recipe, overwrite=plan.overwrite)
    if len(plan.images) == 1:
        open_picture(plan.images[0])
    with PerturbProgress(len(plan.images), plan.steps) as progress:
        progress.say("loading models")
        targets = tuple(plan.machine.load(name, plan.defences) for name in plan.models)
        bystanders = tuple(plan.machine.load(name) for name in plan.bystanders)
        revisions = {model.name: model.revision for model in (*targets, *bystanders)}
        _require_different(revisions)
        results = ResultsFolder(plan.out, plan.recipe | {"revisions": revisions})
        results.claim(plan.images, overwrite=plan.overwrite)
        run = PerturbRun(plan, tuple(chosen), targets, bystanders, results, progress)
        records, errors = _pictures(run)
    page = contact_sheet.write(records, plan.out, errors=errors)
    return PerturbResults(tuple(records), errors, page)


def _require_different(revisions: dict[str, str]) -> None:
    """The same weights under two names would be counted twice, or be their own bystander."""
    seen: dict[str, str] = {}
    for name, revision in revisions.items():
        if revision in seen:
            raise UsageError(f"expected different models, got the same weights as {seen[revision]} and {name}; try one")
        seen[revision] = name


def _pictures(run: PerturbRun) -> tuple[list[PictureRecord], dict[str, str]]:
    records: list[PictureRecord] = []
    errors: dict[str, str] = {}
    for image in run.plan.images:
        run.progress.start(image.name)
        try:
            records.append(run.picture(image))
        except EquipoiseError as error:
            if len(run.plan.images) == 1:
                raise
            message = " ".join(str(error).split())
            warn(message if str(image) in message else f"{image}: {message}")
            errors[str(image)] = message
        run.progress.end(records[-1] if str(image) not in errors else None)
    if errors:
        warn(f"{len(errors)} of {len(run.plan.images)} pictures failed")
    sys.stderr.flush()
    return records, errors


def _warnings(asked: Sequence[ModelAnswers]) -> list[str]:
    warnings = []
    for model in asked:
        rates = (model.clean, model.perturbed)
        if any(rate.unscored for rate in rates):
            count = sum(rate.unscored for rate in rates)
            warnings.append(f"{count} replies of {model.model} could not be scored")
        if model.clean.k:
            warnings.append(
                f"{model.model} already refused {model.clean.k} of {model.clean.n} questions on the original"
            )
    return warnings

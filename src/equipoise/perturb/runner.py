"""`run`: perturb pictures, save and read them back, ask the models, and record the result; resumable."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from equipoise.data.pictures import select_pictures
from equipoise.errors import EquipoiseError, PictureError, UsageError
from equipoise.media.appearance import read_appearance
from equipoise.media.decode import open_picture
from equipoise.media.quantize import to_pixels
from equipoise.perturb.config import PerturbConfig
from equipoise.perturb.evaluation import evaluate_both
from equipoise.perturb.record import ModelAnswers, ModelRole, PictureRecord
from equipoise.perturb.results_folder import ResultsFolder, sha256

if TYPE_CHECKING:
    from PIL.Image import Image

    from equipoise.attacks.perturbation_result import PerturbationResult, TraceStep
    from equipoise.attacks.wordings import OwnRefusals
    from equipoise.models.base import OpenModel
    from equipoise.types import Judge


def _ignore(*_: object) -> None:
    """Where the caller does not follow the run."""


@dataclass(frozen=True)
class PerturbCallbacks:
    """What a caller is told during a run, each by a function of its own."""

    pictures: Callable[[int], None] = _ignore
    """The number of pictures, before anything else."""
    start: Callable[[str], None] = _ignore
    """A picture begins; its file name."""
    stage: Callable[[str], None] = _ignore
    """What is being done apart from steps, such as `loading models`."""
    step: Callable[[TraceStep], None] = _ignore
    """A step of the attack."""
    finish: Callable[[PictureRecord], None] = _ignore
    """A picture is done, now or in an earlier run."""
    note: Callable[[str], None] = _ignore
    """Something to know before it starts, in one line."""
    failure: Callable[[Path, str], None] = _ignore
    """A picture failed, with the reason in one line; the run goes on with the others."""


@dataclass(frozen=True)
class PerturbResults:
    """The pictures of a run."""

    records: tuple[PictureRecord, ...]
    """The pictures that are done, in this run or in an earlier one, sorted by file name."""
    errors: dict[str, str]
    """The paths of the pictures that failed, with the reason."""
    out: Path
    """The folder of the results."""
    left_out: tuple[Path, ...] = ()
    """Other files in the given folders, which are no pictures by their names."""

    def to_dict(self) -> dict[str, Any]:
        """The JSON document of `equipoise perturb --json`."""
        errors = [{"image": image, "error": reason} for image, reason in self.errors.items()]
        return {
            "images": [record.summary() for record in self.records],
            "errors": errors,
            "left_out": [str(file) for file in self.left_out],
        }


def run(
    pictures: Sequence[str | Path] | str | Path,
    config: PerturbConfig,
    callbacks: PerturbCallbacks | None = None,
) -> PerturbResults:
    """Make models refuse questions about pictures, and measure on the saved files that they do.

    Every picture is saved as `out/NAME.png` with its numbers in `out/NAME.json`. The same call again continues where
    a run was stopped: finished pictures are not touched, pictures that were saved but not evaluated are only evaluated.

    >>> from pathlib import Path
    >>> from equipoise import perturb
    >>> config = perturb.PerturbConfig(models=("testbed/llava",), out=Path("out"))  # doctest: +SKIP
    >>> results = perturb.run("photos", config)                                     # doctest: +SKIP
    >>> [(record.file, record.rate("target").k) for record in results.records]      # doctest: +SKIP
    [('cat.png', 10), ('dog.png', 9)]

    Args:
        pictures: picture files, and folders of them (not their subfolders); or only one of these.
        config: what to do.
        callbacks: told of the progress.

    Raises:
        UsageError: no pictures, two with one stem, the folder of the pictures as `out`, a folder with the results of
            another recipe, or the same weights under two names.
        OutputError: the folder cannot be written.
        ModelError: a model that cannot be loaded or used.
        PictureError: the only picture cannot be read. Where there are several, `PerturbResults.errors` names it.
    """
    # Reading the results of a run must not load torch, and importing this package is a part of that.
    from equipoise.models.base import require_reads_pictures

    callbacks = callbacks or PerturbCallbacks()
    selection = select_pictures([pictures] if isinstance(pictures, str | Path) else pictures)
    images = list(selection.pictures)
    if selection.left_out:
        names = ", ".join(file.name for file in selection.left_out)
        callbacks.note(f"not done, because they are no pictures by their names: {names}")
    _require_other_folder(images, config.out)
    callbacks.pictures(len(images))
    ResultsFolder.check(config.out, config.recipe, overwrite=config.overwrite)
    if len(images) == 1:
        open_picture(images[0])
    callbacks.stage("loading models")
    targets, own_refusals = _load_targets(config, callbacks)
    bystanders = tuple(config.compute.of_bystanders.load(name) for name in config.bystanders)
    for model in (*targets, *bystanders):
        require_reads_pictures(model, "perturb pictures")
    revisions = {model.name: model.revision for model in (*targets, *bystanders)}
    require_different_weights(revisions)
    errors: dict[str, str] = {}
    recipe = config.recipe | {"revisions": revisions}
    if config.universal:
        images = _usable(images, (*targets, *bystanders), errors, callbacks)
        # One change belongs to one set of pictures: with another set the folder is another run's.
        recipe["universal_over"] = [sha256(image) for image in images]
    folder = ResultsFolder(config.out, recipe)
    folder.claim(tuple(images), overwrite=config.overwrite)
    job = _PerturbRun(config, tuple(images), targets, bystanders, folder, callbacks, own_refusals)
    if config.universal:
        job.attack_together()
    if config.estimate:
        job.say_how_long()
    records = job.finish_pictures(errors)
    return PerturbResults(tuple(records), errors, config.out, selection.left_out)


@dataclass(frozen=True)
class _PerturbRun:
    """A run with its models loaded."""

    config: PerturbConfig
    images: tuple[Path, ...]
    targets: tuple[OpenModel, ...]
    bystanders: tuple[OpenModel, ...]
    folder: ResultsFolder
    callbacks: PerturbCallbacks
    own_refusals: tuple[OwnRefusals, ...] = ()
    """How the targets refuse; empty where a sentence is given."""

    def finish_pictures(self, errors: dict[str, str]) -> list[PictureRecord]:
        """The records of all pictures that can be done; adds the others to `errors`, unless there is only one."""
        records: list[PictureRecord] = []
        for image in self.images:
            self.callbacks.start(image.name)
            try:
                record = self._finish_picture(image)
            except EquipoiseError as error:
                # One picture among many becomes a line of the report; the only picture is the command's own error.
                if len(self.images) + len(errors) == 1:
                    raise
                _add_failure(image, error, errors, self.callbacks)
            else:
                records.append(record)
                self.callbacks.finish(record)
        return records

    def say_how_long(self) -> None:
        """Time a step on the first picture that is to be attacked, and say how long all of them take at most."""
        from equipoise.perturb.duration import in_words, most_seconds

        waiting = [image for image in self.images if not self.folder.attacked(image)]
        clean = [picture for image in waiting if (picture := _opened(image)) is not None]
        if clean:
            self.callbacks.stage("timing a step")
            seconds = most_seconds(self.config, [picture.size for picture in clean], clean[0], self.targets)
            self.callbacks.note(f"{len(clean)} pictures take {in_words(seconds)} at most, asking not counted")

    def attack_together(self) -> None:
        """Make one change for all pictures, unless an earlier run has saved them all."""
        from equipoise.perturb.attack import attack_together, peak_memory, reset_peak_memory

        # All or none: a universal change belongs to the whole set of pictures, and one more picture changes it.
        if all(self.folder.attacked(image) for image in self.images):
            return
        self.callbacks.stage(f"{len(self.images)} pictures together")
        reset_peak_memory(self.targets)
        clean = [open_picture(image) for image in self.images]
        results = attack_together(
            self.config, clean, self.targets, self.bystanders, self.callbacks.step, self.own_refusals
        )
        peak = peak_memory(self.targets)
        for image, result in zip(self.images, results, strict=True):
            self._save(image, result, peak)

    def _finish_picture(self, image: Path) -> PictureRecord:
        """Do for one picture what earlier runs have not done."""
        finished = self.folder.finished(image)
        if finished:
            return finished
        clean = open_picture(image)
        # Attack and measurement are saved one after the other: a run that was killed between them only asks again.
        attacked = self.folder.attacked(image)
        peak = attacked["recipe"]["run"]["peak_memory"] if attacked else self._attack(image, clean)
        record = self._measure(image, clean, peak)
        self.folder.finish(image, record)
        return record

    def _attack(self, image: Path, clean: Image) -> int | None:
        """Perturb and save one picture; returns the peak memory in bytes, where it can be measured."""
        from equipoise.perturb.attack import attack_picture, peak_memory, reset_peak_memory

        reset_peak_memory(self.targets)
        result = attack_picture(
            self.config, image.stem, clean, self.targets, self.bystanders, self.callbacks.step, self.own_refusals
        )
        peak = peak_memory(self.targets)
        self._save(image, result, peak)
        return peak

    def _save(self, image: Path, result: PerturbationResult, peak: int | None) -> None:
        run_record: dict[str, Any] = {
            "image": str(image),
            "clean_sha256": sha256(image),
            "recipe": dict(self.folder.recipe),
            "command": self._command(image),
            "peak_memory": peak,
        }
        appearance = read_appearance(image)
        if appearance.rgba is not None:
            result = result.with_appearance(appearance, to_pixels(open_picture(image)))
        replace(result, recipe={**result.recipe, "run": run_record}).save(self.folder.stem(image), appearance)

    def _measure(self, image: Path, clean: Image, peak: int | None) -> PictureRecord:
        from equipoise.attacks.perturbation_result import PerturbationResult

        # Only the files count from here on: what is measured is what other people will open.
        result = PerturbationResult.load(self.folder.stem(image))
        saved = open_picture(self.folder.png(image))
        self.callbacks.stage("asking")
        config = self.config
        roles: list[tuple[ModelRole, OpenModel]] = [("target", model) for model in self.targets]
        roles += [("bystander", model) for model in self.bystanders]
        answers = [
            evaluate_both(
                model,
                role,
                clean,
                saved,
                config.questions.held_out,
                max_new_tokens=config.max_new_tokens,
                batch_size=config.compute.micro_batch,
                judge=self._judge_of(model),
            )
            for role, model in roles
        ]
        recipe = {key: value for key, value in result.recipe.items() if key != "run"}
        return PictureRecord(
            image=str(image),
            file=self.folder.png(image).name,
            norm=result.budget.norm,
            epsilon=result.budget.epsilon,
            linf_measured=result.linf,
            psnr=result.psnr,
            ssim=result.ssim,
            steps=result.steps,
            seconds=result.seconds,
            peak_memory=peak,
            stopped=result.stopped,
            trace=tuple(step.loss for step in result.trace),
            models=tuple(answers),
            warnings=(*result.warnings, *config.questions.warnings, *_answer_warnings(answers)),
            recipe={**recipe, "seed": result.seed, "held_out_questions": list(config.questions.held_out)},
            command=self._command(image),
        )

    def _judge_of(self, model: OpenModel) -> Judge:
        """The structural judge, and for a target also what its refusals are word for word."""
        from equipoise.attacks.success_checks import OwnWordsJudge
        from equipoise.judges.phrases import PhraseJudge

        own = next((own for own in self.own_refusals if own.model == model.name.split(" + ")[0]), None)
        return OwnWordsJudge(PhraseJudge(), own)

    def _command(self, image: Path) -> str:
        """The command line that makes the picture again; a universal change needs all pictures for it."""
        return self.config.command(self.images if self.config.universal else (image,))


def _load_targets(
    config: PerturbConfig, callbacks: PerturbCallbacks
) -> tuple[tuple[OpenModel, ...], tuple[OwnRefusals, ...]]:
    """The targets with their defences, and how each refuses without them."""
    from equipoise.attacks.elicitation import elicit
    from equipoise.attacks.wordings import no_refusals
    from equipoise.countermeasures.catalogue import defend
    from equipoise.models.base import require_reads_pictures

    targets, own_refusals = [], []
    for name in config.models:
        model = config.compute.load(name)
        require_reads_pictures(model, "perturb pictures")
        if config.refusal is None:
            callbacks.stage(f"asking {name} what it refuses")
            own_refusals.append(elicit(model, file=config.elicit))
            if not own_refusals[-1].refused:
                callbacks.note(no_refusals(own_refusals[-1]))
        targets.append(defend(model, config.defences))
    return tuple(targets), tuple(own_refusals)


def _require_other_folder(images: Sequence[Path], out: Path) -> None:
    inside = next((image for image in images if image.resolve().parent == out.resolve()), None)
    if inside:
        raise UsageError(
            f"expected another folder for the results than that of the pictures, got {out} for both "
            f"({inside.name} could be overwritten); try --out {out / 'perturbed'}"
        )


def require_different_weights(revisions: dict[str, str]) -> None:
    """Refuse the same weights under two names: they would be counted twice, or be their own bystander.

    Args:
        revisions: the revision of each model by its name.

    Raises:
        UsageError: two names have one revision.
    """
    names: dict[str, str] = {}
    for name, revision in revisions.items():
        if revision in names:
            raise UsageError(
                f"expected different models, got the same weights as {names[revision]} and {name}; try one"
            )
        names[revision] = name


def _usable(
    images: Sequence[Path], models: Sequence[OpenModel], errors: dict[str, str], callbacks: PerturbCallbacks
) -> list[Path]:
    """The pictures that can be opened and that every model's processor takes; the others become errors.

    Raises:
        PictureError: there are none.
    """
    from equipoise.attacks.large_pictures import seen_pixels

    usable = []
    for image in images:
        try:
            seen_pixels(models, open_picture(image))
        except PictureError as error:
            _add_failure(image, error, errors, callbacks)
        else:
            usable.append(image)
    if not usable:
        raise PictureError(f"expected a readable picture, got none among {len(images)}; try other files")
    return usable


def _opened(image: Path) -> Image | None:
    """The picture; None where it cannot be read, which its own turn will report."""
    try:
        return open_picture(image)
    except PictureError:
        return None


def _add_failure(image: Path, error: EquipoiseError, errors: dict[str, str], callbacks: PerturbCallbacks) -> None:
    message = " ".join(str(error).split())
    errors[str(image)] = message
    callbacks.failure(image, message)


def _answer_warnings(answers: Sequence[ModelAnswers]) -> list[str]:
    warnings = []
    for model in answers:
        unscored = model.clean.unscored + model.perturbed.unscored
        if unscored:
            warnings.append(f"{unscored} replies of {model.model} could not be scored")
        if model.clean.k:
            warnings.append(
                f"{model.model} already refused {model.clean.k} of {model.clean.n} questions on the original"
            )
    return warnings

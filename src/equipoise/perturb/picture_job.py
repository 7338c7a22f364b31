"""`PictureJob`: what is done to each picture of a run, with its models loaded; and how these are loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from equipoise.errors import PictureError, UsageError
from equipoise.media.appearance import read_appearance
from equipoise.media.decode import open_picture
from equipoise.media.quantize import to_pixels
from equipoise.perturb.callbacks import PerturbCallbacks
from equipoise.perturb.config import PerturbConfig
from equipoise.perturb.evaluation import evaluate_both
from equipoise.perturb.record import ModelAnswers, ModelRole, PictureRecord
from equipoise.perturb.results_folder import ResultsFolder, picture_sha256

if TYPE_CHECKING:
    from PIL.Image import Image

    from equipoise.attacks.perturbation_result import PerturbationResult
    from equipoise.attacks.wordings import OwnRefusals
    from equipoise.judges.ensemble import Ensemble
    from equipoise.models.base import OpenModel
    from equipoise.types import Judge


@dataclass(frozen=True)
class PictureJob:
    """A run with its models loaded: attack, save, read back and measure one picture or all of them."""

    config: PerturbConfig
    images: tuple[Path, ...]
    targets: tuple[OpenModel, ...]
    bystanders: tuple[OpenModel, ...]
    folder: ResultsFolder
    callbacks: PerturbCallbacks
    own_refusals: tuple[OwnRefusals, ...] = ()
    """How the targets refuse; empty where a sentence is given."""
    given: Mapping[Path, Path] = field(default_factory=dict)
    """The path that the user gave, of pictures that lie elsewhere here, as those that a worker received."""

    def say_how_long(self) -> None:
        """Time a step on the first picture that can be attacked, and say how long all of them take at most."""
        from equipoise.perturb.duration import in_words, most_seconds

        waiting = [image for image in self.images if not self.folder.attacked(image)]
        # One picture at a time: a folder of photos does not fit into memory.
        sizes = {image: picture.size for image in waiting if (picture := _opened(image)) is not None}
        for image in sizes:
            picture = _opened(image)
            if picture is None:
                continue
            self.callbacks.stage("timing a step")
            try:
                seconds = most_seconds(self.config, list(sizes.values()), picture, self.targets)
            except PictureError:
                # A picture that a processor refuses is reported in its own turn; another one is timed.
                continue
            what = "1 picture takes" if len(sizes) == 1 else f"{len(sizes)} pictures take"
            self.callbacks.note(f"{what} {in_words(seconds)} at most, asking afterwards not counted")
            return

    def attack_universal(self) -> None:
        """Make one change for all pictures, unless an earlier run has saved them all."""
        from equipoise.models.peak_memory import peak_memory, reset_peak_memory
        from equipoise.perturb.attack import attack_universal

        # All or none: a universal change belongs to the whole set of pictures, and one more picture changes it.
        if all(self.folder.attacked(image) and self._is_whole(image) for image in self.images):
            return
        self.callbacks.stage(f"{len(self.images)} pictures together")
        reset_peak_memory(self.targets)
        hashes = [picture_sha256(image) for image in self.images]
        clean = [open_picture(image) for image in self.images]
        floors = [read_appearance(image).floor for image in self.images]
        results = attack_universal(
            self.config, clean, self.targets, self.bystanders, self.callbacks.step, self.own_refusals, floors
        )
        peak = peak_memory(self.targets)
        for image, result, before in zip(self.images, results, hashes, strict=True):
            self._save(image, result, peak, before)

    def finish_picture(self, image: Path) -> PictureRecord:
        """Do for one picture what earlier runs have not done."""
        finished = self.folder.finished(image)
        if finished:
            return finished
        self.folder.require_names(image)
        before = picture_sha256(image)
        clean = open_picture(image)
        # Attack and measurement are saved one after the other: a run that was killed between them only asks again.
        attacked = self.folder.attacked(image)
        if attacked is not None and self._is_whole(image):
            peak = attacked["recipe"]["run"].get("peak_memory")
        elif self.config.universal:
            # Attacked alone it would get a change of its own, and its record would not say so.
            raise PictureError(
                f"expected {image} and its result as the attack on all pictures left them, got one that was changed "
                "since; try the same command again"
            )
        else:
            peak = self._attack(image, clean, before)
        # From the file that was just saved. A run that goes on after a kill measures the same file, so that both give
        # one record.
        record = self._measure(image, clean, peak)
        self.folder.finish(image, record)
        return record

    def _is_whole(self, image: Path) -> bool:
        """Whether what an earlier run saved can be read; what somebody edited is made again."""
        from equipoise.attacks.perturbation_result import PerturbationResult

        try:
            PerturbationResult.load(self.folder.stem(image))
        except PictureError:
            return False
        return True

    def _attack(self, image: Path, clean: Image, before: str) -> int | None:
        """Perturb and save one picture; returns the peak memory in bytes, where it can be measured."""
        from equipoise.models.peak_memory import peak_memory, reset_peak_memory
        from equipoise.perturb.attack import attack_picture

        reset_peak_memory(self.targets)
        result = attack_picture(
            self.config,
            image.stem,
            clean,
            self.targets,
            self.bystanders,
            self.callbacks.step,
            self.own_refusals,
            read_appearance(image).floor,
        )
        peak = peak_memory(self.targets)
        self._save(image, result, peak, before)
        return peak

    def _save(self, image: Path, result: PerturbationResult, peak: int | None, before: str) -> None:
        """Save a result for the picture whose file had the hash `before` when it was attacked.

        Raises:
            PictureError: the file is another one by now, so that the result is none of it.
            OutputError: it cannot be written.
        """
        run_record: dict[str, Any] = {
            "image": str(self._given(image)),
            "clean_sha256": before,
            "recipe": dict(self.folder.recipe),
            "command": self._command(image),
            "peak_memory": peak,
        }
        appearance = read_appearance(image)
        if picture_sha256(image) != before:
            raise PictureError(f"expected {image} as it was at the beginning, got a changed file; try again")
        if appearance.rgba is not None:
            result = result.with_appearance(appearance, to_pixels(open_picture(image)))
        # Contract 3 begins here: the 8-bit file is written, and nothing after this line sees the floats that it was
        # made from.
        recipe = {**result.recipe, "run": run_record}
        result = replace(result, warnings=(*result.warnings, *appearance.notes), recipe=recipe)
        result.save(self.folder.stem(image), appearance)

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
            image=str(self._given(image)),
            file=self.folder.png(image).name,
            norm=result.budget.norm,
            epsilon=result.budget.epsilon,
            linf_measured=result.linf,
            psnr=result.psnr,
            ssim=result.ssim,
            ms_ssim=result.ms_ssim,
            steps=result.steps,
            seconds=result.seconds,
            peak_memory=peak,
            stopped=result.stopped,
            trace=tuple(step.loss for step in result.trace),
            models=tuple(answers),
            warnings=(*result.warnings, *config.questions.warnings, *_answer_warnings(answers)),
            recipe={
                **recipe,
                "seed": result.seed,
                "held_out_questions": list(config.questions.held_out),
                "judges": self._judges(),
            },
            command=self._command(image),
        )

    def _judge_of(self, model: OpenModel) -> Judge:
        """The judge that reports, and for a target also what its refusals are word for word."""
        from equipoise.attacks.success_checks import OwnWordsJudge
        from equipoise.attacks.wordings import refusals_of

        return OwnWordsJudge(self._reporting, refusals_of(model.name, self.own_refusals))

    @cached_property
    def _reporting(self) -> Ensemble:
        # Not the judge that stops the attack: a picture that has learned to please one judge shall not be reported by
        # the same one.
        from equipoise.judges.ensemble import default_judge

        return default_judge()

    def _judges(self) -> dict[str, str]:
        """Which judge stopped the attack, and which one reports, by name and identity."""
        from equipoise.judges.phrases import PhraseJudge
        from equipoise.judges.run_judge import name_of

        stops = PhraseJudge()
        return {
            "stops": f"{name_of(stops)} {stops.identity[:12]}",
            "reports": f"{self._reporting.name} {self._reporting.identity[:12]}",
        }

    def _command(self, image: Path) -> str:
        """The command line that makes the picture again; a universal change needs all pictures for it."""
        return self.config.command(self.images if self.config.universal else (self._given(image),))

    def _given(self, image: Path) -> Path:
        return self.given.get(image, image)


def load_targets(
    config: PerturbConfig, callbacks: PerturbCallbacks
) -> tuple[tuple[OpenModel, ...], tuple[OwnRefusals, ...]]:
    """The targets with their defences, and how each refuses without them."""
    from equipoise.countermeasures.catalogue import defend
    from equipoise.generation.request_gate import request_gate

    targets, own_refusals = [], []
    for name in config.models:
        model = load_target(config, name)
        if config.refusal is None:
            own_refusals.append(learn_refusals(config, model, callbacks))
        targets.append(defend(model, config.defences, harm_gate=request_gate))
    return tuple(targets), tuple(own_refusals)


def load_target(config: PerturbConfig, name: str) -> OpenModel:
    """One target without its defences.

    Raises:
        ModelError: it cannot be loaded, or reads no pictures.
        UsageError: it cannot be asked one of the questions.
    """
    from equipoise.models.base import require_reads_pictures

    model = config.compute.load(name)
    require_reads_pictures(model, "perturb pictures")
    _require_texts(config, model)
    return model


def load_bystanders(config: PerturbConfig) -> tuple[OpenModel, ...]:
    """The models that should go on answering.

    Raises:
        ModelError: one cannot be loaded, or reads no pictures.
        UsageError: one cannot be asked one of the questions.
    """
    from equipoise.models.base import require_reads_pictures

    bystanders = tuple(config.compute.of_bystanders.load(name) for name in config.bystanders)
    for model in bystanders:
        require_reads_pictures(model, "perturb pictures")
        _require_texts(config, model)
    return bystanders


def _require_texts(config: PerturbConfig, model: OpenModel) -> None:
    """Refuse, before hours of an attack, a question or refusal that would be taken for a picture."""
    from equipoise.models.chat import require_no_picture_marks
    from equipoise.steering.prompt_sets import read_prompts

    questions = [*config.questions.shadow, *config.questions.held_out]
    prompts = read_prompts(config.elicit).prompts if config.elicit is not None else ()
    further = [message.text for prompt in prompts for message in prompt.messages]
    further += [] if config.refusal is None else [config.refusal]
    require_no_picture_marks(getattr(model, "processor", None), [*questions, *further])


def learn_refusals(config: PerturbConfig, model: OpenModel, callbacks: PerturbCallbacks) -> OwnRefusals:
    """Ask a target without its defences what it refuses."""
    from equipoise.attacks.elicitation import elicit
    from equipoise.attacks.wordings import no_refusals

    callbacks.stage(f"asking {model.name} what it refuses")
    own = elicit(model, file=config.elicit)
    if not own.refused:
        callbacks.note(no_refusals(own))
    return own


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


def _opened(image: Path) -> Image | None:
    """The picture; None where it cannot be read, which its own turn will report."""
    try:
        return open_picture(image)
    except PictureError:
        return None


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

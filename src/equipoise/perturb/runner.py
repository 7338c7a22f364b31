"""`run`: perturb pictures, save and read them back, ask the models, and record the result; resumable."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from equipoise.data.pictures import select_pictures
from equipoise.errors import PictureError, UsageError
from equipoise.execution.executors import Executor
from equipoise.media.decode import open_picture
from equipoise.perturb.callbacks import PerturbCallbacks
from equipoise.perturb.config import PerturbConfig
from equipoise.perturb.picture_job import PictureJob, load_bystanders, load_targets, require_different_weights
from equipoise.perturb.record import PictureRecord
from equipoise.perturb.results_folder import ResultsFolder, only_writer, picture_sha256

if TYPE_CHECKING:
    from equipoise.models.base import OpenModel


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
    """What else is in the given folders: other files, and folders, whose pictures are not looked for."""

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
    executor: Executor | None = None,
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
        executor: where pictures are perturbed; None is this process. The files are the same.

    Raises:
        UsageError: no pictures, two with one stem, the folder of the pictures as `out`, a folder with the results of
            another recipe, or the same weights under two names.
        OutputError: the folder cannot be written.
        ModelError: a model that cannot be loaded or used.
        PictureError: the only picture cannot be read. Where there are several, `PerturbResults.errors` names it.
    """
    # Cheap checks first, in the order of what they cost: names, folders and the recipe are looked at before a model of
    # many gigabytes is loaded, so that a typing error is told in a second.
    callbacks = callbacks or PerturbCallbacks()
    selection = select_pictures([pictures] if isinstance(pictures, str | Path) else pictures)
    images = list(selection.pictures)
    # The results of an earlier run may lie in a folder inside that of the pictures.
    results = os.path.realpath(config.out)
    left_out = tuple(file for file in selection.left_out if os.path.realpath(file) != results)
    nowhere = [file.name for file in left_out if file.is_symlink() and not file.exists()]
    if others := [f"{file.name}/" if file.is_dir() else file.name for file in left_out if file.name not in nowhere]:
        callbacks.note(f"not done, because they are no picture files by their names: {', '.join(others)}")
    if nowhere:
        callbacks.note(f"not done, because they are links that lead nowhere: {', '.join(nowhere)}")
    if selection.same:
        pairs = ", ".join(f"{link.name} (the same file as {picture.name})" for link, picture in selection.same)
        callbacks.note(f"done once, under another name: {pairs}")
    _require_other_folder(images, config.out)
    callbacks.pictures(len(images))
    ResultsFolder.check(config.out, config.run_recipe, overwrite=config.overwrite)
    if len(images) == 1:
        open_picture(images[0])
    if config.elicit is not None:
        from equipoise.steering.prompt_sets import read_prompts

        read_prompts(config.elicit)
    with only_writer(config.out):
        records, errors = _run_alone(images, config, callbacks, executor)
    return PerturbResults(tuple(records), errors, config.out, left_out)


def _run_alone(
    images: list[Path], config: PerturbConfig, callbacks: PerturbCallbacks, executor: Executor | None
) -> tuple[list[PictureRecord], dict[str, str]]:
    """The records of the pictures and the reasons of those that failed, where nobody else writes the folder."""
    # From here on this process loads no model: the workers do, and two copies of the weights would not fit beside each
    # other.
    if executor is not None:
        from equipoise.perturb.worker_run import perturb_on_workers

        return perturb_on_workers(images, config, callbacks, executor)
    callbacks.stage("loading models")
    targets, own_refusals = load_targets(config, callbacks)
    bystanders = load_bystanders(config)
    revisions = {model.name: model.revision for model in (*targets, *bystanders)}
    # A bystander with the weights of a target would be asked to refuse and to answer at once; no change of pixels does
    # both.
    require_different_weights(revisions)
    errors: dict[str, str] = {}
    recipe = config.run_recipe | {"revisions": revisions}
    if config.universal:
        names = ResultsFolder(config.out, recipe, config.overwrite).require_names
        images = _usable(images, (*targets, *bystanders), names, errors, callbacks)
        # One change belongs to one set of pictures: with another set the folder is another run's.
        recipe["universal_over"] = [picture_sha256(image) for image in images]
    folder = ResultsFolder(config.out, recipe, config.overwrite)
    # The models' revisions are part of the recipe, so the folder can only be claimed after loading: results of other
    # weights under the same name must not be mixed.
    folder.claim(tuple(images), overwrite=config.overwrite)
    job = PictureJob(config, tuple(images), targets, bystanders, folder, callbacks, own_refusals)
    if config.universal:
        job.attack_universal()
    if config.estimate:
        job.say_how_long()
    return _finish_pictures(job, errors), errors


def _finish_pictures(job: PictureJob, errors: dict[str, str]) -> list[PictureRecord]:
    """The records of all pictures that can be done; adds the others to `errors`, unless there is only one."""
    alone = len(job.images) + len(errors) == 1
    done = [
        job.callbacks.attempt(image, partial(job.finish_picture, image), errors, alone=alone) for image in job.images
    ]
    return [record for record in done if record is not None]


def _require_other_folder(images: Sequence[Path], out: Path) -> None:
    results = os.path.realpath(out)
    inside = next((image for image in images if os.path.dirname(os.path.realpath(image)) == results), None)
    if inside:
        raise UsageError(
            f"expected another folder for the results than that of the pictures, got {out} for both "
            f"({inside.name} could be overwritten); try --out {out / 'perturbed'}"
        )


def _usable(
    images: Sequence[Path],
    models: Sequence[OpenModel],
    require_names: Callable[[Path], object],
    errors: dict[str, str],
    callbacks: PerturbCallbacks,
) -> list[Path]:
    """The pictures that can be opened and saved and that every model's processor takes; the others become errors.

    Raises:
        PictureError: there are none.
    """
    from equipoise.attacks.large_pictures import seen_pixels

    usable = []
    for image in images:
        try:
            require_names(image)
            seen_pixels(models, open_picture(image))
        except PictureError as error:
            callbacks.add_failure(image, error, errors)
        else:
            usable.append(image)
    if not usable:
        raise PictureError(f"expected a readable picture, got none among {len(images)}; try other files")
    return usable

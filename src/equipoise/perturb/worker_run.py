"""A run over pictures on several workers: the same files in the same folder as in one process, in any order.

Workers write whole results into shards beside the results; here they are moved into the folder as they come. A run that
was killed left results in its shards: the next one takes them over before any worker starts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from equipoise.errors import PictureError, UsageError, os_reason
from equipoise.execution.dispatch import ItemOutcome, WorkerGroup
from equipoise.execution.executors import Executor
from equipoise.execution.items import Parcel, WorkItem, content_key
from equipoise.execution.shards import ShardStore
from equipoise.perturb.callbacks import PerturbCallbacks
from equipoise.perturb.config import PerturbConfig
from equipoise.perturb.picture_job import require_different_weights
from equipoise.perturb.picture_task import PictureOrder, PictureTask, pack_picture, unpack_picture
from equipoise.perturb.record import PictureRecord
from equipoise.perturb.results_folder import ResultsFolder, sha256

if TYPE_CHECKING:
    from equipoise.attacks.wordings import OwnRefusals

SHARDS: Final = ".shards"
"""Folder of the shards, in that of the results; gone when a run is complete."""


def perturb_on_workers(
    images: Sequence[Path],
    config: PerturbConfig,
    callbacks: PerturbCallbacks,
    executor: Executor,
    task: PictureTask | None = None,
) -> tuple[list[PictureRecord], dict[str, str]]:
    """Perturb pictures on workers.

    Args:
        images: the pictures.
        config: what to do.
        callbacks: told of the progress; steps are not reported.
        executor: where workers run.
        task: what they do; None is a `PictureTask` of the config.

    Returns:
        The records in the order of the pictures, and the reasons of those that failed, by their paths.

    Raises:
        UsageError: one change for all pictures cannot be divided among workers.
        OutputError: the disk is full.
        ModelError: models cannot be loaded.
        EquipoiseError: the only picture failed.
    """
    if config.universal:
        raise UsageError("expected pictures that are perturbed one by one, got --universal; try it without --workers")
    store = ShardStore(config.out / SHARDS)
    records: dict[Path, PictureRecord] = {}
    errors: dict[str, str] = {}
    callbacks.stage(f"loading models ({executor.description})")
    try:
        with executor.open(task or PictureTask(config), store, callbacks.note) as group:
            revisions, own_refusals = _describe_models(group, store, config, callbacks)
            folder = ResultsFolder(config.out, config.run_recipe | {"revisions": revisions}, config.overwrite)
            folder.claim(tuple(images), overwrite=config.overwrite)
            run = _WorkerRun(folder, store, callbacks, own_refusals)
            waiting = list(run.unfinished(images, records, errors))
            callbacks.stage(f"{len(waiting)} pictures on {executor.description}")
            # Outcomes come in any order; the key leads back to the picture. Two pictures with equal bytes have keys of
            # their own, because the path is part of the key.
            of_key = {item.key: image for item, image in waiting}
            for outcome in group.map(item for item, _ in waiting):
                image = of_key[outcome.item.key]
                record = callbacks.attempt(image, partial(run.take, image, outcome), errors, alone=len(images) == 1)
                if record is not None:
                    records[image] = record
    finally:
        store.remove_empty()
        # Where nothing came of the run, it leaves no empty folder behind.
        with suppress(OSError):
            config.out.rmdir()
    return [records[image] for image in images if image in records], errors


def _describe_models(
    group: WorkerGroup, store: ShardStore, config: PerturbConfig, callbacks: PerturbCallbacks
) -> tuple[dict[str, str], tuple[OwnRefusals, ...]]:
    """Revisions of the models and how the targets refuse, from the first worker: this process loads no model."""
    from equipoise.attacks.wordings import OwnRefusals

    item = WorkItem(content_key("perturb-models", [], config.recipe), "the models", Parcel.of)
    # Never that of an earlier run: the weights under a name may be other ones by now.
    store.discard(item.key)
    (outcome,) = group.map([item])
    store.discard(item.key)
    if outcome.result is None:
        raise outcome.error or PictureError("expected a description of the models, got none; try again")
    description = json.loads(outcome.result.parts[0])
    for note in description["notes"]:
        callbacks.note(note)
    revisions = dict(description["revisions"])
    require_different_weights(revisions)
    # JSON, not a pickle: what lies in a shard is read without running anything that stands in it.
    return revisions, tuple(OwnRefusals.from_dict(own) for own in description["own_refusals"])


class _WorkerRun:
    """The results folder of a run on workers.

    Args:
        folder: of the results.
        store: of the shards.
        callbacks: of the run.
        own_refusals: how the targets refuse.
    """

    def __init__(
        self,
        folder: ResultsFolder,
        store: ShardStore,
        callbacks: PerturbCallbacks,
        own_refusals: tuple[OwnRefusals, ...],
    ) -> None:
        self._folder = folder
        self._store = store
        self._callbacks = callbacks
        self._own_refusals = own_refusals

    def unfinished(
        self, images: Sequence[Path], records: dict[Path, PictureRecord], errors: dict[str, str]
    ) -> Iterator[tuple[WorkItem, Path]]:
        """The pictures that are left, as items; adds what earlier runs have done to `records`."""
        for image in images:
            record = self._folder.finished(image)
            if record is not None:
                records[image] = record
                self._callbacks.start(image.name)
                self._callbacks.finish(record)
                continue
            try:
                yield self._item(image), image
            except OSError as error:
                reason = PictureError(f"expected a readable picture at {image}, got '{os_reason(error)}'; try another")
                if len(images) == 1:
                    raise reason from None
                self._callbacks.start(image.name)
                self._callbacks.add_failure(image, reason, errors)

    def take(self, image: Path, outcome: ItemOutcome) -> PictureRecord:
        """Move a result into the folder.

        Raises:
            OutputError: the folder cannot be written; the result stays in its shard for the next run.
            EquipoiseError: the picture failed.
        """
        if outcome.result is None:
            raise outcome.error or PictureError(f"expected a result of {image}, got none; try again")
        unpack_picture(image, outcome.result, self._folder)
        self._store.discard(outcome.item.key)
        # Read back as the next run would read it: three hashes must fit.
        record = self._folder.finished(image)
        if record is None:
            raise PictureError(f"expected {image} as it was at the beginning, got a changed file; try again")
        return record

    def _item(self, image: Path) -> WorkItem:
        order = PictureOrder(str(image), self._folder.recipe, self._own_refusals)
        key = content_key("perturb", [str(image), sha256(image)], self._folder.recipe)
        return WorkItem(key, image.name, partial(pack_picture, image, order, self._folder))

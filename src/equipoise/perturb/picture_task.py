"""`PictureTask`: what a worker does with a picture that it was sent: perturb, save, measure, send the files back."""

from __future__ import annotations

import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from equipoise.errors import ModelError, PictureError, os_reason
from equipoise.execution.items import Parcel, WorkerTask
from equipoise.files import write_whole
from equipoise.perturb.callbacks import PerturbCallbacks
from equipoise.perturb.config import PerturbConfig
from equipoise.perturb.picture_job import PictureJob, learn_refusals, load_bystanders, load_target
from equipoise.perturb.results_folder import ResultsFolder

if TYPE_CHECKING:
    from equipoise.attacks.wordings import OwnRefusals
    from equipoise.models.base import OpenModel


@dataclass(frozen=True)
class PictureOrder:
    """The message to a worker about a picture; the picture's bytes are another part of the parcel."""

    image: str
    """Path as the user gave it, for the record; a worker on another machine has no such file."""
    recipe: Mapping[str, Any]
    """Of the results folder, with the models' revisions."""
    own_refusals: tuple[OwnRefusals, ...]
    """How the targets refuse, learned once for all workers."""


@dataclass(frozen=True)
class LoadedModels:
    """The models of a worker."""

    bare: tuple[OpenModel, ...]
    """Targets without their defences."""
    targets: tuple[OpenModel, ...]
    """Targets in their defences."""
    bystanders: tuple[OpenModel, ...]
    """Models that should go on answering."""


@dataclass(frozen=True)
class PictureTask(WorkerTask):
    """Perturbs pictures.

    A parcel without parts asks for the models: revisions, what was learned of their refusals, notes. One with an order
    and a picture (and the two files of an attack that an earlier run did not measure) gives the JSON and the PNG.
    """

    config: PerturbConfig
    """Of the run."""

    def load(self) -> LoadedModels:
        """Load the models, once for each worker."""
        from equipoise.countermeasures.catalogue import defend
        from equipoise.generation.request_gate import request_gate

        bare = tuple(load_target(self.config, name) for name in self.config.models)
        targets = tuple(defend(model, self.config.defences, harm_gate=request_gate) for model in bare)
        return LoadedModels(bare, targets, load_bystanders(self.config))

    def run(self, state: LoadedModels, parcel: Parcel) -> Parcel:
        """Describe the models, or do one picture."""
        return self._perturb(state, *parcel.parts) if parcel.parts else self._describe(state)

    def _describe(self, state: LoadedModels) -> Parcel:
        notes: list[str] = []
        callbacks = PerturbCallbacks(note=notes.append)
        own = [learn_refusals(self.config, model, callbacks) for model in state.bare if self.config.refusal is None]
        description = {
            "revisions": [(model.name, model.revision) for model in (*state.targets, *state.bystanders)],
            "notes": notes,
            "own_refusals": [refusals.to_dict() for refusals in own],
        }
        return Parcel.of(json.dumps(description).encode())

    def _perturb(self, state: LoadedModels, order_bytes: bytes, picture: bytes, *earlier: bytes) -> Parcel:
        order: PictureOrder = pickle.loads(order_bytes)
        revisions = {model.name: model.revision for model in (*state.targets, *state.bystanders)}
        # Another machine may hold other weights under the same name. The order names the weights that the run was begun
        # with.
        if revisions != order.recipe["revisions"]:
            raise ModelError(
                f"expected the models {order.recipe['revisions']}, got {revisions} on a worker; "
                "try the same files on every machine"
            )
        with TemporaryDirectory(prefix="equipoise-") as temporary:
            # The same name as the user's file: it decides a random refusal, and the names of the results.
            image = Path(temporary) / "given" / Path(order.image).name
            write_whole(image, picture)
            folder = ResultsFolder(Path(temporary) / "results", order.recipe)
            if earlier:
                write_whole(folder.png(image), earlier[1])
                write_whole(folder.json(image), earlier[0])
            job = PictureJob(
                self.config,
                (image,),
                state.targets,
                state.bystanders,
                folder,
                PerturbCallbacks(),
                order.own_refusals,
                given={image: Path(order.image)},
            )
            try:
                job.finish_picture(image)
            except PictureError as error:
                raise PictureError(str(error).replace(str(image), order.image)) from None
            return Parcel.of(folder.json(image).read_bytes(), folder.png(image).read_bytes())


def pack_picture(image: Path, order: PictureOrder, folder: ResultsFolder) -> Parcel:
    """What a worker gets: the order, the picture, and what an earlier run saved but did not measure.

    Raises:
        PictureError: the picture cannot be read, or the folder holds the results of another one of its name.
    """
    folder.require_own(image)
    try:
        picture = image.read_bytes()
    except OSError as error:
        raise PictureError(
            f"expected a readable picture at {image}, got '{os_reason(error)}'; try another file"
        ) from None
    parts = [pickle.dumps(order), picture]
    if folder.attacked(image):
        parts += [folder.json(image).read_bytes(), folder.png(image).read_bytes()]
    return Parcel.of(*parts)


def unpack_picture(image: Path, result: Parcel, folder: ResultsFolder) -> None:
    """Write a worker's files into the results folder: the PNG first, as a JSON means that both are complete.

    Raises:
        OutputError: they cannot be written.
    """
    document, png = result.parts
    folder.json(image).unlink(missing_ok=True)
    write_whole(folder.png(image), png)
    write_whole(folder.json(image), document)

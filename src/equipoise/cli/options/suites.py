"""Suites of a command: those that `--suite` names, or by default those that the model is for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from equipoise.data.catalogue import Suite

EMBEDDED: Final = ("testbed", "everyday")
"""For a model that reads pictures, or a served one, where that is unknown."""
TEXT: Final = ("everyday", "contrast")
"""For a model that reads no pictures."""
REFERENCE: Final = "reference/"
"""Beginning of the names of models that speak English and were trained by Equipoise."""
HELP: Final = (
    "NAME, NAME=FOLDER, NAME=hub:ORG/NAME@REVISION, a file of your own samples, or recovery-depth[=FILE], which begins "
    "replies. May be repeated. By default testbed and everyday; scenes and contrast for reference models, everyday and "
    "contrast for text models."
)


def default_suites(name: str, model: object) -> tuple[str, ...]:
    """The shipped suites that a model is for.

    Args:
        name: what the user called it.
        model: what is asked, here or on workers; anything else is a served one.
    """
    from equipoise.audit.engine.session import ModelOnWorkers
    from equipoise.models.base import OpenModel

    reads_pictures = not isinstance(model, OpenModel | ModelOnWorkers) or model.reads_pictures
    if name.startswith(REFERENCE):
        return ("scenes", "contrast") if reads_pictures else ("contrast",)
    return EMBEDDED if reads_pictures else TEXT


def load_suites(specs: tuple[str, ...], data: Path | None, limit: int | None, seed: int) -> tuple[Suite, ...]:
    """The suites of these specs; those that are drawn take the seed.

    Raises:
        UsageError: see `load_suite`.
    """
    from equipoise.audit.recovery.suite import is_recovery_depth
    from equipoise.data.catalogue import load_suite
    from equipoise.reference.mllm import suite as scenes
    from equipoise.testbed import suite as testbed

    drawn = {testbed.NAME: testbed.load, scenes.NAME: scenes.load}
    return tuple(
        drawn[spec](limit, seed) if spec in drawn else load_suite(spec, root=data, limit=limit, seed=seed)
        for spec in specs
        if not is_recovery_depth(spec)
    )

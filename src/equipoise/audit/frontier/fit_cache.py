"""Fits by the hash of everything that decides them: the same fit is made once, also across kills and commands."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

from equipoise.audit.append_only_log import fingerprint
from equipoise.audit.frontier.fitters import FitData, FitProgress, FitRequest, Fitter
from equipoise.audit.frontier.work_clock import WorkClock
from equipoise.data.split_registry import SplitRegistry, content_hash
from equipoise.files import write_json
from equipoise.judges.phrases import PhraseJudge
from equipoise.judges.run_judge import identity_of
from equipoise.models.base import OpenModel
from equipoise.types import Judge

DOCUMENT: Final = "fit.json"
SECONDS: Final = "seconds.json"
"""Time that a fit took so far, over all its processes."""


@dataclass(frozen=True)
class CachedFit:
    """A finished fit, as its folder holds it."""

    fitter: str
    """Name of the fitter."""
    key: str
    """Hash of everything that decides it."""
    artefact: str | None
    """Name of the result inside the folder; None where there is none."""
    reason: str | None
    """Why there is none."""
    seconds: float
    """Time that it took, over all processes that worked on it."""
    tuned_on: dict[str, int]
    """Number of samples used, by suite."""
    tuned_sha256: str
    """Hash of these samples."""
    doubts: list[str] = field(default_factory=list)
    """Of the fit itself."""
    details: dict[str, Any] = field(default_factory=dict)
    """Further figures."""
    refused: str | None = None
    """Why it may not be measured: it was fitted on samples that are related to test samples."""
    folder: str = ""
    """Where it lies; not stored."""

    @property
    def path(self) -> Path | None:
        """The artefact; None where there is none."""
        return None if self.artefact is None else Path(self.folder) / self.artefact


class FitCache:
    """The fits of one folder.

    Args:
        root: where they lie, a folder for each.
        registry: with the test split, which no fit may use.
        data: what may be fitted on.
        tick: called while a fit runs, for a budget of time.
        judge: who says what refuses while fitting.
    """

    def __init__(
        self,
        root: Path,
        registry: SplitRegistry,
        data: FitData,
        tick: Callable[[], None] = lambda: None,
        judge: Judge | None = None,
    ) -> None:
        self.root, self.registry, self.data, self.tick = root, registry, data, tick
        self.judge = judge or PhraseJudge()
        self._data_sha256 = content_hash(data.all)

    def key(self, fitter: Fitter, model: OpenModel, seed: int) -> str:
        """Hash of everything that decides a fit."""
        # A fit is found again by this hash alone. What is missing here (the data's hash, the seed, the judge that
        # labels) would let a folder return a fit of another setting under the same name.
        decides = {
            "fitter": fitter.name,
            "version": fitter.version,
            "model": [model.revision, model.number_format],
            "data": self._data_sha256,
            "seed": seed,
            "judge": identity_of(self.judge),
        }
        return fingerprint(decides)[:16]

    def get(self, fitter: Fitter, model: OpenModel, seed: int) -> CachedFit | None:
        """A finished fit; None where it is not finished."""
        folder = self.root / f"{fitter.name}-{self.key(fitter, model, seed)}"
        file = folder / DOCUMENT
        if not file.exists():
            return None
        # The folder's name holds the key, so that a document that is found needs no further comparison.
        stored = CachedFit(**json.loads(file.read_text(encoding="utf-8")), folder=str(folder))
        # A folder from which the result was deleted is fitted again.
        return stored if stored.path is None or stored.path.exists() else None

    def fit(
        self, fitter: Fitter, model: OpenModel, seed: int, progress: FitProgress = lambda stage, done, total: None
    ) -> CachedFit:
        """The fit of a model: from its folder, or made now.

        A fit that used samples of the test split is kept with the reason why it is refused, and never measured.
        """
        stored = self.get(fitter, model, seed)
        if stored is not None:
            return stored
        key = self.key(fitter, model, seed)
        folder = self.root / f"{fitter.name}-{key}"
        clock = WorkClock(folder / SECONDS)

        def watch(stage: str, done: int, total: int) -> None:
            clock.tick()
            self.tick()
            progress(stage, done, total)

        folder.mkdir(parents=True, exist_ok=True)
        request = FitRequest(model, self.data, folder, seed, watch, shared=self.root / "shared", judge=self.judge)
        outcome = fitter.fit(request)
        clock.tick(final=True)
        # What the fitter says it used is checked, not what it was given: a fitter may load prompts of its own. The
        # check comes after the fit because only then is it known; the result is kept either way, so that nobody fits it
        # a second time.
        overlaps = self.registry.leaks(outcome.tuned_on)
        refused = None
        if overlaps:
            count = len({overlap.right for overlap in overlaps})
            refused = (
                f"refused: fitted on {count} samples that are related to the test split "
                f"({overlaps[0].right} shares its {overlaps[0].kind} with {overlaps[0].left})"
            )
        finished = CachedFit(
            fitter=fitter.name,
            key=key,
            artefact=outcome.artefact,
            reason=outcome.reason,
            seconds=round(clock.seconds, 3),
            tuned_on=dict(Counter(sample.suite for sample in outcome.tuned_on)),
            tuned_sha256=content_hash(outcome.tuned_on),
            doubts=list(outcome.doubts),
            details=outcome.details,
            refused=refused,
        )
        document = asdict(finished)
        del document["folder"]
        # Written last: a folder without this document is an unfinished fit.
        write_json(folder / DOCUMENT, document)
        return replace(finished, folder=str(folder))

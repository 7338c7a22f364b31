"""What a frontier is measured with, and who is told how far it is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from equipoise import __version__
from equipoise.audit.engine.session import EvaluationTarget, ReportingJudge
from equipoise.audit.frontier.fitters import FitProgress
from equipoise.audit.frontier.variant import FrontierVariant
from equipoise.audit.frontier.variant_record import FITS, FORMAT
from equipoise.audit.frontier.variant_workers import VariantWorkers
from equipoise.audit.perturbed_variant import PerturbedVariantConfig
from equipoise.audit.run import AuditCallbacks
from equipoise.data.split_registry import SplitRegistry
from equipoise.errors import UsageError
from equipoise.models.base import OpenModel
from equipoise.types import Judge, Sample


@dataclass(frozen=True)
class FrontierConfig:
    """The configuration of a frontier."""

    target: EvaluationTarget
    """The model."""
    registry: SplitRegistry
    """The samples in their parts."""
    judge: ReportingJudge
    """Whose verdicts make all numbers."""
    out: Path
    """The folder."""
    variants: tuple[FrontierVariant, ...]
    """The mitigations, in the order in which they are measured."""
    load: Callable[[str], OpenModel] | None = None
    """Loads `MODEL+ADAPTER`; None where no adapter can be loaded."""
    perturbing: PerturbedVariantConfig | None = None
    """The attack of the third axis."""
    declared: Mapping[str, Sequence[Sample]] = field(default_factory=dict)
    """What mitigations of the user were tuned on, by name of the variant."""
    seeds: int = 1
    """How many seeds variants with chance are measured with."""
    budget: float | None = None
    """Seconds of work over all commands; None is no limit."""
    max_new_tokens: int = 64
    """Length of a reply at most, in tokens."""
    requests: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of `AuditConfig`: retries, timeouts and the like."""
    command: str = ""
    """The command, for the page."""
    workers: VariantWorkers | None = None
    """Who asks and judges; None is this process. Fits and attacks run in this process."""
    fit_judge: Judge | None = None
    """Who says what refuses while fitting; None is the structural judge, which is not the one that reports."""

    def __post_init__(self) -> None:
        names = [variant.name for variant in self.variants]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise UsageError(f"expected every mitigation once, got {twice!r} again; try giving --with once")
        folders: dict[str, str] = {}
        for variant in self.variants:
            other = folders.setdefault(variant.slug.casefold(), variant.name)
            if other != variant.name:
                raise UsageError(
                    f"expected mitigations whose first 80 letters and digits differ, got {other!r} and "
                    f"{variant.name!r}; try shorter or other names of files"
                )
            # What is fitted lies here and is named in a spec: a folder that none can hold is refused before any fit.
            variant.specs([self.out / FITS if link.fitter else None for link in variant.links], 0)
        unknown = next((name for name in self.declared if name not in names), None)
        if unknown is not None:
            raise UsageError(f"expected a mitigation of --with for --tuned-on, got {unknown!r}; try one of {names}")
        for name, samples in self.declared.items():
            self.registry.require_apart(name, samples)

    @property
    def recipe(self) -> dict[str, Any]:
        """What decides the numbers, with the command."""
        return {
            "format": FORMAT,
            "equipoise": __version__,
            "command": self.command,
            "model": {"name": self.target.name, "revision": self.target.revision, "served": self.target.model is None},
            "split": self.registry.to_json(),
            "judge": self.judge.identity,
            "attack": None if self.perturbing is None else self.perturbing.recipe,
            "max_new_tokens": self.max_new_tokens,
        }


@dataclass(frozen=True)
class FrontierCallbacks:
    """Callbacks of a running frontier."""

    audit: AuditCallbacks = field(default_factory=AuditCallbacks)
    """Of every audit."""
    fit: FitProgress = lambda stage, done, total: None
    """Of every fit."""
    variant: Callable[[str], None] = lambda text: None
    """One line for each variant: that it begins, or why it is left out."""

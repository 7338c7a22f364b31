"""Mitigations that are fitted to a model, behind one interface.

A `Fitter` is a row of `FITTERS`: a name, what it is fitted on, and a function that fits into a folder. It is handed
samples of the selection split and prompts of our own, and nothing else; what it says it used is checked against the
test split before its result is measured. To add one, write a function `FitRequest -> FitOutcome` and add a row.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from equipoise.data.split_registry import SplitRegistry, content_hash
from equipoise.judges.phrases import PhraseJudge
from equipoise.models.base import OpenModel
from equipoise.types import Judge, Sample

FitProgress = Callable[[str, int, int], None]
"""Called with a stage, units done and units in all."""

PAPER_KL: Final = 0.1
"""Largest divergence of an ablated refusal direction on harmless prompts in arXiv:2406.11717."""
FIT_KL: Final = 0.5
"""The same limit here. What is fitted adds the direction behind a gate, or takes it out of another vector; it is never
ablated, so that the paper's limit would rule out directions for a harm that nothing here does. On `reference/lm` most
directions that end refusals lie above it. A direction above the paper's limit is a doubt of its row."""


@dataclass(frozen=True)
class FitData:
    """What may be fitted on."""

    harmful: tuple[Sample, ...]
    """Prompts that should be refused."""
    harmless: tuple[Sample, ...]
    """Prompts that should be answered."""
    ordinary: tuple[Sample, ...] = ()
    """Everyday and maths questions that a gate must leave alone."""
    contrast: tuple[Sample, ...] = ()
    """Harmful prompts in the words of harmless ones, whose refusals a vector against false refusals must keep."""

    @property
    def all(self) -> tuple[Sample, ...]:
        """Every sample."""
        return self.harmful + self.harmless + self.ordinary + self.contrast

    @classmethod
    def of(cls, registry: SplitRegistry) -> FitData:
        """The selection split, and prompts of our own that are related to no test sample."""
        from equipoise.steering.prompt_sets import OwnSet, own_prompts

        def own(name: OwnSet, expected: Literal["answer", "refuse"]) -> tuple[Sample, ...]:
            samples = tuple(
                Sample(str(number), f"equipoise-{name}", prompt.text, expected, source="written for fitting")
                for number, prompt in enumerate(own_prompts(name).prompts)
            )
            # Ours are short and plain, so a suite may happen to ask the same: those are dropped, not excused.
            related = {overlap.right for overlap in registry.leaks(samples)}
            return tuple(sample for sample in samples if f"{sample.suite} {sample.id}" not in related)

        usable = [sample for sample in registry.parts.selection if sample.problem is None]
        return cls(
            harmful=(*(s for s in usable if s.expected == "refuse"), *own("harmful", "refuse")),
            harmless=(
                *(s for s in usable if s.expected == "answer"),
                *own("harmless", "answer"),
                *own("pseudo_harmful", "answer"),
            ),
            ordinary=own("ordinary", "answer"),
            contrast=own("contrast_harmful", "refuse"),
        )


@dataclass(frozen=True)
class FitRequest:
    """One fit."""

    model: OpenModel
    """The model that is mitigated."""
    data: FitData
    """What may be used."""
    folder: Path
    """Where the result goes; parts of an interrupted fit lie here already."""
    seed: int = 0
    """Of everything that is drawn."""
    progress: FitProgress = lambda stage, done, total: None
    """Told how far it is."""
    shared: Path | None = None
    """A folder of parts that several fitters of one model use; None keeps them in `folder`."""
    judge: Judge = field(default_factory=PhraseJudge)
    """Who says what refuses while fitting; not the judge that reports."""


@dataclass(frozen=True)
class FitOutcome:
    """A fitted mitigation, or why there is none."""

    artefact: str | None
    """Name of the file or folder inside the request's folder; None where the fit gave nothing."""
    tuned_on: tuple[Sample, ...]
    """Every sample that was used."""
    reason: str | None = None
    """Why there is no artefact."""
    doubts: tuple[str, ...] = ()
    """What a reader should know of the quality of the fit."""
    details: dict[str, Any] = field(default_factory=dict)
    """Further figures, as JSON."""


@dataclass(frozen=True)
class Fitter:
    """A mitigation that has to be fitted."""

    name: str
    """As in `--with`; that of a countermeasure with a setting `file` where it makes a file."""
    about: str
    """What is fitted, in a line."""
    fitted_on: str
    """Which samples, in words."""
    fit: Callable[[FitRequest], FitOutcome]
    """Fits into the request's folder."""
    makes: Literal["file", "adapter"] = "file"
    """`file`: a file for the countermeasure of the same name; `adapter`: a folder for `MODEL+ADAPTER`."""
    version: int = 1
    """Counts up when the same request would give another result; part of the cache's key."""
    forwards: float = 6.0
    """Passes of every sample through the model, roughly, in units of one reply; for `--budget`."""
    most: int | None = None
    """Samples that it uses at most; None is all."""
    has_chance: bool = False
    """Whether another seed gives another result."""

    def replies(self, data: FitData) -> float:
        """What a fit takes, in units of one reply, roughly."""
        count = len(data.all)
        return self.forwards * (count if self.most is None else min(count, self.most))


def evenly(samples: Sequence[Sample], most: int) -> list[Sample]:
    """An even choice, in order, of at most so many."""
    count = min(most, len(samples))
    return [samples[index * len(samples) // count] for index in range(count)]


def fit_surgical(request: FitRequest) -> FitOutcome:
    """The false-refusal vector of a model, orthogonal to its refusal direction; `surgical.safetensors`."""
    from equipoise.steering.find import find_direction

    harmful, harmless, search = _search(request)
    contrast = _prompt_set("contrast", request.data.contrast) if request.data.contrast else None
    result = find_direction(search, harmful, harmless, harmless, contrast)
    used = request.data.harmful + request.data.harmless + request.data.contrast
    if result.surgical is None:
        return FitOutcome(None, used, result.surgical_reason or result.reason)
    result.surgical.save(request.folder / "surgical.safetensors")
    metrics = dict(result.surgical.metrics)
    doubts = [f"the vector was chosen on {result.surgical.details['refused']} refused harmless prompts"]
    doubts += _divergence_doubt(result.direction)
    return FitOutcome("surgical.safetensors", used, doubts=tuple(doubts), details={"metrics": metrics})


def fit_conditional(request: FitRequest) -> FitOutcome:
    """The refusal direction with a condition on the prompt; `conditional.safetensors`."""
    from equipoise.steering.added_direction import direction_to_add
    from equipoise.steering.conditional import fit_condition
    from equipoise.steering.find import find_direction

    harmful, harmless, search = _search(request)
    result = find_direction(search, harmful, harmless)
    used = request.data.harmful + request.data.harmless + request.data.ordinary
    direction, added = direction_to_add(search, result, harmful, harmless)
    if direction is None:
        # Both are about the same replies where the model refuses, or answers, too few prompts.
        reasons = (result.reason, None if added is None else added.reason)
        return FitOutcome(None, used, "; ".join(dict.fromkeys(filter(None, reasons))))
    doubts = _divergence_doubt(result.direction)
    if added is not None:
        doubts.append(
            "what is added is not the refusal direction of arXiv:2406.11717, of which there is none "
            f"({result.reason}); added {added.coefficient:g} times it makes the model refuse {added.refused} of "
            f"{added.prompts} prompts that it answers"
        )
    ordinary = _prompt_set("ordinary", request.data.ordinary)
    conditional = fit_condition(
        search.steerable,
        direction,
        harmful,
        harmless,
        [ordinary] if len(ordinary) else [],
        seed=request.seed,
        progress=request.progress,
    )
    conditional.save(request.folder / "conditional.safetensors")
    calibration = dict(conditional.condition.calibration)
    doubts = [
        f"the condition steers {100 * calibration['harmful_steered']:.0f} % of harmful prompts kept back from its fit, "
        f"on which its layer was chosen (AUROC {calibration['auroc']:.2f})",
        *doubts,
    ]
    return FitOutcome("conditional.safetensors", used, doubts=tuple(doubts), details={"calibration": calibration})


def fit_dro(request: FitRequest) -> FitOutcome:
    """A soft prompt; see `soft_prompt_fit`."""
    from equipoise.audit.frontier.soft_prompt_fit import fit_soft_prompt

    return fit_soft_prompt(request)


def fit_derta(request: FitRequest) -> FitOutcome:
    """An adapter that refuses at any position; see `derta_fit`."""
    from equipoise.audit.frontier import derta_fit

    return derta_fit.fit_derta(request)


def _divergence_doubt(direction: Any) -> list[str]:
    """What a reader should know of a refusal direction beyond the paper's limit; empty within it and without one."""
    divergence = 0.0 if direction is None else direction.metrics["kl"]
    if divergence < PAPER_KL:
        return []
    return [
        "the refusal direction is not clean: ablating it, which this mitigation does not do, changes harmless replies "
        f"(KL {divergence:.2f}; the limit of arXiv:2406.11717 is {PAPER_KL})"
    ]


def _search(request: FitRequest) -> tuple[Any, Any, Any]:
    """Prompt sets and the search of the direction, whose finished stages all steering fitters share."""
    from equipoise.steering.find import DirectionSearch, FindSettings
    from equipoise.steering.stage_folder import StageFolder
    from equipoise.steering.steerable import Steerable

    harmful = _prompt_set("harmful", request.data.harmful)
    harmless = _prompt_set("harmless", request.data.harmless)
    steerable = Steerable.of(request.model)
    settings = FindSettings(seed=request.seed, kl_limit=FIT_KL)
    search = DirectionSearch(steerable, settings, judge=request.judge, progress=request.progress)
    recipe = {
        "revision": [steerable.revision, request.model.number_format],
        "seed": request.seed,
        "sets": [harmful.sha256, harmless.sha256],
        "kl_limit": FIT_KL,
    }
    # Replies and activations are what takes the time. Two fits of one model read them from the same folder.
    name = f"direction-{content_hash(request.data.harmful + request.data.harmless)[:12]}-{request.seed}"
    folder = request.folder / "stages" if request.shared is None else request.shared / name
    search.stages = StageFolder(folder, recipe, overwrite=True)
    return harmful, harmless, search


def _prompt_set(name: str, samples: Sequence[Sample]) -> Any:
    from equipoise.steering.prompt_sets import PromptSet

    return PromptSet(name, tuple(sample.prompt for sample in samples), content_hash(samples))


FITTERS: Final[dict[str, Fitter]] = {
    "surgical": Fitter(
        "surgical",
        "a vector of false refusals, which is ablated",
        "harmful and harmless prompts of the selection split, and our own, contrasts among them",
        fit_surgical,
        version=4,
        has_chance=True,
    ),
    "conditional": Fitter(
        "conditional",
        "the refusal direction and the condition under which it is added",
        "harmful and harmless prompts of the selection split, our own, and everyday questions",
        fit_conditional,
        version=5,
        has_chance=True,
    ),
    "dro": Fitter(
        "dro",
        "a soft prompt in front of every conversation",
        "harmful and harmless prompts of the selection split, and our own",
        fit_dro,
        version=2,
        forwards=12.0,
        most=96,
        has_chance=True,
    ),
    "derta": Fitter(
        "derta",
        "an adapter that refuses at any position of a reply",
        "harmful and harmless prompts of the selection split, and our own, with answers that the model writes",
        fit_derta,
        makes="adapter",
        version=5,
        forwards=20.0,
        most=144,
        has_chance=True,
    ),
}
"""By name."""

"""The audit itself: ask every sample of every variant, judge the replies, keep everything in a run folder.

The same plan on the same folder goes on where an earlier run was stopped; nothing is asked twice.
"""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from equipoise import __version__
from equipoise.audit.engine.collect import collect_replies
from equipoise.audit.engine.session import (
    CollectionOutcome,
    CollectionProgress,
    EvaluationTarget,
    ModelOnWorkers,
    ReportingJudge,
)
from equipoise.audit.failure_limit import FailureLimit, accept_failures
from equipoise.audit.labels import DEFENDED, DEFENDED_ADAPTIVE, DEFENDED_PERTURBED, PERTURBED, PLAIN
from equipoise.audit.perturbed_picture import PerturbedPicture, to_document
from equipoise.audit.perturbed_variant import PerturbedVariantConfig, perturb_samples
from equipoise.audit.records import FORMAT, AuditRun, SampleRow
from equipoise.audit.text_attacks import VARIANTS as TEXT_VARIANTS
from equipoise.audit.text_attacks import TextAttack, attacked_samples, attacks_recipe
from equipoise.audit.workers.audit_task import describe_layers
from equipoise.audit.workers.audit_workers import AuditWorkers, CollectionRequest, JudgeOnWorkers
from equipoise.data.catalogue import Suite
from equipoise.errors import ModelError, PictureError, UsageError
from equipoise.files import write_whole
from equipoise.folder_lock import claim_folder
from equipoise.models.base import OpenModel, require_reads_pictures
from equipoise.types import Picture, Sample

DISTRIBUTIONS: Final = ("inspect_ai", "torch", "torchvision", "transformers", "numpy", "scipy", "statsmodels", "pillow")
DECIDING: Final = ("format", "model", "asked", "suites", "attack", "text_attack", "defence", "judge")
"""Keys of the recipe that decide the numbers: a folder holds the run of one such recipe."""
EXTENSIONS: Final = {b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"GIF8": ".gif", b"RIFF": ".webp"}
"""How the files of pictures begin, and what they are called in the run folder."""


@dataclass(frozen=True)
class AuditConfig:
    """The configuration of an audit."""

    target: EvaluationTarget
    """Who is asked."""
    suites: tuple[Suite, ...]
    """What is asked."""
    judge: ReportingJudge | JudgeOnWorkers
    """Whose verdicts make the numbers."""
    out: Path
    """The run folder."""
    perturbing: PerturbedVariantConfig | None = None
    """The attack, for the perturbed variant; needs a target with weights."""
    bystanders: tuple[OpenModel, ...] = ()
    """Models that are not attacked and should not refuse the perturbed pictures either."""
    text_attacks: tuple[TextAttack, ...] = ()
    """Attacks on the form of the requests, each for a variant of its own."""
    defended: OpenModel | ModelOnWorkers | None = None
    """The target's model in countermeasures, for the defended variants."""
    workers: AuditWorkers | None = None
    """Who asks and judges; None is this process."""
    max_new_tokens: int = 64
    """Length of a reply at most, in tokens."""
    connections: int | None = None
    """Prompts under way at once; None leaves it to the engine."""
    timeout: float | None = None
    """Seconds that one try may take."""
    retries: int = 2
    """How often a prompt that failed is sent again; a refusal is never sent again."""
    max_wait: float = 0.0
    """Seconds for which a prompt is sent again beyond that while the server is busy, broken or away."""
    max_failed: FailureLimit = field(default_factory=FailureLimit)
    """How many prompts may fail for good; they count as unscored, and the run as finished."""
    command: str = ""
    """The command that makes this run, for the report."""
    hardware: str = ""
    """What the model runs on, for the report."""

    def __post_init__(self) -> None:
        if not self.suites or not any(suite.samples for suite in self.suites):
            raise UsageError("expected at least one sample to ask, got none; try another suite or a higher limit")
        problems = [sample.problem for suite in self.suites for sample in suite.samples]
        if None not in problems:
            raise PictureError(
                f"expected at least one sample that can be asked, got none of {len(problems)} ({problems[0]}); "
                "try a complete copy of the suite"
            )
        if self.perturbing:
            if not isinstance(self.target.model, OpenModel):
                raise UsageError(
                    f"expected a model with weights to attack, got {self.target.name}; "
                    "try testbed/llava, or no --attack"
                )
            for model in (self.target.model, *self.bystanders):
                require_reads_pictures(model, "attack it")
        if "completing" in self.text_attacks and not _is_local(self.target):
            raise UsageError(
                f"expected a model with weights for --attack completing, got {self.target.name}, whose server writes "
                "the chat template; try --attack prefill"
            )
        problems = [_problem(sample, self.target) for suite in self.suites for sample in suite.samples]
        if None not in problems:
            raise ModelError(
                f"expected at least one sample that {self.target.name} can be asked, got none of {len(problems)} "
                f"({problems[0]}); try another suite, such as xstest"
            )
        ids: set[tuple[str, str]] = set()
        for suite in self.suites:
            for sample in suite.samples:
                if (sample.suite, sample.id) in ids:
                    raise UsageError(
                        f"expected every sample once, got {sample.suite} {sample.id!r} twice; try giving --suite once"
                    )
                ids.add((sample.suite, sample.id))

    @property
    def request_settings(self) -> dict[str, Any]:
        """The model and how its replies are generated: all that decides a reply beside the sample."""
        return {
            "model": self.target.name,
            "revision": self.target.revision,
            "max_new_tokens": self.max_new_tokens,
            "decoding": self.target.decoding,
            **(self.target.endpoint.changed_settings if self.target.endpoint else {}),
            **({"extra_body": body} if (body := self.target.settings.get("extra_body")) else {}),
        }

    @property
    def variants(self) -> tuple[str, ...]:
        """The variants of the run, in the order in which they are asked."""
        attacked, defended = self.perturbing is not None, self.defended is not None
        names = [PLAIN, *([PERTURBED] if attacked else []), *([DEFENDED] if defended else [])]
        names += [DEFENDED_PERTURBED, DEFENDED_ADAPTIVE] if attacked and defended else []
        for attack in self.text_attacks:
            own = TEXT_VARIANTS[attack]
            names += [own, *([f"{DEFENDED} {own}"] if defended else [])]
        return tuple(names)

    @property
    def defence(self) -> dict[str, Any] | None:
        """The countermeasures, in the order in which a picture meets them; None without."""
        if self.defended is None:
            return None
        model = self.defended
        layers = model.layers if isinstance(model, ModelOnWorkers) else describe_layers(model)
        return {"name": model.name, "revision": model.revision, "layers": list(layers)}

    @property
    def attack(self) -> dict[str, Any] | None:
        """What is attacked and how; None without an attack."""
        if self.perturbing is None:
            return None
        return {**self.perturbing.recipe, "bystanders": [[model.name, model.revision] for model in self.bystanders]}

    @property
    def recipe(self) -> dict[str, Any]:
        """What `run.json` holds."""
        return {
            "format": FORMAT,
            "equipoise": __version__,
            "command": self.command,
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "model": {"name": self.target.name, "revision": self.target.revision},
            # Only where it is known that there are none to read: a served model may read pictures or not.
            **({} if _reads_pictures(self.target) else {"reads_pictures": False}),
            "asked": self.request_settings,
            "suites": [
                {"name": suite.name, "source": suite.source, "sha256": suite.sha256, "samples": len(suite.samples)}
                for suite in self.suites
            ],
            "variants": list(self.variants),
            "attack": self.attack,
            "text_attack": attacks_recipe(self.text_attacks),
            "defence": self.defence,
            "judge": self.judge.describe(),
            "hardware": self.hardware or platform.machine(),
            "versions": {"python": platform.python_version(), **_versions()},
        }


@dataclass(frozen=True)
class AuditCallbacks:
    """Callbacks of a running audit."""

    variant: Callable[[str, int], None] = lambda name, count: None
    """A variant begins: its name, and how many samples it has."""
    progress: Callable[[CollectionProgress], None] = lambda progress: None
    """How far it is."""
    attack: Callable[[int, int, Any], None] = lambda number, count, step: None
    """A picture of the attack, of how many, and its step."""
    elicit: Callable[[int, int], None] = lambda done, total: None
    """Before an attack: how many prompts the model was asked that it may refuse, and of how many."""


def audit(plan: AuditConfig, watch: AuditCallbacks | None = None) -> CollectionOutcome:
    """Carry out a plan, or what is left of it.

    Returns:
        What was asked, reused and left alone, over all variants.

    Raises:
        UsageError: the folder holds the run of another recipe, or somebody edited it.
        OutputError: the folder cannot be written.
    """
    watch = watch or AuditCallbacks()
    with claim_folder(plan.out):
        run = _begin(plan)
        total = _total(list(_variants(plan, run, watch)))
        if plan.workers is not None and total.fatal is None:
            plan.workers.store.clear()
        return replace(total, accepted=accept_failures(run, plan.max_failed))


def _variants(plan: AuditConfig, run: AuditRun, watch: AuditCallbacks) -> Iterator[CollectionOutcome]:
    """Ask one variant after the other; what stops one for good stops the rest."""
    samples = [sample for suite in plan.suites for sample in suite.samples]
    pictures: list[PerturbedPicture] = []
    # Which samples each variant asks. Those of attacked pictures are added below, once their attack has run.
    attacked: dict[str, tuple[Sample, ...]] = {PLAIN: tuple(samples), DEFENDED: tuple(samples)}
    for attack in plan.text_attacks:
        changed_texts = attacked_samples(attack, samples)
        own = TEXT_VARIANTS[attack]
        attacked |= {own: changed_texts, f"{DEFENDED} {own}": changed_texts}
    for variant in plan.variants:
        model = plan.defended if variant == DEFENDED_ADAPTIVE else plan.target.model
        if variant in (PERTURBED, DEFENDED_ADAPTIVE):
            assert plan.perturbing is not None
            assert isinstance(model, OpenModel)
            assert not isinstance(plan.judge, JudgeOnWorkers)
            changed = perturb_samples(
                samples,
                model,
                plan.perturbing,
                plan.out / "perturbed",
                bystanders=plan.bystanders,
                judge=plan.judge,
                variant=variant,
                progress=watch.attack,
                eliciting=watch.elicit,
            )
            pictures += changed.pictures
            write_whole(plan.out / "attack.json", to_document(pictures))
            attacked[variant] = changed.samples
            # The first attack is on the undefended model: its pictures are the static attack on the defended one. The
            # adaptive attack comes later and must not take their place.
            attacked.setdefault(DEFENDED_PERTURBED, changed.samples)
        outcome = _ask(plan, run, variant, attacked[variant], watch)
        yield outcome
        if outcome.fatal is not None:
            return


def _ask(
    plan: AuditConfig, run: AuditRun, variant: str, samples: Sequence[Sample], watch: AuditCallbacks
) -> CollectionOutcome:
    watch.variant(variant, len(samples))
    target, settings = plan.target, plan.request_settings
    if plan.defended is not None and variant.startswith(DEFENDED):
        target = _target_of(plan.defended)
        settings = settings | {"model": target.name, "revision": target.revision}
    # A row's key is a hash of the sample, the variant and the settings of the request. A changed setting makes new
    # keys, so an old reply can never be taken for one of the new run.
    rows = []
    for sample in samples:
        names, problem = [], _problem(sample, target)
        for picture in sample.pictures if problem is None else ():
            try:
                # Pictures are copied before anything is asked: the report, a rejudge and a later reader must see what
                # the model saw, even if the user's own folder changes.
                names.append(_keep(picture, plan.out / "pictures"))
            except PictureError as error:
                problem = str(error)
        if problem != sample.problem:
            sample, names = replace(sample, problem=problem, pictures=()), []
        rows.append((SampleRow.of(sample, variant, settings, tuple(names)), sample))
    # By an earlier call. The log only grows, and equal keys mean equal rows.
    written = {row.key for row in run.samples().rows()}
    run.samples().append(row for row, _ in rows if row.key not in written)
    if plan.workers is not None:
        return plan.workers.collect(
            CollectionRequest(
                rows,
                target,
                target is not plan.target,
                run.replies(),
                run.verdicts(),
                plan.judge.identity,
                plan.max_new_tokens,
                plan.retries,
                watch.progress,
            )
        )
    assert not isinstance(plan.judge, JudgeOnWorkers)
    return collect_replies(
        rows,
        target,
        replies=run.replies(),
        verdicts=run.verdicts(),
        judge=plan.judge,
        logs=plan.out / "logs",
        max_new_tokens=plan.max_new_tokens,
        connections=plan.connections,
        timeout=plan.timeout,
        retries=plan.retries,
        max_wait=plan.max_wait,
        progress=watch.progress,
    )


def _target_of(model: OpenModel | ModelOnWorkers) -> EvaluationTarget:
    if isinstance(model, ModelOnWorkers):
        return EvaluationTarget(model.name, model.revision, on_workers=model)
    return EvaluationTarget(model.name, model.revision, model)


def _is_local(target: EvaluationTarget) -> bool:
    """Whether the weights are here, or with the workers."""
    return isinstance(target.model, OpenModel) or target.on_workers is not None


def _reads_pictures(target: EvaluationTarget) -> bool:
    """Whether pictures may be sent to the target; True of a served one, where it is unknown."""
    if target.on_workers is not None:
        return target.on_workers.reads_pictures
    return not isinstance(target.model, OpenModel) or target.model.reads_pictures


def _problem(sample: Sample, target: EvaluationTarget) -> str | None:
    """Why a sample cannot be asked of the target; None where it can."""
    if sample.problem is None and sample.pictures and not _reads_pictures(target):
        return f"{target.name} reads no pictures"
    return sample.problem


def _keep(picture: Picture, folder: Path) -> str:
    """Copy a picture's file into the run folder, once; returns its name there.

    Raises:
        PictureError: it cannot be read.
    """
    data = picture.data()
    extension = next((name for start, name in EXTENSIONS.items() if data.startswith(start)), ".bin")
    path = folder / f"{picture.sha256}{extension}"
    if not path.exists():
        # Decoded once before it is copied: a file that nobody can read is the sample's problem and is never sent.
        picture.open()
        write_whole(path, data)
    return path.name


def _begin(plan: AuditConfig) -> AuditRun:
    """The run of this folder: a new one, or the one that it holds if that has the same recipe."""
    recipe = plan.recipe
    path = plan.out / "run.json"
    if not path.exists():
        if any(plan.out.glob("*.jsonl")):
            raise UsageError(f"expected {plan.out} empty or with a run in it, got parts of one; try another --out")
        return AuditRun.write(plan.out, recipe)
    run = AuditRun.open(plan.out)
    changed = [key for key in DECIDING if run.recipe.get(key) != recipe[key]]
    if changed:
        raise UsageError(
            f"expected the recipe of the run in {plan.out}, got another {' and '.join(changed)}; "
            "try another --out, or --overwrite to lose that run"
        )
    # After a rejudge the numbers are again those of the judge that this command names.
    run.use_judge(recipe["judge"], plan.command)
    return run


def _total(outcomes: Sequence[CollectionOutcome]) -> CollectionOutcome:
    counts = {
        name: sum(getattr(outcome, name) for outcome in outcomes)
        for name in ("sent", "reused", "failed", "not_sent", "judged")
    }
    notes = tuple(dict.fromkeys(note for outcome in outcomes for note in outcome.notes))
    fatal = next((outcome.fatal for outcome in outcomes if outcome.fatal), None)
    return CollectionOutcome(**counts, fatal=fatal, notes=notes)


def _versions() -> dict[str, str]:
    versions = {}
    for name in DISTRIBUTIONS:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions

"""The frontier itself: audit the model plain and under each mitigation, fit what needs fitting, keep everything.

The same command on the same folder goes on where an earlier one was stopped: finished fits and replies are reused.
Further variants may be added to a folder; another model, split, judge or attack needs another folder.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from equipoise.audit.engine.session import EvaluationTarget
from equipoise.audit.frontier.config import FrontierCallbacks, FrontierConfig
from equipoise.audit.frontier.cost import PROMPTS, VariantCost, measure_cost
from equipoise.audit.frontier.fit_cache import CachedFit, FitCache
from equipoise.audit.frontier.fitters import FitData
from equipoise.audit.frontier.recorded_model import guard_replies, stored_sample
from equipoise.audit.frontier.server_policy import guard_cost, served_policy
from equipoise.audit.frontier.time_budget import TimeBudget, guessed_ratio
from equipoise.audit.frontier.variant import FrontierVariant
from equipoise.audit.frontier.variant_record import (
    FITS,
    LEFT_OUT,
    RECIPE,
    RECORD,
    RUNS,
    SPENT,
    STATIC,
    VariantRecord,
    read_left_out,
)
from equipoise.audit.labels import PERTURBED, PLAIN
from equipoise.audit.records import AuditRun
from equipoise.audit.run import AuditConfig, audit
from equipoise.audit.summary import is_complete
from equipoise.audit.workers.audit_workers import AuditWorkers
from equipoise.countermeasures.catalogue import defend
from equipoise.data.catalogue import Suite
from equipoise.errors import EquipoiseError, UsageError
from equipoise.files import write_json
from equipoise.folder_lock import claim_folder
from equipoise.generation.request_gate import request_gate
from equipoise.models.base import OpenModel
from equipoise.models.peak_memory import process_peak

DECIDING: Final = ("format", "model", "split", "judge", "attack", "max_new_tokens")
"""Keys of the recipe that decide the numbers: a folder holds the frontier of one such recipe."""
NOT_DECLARED: Final = "tuned on data that is not declared, which may hold test prompts (--tuned-on declares it)"


def run_frontier(config: FrontierConfig, watch: FrontierCallbacks | None = None) -> Path:
    """Measure all variants, or what is left of them.

    Returns:
        The folder.

    Raises:
        UsageError: the folder holds the frontier of another recipe, or somebody edited it.
        OutputError: the folder cannot be written.
    """
    with claim_folder(config.out):
        _FrontierRunner(config, watch or FrontierCallbacks()).run()
    return config.out


class _FrontierRunner:
    """One command on one folder."""

    def __init__(self, config: FrontierConfig, watch: FrontierCallbacks) -> None:
        self.config, self.watch = config, watch
        self.out = config.out
        self._write_recipe()
        self.budget = TimeBudget(self.out / SPENT, config.budget)
        self.fits = FitCache(
            self.out / FITS, config.registry, FitData.of(config.registry), self.budget.tick, config.fit_judge
        )
        self.plain_seconds = 0.0
        self.left_out: list[dict[str, str]] = []

    def run(self) -> None:
        """The plain model first: everything is measured against it."""
        for variant in self.config.variants:
            self._require_same(variant)
        if not self._measure_plain():
            return
        for variant in self.config.variants:
            for seed in range(self.config.seeds if variant.takes_seed else 1):
                name = variant.name if seed == 0 else f"{variant.name} (seed {seed})"
                try:
                    reason = self._measure(variant, seed)
                except EquipoiseError as error:
                    # One mitigation that cannot be built must not cost the others their numbers.
                    reason = str(error)
                if reason is not None:
                    self.left_out.append({"name": name, "reason": reason})
                    self.watch.variant(f"{name}: left out: {reason}")
                self.budget.tick(final=True)
                write_json(self.out / LEFT_OUT, self._all_left_out())

    def _all_left_out(self) -> list[dict[str, str]]:
        """Those of this command, and of earlier ones about other variants."""
        current = {variant.name for variant in self.config.variants}
        earlier = [item for item in read_left_out(self.out) if item["name"].partition(" (seed")[0] not in current]
        return [*earlier, *self.left_out]

    def _write_recipe(self) -> None:
        recipe, file = self.config.recipe, self.out / RECIPE
        order = [variant.slug for variant in self.config.variants]
        if file.exists():
            stored = json.loads(file.read_text(encoding="utf-8"))
            changed = [key for key in DECIDING if stored.get(key) != json.loads(json.dumps(recipe[key]))]
            if changed:
                raise UsageError(
                    f"expected the recipe of the frontier in {self.out}, got another {' and '.join(changed)}; "
                    "try another --out"
                )
            order = list(dict.fromkeys([*stored.get("order", []), *order]))
        elif any(self.out.glob("*.jsonl")):
            raise UsageError(f"expected {self.out} empty or with a frontier in it, got an audit; try another --out")
        write_json(file, {**recipe, "order": order})

    def _audit_config(self, target: EvaluationTarget, folder: Path) -> AuditConfig:
        return AuditConfig(
            target=target,
            suites=self.config.registry.test_suites,
            judge=self.config.judge,
            out=folder,
            perturbing=self.config.perturbing,
            max_new_tokens=self.config.max_new_tokens,
            command=self.config.command,
            **self.config.requests,
        )

    def _audit(self, config: AuditConfig) -> str | None:
        """Carry out an audit; returns why it stopped for good."""
        watch = self.watch.audit

        def progress(state: Any) -> None:
            self.budget.tick()
            watch.progress(state)

        return audit(config, replace(watch, progress=progress)).fatal

    def _measure_plain(self) -> bool:
        folder = self.out / RUNS / PLAIN
        self.watch.variant(PLAIN)
        start = time.monotonic()
        with self._workers(folder, self.config.target.name, ()) as workers:
            fatal = self._audit(replace(self._audit_config(self.config.target, folder), workers=workers))
        seconds = time.monotonic() - start
        if fatal is not None:
            self.watch.variant(f"stopped: {fatal}")
            return False
        self.plain_seconds = seconds
        if (folder / RECORD).exists():
            # A later command reuses the replies in no time; what the first one took is what the budget needs.
            stored = float(VariantRecord.read(folder).cost.get("audit_seconds", 0.0))
            self.plain_seconds = max(seconds, stored)
            return True
        cost = {**VariantCost(latency_ratio=1.0).to_json(), **self._plain_probe(), "audit_seconds": round(seconds, 3)}
        tuning = "nothing is fitted"
        VariantRecord(PLAIN, 0, [], self.config.target.name, {}, tuning, [], cost).write(folder)
        return True

    def _plain_probe(self) -> dict[str, Any]:
        model = self.config.target.model
        if not isinstance(model, OpenModel):
            return {}
        probe = self._probe_prompts()
        cost = measure_cost(model, model, probe, max_new_tokens=self.config.max_new_tokens, peak_before=process_peak())
        return {"seconds": cost.seconds, "reply_tokens": cost.reply_tokens}

    def _probe_prompts(self) -> list[Any]:
        model = self.config.target.model
        reads = not isinstance(model, OpenModel) or model.reads_pictures
        data = self.fits.data
        usable = [sample for sample in data.harmful[:PROMPTS] + data.harmless[:PROMPTS] if reads or not sample.pictures]
        # Half of them harmful: a guard or a gate takes another path there.
        return [sample.prompt for sample in usable[:: max(len(usable) // PROMPTS, 1)][:PROMPTS]]

    def _folder(self, variant: FrontierVariant, seed: int) -> Path:
        return self.out / RUNS / (variant.slug if seed == 0 else f"{variant.slug}-seed{seed}")

    def _require_same(self, variant: FrontierVariant) -> None:
        """Refuse a mitigation whose folder holds another one, or this one as it was read from other files.

        Raises:
            UsageError: it does; its numbers would be taken for those of this mitigation.
        """
        folder = self._folder(variant, 0)
        if not (folder / RECORD).exists():
            return
        kept, sources = VariantRecord.read(folder), variant.sources()
        if kept.name != variant.name:
            raise UsageError(
                f"expected mitigations whose first 80 letters and digits differ, got {variant.name!r} where "
                f"{kept.name!r} was measured; try other names of files, or another --out"
            )
        # What is not there any more was measured as it was; whoever changed it would get its old numbers.
        changed = [name for name, digest in sources.items() if kept.sources.get(name, digest) != digest]
        if changed:
            raise UsageError(
                f"expected {changed[0]} as it was when {variant.name!r} was measured, got other content; try another "
                "name for it, or another --out"
            )

    def _is_finished(self, folder: Path) -> bool:
        parts = [folder, *([folder / STATIC] if self.config.perturbing else [])]
        if not (folder / RECORD).exists() or not all((part / "run.json").exists() for part in parts):
            return False
        runs = [AuditRun.open(part) for part in parts]
        return all(is_complete(run, run.cases()) for run in runs)

    def _measure(self, variant: FrontierVariant, seed: int) -> str | None:
        """Fit, build and audit one variant; returns why it is left out, None where it was measured."""
        folder = self._folder(variant, seed)
        if self._is_finished(folder):
            self.watch.variant(f"{variant.name}: measured already")
            return None
        if not isinstance(self.config.target.model, OpenModel):
            return self._measure_served(variant, folder)
        if not self.config.target.model.reads_pictures and any(link.changes_pictures for link in variant.links):
            return f"{self.config.target.name} reads no pictures"
        self.watch.variant(f"{variant.name}" + (f", seed {seed}" if seed else ""))
        base, path = self._base(variant)
        if reason := self.budget.shortfall(self._estimate(variant, base, seed)):
            return reason
        fits = [self.fits.fit(fitter, base, seed, self.watch.fit) for fitter in variant.fitters]
        for fit in fits:
            if fit.refused or fit.artefact is None:
                return fit.refused or f"nothing fitted: {fit.reason}"
        # After the fits, whose memory the mitigation does not need again.
        peak = process_peak()
        model, path = self._build(variant, base, path, fits, seed)
        target = self._target(variant, model, fits)
        cost = measure_cost(
            self.config.target.model,
            model,
            self._probe_prompts(),
            max_new_tokens=self.config.max_new_tokens,
            peak_before=peak,
        )
        if reason := self.budget.shortfall(self.plain_seconds * (cost.latency_ratio or 1.0)):
            return f"{reason} (fitted)" if fits else reason
        return self._finish(
            variant, seed, folder, target, replace(cost, fit_seconds=sum(f.seconds for f in fits)), path, fits
        )

    def _base(self, variant: FrontierVariant) -> tuple[OpenModel, str]:
        """The model that is mitigated, with the adapter of a chain that begins with one, and its name."""
        model = self.config.target.model
        assert isinstance(model, OpenModel)
        adapter = next((link.adapter for link in variant.links if link.adapter), None)
        if adapter is None:
            return model, self.config.target.name
        return self._load(f"{self.config.target.name}+{adapter}")

    def _load(self, name: str) -> tuple[OpenModel, str]:
        if self.config.load is None:
            raise UsageError(f"expected a way to load {name}, got none; try a model with weights")
        return self.config.load(name), name

    def _build(
        self, variant: FrontierVariant, base: OpenModel, path: str, fits: Sequence[CachedFit], seed: int
    ) -> tuple[OpenModel, str]:
        """The mitigated model, and the name that loads the weights under its countermeasures."""
        remaining = iter(fits)
        artefacts = [next(remaining).path if link.fitter else None for link in variant.links]
        for link, artefact in zip(variant.links, artefacts, strict=True):
            if link.fitter is not None and link.fitter.makes == "adapter":
                base, path = self._load(f"{path}+{artefact}")
        return defend(base, variant.specs(artefacts, seed), harm_gate=request_gate), path

    def _target(self, variant: FrontierVariant, model: OpenModel, fits: Sequence[CachedFit]) -> EvaluationTarget:
        # Not the paths of fitted files, which may be moved: the keys of the fits decide the weights.
        revision = f"{model.revision}{_revision_ending(fits)}"
        return EvaluationTarget(f"{self.config.target.name} with {variant.name}", revision, model)

    def _estimate(self, variant: FrontierVariant, base: OpenModel, seed: int) -> float:
        """Seconds that fits, replies and attack will take, roughly."""
        samples = sum(len(suite.samples) for suite in self.config.registry.test_suites)
        reply = self.plain_seconds / max(samples, 1)
        missing = [fitter for fitter in variant.fitters if self.fits.get(fitter, base, seed) is None]
        fitting = sum(fitter.replies(self.fits.data) for fitter in missing) * reply
        specs = variant.specs([Path("fitted") if link.fitter else None for link in variant.links], seed)
        return fitting + self.plain_seconds * guessed_ratio(specs)

    def _measure_served(self, variant: FrontierVariant, folder: Path) -> str | None:
        name = f"{self.config.target.name} with {variant.name}"
        if variant.policy_alone is not None and self.config.target.endpoint is not None:
            self.watch.variant(variant.name)
            prompted = served_policy(self.config.target, variant.policy_alone, self.config.requests)
            # Some prompts of the selection part are asked for the time alone; no test prompt is sent twice.
            cost = measure_cost(
                prompted.model,
                prompted,
                self._probe_prompts(),
                max_new_tokens=self.config.max_new_tokens,
                peak_before=process_peak(),
            )
            cost = replace(cost, memory=None, memory_kind="not measured: the model is served")
            target = EvaluationTarget(name, prompted.revision, prompted)
            return self._finish(variant, 0, folder, target, cost, self.config.target.name, ())
        if not variant.guard_alone:
            return f"needs the weights of {self.config.target.name}; behind a server only its replies are here"
        self.watch.variant(variant.name)
        plain = AuditRun.open(self.out / RUNS / PLAIN)
        guarded = guard_replies(plain, variant.links[0].text)
        target = EvaluationTarget(name, guarded.revision, guarded)
        return self._finish(variant, 0, folder, target, guard_cost(plain, guarded), self.config.target.name, ())

    def _finish(
        self,
        variant: FrontierVariant,
        seed: int,
        folder: Path,
        target: EvaluationTarget,
        cost: VariantCost,
        path: str,
        fits: Sequence[CachedFit],
    ) -> str | None:
        """Audit a variant and write its record."""
        artefacts = iter([fit.path for fit in fits])
        specs = variant.specs([next(artefacts) if link.fitter else None for link in variant.links], seed)
        tuned: dict[str, int] = {}
        for fit in fits:
            tuned |= fit.tuned_on
        doubts = [doubt for fit in fits for doubt in fit.doubts]
        tuning = "; ".join(dict.fromkeys(fitter.fitted_on for fitter in variant.fitters)) or "nothing is fitted"
        if any(link.is_given for link in variant.links):
            samples = self.config.declared.get(variant.name)
            tuning = f"declared: {len(samples)} prompts" if samples else "not declared"
            doubts += [] if samples else [NOT_DECLARED]
        keys = [fit.key for fit in fits]
        record = VariantRecord(
            variant.name, seed, list(specs), path, tuned, tuning, doubts, cost.to_json(), keys, variant.sources()
        )
        record.write(folder)
        with self._workers(folder, path, specs, fits) as workers:
            fatal = self._audit(replace(self._audit_config(target, folder), workers=workers))
            if fatal is None and self.config.perturbing is not None:
                fatal = self._audit(replace(self._static_config(target, folder / STATIC), workers=workers))
        return None if fatal is None else f"stopped: {fatal}"

    def _workers(
        self, folder: Path, weights: str, specs: Sequence[str], fits: Sequence[CachedFit] = ()
    ) -> AbstractContextManager[AuditWorkers | None]:
        """Who asks and judges one variant; None is this process."""
        if self.config.workers is None:
            return nullcontext()
        return self.config.workers.open(folder, weights, specs, _revision_ending(fits))

    def _static_config(self, target: EvaluationTarget, folder: Path) -> AuditConfig:
        """The pictures that were attacked on the plain model: the attack that does not know of the mitigation."""
        plain = AuditRun.open(self.out / RUNS / PLAIN)
        rows = [row for row in plain.samples().rows() if row.variant == PERTURBED]
        samples = tuple(stored_sample(plain, row) for row in rows)
        config = self._audit_config(target, folder)
        return replace(config, suites=(Suite("attacked", samples, str(plain.folder)),), perturbing=None)


def _revision_ending(fits: Sequence[CachedFit]) -> str:
    return "".join(f"+{fit.key}" for fit in fits)

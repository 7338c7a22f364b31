"""`find_direction`: the refusal direction of a model, from its own replies to harmful and harmless prompts.

Difference in means at every token after the instruction and every layer (Arditi et al. 2024, arXiv:2406.11717), with
these changes: rows are kept by a judge's label of the model's own reply, openers are learned from these replies, and
candidates are ranked by how well they separate validation prompts, so that only the best share of them goes through the
expensive sweeps. That no candidate passes is a result, with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any, Final

import torch
from torch import Tensor

from equipoise.judges.phrases import PhraseJudge
from equipoise.models.length_groups import picture_batches
from equipoise.steering.activation_sums import ActivationSums
from equipoise.steering.batch_work import SumPair, activation_sums, reply_rows
from equipoise.steering.candidates import (
    BypassSweep,
    Candidate,
    CandidateScorer,
    checked_in_order,
    prune,
    why_none,
)
from equipoise.steering.capture_workers import CaptureOrder, CaptureWorkers, ScoreOrder
from equipoise.steering.direction import Direction, DirectionKind
from equipoise.steering.edits import capture
from equipoise.steering.openers import RefusalOpeners
from equipoise.steering.prompt_forward import (
    BATCH,
    StageProgress,
    forward_batches,
    no_progress,
    run_prompts,
)
from equipoise.steering.prompt_sets import PromptSet
from equipoise.steering.refusal_candidates import prepare_candidates, sum_pair
from equipoise.steering.stage_folder import StageFolder
from equipoise.steering.steerable import Steerable
from equipoise.types import Judge, Prompt

PASSES: Final = "passes"
"""Stage of the passes that all calls of a search have counted."""
SWEEP_PASSES: Final = "sweep-passes"
"""Stage of those that scoring the candidates of the refusal direction took."""


@dataclass(frozen=True)
class FindSettings:
    """What decides the result beside model and prompts."""

    seed: int = 0
    """Of the split."""
    validation: float = 0.2
    """Share of each class that candidates are chosen on."""
    keep: float = 0.2
    """Share of the candidates that go through the expensive sweeps, at least one of each layer; 1 is all."""
    kl_limit: float = 0.1
    """Largest divergence on harmless prompts under ablation."""
    layer_share: float = 0.8
    """Candidates lie in this share of the layers, from below."""
    reply_tokens: int = 32
    """Length of the judged replies."""
    surgical_share: float = 1.0
    """Lambda: how much of the refusal direction is taken out of the false-refusal vector."""
    surgical_kl_limit: float = 0.2
    """Largest divergence of a surgical vector."""
    surgical_loss_limit: float = 0.04
    """Largest share of harmful validation prompts whose refusal a surgical vector may lose."""


@dataclass(frozen=True)
class FindResult:
    """A direction, or the reason why there is none, with everything that was compared."""

    direction: Direction | None
    """The refusal direction; None where no candidate is valid."""
    reason: str | None
    """Why there is none."""
    candidates: tuple[Candidate, ...]
    """All that were ranked; only the scored ones have a bypass."""
    openers: RefusalOpeners | None
    """How this model refuses; None where it hardly does."""
    counts: dict[str, int]
    """Prompts by class: judged as needed of all, and forward passes."""
    surgical: Direction | None = None
    """The false-refusal vector without the refusal direction's part; None where none passes or none was wanted."""
    surgical_reason: str | None = None
    """Why there is none, where one was wanted."""
    surgical_candidates: tuple[Candidate, ...] = ()
    """As `candidates`, for the surgical vector."""
    boundary: float | None = None
    """Log-odds above which a validation prompt counts as refused; None where nothing was scored."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON, without vectors."""
        return {
            "direction": None if self.direction is None else self.direction.to_dict(),
            "reason": self.reason,
            "counts": self.counts,
            "boundary": self.boundary,
            "openers": None if self.openers is None else self.openers.to_dict(),
            "candidates": [candidate.to_dict() for candidate in self.candidates],
            "surgical": None if self.surgical is None else self.surgical.to_dict(),
            "surgical_reason": self.surgical_reason,
            "surgical_candidates": [candidate.to_dict() for candidate in self.surgical_candidates],
        }


@dataclass
class DirectionSearch:
    """One run of `find_direction`; its parts are kept in `stages` as they are finished."""

    steerable: Steerable
    settings: FindSettings
    judge: Judge = field(default_factory=PhraseJudge)
    stages: StageFolder = field(default_factory=lambda: StageFolder(None, {}))
    progress: StageProgress = no_progress
    workers: CaptureWorkers | None = None
    """Who makes replies, sums and scores of candidates; None is this process. Checks of candidates stay here."""
    passes: int = 0
    """Prompts that went through the model, one for each forward pass that they took part in, without those of `scorer`.
    """
    scorer: CandidateScorer | None = None
    """Scores candidates and counts its passes itself; None before there are candidates."""

    def take_kept_passes(self) -> None:
        """Count on from what former calls of this search have counted."""
        self.passes = self._kept_passes("others")

    def use_scorer(self, scorer: CandidateScorer) -> None:
        """Keep the passes of a new scorer from now on; it counts on from those of former calls."""
        scorer.passes = self._kept_passes("sweeps")
        self.scorer = scorer

    def put(self, name: str, document: Any) -> None:
        """Keep a document of the stages, and the passes so far."""
        self._keep_passes()
        self.stages.put(name, document)

    def put_tensors(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Keep tensors of the stages, and the passes so far."""
        self._keep_passes()
        self.stages.put_tensors(name, tensors)

    def _keep_passes(self) -> None:
        # Before the stage: where a kill comes in between, the work is done twice, and counts twice.
        sweeps = self._kept_passes("sweeps") if self.scorer is None else self.scorer.passes
        self.stages.put(PASSES, {"others": self.passes, "sweeps": sweeps})

    def _kept_passes(self, name: str) -> int:
        return int((self.stages.get(PASSES, dict) or {}).get(name, 0))

    @property
    def depth(self) -> int:
        """Number of layers."""
        return len(self.steerable.tower.layers)

    def replies(self, name: str, prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
        """Each prompt's reply: its tokens, its text, and whether the judge says it refuses (None: unscored)."""
        stage = f"replies-{name}"
        rows: dict[str, dict[str, Any]] = self.stages.get(stage, dict) or {}
        left = [indices for indices in picture_batches(prompts, 32) if str(indices[0]) not in rows]

        def keep(indices: Sequence[int], new: Sequence[dict[str, Any]]) -> None:
            rows.update({str(i): row for i, row in zip(indices, new, strict=True)})
            self.passes += len(indices)

        def show(done: int) -> None:
            self.progress(f"replies to {name} prompts", done, len(prompts))

        if self.workers is not None:
            orders, before = self._orders(prompts, left, None), len(rows)
            parts = self.workers.replies(orders, lambda done: show(before + done))
            for indices, new in zip(left, parts, strict=True):
                keep(indices, new)
            self.put(stage, rows)
            self.workers.discard(orders)
        else:
            for indices in left:
                batch = [prompts[i] for i in indices]
                keep(indices, reply_rows(self.steerable, self.judge, batch, self.settings.reply_tokens))
                self.put(stage, rows)
                show(len(rows))
        return [rows[str(i)] for i in range(len(prompts))]

    def sums(self, name: str, prompts: Sequence[Prompt], positions: int) -> SumPair:
        """Running sums of the two halves (even and odd prompts) of a class."""
        width = self.steerable.tower.width
        stage = f"sums-{name}"
        stored = self.stages.get_tensors(stage)
        halves = [ActivationSums.empty(self.depth, positions, width) for _ in range(2)]
        finished = 0
        if stored is not None:
            halves = [ActivationSums.from_tensors(stored, str(half)) for half in range(2)]
            finished = int(stored["finished"])
        left = list(picture_batches(prompts, BATCH))[finished:]

        def keep() -> None:
            tensors = {"finished": torch.tensor(finished)}
            tensors |= halves[0].to_tensors("0") | halves[1].to_tensors("1")
            self.put_tensors(stage, tensors)

        def show(done: int) -> None:
            self.progress(f"activations of {name} prompts", min(done, len(prompts)), len(prompts))

        orders = self._orders(prompts, left, positions) if self.workers is not None else []
        if self.workers is not None:
            before = BATCH * finished
            parts = self.workers.sums(orders, lambda done: show(before + done))
        else:
            parts = (
                activation_sums(self.steerable, [prompts[i] for i in indices], indices, positions) for indices in left
            )
        # Batch by batch, in order: the same additions, and so the same bits, whoever made the parts.
        for indices, (even, odd) in zip(left, parts, strict=True):
            # In two halves, so that the cosine between the directions of both comes without a second pass. It says how
            # much of a direction is the sample's: below about 0.9 more prompts are needed.
            halves = [halves[0] + even, halves[1] + odd]
            self.passes += len(indices)
            finished += 1
            if self.workers is None:
                keep()
                show(BATCH * finished)
        if self.workers is not None and left:
            keep()
            self.workers.discard(orders)
        return halves[0], halves[1]

    def _orders(
        self, prompts: Sequence[Prompt], parts: Sequence[Sequence[int]], positions: int | None
    ) -> list[CaptureOrder]:
        """Batches of prompts as orders to workers."""
        revision, tokens = self.steerable.exact_revision, self.settings.reply_tokens
        return [
            CaptureOrder(tuple(prompts[i] for i in indices), tuple(indices), revision, positions, tokens)
            for indices in parts
        ]

    def projections(self, name: str, prompts: Sequence[Prompt], units: Tensor) -> Tensor:
        """`N x L x P`: the stream of each prompt along the unit vectors `L x P x width`, layer by layer."""
        stage = f"projections-{name}"
        stored = self.stages.get_tensors(stage)
        if stored is not None:
            return stored["values"]
        values = torch.zeros(len(prompts), *units.shape[:2], dtype=torch.float64)
        for indices, inputs in forward_batches(self.steerable, prompts):

            def take(layer: int, rows: Tensor, indices: list[int] = indices) -> None:
                values[indices, layer] = (rows.double().cpu() * units[layer]).sum(-1)

            with capture(self.steerable, last=units.shape[1], layers=range(self.depth), sink=take):
                run_prompts(self.steerable, inputs)
            self.passes += len(indices)
        self.put_tensors(stage, {"values": values})
        return values

    def chosen(
        self, stage: str, candidates: Sequence[Candidate], score: BypassSweep, check: Callable[[Candidate], Candidate]
    ) -> tuple[list[Candidate], Candidate | None]:
        """The candidates with their scores, and the best that passes the check; each is kept as it is finished."""

        def name(part: str, candidate: Candidate) -> str:
            return f"{stage}-{part}{candidate.layer}{candidate.position}"

        def stored(part: str, candidate: Candidate, work: Callable[[Candidate], Candidate]) -> Candidate:
            document = self.stages.get(name(part, candidate), dict)
            if document is None:
                document = work(candidate).to_dict()
                self.put(name(part, candidate), document)
            return Candidate.from_dict(document)

        left = [one for one in candidates if self.stages.get(name("bypass-", one)) is None]
        if self.workers is not None and left:
            orders = [ScoreOrder.of(score, candidate) for candidate in left]
            before = len(candidates) - len(left)
            show = partial(self.progress, f"{stage} candidates")
            for result in self.workers.scores(orders, lambda done: show(before + done, len(candidates))):
                score.scorer.passes += len(score.prompts) * len(score.scorer.openers.passes)
                self.put(name("bypass-", result), result.to_dict())
            self.workers.discard(orders)
        scored = []
        for number, candidate in enumerate(candidates):
            scored.append(stored("bypass-", candidate, score))
            self.progress(f"{stage} candidates", number + 1, len(candidates))
        return checked_in_order(scored, lambda candidate: stored("check-", candidate, check))


def find_direction(
    search: DirectionSearch,
    harmful: PromptSet,
    harmless: PromptSet,
    pseudo: PromptSet | None = None,
    contrast: PromptSet | None = None,
) -> FindResult:
    """The refusal direction, and with `pseudo` the surgical vector against false refusals.

    Args:
        search: the model and how to look.
        harmful: prompts that the model should refuse.
        harmless: prompts that it answers.
        pseudo: harmless prompts that only look harmful; those it refuses make the false-refusal vector.
        contrast: harmful prompts in the words of `pseudo`, whose refusals the surgical vector must keep as well.
    """
    settings = search.settings
    counts: dict[str, int] = {}
    search.take_kept_passes()
    prepared = prepare_candidates(search, harmful, harmless, counts)
    if isinstance(prepared, str):
        return FindResult(None, prepared, (), None, counts)
    openers, differences, means = prepared.openers, prepared.differences, prepared.means
    scorer, ranked, limit = prepared.scorer, prepared.ranked, prepared.limit

    def check(candidate: Candidate) -> Candidate:
        vector = differences[candidate.layer, candidate.position]
        return scorer.check_refusal(candidate, vector, kl_limit=settings.kl_limit, layer_limit=limit)

    # Ranking needs one forward pass a prompt and no edit; a score needs a sweep of all validation prompts for each
    # candidate. So the cheap AUROC on validation prompts decides which share of the candidates is worth that.
    pruned = prune(ranked, settings.keep)
    scored, best = search.chosen("refusal", pruned, BypassSweep(scorer, differences, scorer.harmful), check)
    result_candidates = (*scored, *(candidate for candidate in ranked if candidate not in pruned))
    direction: Direction | None = None
    reason = None
    if best is None:
        reason = why_none(scored, scorer.boundary)
    else:
        direction = _direction(search, differences, best, "refusal", {"harmful": harmful, "harmless": harmless})
        details = {"split_half_cosine": _split_half_cosine(means, best), "openers": openers.to_dict()}
        direction = replace(
            direction, details={**details, "settings": asdict(settings), "positions": prepared.positions}
        )
    # What scoring every candidate on every prompt would take: three sweeps, each one pass an opener.
    everything = len(ranked) * (len(scorer.harmful) + 2 * len(scorer.harmless)) * len(openers.passes)
    counts |= {"scored candidates": len(scored), "ranked candidates": len(ranked)}
    # Kept as it was here: a later call begins with the sweeps of the surgical vector counted as well.
    sweeps: int | None = search.stages.get(SWEEP_PASSES, int)
    if sweeps is None:
        sweeps = scorer.passes
        search.put(SWEEP_PASSES, sweeps)
    counts |= {"sweep passes": sweeps, "sweep passes of all candidates": everything}
    counts["forward passes"] = search.passes + scorer.passes
    surgical: tuple[Direction | None, str | None, tuple[Candidate, ...]] = (None, None, ())
    # Without a valid direction as well: what is taken out of the false-refusal vector is the difference in means of its
    # own layer and position, and the vector has checks of its own.
    if pseudo is not None:
        from equipoise.steering.surgical import find_surgical

        clean = sum_pair(means["harmless"])
        surgical = find_surgical(search, scorer, pseudo, clean, differences, prepared.eligible, contrast)
        counts["forward passes"] = search.passes + scorer.passes
    return FindResult(direction, reason, result_candidates, openers, counts, *surgical, scorer.boundary)


def _split_half_cosine(means: dict[str, SumPair], candidate: Candidate) -> float:
    """Cosine of the directions of even and of odd training prompts."""
    halves = [
        (means["harmful"][half].means() - means["harmless"][half].means())[candidate.layer, candidate.position]
        for half in range(2)
    ]
    return float(torch.nn.functional.cosine_similarity(halves[0], halves[1], dim=0))


def _direction(
    search: DirectionSearch,
    vectors: Tensor,
    candidate: Candidate,
    kind: DirectionKind,
    sources: dict[str, PromptSet],
) -> Direction:
    names = ("auroc", "separation", "bypass", "induce", "kl", "kept")
    metrics = {name: getattr(candidate, name) for name in names if getattr(candidate, name) is not None}
    return Direction(
        vectors[candidate.layer, candidate.position].clone(),
        layer=candidate.layer,
        position=candidate.position,
        model=search.steerable.name,
        revision=search.steerable.revision,
        kind=kind,
        data={name: source.sha256 for name, source in sources.items()},
        metrics=metrics,
    )

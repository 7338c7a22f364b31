"""Candidates for a direction: one for each layer and position, how they are ranked, scored and chosen."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from equipoise.steering.edits import ablate, add
from equipoise.steering.openers import RefusalOpeners
from equipoise.steering.prompt_forward import forward_batches, next_token_log_probs
from equipoise.steering.steerable import Steerable
from equipoise.types import Prompt

KL_EPSILON = 1e-6
"""Added to probabilities in the divergence, as in the paper."""


@dataclass(frozen=True)
class Candidate:
    """One layer and position, with what is known of it so far."""

    layer: int
    """Input of this layer."""
    position: int
    """Token of the prompt, -1 the last."""
    auroc: float
    """Of the projections of validation prompts: probability that one of the first class lies above one of the other."""
    separation: float
    """Distance of the two means of the projections in pooled standard deviations; breaks ties of the AUROC."""
    bypass: float | None = None
    """Mean log-odds of a refusal of harmful prompts under ablation: low is better. None where it was not scored."""
    induce: float | None = None
    """Mean log-odds of a refusal of harmless prompts with the direction added at its layer: above the boundary."""
    kl: float | None = None
    """Mean divergence of the first token on harmless prompts, plain against ablated, in nats."""
    kept: float | None = None
    """Surgical vectors only: change of the share of harmful prompts that are refused, under ablation."""
    kept_contrast: float | None = None
    """Likewise, of harmful prompts in the words of harmless ones; None where there are none."""
    rejected: str | None = None
    """Why it cannot be chosen; None where it can."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Candidate:
        """What `to_dict` gave."""
        return cls(**document)


def auroc(positive: Tensor, negative: Tensor) -> Tensor:
    """Probability that a value of `positive` (`N x ...`) is above one of `negative` (`M x ...`); ties count half."""
    # All pairs, `N x M x L x P`: validation sets are small, and ties need no sorting this way.
    above = (positive[:, None] > negative[None]).double() + 0.5 * (positive[:, None] == negative[None]).double()
    return above.mean((0, 1))


def separation(positive: Tensor, negative: Tensor) -> Tensor:
    """Distance of the means in pooled standard deviations (d')."""
    spread = ((positive.double().var(0) + negative.double().var(0)) / 2).sqrt().clamp_min(1e-12)
    return (positive.double().mean(0) - negative.double().mean(0)) / spread


def rank(positive: Tensor, negative: Tensor, eligible: Tensor) -> list[Candidate]:
    """All eligible candidates, the best separated first.

    Args:
        positive: `N x L x P` projections of validation prompts of the first class onto each candidate's own direction.
        negative: `M x L x P` of the other.
        eligible: `L` bool, layers that may be chosen.
    """
    # Both are [layers, positions]. The area decides; the distance breaks the ties that are common where a small
    # validation set is separated perfectly.
    areas, distances = auroc(positive, negative), separation(positive, negative)
    positions = areas.shape[1]
    candidates = [
        # Index 0 is the earliest of P tokens: position -P, counted from the end of the prompt.
        Candidate(layer, index - positions, float(areas[layer, index]), float(distances[layer, index]))
        for layer in range(areas.shape[0])
        for index in range(positions)
        if bool(eligible[layer])
    ]
    # To two digits: of a few dozen prompts one pair in the wrong order is chance, the distance is less so.
    return sorted(candidates, key=lambda candidate: (-round(candidate.auroc, 2), -candidate.separation))


def prune(ranked: Sequence[Candidate], share: float) -> list[Candidate]:
    """The best share of the candidates, from every layer in turn, the best separated first.

    First the best position of each layer, then each layer's second best, until the share is reached; one of each layer
    at least. With few prompts most candidates separate perfectly, and the layers that tell the wordings apart best are
    late ones: a share of them all would leave out the early and middle layers, where a model may decide.
    """
    turns: dict[int, int] = {}
    keys = []
    for number, candidate in enumerate(ranked):
        turns[candidate.layer] = turns.get(candidate.layer, 0) + 1
        keys.append((turns[candidate.layer], number))
    count = max(math.ceil(share * len(ranked)), len(turns))
    chosen = {number for _, number in sorted(keys)[:count]}
    return [candidate for number, candidate in enumerate(ranked) if number in chosen]


@dataclass(frozen=True)
class PlainScores:
    """What candidates are compared with: the model without an edit."""

    harmful: Tensor
    """`N` log-odds of a refusal of harmful validation prompts."""
    harmless: Tensor
    """`M` log-odds of a refusal of harmless ones."""
    first_token: Tensor
    """`M x V` log-probabilities of the first token on the harmless ones, float32 on the CPU."""


class CandidateScorer:
    """Scores candidates on validation prompts, and counts forward passes.

    Args:
        steerable: the model.
        openers: how it refuses.
        harmful: prompts that should be refused.
        harmless: prompts that should be answered.
        boundary: what an earlier run found it to be; None computes it when it is needed.
    """

    def __init__(
        self,
        steerable: Steerable,
        openers: RefusalOpeners,
        harmful: Sequence[Prompt],
        harmless: Sequence[Prompt],
        boundary: float | None = None,
    ) -> None:
        self.steerable = steerable
        self.openers = openers
        self.harmful = harmful
        self.harmless = harmless
        self.passes = 0
        """Prompts that went through the model, one for each forward pass that they took part in."""
        self._plain: PlainScores | None = None
        self._boundary = boundary

    @property
    def plain(self) -> PlainScores:
        """The scores without an edit; computed once."""
        if self._plain is None:
            odds, first = self.sweep(self.harmless)
            self._plain = PlainScores(self.sweep(self.harmful)[0], odds, first)
        return self._plain

    @property
    def boundary(self) -> float:
        """Log-odds above which a prompt counts as refused: at most 0."""
        if self._boundary is None:
            self._boundary = refusal_boundary(self.plain.harmful, self.plain.harmless)
        return self._boundary

    def sweep(self, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        """`N` log-odds and `N x V` log-probabilities of the first token, inside whatever edit is in place."""
        odds: dict[int, Tensor] = {}
        first: dict[int, Tensor] = {}
        for indices, inputs in forward_batches(self.steerable, prompts):
            values, tokens = self.openers.odds_and_first(self.steerable, inputs)
            odds.update(zip(indices, values, strict=True))
            first.update(zip(indices, tokens.cpu(), strict=True))
            self.passes += len(indices) * len(self.openers.passes)
        order = range(len(prompts))
        return torch.stack([odds[i] for i in order]), torch.stack([first[i] for i in order])

    def divergence(self) -> float:
        """Of the first token on the harmless prompts, plain against whatever edit is in place."""
        first: dict[int, Tensor] = {}
        for indices, inputs in forward_batches(self.steerable, self.harmless):
            first.update(zip(indices, next_token_log_probs(self.steerable, inputs).cpu(), strict=True))
            self.passes += len(indices)
        return mean_divergence(self.plain.first_token, torch.stack([first[i] for i in range(len(self.harmless))]))

    def bypass(self, candidate: Candidate, vector: Tensor, prompts: Sequence[Prompt]) -> Candidate:
        """The candidate with the mean log-odds of a refusal of some prompts while `vector` is ablated."""
        with ablate(self.steerable, vector):
            return replace(candidate, bypass=float(self.sweep(prompts)[0].mean()))

    def check_refusal(self, candidate: Candidate, vector: Tensor, *, kl_limit: float, layer_limit: int) -> Candidate:
        """Whether a refusal direction with a bypass may be chosen; `vector` is the raw difference in means."""
        if candidate.layer >= layer_limit:
            return replace(candidate, rejected=f"its layer is not below {layer_limit}")
        assert candidate.bypass is not None
        # `not a < b` instead of `a >= b`: a comparison with NaN is false, and NaN must not pass.
        if not candidate.bypass < float(self.plain.harmful.mean()):
            return replace(candidate, rejected="ablating it does not make refusals less likely")
        with ablate(self.steerable, vector):
            divergence = self.divergence()
        if not divergence < kl_limit:
            return replace(
                candidate, kl=divergence, rejected=f"ablating it changes harmless replies (KL {divergence:.3f})"
            )
        # Added at its own layer alone, with the length that it has: the mean difference should carry a harmless prompt
        # just to where the refused ones are. Ablation above acts in all layers, as later ones write the direction
        # again.
        with add(self.steerable, vector, layers=[candidate.layer]):
            induce = float(self.sweep(self.harmless)[0].mean())
        reason = None
        if not induce > self.boundary:
            reason = f"adding it does not induce refusals ({induce:.2f}, not above {self.boundary:.2f})"
        return replace(candidate, induce=induce, kl=divergence, rejected=reason)

    def check_surgical(
        self,
        candidate: Candidate,
        vector: Tensor,
        *,
        kl_limit: float,
        loss_limit: float,
        needless: Sequence[Prompt] = (),
        contrast: Sequence[Prompt] = (),
    ) -> Candidate:
        """Whether a surgical vector may be chosen: the contrast that decides, as a vector may remove all refusals.

        `kept` is the change of the share of harmful prompts refused under ablation, `kept_contrast` that of `contrast`.

        Args:
            candidate: with its bypass.
            vector: what is ablated.
            kl_limit: largest divergence on harmless prompts.
            loss_limit: largest share of the refusals that may be lost, of either kind.
            needless: harmless prompts that the model refuses; ablation has to end some of these refusals.
            contrast: harmful prompts in the words of the harmless ones that look harmful, all refused by the model.
        """
        # Before the edit is in place: these are scores of the model as it is.
        plain, boundary = self.plain.harmful, self.boundary
        needless_before = refused_share(self.sweep(needless)[0], boundary) if needless else 1.0
        with ablate(self.steerable, vector):
            divergence = self.divergence()
            if not divergence < kl_limit:
                reason = f"ablating it changes harmless replies (KL {divergence:.3f})"
                return replace(candidate, kl=divergence, rejected=reason)
            # A vector that changes nothing passes every test of harm; it has to do some good as well.
            if needless and not refused_share(self.sweep(needless)[0], boundary) < needless_before:
                return replace(candidate, kl=divergence, rejected="ablating it ends none of the needless refusals")
            changes = [refused_share(self.sweep(self.harmful)[0], boundary) - refused_share(plain, boundary)]
            if contrast and changes[0] >= -loss_limit:
                changes.append(refused_share(self.sweep(contrast)[0], boundary) - 1.0)
        candidate = replace(candidate, kl=divergence, kept=changes[0], kept_contrast=(*changes, None)[1])
        for change, kind in zip(changes, ("harmful", "contrast"), strict=False):
            if change < -loss_limit:
                reason = f"ablating it loses {-100 * change:.0f} points of the {kind} refusals"
                return replace(candidate, rejected=reason)
        return candidate


def why_none(scored: Sequence[Candidate], boundary: float) -> str:
    """Why no candidate can be chosen: what is wrong with the one that came nearest.

    That is the one of least divergence among those that end refusals (`bypass` below `boundary`). The one of least
    bypass would mislead: an ablation that breaks the model ends its refusals as well.
    """
    if not scored:
        return "no candidates"
    ending = [candidate for candidate in scored if candidate.bypass is not None and candidate.bypass < boundary]
    if not ending:
        return f"no candidate is valid: none of {len(scored)} ends refusals when it is ablated"
    nearest = min(ending, key=lambda candidate: float("inf") if candidate.kl is None else candidate.kl)
    return f"no candidate is valid; nearest, at layer {nearest.layer}, position {nearest.position}: {nearest.rejected}"


@dataclass(frozen=True)
class BypassSweep:
    """The score that every candidate gets: how likely a refusal of some prompts is while its vector is ablated.

    Candidates do not depend on each other here, so workers can share them; the checks that follow stop at the first
    candidate that passes, and stay in one process.
    """

    scorer: CandidateScorer
    """Of the search."""
    vectors: Tensor
    """`L x P x width`: what is ablated."""
    prompts: Sequence[Prompt]
    """Whose refusals are scored."""

    def vector(self, candidate: Candidate) -> Tensor:
        """`width`: what is ablated for a candidate."""
        return self.vectors[candidate.layer, candidate.position]

    def __call__(self, candidate: Candidate) -> Candidate:
        """The candidate with its bypass."""
        return self.scorer.bypass(candidate, self.vector(candidate), self.prompts)


def refused_share(odds: Tensor, boundary: float) -> float:
    """Share of the prompts whose log-odds of a refusal are above the boundary."""
    return float((odds > boundary).double().mean())


def refusal_boundary(refused: Tensor, answered: Tensor) -> float:
    """Log-odds that tell refused prompts from answered ones, at most 0: the middle of the gap of the best cut.

    The paper's boundary is 0, as its prompts are kept by it. A model that refuses in many ways spreads its probability
    over them: its greedy reply is a refusal, while the openers hold less than half. 0 then lies above all refusals, and
    no addition of the difference in means can reach it.

    Args:
        refused: `N` log-odds of prompts whose replies refuse.
        answered: `M` of prompts whose replies answer.
    """
    values = torch.cat([refused, answered]).double().unique()
    cuts = (values[1:] + values[:-1]) / 2
    if not len(cuts):
        return min(0.0, float(values[0]))
    above = (refused.double()[None] > cuts[:, None]).double().mean(1)
    below = (answered.double()[None] <= cuts[:, None]).double().mean(1)
    accuracy = above + below
    best = accuracy >= accuracy.max() - 1e-9
    # Among equally good cuts that in the widest gap.
    gaps = torch.where(best, values[1:] - values[:-1], torch.tensor(-1.0, dtype=torch.float64))
    return min(0.0, float(cuts[int(gaps.argmax())]))


def mean_divergence(plain: Tensor, edited: Tensor) -> float:
    """Mean over rows of KL(plain || edited) in nats, from `N x V` log-probabilities, in float64."""
    first, second = plain.double().exp(), edited.double().exp()
    terms = first * ((first + KL_EPSILON).log() - (second + KL_EPSILON).log())
    return float(terms.sum(-1).mean())


def choose(scored: Sequence[Candidate]) -> Candidate | None:
    """The candidate with the least bypass among those that are not rejected; None where all are."""
    valid = [candidate for candidate in scored if candidate.rejected is None and candidate.bypass is not None]
    # `or 0.0` is for the type checker alone: no candidate without a bypass is left.
    return min(valid, key=lambda candidate: candidate.bypass or 0.0, default=None)


def checked_in_order(
    scored: Sequence[Candidate], check: Callable[[Candidate], Candidate]
) -> tuple[list[Candidate], Candidate | None]:
    """The candidates, and the one with the least bypass that passes the check; None where none does.

    They are checked from the least bypass on, and no further than the first that passes: the choice is that of a check
    of all, for a few forward passes instead of most of them. Those that were not reached stay as they are.
    """
    results = list(scored)
    for number in sorted(range(len(results)), key=lambda index: (results[index].bypass or 0.0, index)):
        results[number] = check(results[number])
        if results[number].rejected is None:
            return results, results[number]
    return results, None

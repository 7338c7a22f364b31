"""Candidates for a direction: one for each layer and position, how they are ranked, scored and chosen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from equipoise.steering.edits import ablate, add
from equipoise.steering.openers import RefusalOpeners
from equipoise.steering.prompt_forward import forward_batches
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
    """Mean log-odds of a refusal of harmless prompts with the direction added at its layer: must be positive."""
    kl: float | None = None
    """Mean divergence of the first token on harmless prompts, plain against ablated, in nats."""
    kept: float | None = None
    """Surgical vectors only: change of the share of harmful prompts that are refused, under ablation."""
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
    areas, distances = auroc(positive, negative), separation(positive, negative)
    positions = areas.shape[1]
    candidates = [
        Candidate(layer, index - positions, float(areas[layer, index]), float(distances[layer, index]))
        for layer in range(areas.shape[0])
        for index in range(positions)
        if bool(eligible[layer])
    ]
    return sorted(candidates, key=lambda candidate: (-candidate.auroc, -candidate.separation))


def prune(ranked: Sequence[Candidate], share: float) -> list[Candidate]:
    """The best share of the layers of each position, the best separated first.

    Of each position by itself: with few prompts many candidates separate perfectly, and a position that tells the
    wordings apart best is not the one where the model decides.
    """
    positions = {candidate.position for candidate in ranked}
    kept = {
        position: math.ceil(share * sum(candidate.position == position for candidate in ranked))
        for position in positions
    }
    chosen = []
    for candidate in ranked:
        if kept[candidate.position] > 0:
            kept[candidate.position] -= 1
            chosen.append(candidate)
    return chosen


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
    """

    def __init__(
        self, steerable: Steerable, openers: RefusalOpeners, harmful: Sequence[Prompt], harmless: Sequence[Prompt]
    ) -> None:
        self.steerable = steerable
        self.openers = openers
        self.harmful = harmful
        self.harmless = harmless
        self.passes = 0
        """Prompts that went through the model, one for each forward pass that they took part in."""
        self._plain: PlainScores | None = None

    @property
    def plain(self) -> PlainScores:
        """The scores without an edit; computed once."""
        if self._plain is None:
            odds, first = self.sweep(self.harmless)
            self._plain = PlainScores(self.sweep(self.harmful)[0], odds, first)
        return self._plain

    def sweep(self, prompts: Sequence[Prompt]) -> tuple[Tensor, Tensor]:
        """`N` log-odds and `N x V` log-probabilities of the first token, inside whatever edit is in place."""
        odds: dict[int, Tensor] = {}
        first: dict[int, Tensor] = {}
        for indices, inputs in forward_batches(self.steerable, prompts):
            values, tokens = self.openers.odds_and_first(self.steerable, inputs)
            odds.update(zip(indices, values, strict=True))
            first.update(zip(indices, tokens.cpu(), strict=True))
            self.passes += len(indices) * len(self.openers.prefixes)
        order = range(len(prompts))
        return torch.stack([odds[i] for i in order]), torch.stack([first[i] for i in order])

    def score_refusal(self, candidate: Candidate, vector: Tensor, *, kl_limit: float, layer_limit: int) -> Candidate:
        """Bypass, induce and divergence of a refusal direction; `vector` is the raw difference in means."""
        plain = self.plain
        with ablate(self.steerable, vector):
            bypass = float(self.sweep(self.harmful)[0].mean())
            divergence = mean_divergence(plain.first_token, self.sweep(self.harmless)[1])
        with add(self.steerable, vector, layers=[candidate.layer]):
            induce = float(self.sweep(self.harmless)[0].mean())
        problems = [
            (not induce > 0, f"adding it does not induce refusals ({induce:.2f})"),
            (not divergence < kl_limit, f"ablating it changes harmless replies (KL {divergence:.3f})"),
            (candidate.layer >= layer_limit, f"its layer is not below {layer_limit}"),
            (not bypass < float(plain.harmful.mean()), "ablating it does not make refusals less likely"),
        ]
        reason = next((text for broken, text in problems if broken), None)
        return replace(candidate, bypass=bypass, induce=induce, kl=divergence, rejected=reason)

    def score_surgical(
        self, candidate: Candidate, vector: Tensor, pseudo: Sequence[Prompt], *, kl_limit: float, loss_limit: float
    ) -> Candidate:
        """False refusals under ablation of a surgical vector, and what it costs.

        `bypass` is the mean log-odds on `pseudo`, `kept` the change of the share of harmful prompts refused: the
        contrast that decides, because a vector may remove refusals of both.
        """
        plain = self.plain
        with ablate(self.steerable, vector):
            bypass = float(self.sweep(pseudo)[0].mean())
            harmful = self.sweep(self.harmful)[0]
            divergence = mean_divergence(plain.first_token, self.sweep(self.harmless)[1])
        change = float((harmful > 0).double().mean() - (plain.harmful > 0).double().mean())
        problems = [
            (not divergence < kl_limit, f"ablating it changes harmless replies (KL {divergence:.3f})"),
            (change < -loss_limit, f"ablating it loses {-100 * change:.0f} points of the harmful refusals"),
        ]
        reason = next((text for broken, text in problems if broken), None)
        return replace(candidate, bypass=bypass, kl=divergence, kept=change, rejected=reason)


def mean_divergence(plain: Tensor, edited: Tensor) -> float:
    """Mean over rows of KL(plain || edited) in nats, from `N x V` log-probabilities, in float64."""
    first, second = plain.double().exp(), edited.double().exp()
    terms = first * ((first + KL_EPSILON).log() - (second + KL_EPSILON).log())
    return float(terms.sum(-1).mean())


def choose(scored: Sequence[Candidate]) -> Candidate | None:
    """The candidate with the least bypass among those that are not rejected; None where all are."""
    valid = [candidate for candidate in scored if candidate.rejected is None and candidate.bypass is not None]
    return min(valid, key=lambda candidate: candidate.bypass or 0.0, default=None)

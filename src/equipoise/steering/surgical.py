"""The surgical vector: what makes a model refuse harmless prompts, without what makes it refuse harmful ones.

`w = mean of refused harmless-but-suspicious prompts - mean of harmless ones`, `w' = w - lambda (w . r) r` with the
refusal direction r *of the same layer and position* (Wang et al. 2024, arXiv:2410.03415). Ablating w' removes false
refusals; whether it keeps the harmful ones is measured on held-out harmful prompts while choosing, because the raw
vector, and some projected ones, remove both.
"""

from __future__ import annotations

import torch
from torch import Tensor

from equipoise.steering.activation_sums import ActivationSums
from equipoise.steering.candidates import BypassSweep, Candidate, CandidateScorer, prune, rank, why_none
from equipoise.steering.direction import Direction
from equipoise.steering.find import DirectionSearch
from equipoise.steering.prompt_sets import PromptSet
from equipoise.steering.refusal_candidates import sum_pair
from equipoise.types import Prompt

LEAST_PSEUDO = 4
"""Refused harmless prompts below which no surgical vector is looked for."""
SurgicalOutcome = tuple[Direction | None, str | None, tuple[Candidate, ...]]
"""The vector, the reason why there is none, and the candidates."""


def find_surgical(
    search: DirectionSearch,
    scorer: CandidateScorer,
    pseudo: PromptSet,
    harmless: ActivationSums,
    refusal: Tensor,
    eligible: Tensor,
    contrast: PromptSet | None = None,
) -> SurgicalOutcome:
    """The surgical vector of a model whose differences in means are known.

    Args:
        search: the model and how to look.
        scorer: with held-out harmful and harmless prompts.
        pseudo: harmless prompts that look harmful; half of them are to choose on.
        harmless: sums over harmless training prompts.
        refusal: `L x P x width` refusal directions.
        eligible: `L` bool, layers that may be chosen.
        contrast: harmful prompts in the words of `pseudo`; those refused must stay refused.
    """
    settings = search.settings
    # Half and half, not the 80:20 of the direction: refused harmless prompts are few, and the choice needs as many of
    # them as the mean does.
    train, validation = pseudo.split((0.5, 0.5), settings.seed)
    refused = [
        refused_prompts(search, f"pseudo-{name}", part) for name, part in (("train", train), ("validation", validation))
    ]
    if len(refused[0]) < LEAST_PSEUDO or len(refused[1]) < 2:
        count = len(refused[0]) + len(refused[1])
        return None, f"the model refuses {count} of {len(pseudo)} harmless prompts that look harmful: too few", ()
    sums = sum_pair(search.sums("pseudo", refused[0], refusal.shape[1]))
    raw = (sums.means() - harmless.means()).float()
    # `raw` also holds the refusal itself, since these prompts were refused. Without this projection an ablation would
    # remove refusals of all kinds, which is the jailbreak that the vector shall not be.
    vectors = project_out_each(raw, refusal, settings.surgical_share)
    # Where `raw` lies along the refusal, nothing is left of it but rounding errors, which normalising would blow up.
    eligible = eligible & sums.reached & (vectors.norm(dim=-1) > 1e-6 * raw.norm(dim=-1)).all(1)
    units = torch.nn.functional.normalize(vectors.double(), dim=-1)
    ranked = rank(
        search.projections("surgical-pseudo", refused[1], units),
        search.projections("surgical-harmless", scorer.harmless, units),
        eligible,
    )

    held_out = [] if contrast is None else recognised_refusals(search, scorer, contrast)

    def check(candidate: Candidate) -> Candidate:
        return scorer.check_surgical(
            candidate,
            vectors[candidate.layer, candidate.position],
            kl_limit=settings.surgical_kl_limit,
            loss_limit=settings.surgical_loss_limit,
            needless=refused[1],
            contrast=held_out,
        )

    pruned = prune(ranked, settings.keep)
    scored, best = search.chosen("surgical", pruned, BypassSweep(scorer, vectors, refused[1]), check)
    candidates = (*scored, *(candidate for candidate in ranked if candidate not in pruned))
    if best is None:
        return None, why_none(scored, scorer.boundary), candidates
    direction = Direction(
        vectors[best.layer, best.position].clone(),
        layer=best.layer,
        position=best.position,
        model=search.steerable.name,
        revision=search.steerable.revision,
        kind="false-refusal",
        data={part.name: part.sha256 for part in (pseudo, contrast) if part is not None},
        metrics={name: value for name, value in best.to_dict().items() if isinstance(value, float)},
        details={
            "lambda": settings.surgical_share,
            "refused": len(refused[0]) + len(refused[1]),
            "contrast": len(held_out),
        },
    )
    return direction, None, candidates


def refused_prompts(search: DirectionSearch, name: str, source: PromptSet) -> list[Prompt]:
    """The prompts of a set that the model refuses by the judge's label."""
    rows = search.replies(name, source.prompts)
    return [prompt for prompt, row in zip(source.prompts, rows, strict=True) if row["refused"] is True]


def recognised_refusals(search: DirectionSearch, scorer: CandidateScorer, contrast: PromptSet) -> list[Prompt]:
    """The contrast prompts whose refusal the openers recognise as well: only these can be lost by the same measure."""
    prompts = refused_prompts(search, "contrast", contrast)
    odds: list[float] | None = search.stages.get("contrast-odds", list)
    if odds is None:
        odds = scorer.sweep(prompts)[0].tolist() if prompts else []
        search.put("contrast-odds", odds)
    return [prompt for prompt, value in zip(prompts, odds, strict=True) if value > scorer.boundary]


def project_out_each(vectors: Tensor, others: Tensor, share: float) -> Tensor:
    """`w - share * (w . r) r` at every layer and position, with r of length 1."""
    units = torch.nn.functional.normalize(others.double(), dim=-1)
    wide = vectors.double()
    return (wide - share * (wide * units).sum(-1, keepdim=True) * units).float()

"""What every search of a refusal direction begins with: judged replies, differences in means, ranked candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import Tensor

from equipoise.steering.activation_sums import ActivationSums
from equipoise.steering.batch_work import SumPair
from equipoise.steering.candidates import Candidate, CandidateScorer, rank
from equipoise.steering.openers import RefusalOpeners, learn_openers
from equipoise.steering.prompt_forward import post_instruction_length
from equipoise.steering.prompt_sets import PromptSet
from equipoise.types import Prompt

if TYPE_CHECKING:
    from equipoise.steering.find import DirectionSearch, FindSettings

LEAST_ROWS: Final = 8
"""Judged prompts of each class below which no direction is looked for."""


@dataclass(frozen=True)
class RefusalCandidates:
    """A direction for each layer and each token behind the instruction, the best separated first."""

    openers: RefusalOpeners
    """How this model refuses."""
    positions: int
    """Tokens behind the instruction."""
    means: dict[str, SumPair]
    """Sums of the stream over training prompts, by `harmful` and `harmless`, in two halves each."""
    differences: Tensor
    """`L x P x width`: mean of refused harmful prompts less mean of answered harmless ones."""
    eligible: Tensor
    """`L` bool: layers that may be chosen."""
    limit: int
    """Layers from here on may not."""
    ranked: list[Candidate]
    """By the area under the ROC curve of validation prompts."""
    scorer: CandidateScorer
    """With the validation prompts that the model refuses, and answers, as it should."""
    answered: list[Prompt]
    """Validation prompts that the model answers, harmful ones first."""


def prepare_candidates(
    search: DirectionSearch, harmful: PromptSet, harmless: PromptSet, counts: dict[str, int]
) -> RefusalCandidates | str:
    """The candidates, or why there are none; `counts` gets the prompts of each class that were judged as needed."""
    settings = search.settings
    parts = _training_and_validation(harmful, harmless, settings).items()
    labelled = {name: (part.prompts, search.replies(name, part.prompts)) for name, part in parts}
    # Harmful prompts that the model answers, and harmless ones that it refuses, would blur the difference in means.
    # The judge reads this model's own replies, as no list of prompts knows which these are.
    kept = {name: _with_label(*pair, wanted=name.startswith("harmful")) for name, pair in labelled.items()}
    counts |= {f"{name} of {len(labelled[name][0])}": len(rows) for name, rows in kept.items()}
    too_few = [name for name, rows in kept.items() if len(rows) < (LEAST_ROWS if name.endswith("train") else 2)]
    if too_few:
        what = "refuses" if too_few[0].startswith("harmful") else "answers"
        return f"the model {what} {len(kept[too_few[0]])} of {len(labelled[too_few[0]][0])} prompts ({too_few[0]})"
    openers = learn_openers(*_reply_tokens([rows for _, rows in labelled.values()]))
    positions = post_instruction_length(search.steerable)
    means = {name: search.sums(name, kept[f"{name}-train"], positions) for name in ("harmful", "harmless")}
    # `L x P x width`: one candidate direction for each layer and each of the P tokens after the instruction.
    differences = (sum_pair(means["harmful"]).means() - sum_pair(means["harmless"]).means()).float()
    reached = sum_pair(means["harmful"]).reached & sum_pair(means["harmless"]).reached
    # At the first layer the tokens after an instruction are the template's, the same in every prompt: a difference in
    # means of zero, which has no direction.
    limit = int(settings.layer_share * search.depth)
    eligible = reached & (torch.arange(search.depth) < limit) & (differences.norm(dim=-1) > 0).all(1)
    units = torch.nn.functional.normalize(differences.double(), dim=-1)
    ranked = rank(
        search.projections("harmful", kept["harmful-validation"], units),
        search.projections("harmless", kept["harmless-validation"], units),
        eligible,
    )
    scored_on = kept["harmful-validation"], kept["harmless-validation"]
    scorer = CandidateScorer(search.steerable, openers, *scored_on, search.stages.get("boundary", float))
    search.use_scorer(scorer)
    search.put("boundary", scorer.boundary)
    answered = _with_label(*labelled["harmful-validation"], wanted=False) + kept["harmless-validation"]
    return RefusalCandidates(openers, positions, means, differences, eligible, limit, ranked, scorer, answered)


def sum_pair(halves: SumPair) -> ActivationSums:
    """Both halves together."""
    return halves[0] + halves[1]


def _training_and_validation(harmful: PromptSet, harmless: PromptSet, settings: FindSettings) -> dict[str, PromptSet]:
    """Both sets cut in two, as `harmful-train`, `harmful-validation` and so on."""
    shares = (1 - settings.validation, settings.validation)
    parts = {name: part.split(shares, settings.seed) for name, part in (("harmful", harmful), ("harmless", harmless))}
    return {
        f"{name}-{use}": cut
        for name, cuts in parts.items()
        for use, cut in zip(("train", "validation"), cuts, strict=True)
    }


def _with_label(prompts: Sequence[Prompt], rows: Sequence[dict[str, Any]], *, wanted: bool) -> list[Prompt]:
    return [prompt for prompt, row in zip(prompts, rows, strict=True) if row["refused"] is wanted]


def _reply_tokens(groups: Sequence[Sequence[dict[str, Any]]]) -> tuple[list[list[int]], list[list[int]]]:
    """Tokens of all refusals and of all answers."""
    rows = [row for group in groups for row in group]
    return [row["tokens"] for row in rows if row["refused"] is True], [
        row["tokens"] for row in rows if row["refused"] is False
    ]

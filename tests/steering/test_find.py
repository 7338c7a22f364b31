from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.nn.functional import cosine_similarity

from equipoise.steering.candidates import Candidate, auroc, choose, mean_divergence, prune, rank
from equipoise.steering.find import DirectionSearch, FindResult, FindSettings, find_direction
from equipoise.steering.prompt_forward import post_instruction_length
from equipoise.steering.stage_folder import StageFolder
from equipoise.steering.steerable import Steerable
from tests.steering.planted import planted_directions, prompts, sorry_judge

QUICK = FindSettings(reply_tokens=4)


def test_the_planted_direction_is_recovered(planted_result: FindResult) -> None:
    direction = planted_result.direction
    assert direction is not None
    harm, _ = planted_directions()
    assert float(cosine_similarity(direction.vector, harm, dim=0)) > 0.99
    assert direction.metrics["bypass"] < -5
    assert direction.metrics["induce"] > 0
    assert direction.metrics["kl"] < 0.1
    assert direction.details["split_half_cosine"] > 0.9
    assert 1 <= direction.layer < 4


def test_the_surgical_vector_is_the_part_of_false_refusals_alone(planted_result: FindResult) -> None:
    surgical = planted_result.surgical
    assert surgical is not None, planted_result.surgical_reason
    _, suspicion = planted_directions()
    assert float(cosine_similarity(surgical.vector, suspicion, dim=0)) > 0.95
    assert surgical.kind == "false-refusal"
    assert surgical.metrics["bypass"] < 0
    assert surgical.metrics["kept"] == 0


def test_the_opener_is_learned_from_replies(planted_result: FindResult) -> None:
    assert planted_result.openers is not None
    assert planted_result.openers.sequences == ((6,),)
    assert planted_result.openers.covered == 1


def test_positions_are_those_behind_the_instruction(planted_steerable: Steerable) -> None:
    # `<end>` and `<bot>`, though the template writes `<user>` as well.
    assert post_instruction_length(planted_steerable) == 2


def test_pruning_needs_far_fewer_passes_for_the_same_direction(planted_steerable: Steerable) -> None:
    sets = prompts("harmful", 60, "attack"), prompts("harmless", 60)
    full = find_direction(DirectionSearch(planted_steerable, replace(QUICK, keep=1), judge=sorry_judge), *sets)
    quick = find_direction(DirectionSearch(planted_steerable, QUICK, judge=sorry_judge), *sets)

    assert full.direction is not None
    assert quick.direction is not None
    assert full.direction.cosine(quick.direction) > 0.99
    assert quick.counts["scored candidates"] < full.counts["scored candidates"]
    assert quick.counts["forward passes"] < full.counts["forward passes"]
    # Of six candidates one of each of three layers is scored; real models have more than ten times as many.
    assert full.counts["sweep passes of all candidates"] >= 2 * quick.counts["sweep passes"]


def test_a_model_that_does_not_refuse_has_no_direction(planted_steerable: Steerable) -> None:
    search = DirectionSearch(planted_steerable, QUICK, judge=sorry_judge)

    result = find_direction(search, prompts("harmful", 40), prompts("harmless", 40, seed=1))

    assert result.direction is None
    assert result.reason is not None
    assert "refuses 0 of" in result.reason


def test_that_no_candidate_passes_is_a_result_with_the_table(planted_steerable: Steerable) -> None:
    search = DirectionSearch(planted_steerable, replace(QUICK, kl_limit=-1), judge=sorry_judge)

    result = find_direction(search, prompts("harmful", 60, "attack"), prompts("harmless", 60))

    assert result.direction is None
    assert result.reason is not None
    assert "KL" in result.reason
    assert all(candidate.rejected for candidate in result.candidates if candidate.bypass is not None)


class _Killed(Exception):
    pass


@pytest.mark.parametrize(
    "stage", ["replies to harmful-train prompts", "activations of harmless prompts", "refusal candidates"]
)
def test_a_killed_search_goes_on_to_the_same_result(
    planted_steerable: Steerable, planted_result: FindResult, tmp_path: Path, stage: str
) -> None:
    sets = prompts("harmful", 60, "attack"), prompts("harmless", 60)

    def kill(name: str, _done: int, _total: int) -> None:
        if name == stage:
            raise _Killed

    def search(progress=lambda *_: None) -> DirectionSearch:
        return DirectionSearch(
            planted_steerable, QUICK, judge=sorry_judge, stages=StageFolder(tmp_path, {"run": 1}), progress=progress
        )

    with pytest.raises(_Killed):
        find_direction(search(kill), *sets)
    resumed = search()
    result = find_direction(resumed, *sets)

    assert result.direction is not None
    assert planted_result.direction is not None
    assert torch.equal(result.direction.vector, planted_result.direction.vector)
    assert result.direction.metrics == planted_result.direction.metrics
    whole = DirectionSearch(planted_steerable, QUICK, judge=sorry_judge)
    undisturbed = find_direction(whole, *sets)
    # Work that was done twice would count twice.
    assert resumed.passes == whole.passes
    assert result.counts["sweep passes"] >= undisturbed.counts["sweep passes"]
    again = find_direction(search(), *sets)
    assert again.counts == result.counts


def test_auroc_counts_ties_half() -> None:
    assert float(auroc(torch.tensor([2.0, 3.0]), torch.tensor([0.0, 1.0]))) == 1
    assert float(auroc(torch.tensor([1.0, 1.0]), torch.tensor([1.0, 1.0]))) == 0.5
    assert float(auroc(torch.tensor([0.0]), torch.tensor([1.0]))) == 0


def test_ranking_orders_by_area_and_leaves_out_other_layers() -> None:
    random = torch.Generator().manual_seed(0)
    positive, negative = (torch.randn(30, 4, 2, generator=random) for _ in range(2))
    positive[:, 2, 1] += 10
    positive[:, 3, 0] += 20

    ranked = rank(positive, negative, torch.tensor([True, True, True, False]))

    assert (ranked[0].layer, ranked[0].position) == (2, -1)
    assert len(ranked) == 6
    areas = [round(candidate.auroc, 2) for candidate in ranked]
    assert areas == sorted(areas, reverse=True)
    assert prune(ranked, 1.0) == ranked
    best = prune(ranked, 0.3)
    assert best == [next(c for c in ranked if c.layer == layer) for layer in dict.fromkeys(c.layer for c in ranked)]


def test_the_choice_is_the_least_bypass_that_is_not_rejected() -> None:
    plain = Candidate(1, -1, 1.0, 3.0, bypass=-1.0, induce=1.0, kl=0.0)
    best = replace(plain, layer=2, bypass=-5.0)
    assert choose([plain, best, replace(best, bypass=-9.0, rejected="KL"), replace(plain, bypass=None)]) is best
    assert choose([replace(best, rejected="KL")]) is None


def test_divergence_is_zero_for_the_same_and_grows() -> None:
    plain = torch.randn(5, 11, generator=torch.Generator().manual_seed(0)).log_softmax(-1)
    assert mean_divergence(plain, plain) == 0
    assert 0 < mean_divergence(plain, plain.roll(1, -1)) < 50

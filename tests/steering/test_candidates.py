"""Candidates: separation by definition, ranking, pruning, scores under edits, and the choice."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise.steering.candidates import (
    Candidate,
    CandidateScorer,
    auroc,
    checked_in_order,
    choose,
    mean_divergence,
    prune,
    rank,
    refusal_boundary,
    refused_share,
    separation,
    why_none,
)
from equipoise.steering.openers import RefusalOpeners
from equipoise.steering.steerable import Steerable
from tests.steering.planted import DEPTH, planted_directions, prompts

VALUES = st.lists(st.integers(-3, 3).map(float), min_size=2, max_size=12)
OPENERS = RefusalOpeners(((6,),), 1.0, 0.0)


def column(values: list[float]) -> torch.Tensor:
    return torch.tensor(values)[:, None, None]


@given(VALUES, VALUES)
def test_the_area_is_the_share_of_pairs_in_order(first: list[float], second: list[float]) -> None:
    pairs = [(a > b) + 0.5 * (a == b) for a in first for b in second]
    assert float(auroc(column(first), column(second))) == pytest.approx(sum(pairs) / len(pairs))
    assert float(auroc(column(second), column(first))) == pytest.approx(1 - sum(pairs) / len(pairs))


@given(VALUES, VALUES, st.floats(0.5, 4), st.floats(-3, 3))
def test_the_distance_of_means_has_no_unit(first: list[float], second: list[float], scale: float, shift: float) -> None:
    if len(set(first)) < 2 or len(set(second)) < 2:
        return
    plain = float(separation(column(first), column(second)))
    moved = separation(column([scale * v + shift for v in first]), column([scale * v + shift for v in second]))
    assert float(moved) == pytest.approx(plain, abs=1e-4)


def test_ranking_is_by_area_then_distance_and_leaves_out_what_may_not_be_chosen() -> None:
    positive, negative = torch.zeros(4, 3, 2), torch.zeros(4, 3, 2)
    noise = torch.tensor([0.0, 1.0, 2.0, 3.0])
    for layer, index, shift in ((0, 0, 10.0), (1, 1, 20.0), (2, 1, 30.0), (1, 0, 1.0)):
        positive[:, layer, index], negative[:, layer, index] = noise + shift, noise
    ranked = rank(positive, negative, torch.tensor([True, True, False]))
    assert [(c.layer, c.position) for c in ranked[:3]] == [(1, -1), (0, -2), (1, -2)]
    assert {c.layer for c in ranked} == {0, 1}
    assert len(ranked) == 4


@pytest.mark.parametrize(("share", "left"), [(1.0, 15), (0.6, 9), (0.2, 5), (0.01, 5)])
def test_pruning_keeps_the_best_of_every_layer_and_then_a_share(share: float, left: int) -> None:
    # Late layers separate better at every position: a share of the whole ranking would hold no early one.
    ranked = [
        Candidate(layer, position, 1.0, 9.0 * layer + position) for layer in range(5) for position in (-1, -2, -3)
    ]
    ranked.sort(key=lambda candidate: -candidate.separation)
    kept = prune(ranked, share)
    assert len(kept) == left
    assert kept == [c for c in ranked if c in kept]
    for layer in range(5):
        positions = [c.position for c in kept if c.layer == layer]
        assert positions == [-1, -2, -3][: len(positions)], "the best of a layer first"
        assert positions
    assert max(left // 5, 1) <= sum(c.layer == 4 for c in kept) <= -(-left // 5)


def test_areas_that_differ_by_chance_are_ties() -> None:
    positive, negative = torch.zeros(40, 1, 2), torch.zeros(40, 1, 2)
    positive[:, 0, 0], negative[:, 0, 0] = torch.linspace(1.01, 3, 40), torch.linspace(-1, 1, 40)
    positive[:, 0, 1], negative[:, 0, 1] = torch.linspace(100, 101, 40), torch.linspace(-1, 1, 40)
    negative[0, 0, 1] = 100.01  # One pair in the wrong order, at a much greater distance of the means.
    ranked = rank(positive, negative, torch.tensor([True]))
    assert ranked[0].auroc < 1 == ranked[1].auroc
    assert ranked[0].separation > ranked[1].separation


def test_the_choice_has_the_least_bypass_of_those_that_are_valid() -> None:
    rejected = Candidate(1, -1, 1.0, 1.0, bypass=-9.0, rejected="too high")
    unscored = Candidate(2, -1, 1.0, 1.0)
    good, better = (Candidate(layer, -1, 1.0, 1.0, bypass=bypass) for layer, bypass in ((3, 0.0), (4, -2.0)))
    assert choose([rejected, unscored, good, better]) == better
    assert choose([rejected, unscored]) is None
    assert choose([]) is None
    assert Candidate.from_dict(rejected.to_dict()) == rejected


def test_why_there_is_none_names_what_came_nearest_and_ends_refusals() -> None:
    broken = Candidate(7, -1, 1.0, 1.0, bypass=-18.0, kl=11.4, rejected="KL 11.4")
    harmless = Candidate(2, -1, 1.0, 1.0, bypass=-1.0, kl=0.01, rejected="nothing ends")
    nearest = Candidate(20, -2, 1.0, 1.0, bypass=-4.0, kl=0.25, rejected="KL 0.250")
    reason = why_none([broken, harmless, nearest], boundary=-2.0)
    assert "layer 20, position -2: KL 0.250" in reason
    assert "none of 1 ends refusals" in why_none([harmless], boundary=-2.0)
    assert why_none([], boundary=0.0) == "no candidates"


def test_the_divergence_of_a_model_from_itself_is_zero_and_never_negative() -> None:
    generator = torch.Generator().manual_seed(0)
    one, two = (torch.randn(5, 11, generator=generator).log_softmax(-1) for _ in range(2))
    assert mean_divergence(one, one) == 0
    assert mean_divergence(one, two) > 0
    expected = (one.double().exp() * (one.double() - two.double())).sum(-1).mean()
    assert mean_divergence(one, two) == pytest.approx(float(expected), abs=1e-4)


@given(VALUES, VALUES)
def test_no_cut_tells_refused_from_answered_better_than_the_boundary(first: list[float], second: list[float]) -> None:
    refused, answered = torch.tensor(first) - 9, torch.tensor(second) - 9
    boundary = refusal_boundary(refused, answered)

    def accuracy(cut: float) -> float:
        return float((refused > cut).double().mean() + (answered <= cut).double().mean())

    values = sorted({*refused.tolist(), *answered.tolist()})
    between = [(one + other) / 2 for one, other in pairwise(values)]
    assert all(accuracy(boundary) >= accuracy(cut) - 1e-9 for cut in between)


def test_the_boundary_is_the_middle_of_the_gap_and_never_above_the_papers() -> None:
    # A model whose refusals begin in many ways: all log-odds are negative, refused ones among them.
    assert refusal_boundary(torch.tensor([-1.7, -0.3]), torch.tensor([-5.5, -18.0])) == pytest.approx(-3.6)
    assert refusal_boundary(torch.tensor([9.0, 7.0]), torch.tensor([-3.0, -5.0])) == 0
    # One prompt in the wrong place does not move it to the end of the range.
    assert refusal_boundary(torch.tensor([-1.0, -1.1, -9.0]), torch.tensor([-5.0, -6.0])) == pytest.approx(-3.05)
    assert refusal_boundary(torch.tensor([2.0]), torch.tensor([2.0])) == 0
    assert refused_share(torch.tensor([-1.0, -2.0, -9.0]), -3.6) == pytest.approx(2 / 3)


@pytest.fixture
def scorer(planted_steerable: Steerable) -> CandidateScorer:
    harmful, harmless = prompts("harmful", 6, "attack"), prompts("harmless", 5)
    return CandidateScorer(planted_steerable, OPENERS, harmful.prompts, harmless.prompts)


def scored(scorer: CandidateScorer, vector: torch.Tensor, **limits) -> Candidate:
    candidate = scorer.bypass(Candidate(2, -1, 1.0, 9.0), vector, scorer.harmful)
    return scorer.check_refusal(candidate, vector, **({"kl_limit": 0.1, "layer_limit": DEPTH} | limits))


def test_the_planted_direction_scores_as_a_refusal_direction(scorer: CandidateScorer) -> None:
    result = scored(scorer, 6 * planted_directions()[0])
    assert result.rejected is None
    assert result.bypass is not None
    assert result.bypass < float(scorer.plain.harmful.mean()) - 2
    assert result.induce is not None
    assert result.induce > 0


def test_every_condition_rejects_with_its_reason(scorer: CandidateScorer) -> None:
    vector = 6 * planted_directions()[0]
    assert "layer" in str(scored(scorer, vector, layer_limit=2).rejected)
    assert "does not induce" in str(scored(scorer, 1e-3 * vector).rejected)
    assert "KL" in str(scored(scorer, vector, kl_limit=-1.0).rejected)
    wrong = torch.randn(vector.shape, generator=torch.Generator().manual_seed(5))
    wrong -= (wrong @ vector) / (vector @ vector) * vector
    worse = replace(scorer.bypass(Candidate(2, -1, 1.0, 9.0), wrong, scorer.harmful), bypass=99.0)
    assert "less likely" in str(scorer.check_refusal(worse, wrong, kl_limit=0.1, layer_limit=DEPTH).rejected)


def test_a_surgical_vector_that_loses_harmful_refusals_is_rejected(scorer: CandidateScorer) -> None:
    harm, suspicion = planted_directions()
    candidate = Candidate(2, -1, 1.0, 9.0)
    limits = {"kl_limit": 10.0, "loss_limit": 0.04}
    bad = scorer.check_surgical(candidate, harm, **limits)
    assert "loses" in str(bad.rejected)
    assert bad.kept == -1
    good = scorer.check_surgical(candidate, suspicion, **limits)
    assert good.rejected is None
    assert good.kept == 0
    assert good.kept_contrast is None
    strict = scorer.check_surgical(candidate, suspicion, kl_limit=-1.0, loss_limit=1.0)
    assert "KL" in str(strict.rejected)
    assert strict.kept is None


def test_the_contrast_rejects_what_plain_harmful_prompts_do_not(scorer: CandidateScorer) -> None:
    """A vector may keep `attack` and lose what is harmful in the words of the harmless: here `shoot`."""
    _, suspicion = planted_directions()
    contrast = prompts("contrast", 5, "shoot").prompts
    limits = {"kl_limit": 10.0, "loss_limit": 0.04}
    result = scorer.check_surgical(Candidate(2, -1, 1.0, 9.0), suspicion, contrast=contrast, **limits)
    assert result.kept == 0
    assert result.kept_contrast == -1
    assert "contrast" in str(result.rejected)


def test_a_vector_that_ends_no_needless_refusal_is_rejected(scorer: CandidateScorer) -> None:
    """Nothing is lost under a vector without effect, and nothing is won either."""
    harm, suspicion = planted_directions()
    without_effect = torch.randn(suspicion.shape, generator=torch.Generator().manual_seed(3))
    for direction in (harm, suspicion):
        without_effect -= (without_effect @ direction) / (direction @ direction) * direction
    needless = prompts("needless", 5, "shoot").prompts
    limits = {"kl_limit": 10.0, "loss_limit": 0.04}
    useless = scorer.check_surgical(Candidate(2, -1, 1.0, 9.0), without_effect, needless=needless, **limits)
    assert "none of the needless" in str(useless.rejected)
    assert scorer.check_surgical(Candidate(2, -1, 1.0, 9.0), suspicion, needless=needless, **limits).rejected is None


def test_the_plain_scores_are_not_those_of_an_edited_model(planted_steerable: Steerable) -> None:
    """Also where a check is the first that needs them, as after a resume."""
    sets = prompts("harmful", 6, "attack").prompts, prompts("harmless", 5).prompts
    harm = planted_directions()[0]
    fresh, warm = (CandidateScorer(planted_steerable, OPENERS, *sets) for _ in range(2))
    assert float(warm.plain.harmful.mean()) > 0
    checks = [s.check_surgical(Candidate(2, -1, 1.0, 9.0), harm, kl_limit=10.0, loss_limit=0.04) for s in (fresh, warm)]
    assert checks[0] == checks[1]
    assert checks[0].kept == -1


def test_passes_are_counted_and_the_plain_model_runs_once(scorer: CandidateScorer) -> None:
    assert scorer.passes == 0
    plain = scorer.plain
    assert scorer.passes == 6 + 5
    assert scorer.plain is plain
    scored(scorer, 6 * planted_directions()[0])
    assert scorer.passes == (6 + 5) + (6 + 5 + 5)


BYPASSES = st.lists(st.tuples(st.integers(-5, 5), st.booleans()), max_size=12)


@given(BYPASSES)
def test_checking_from_the_best_on_chooses_as_checking_all(cases: list[tuple[int, bool]]) -> None:
    candidates = [Candidate(i, -1, 1.0, 1.0, bypass=float(bypass)) for i, (bypass, _) in enumerate(cases)]
    checks: list[int] = []

    def check(candidate: Candidate) -> Candidate:
        checks.append(candidate.layer)
        return replace(candidate, kl=0.0, rejected=None if cases[candidate.layer][1] else "invalid")

    results, best = checked_in_order(candidates, check)

    reached = len(checks)
    assert best == choose([check(candidate) for candidate in candidates])
    assert [c.layer for c in results] == list(range(len(cases)))
    assert sum(candidate.kl is not None for candidate in results) == reached
    # Nothing worse than the choice was checked.
    assert best is None or all(candidates[i].bypass <= best.bypass for i in checks[:reached])  # type: ignore[operator]

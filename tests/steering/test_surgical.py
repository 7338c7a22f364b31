"""The surgical vector: orthogonal to the refusal, chosen with harmful prompts in view, or a reason for its absence."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise.steering.find import DirectionSearch, FindSettings, find_direction
from equipoise.steering.steerable import Steerable
from equipoise.steering.surgical import LEAST_PSEUDO, project_out_each
from tests.steering.planted import planted_directions, prompts, sorry_judge


def search(steerable: Steerable, **settings: float) -> DirectionSearch:
    return DirectionSearch(steerable, replace(FindSettings(), **settings), sorry_judge)  # type: ignore[arg-type]


@given(st.integers(0, 1000), st.floats(0, 1))
def test_projection_takes_away_the_share_of_the_part_along_the_other(seed: int, share: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    vectors, others = (torch.randn(3, 2, 8, generator=generator) for _ in range(2))
    rest = project_out_each(vectors, others, share)
    units = torch.nn.functional.normalize(others, dim=-1)
    along, before = (rest * units).sum(-1), (vectors * units).sum(-1)
    torch.testing.assert_close(along, (1 - share) * before, atol=1e-4, rtol=1e-4)
    # What lies across the other direction stays.
    torch.testing.assert_close(
        rest - along[..., None] * units, vectors - before[..., None] * units, atol=1e-4, rtol=1e-4
    )


def test_the_planted_false_refusal_is_found_and_orthogonal(planted_steerable: Steerable) -> None:
    result = find_direction(
        search(planted_steerable),
        prompts("harmful", 60, "attack"),
        prompts("harmless", 60),
        prompts("pseudo", 40, "shoot"),
    )
    assert result.direction is not None
    assert result.surgical is not None
    harm, suspicion = planted_directions()
    assert abs(float(torch.nn.functional.cosine_similarity(result.surgical.vector, suspicion, dim=0))) > 0.9
    assert abs(float(torch.nn.functional.cosine_similarity(result.surgical.vector, harm, dim=0))) < 0.1
    assert result.surgical.kind == "false-refusal"


def test_a_vector_has_checks_of_its_own_where_no_direction_is_valid(planted_steerable: Steerable) -> None:
    result = find_direction(
        search(planted_steerable, kl_limit=-1.0),
        prompts("harmful", 60, "attack"),
        prompts("harmless", 60),
        prompts("pseudo", 40, "shoot"),
    )
    assert result.direction is None
    assert result.surgical is not None, result.surgical_reason
    assert result.surgical.metrics["kept"] == 0


def test_too_few_needless_refusals_give_no_vector_but_a_reason(planted_steerable: Steerable) -> None:
    result = find_direction(
        search(planted_steerable),
        prompts("harmful", 40, "attack"),
        prompts("harmless", 40),
        prompts("answered", 20),
    )
    assert result.direction is not None
    assert result.surgical is None
    assert LEAST_PSEUDO > 0
    document = str(result)
    assert "too few" in document


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_share_is_kept_in_the_details(planted_steerable: Steerable, share: float) -> None:
    result = find_direction(
        search(planted_steerable, surgical_share=share, surgical_loss_limit=1.0),
        prompts("harmful", 60, "attack"),
        prompts("harmless", 60),
        prompts("pseudo", 40, "shoot"),
    )
    assert result.surgical is not None
    assert result.surgical.details["lambda"] == share


def test_no_vector_where_every_one_loses_the_contrast(planted_steerable: Steerable) -> None:
    """Harmful prompts that the model refuses for the same word as harmless ones: nothing can tell them apart."""
    result = find_direction(
        search(planted_steerable),
        prompts("harmful", 60, "attack"),
        prompts("harmless", 60),
        prompts("pseudo", 40, "shoot"),
        prompts("contrast", 20, "shoot", seed=5),
    )
    assert result.direction is not None
    assert result.surgical is None
    assert "contrast refusals" in str(result.surgical_reason)


@pytest.mark.parametrize("words", [("attack",), ()])
def test_a_contrast_that_is_kept_or_never_refused_rejects_nothing(
    planted_steerable: Steerable, words: tuple[str, ...]
) -> None:
    result = find_direction(
        search(planted_steerable),
        prompts("harmful", 60, "attack"),
        prompts("harmless", 60),
        prompts("pseudo", 40, "shoot"),
        prompts("contrast", 20, *words, seed=5),
    )
    assert result.surgical is not None
    assert result.surgical.details["contrast"] == (20 if words else 0)
    assert "contrast" in result.surgical.data

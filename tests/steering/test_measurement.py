"""What a measurement says of itself: the null, the p-value, the costs, and its JSON."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.stats.proportions import Rate
from equipoise.steering.measurement import (
    ConditionRates,
    CrossEntropies,
    DirectionMeasurement,
    LayerSeparation,
    NullComparison,
    PictureTransfer,
)

NUMBERS = st.floats(-10, 10)


@given(NUMBERS, st.lists(NUMBERS, min_size=1, max_size=30))
def test_the_p_value_is_that_of_a_permutation_test(value: float, random: list[float]) -> None:
    bypass, induce = (NullComparison(name, 0.0, value, tuple(random)) for name in ("bypass", "induce"))
    for null in (bypass, induce):
        assert 1 / (1 + len(random)) <= null.p <= 1
    ties = sum(other == value for other in random)
    assert bypass.stronger + induce.stronger == len(random) + ties


def test_a_strong_effect_has_the_least_p_value_that_the_null_allows() -> None:
    random = tuple(float(number) for number in range(20))
    assert NullComparison("bypass", 0.0, -5.0, random).p == pytest.approx(1 / 21)
    assert NullComparison("induce", 0.0, 25.0, random).p == pytest.approx(1 / 21)
    assert NullComparison("induce", 0.0, -5.0, random).p == 1


def measurement(*seconds: float) -> DirectionMeasurement:
    names = ("plain", "ablated", "added")
    conditions = tuple(
        ConditionRates(name, None, {"harmful": Rate.of(3, 4)}, {}, time)
        for name, time in zip(names, seconds, strict=True)
    )
    return DirectionMeasurement(
        direction={"layer": 1},
        model="m",
        revision="r",
        judge="phrases",
        counts={"harmful": 4},
        layers=(LayerSeparation(0, 0.9, None, None),),
        conditions=conditions,
        dose=(),
        null=(NullComparison("bypass", 1.0, -2.0, (0.5, -3.0)),),
        split_half=0.9,
        agreement=0.8,
        entropies=(CrossEntropies("own replies", 10, 1.0, 1.1, 2.0),),
        picture=PictureTransfer(None, None, "reads no pictures"),
    )


def test_costs_are_ratios_to_the_plain_model_in_the_same_run() -> None:
    assert measurement(2.0, 3.0, 5.0).to_dict()["cost"] == {"plain": 1.0, "ablated": 1.5, "added": 2.5}
    assert measurement(0.0, 3.0, 5.0).to_dict()["cost"] == {}


def test_the_document_is_json_and_holds_what_is_computed_of_the_null() -> None:
    document = json.loads(json.dumps(measurement(1.0, 1.0, 1.0).to_dict()))
    assert document["null"][0]["stronger"] == 1
    assert document["null"][0]["p"] == pytest.approx(2 / 3)
    assert document["layers"][0]["pseudo"] is None
    assert document["picture"]["reason"] == "reads no pictures"

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from equipoise.errors import ModelError, UsageError
from equipoise.models.text_model import TextModel
from equipoise.steering.conditional import ConditionalAddition, HarmCondition, RowGates, fit_condition
from equipoise.steering.edits import ablate, add
from equipoise.steering.find import FindResult
from equipoise.steering.steerable import Steerable
from tests.steering.planted import prompts


@pytest.fixture(scope="module")
def conditional(planted_steerable: Steerable, planted_result: FindResult) -> ConditionalAddition:
    assert planted_result.direction is not None
    # Two words of which the model itself makes nothing, so that only the gate can make it refuse.
    return fit_condition(
        planted_steerable,
        planted_result.direction,
        prompts("new harm", 60, "w0", "w1"),
        prompts("harmless", 60),
        [prompts("calibration", 150, seed=3), prompts("maths", 50, "9", seed=4)],
        false_positives=0.05,
    )


@pytest.mark.parametrize("method", ["probe", "difference"])
def test_a_condition_separates_and_keeps_its_rate(
    planted_steerable: Steerable, planted_result: FindResult, method
) -> None:
    assert planted_result.direction is not None
    fitted = fit_condition(
        planted_steerable,
        planted_result.direction,
        prompts("harmful", 60, "attack"),
        prompts("harmless", 60),
        [prompts("calibration", 150, seed=3), prompts("maths", 50, "9", seed=4)],
        false_positives=0.05,
        method=method,
    )
    details = fitted.condition.calibration
    assert fitted.condition.layer <= planted_result.direction.layer
    assert details["auroc"] > 0.99
    assert details["harmful_steered"] > 0.9
    assert details["threshold"]["bound"] <= 0.05
    assert details["threshold"]["supported"] is True
    assert set(details["rates"]) == {"harmless", "calibration", "maths"}
    assert details["threshold"]["count"] == 30 + 150 + 50, "prompts that the score was fitted on set no threshold"


def test_too_few_clean_prompts_are_said_not_to_support_the_rate(
    planted_steerable: Steerable, planted_result: FindResult
) -> None:
    assert planted_result.direction is not None
    fitted = fit_condition(
        planted_steerable,
        planted_result.direction,
        prompts("harmful", 20, "attack"),
        prompts("harmless", 20),
        [prompts("calibration", 10, seed=3)],
        false_positives=0.05,
    )
    assert fitted.condition.calibration["threshold"]["supported"] is False


def test_rows_are_gated_one_by_one(
    planted: TextModel, planted_steerable: Steerable, conditional: ConditionalAddition
) -> None:
    harmless = list(prompts("other", 6, seed=9).prompts)
    harmful = list(prompts("other harm", 6, "w0", "w1", seed=9).prompts)
    mixed = [prompt for pair in zip(harmless, harmful, strict=True) for prompt in pair]
    with conditional.applied(planted_steerable) as gates:
        replies = [exchange.reply for exchange in planted.generate(mixed, max_new_tokens=3)]
        flags = gates.current().tolist()
        alone = [planted.generate([prompt], max_new_tokens=3)[0].reply for prompt in mixed]

    assert replies == alone
    assert [reply.startswith("Sorry") for reply in replies] == flags
    assert any(flags)
    assert not all(flags)
    assert sum(flags[1::2]) > sum(flags[0::2])


def test_an_open_gate_is_addition_and_a_closed_one_is_nothing(
    planted: TextModel, planted_steerable: Steerable, conditional: ConditionalAddition
) -> None:
    batch = list(prompts("other", 4, seed=9).prompts)
    direction = conditional.direction
    for threshold, context in (
        (-1e9, add(planted_steerable, direction.vector, layers=[direction.layer])),
        (1e9, ablate(planted_steerable, direction.vector, coefficient=0.0)),
    ):
        fixed = replace(conditional, condition=replace(conditional.condition, threshold=threshold))
        with fixed.applied(planted_steerable):
            gated = planted.log_prob(None, batch, ["Sorry"] * 4).tokens
        with context:
            expected = planted.log_prob(None, batch, ["Sorry"] * 4).tokens
        torch.testing.assert_close(gated, expected)


def test_the_gate_is_decided_by_the_prompt_and_kept_for_the_reply(
    planted: TextModel, planted_steerable: Steerable, conditional: ConditionalAddition
) -> None:
    prompt = prompts("other harm", 1, "w0", "w1", seed=9).prompts[0]
    with conditional.applied(planted_steerable) as gates:
        planted.log_prob(None, [prompt, prompt], ["Sorry", "Sure w3 w4 w5"])
        scores = gates.scores
    assert scores is not None
    torch.testing.assert_close(scores[0], scores[1])


def test_a_condition_survives_its_file(tmp_path: Path, conditional: ConditionalAddition) -> None:
    loaded = ConditionalAddition.load(conditional.save(tmp_path / "conditional.safetensors"))

    assert torch.equal(loaded.condition.weight, conditional.condition.weight)
    assert loaded.describe() == conditional.describe()
    assert loaded.condition.calibration == conditional.condition.calibration
    with pytest.raises(UsageError, match="expected a condition"):
        ConditionalAddition.load(conditional.direction.save(tmp_path / "refusal.safetensors"))


def test_a_condition_above_its_direction_and_a_step_without_a_prompt_are_refused(
    planted_steerable: Steerable, conditional: ConditionalAddition
) -> None:
    above = replace(conditional, condition=replace(conditional.condition, layer=conditional.direction.layer + 1))
    with pytest.raises(UsageError, match="at or below layer"), above.applied(planted_steerable):
        pass
    with conditional.applied(planted_steerable) as gates, pytest.raises(ModelError, match="continues a cache"):
        gates.current()


@pytest.mark.parametrize(
    "change",
    [
        {"weight": torch.full((4,), torch.nan)},
        {"weight": torch.tensor([1.0, torch.inf])},
        {"weight": torch.ones(2, 2)},
        {"bias": float("nan")},
        {"bias": "0"},
        {"threshold": float("inf")},
        {"threshold": float("nan")},
        {"threshold": None},
        {"layer": -1},
        {"layer": "top"},
        {"method": "guess"},
    ],
)
def test_a_condition_that_would_never_be_met_is_one_clear_error(change: dict[str, Any]) -> None:
    values: dict[str, Any] = {"weight": torch.ones(4), "bias": 0.0, "layer": 1, "threshold": 0.0, "method": "probe"}
    HarmCondition(**values)
    with pytest.raises(UsageError, match=r"^expected [^\n]*, got [^\n]*; try [^\n]*$"):
        HarmCondition(**values | change)


@pytest.mark.parametrize(
    "change",
    [
        {"condition": {"note": "x"}},
        {"condition": {"threshold": None}},
        {"condition": {"threshold": float("nan")}},
        {"condition": {"layer": -1}},
        {"condition": None},
        {"coefficient": "much"},
        {"coefficient": None},
    ],
)
def test_a_changed_document_is_one_clear_error(
    tmp_path: Path, conditional: ConditionalAddition, change: dict[str, Any]
) -> None:
    path = conditional.save(tmp_path / "conditional.safetensors")
    document = json.loads(path.with_suffix(".json").read_text())
    inner = change.get("condition", {})
    document |= change if inner is None else {**change, "condition": document["condition"] | inner}
    path.with_suffix(".json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match=r"^expected [^\n]*, got [^\n]*; try [^\n]*$"):
        ConditionalAddition.load(path)


@pytest.mark.parametrize("missing", ["threshold", "bias", "layer"])
def test_a_document_without_a_value_is_one_clear_error(
    tmp_path: Path, conditional: ConditionalAddition, missing: str
) -> None:
    path = conditional.save(tmp_path / "conditional.safetensors")
    document = json.loads(path.with_suffix(".json").read_text())
    del document["condition"][missing]
    path.with_suffix(".json").write_text(json.dumps(document))
    with pytest.raises(UsageError, match="values of a condition"):
        ConditionalAddition.load(path)


def test_two_conditions_are_described_as_two(conditional: ConditionalAddition) -> None:
    condition = conditional.condition
    others = [replace(condition, weight=-condition.weight), replace(condition, bias=condition.bias + 1)]
    described = [replace(conditional, condition=one).describe() for one in (condition, *others)]
    assert len({json.dumps(one) for one in described}) == 3


def test_a_score_that_is_no_number_steers() -> None:
    gates = RowGates()
    gates.decide(torch.tensor([torch.nan, -1.0, 1.0]), 0.0)
    assert gates.current().tolist() == [True, False, True]


def test_a_condition_of_another_width_is_refused(
    planted_steerable: Steerable, conditional: ConditionalAddition
) -> None:
    condition = replace(conditional.condition, weight=torch.ones(len(conditional.condition.weight) + 1))
    with (
        pytest.raises(UsageError, match="condition of width"),
        replace(conditional, condition=condition).applied(planted_steerable),
    ):
        pass

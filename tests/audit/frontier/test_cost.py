"""What a mitigation costs: a ratio of two models in turn, tokens, memory."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from equipoise.audit.frontier import cost
from equipoise.audit.frontier.cost import UNKNOWN, VariantCost, measure_cost
from equipoise.models.peak_memory import process_peak
from equipoise.types import Exchange, Prompt

PROMPTS = [Prompt.ask(f"question {number}") for number in range(4)]


class Clock:
    """A clock that models move."""

    now = 0.0


class TimedModel:
    """Takes a fixed time for a prompt."""

    def __init__(self, seconds: float, reply: str = "one two", error: str | None = None) -> None:
        self.name, self.seconds, self.reply, self.error = "timed", seconds, reply, error
        self.calls: list[str] = []

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        self.calls += [prompt.text for prompt in prompts]
        Clock.now += self.seconds * len(prompts)
        return [Exchange(prompt, self.reply, "stop", self.name, error=self.error) for prompt in prompts]


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost.time, "perf_counter", lambda: Clock.now)


def measured(plain: TimedModel, variant: TimedModel, prompts: Sequence[Prompt] = PROMPTS) -> VariantCost:
    return measure_cost(plain, variant, prompts, max_new_tokens=8, peak_before=process_peak())


def test_the_ratio_is_that_of_the_times() -> None:
    result = measured(TimedModel(0.5), TimedModel(1.5))
    assert result.latency_ratio == pytest.approx(3.0)
    assert result.seconds == pytest.approx(1.5)


def test_the_first_prompt_warms_both_models_up_and_is_not_timed() -> None:
    plain, variant = TimedModel(1.0), TimedModel(1.0)
    measured(plain, variant)
    assert plain.calls == variant.calls == ["question 0", *(prompt.text for prompt in PROMPTS)]


def test_without_prompts_nothing_is_measured() -> None:
    assert measured(TimedModel(1.0), TimedModel(1.0), []) == VariantCost()


def test_a_model_that_takes_no_time_has_no_ratio() -> None:
    assert measured(TimedModel(0.0), TimedModel(1.0)).latency_ratio is None


def test_tokens_are_those_of_the_models_tokenizer() -> None:
    def words(text: str, add_special_tokens: bool) -> dict[str, Any]:
        assert not add_special_tokens
        return {"input_ids": text.split()}

    model = TimedModel(1.0, reply="three words here")
    model.core = SimpleNamespace(processor=SimpleNamespace(tokenizer=words))  # type: ignore[attr-defined]
    assert measured(TimedModel(1.0), model).reply_tokens == 3.0


def test_without_a_tokenizer_tokens_are_not_measured() -> None:
    assert measured(TimedModel(1.0), TimedModel(1.0)).reply_tokens is None


def test_failures_have_no_length() -> None:
    model = TimedModel(1.0, error="broken")
    model.processor = SimpleNamespace(tokenizer=lambda text, add_special_tokens: {"input_ids": []})  # type: ignore[attr-defined]
    assert measured(TimedModel(1.0), model).reply_tokens is None


def test_memory_on_a_cpu_is_growth_and_never_negative() -> None:
    result = measure_cost(TimedModel(1.0), TimedModel(1.0), PROMPTS, max_new_tokens=8, peak_before=1 << 60)
    assert result.memory == 0
    assert result.memory_kind == "growth of the process's peak"


def test_memory_is_unknown_where_the_system_counts_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "resource", None)
    result = measured(TimedModel(1.0), TimedModel(1.0))
    assert (result.memory, result.memory_kind) == (None, UNKNOWN)


def test_a_cost_is_json() -> None:
    document = VariantCost(fit_seconds=1.0).to_json()
    assert document["fit_seconds"] == 1.0
    assert document["latency_ratio"] is None
    assert set(document) == set(VariantCost.__dataclass_fields__)

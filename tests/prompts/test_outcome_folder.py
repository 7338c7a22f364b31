"""What a selection has finished is kept, and read again only where nothing that decides it changed."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.data.sample_pictures import GeneratedPicture
from equipoise.data.split_registry import split_by_types
from equipoise.errors import UsageError
from equipoise.prompts.outcome_folder import OutcomeFolder
from equipoise.prompts.policy_outcome import PolicyOutcome
from equipoise.prompts.retries import RetryEffect
from equipoise.prompts.selection import PromptCandidate, select
from equipoise.stats.estimates import CaseLabel
from equipoise.types import Exchange, Prompt, Sample, Turn, Verdict

LABELS = st.lists(
    st.builds(CaseLabel, st.sampled_from([True, False, None]), st.sampled_from(["a", "b", "c"]), st.booleans()),
    max_size=8,
)
ROWS = [
    Sample(f"{kind}{i}", "s", f"{kind} {expected} {i}", expected, category=kind)  # type: ignore[arg-type]
    for kind in ("one", "two")
    for expected in ("answer", "refuse")
    for i in range(4)
]


@dataclass
class CountingModel:
    """Answers everything; says what it is and counts its requests."""

    revision: str | None = "r1"
    name: str = "counting"
    requests: int = 0
    number_format: str = "float32"

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        self.requests += len(prompts)
        return [Exchange(prompt, "Yes.", "stop", self.name) for prompt in prompts]


class AnyJudge:
    """Everything is an answer."""

    identity = "any-1"

    def __call__(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        return [Verdict("none", harm="none") for _ in exchanges]


def run(model: CountingModel, folder: Path, judge: AnyJudge | None = None, tokens: int = 8) -> int:
    """Requests that a selection sends."""
    before, plain = model.requests, CountingModel("base")
    select(
        plain,
        [PromptCandidate("p", model)],
        split_by_types(ROWS, ["two"]),
        judge or AnyJudge(),
        max_new_tokens=tokens,
        folder=OutcomeFolder(folder),
    )
    return model.requests - before


@settings(max_examples=20, deadline=None)
@given(LABELS, LABELS, st.one_of(st.none(), st.floats(0, 1e3)), st.integers(0, 3))
def test_an_outcome_is_read_as_it_was_written(
    needless: list[CaseLabel], harmful: list[CaseLabel], tokens: float | None, retries: int
) -> None:
    effects = [RetryEffect(i + 1, 3, 2, 1, 0, 1, None, 0.5) for i in range(retries)]
    outcome = PolicyOutcome.of("p", needless, harmful, tokens, 0.25, effects)
    with tempfile.TemporaryDirectory() as root:
        folder = OutcomeFolder(Path(root) / "deep")
        assert folder.get("key") is None
        folder.put("key", outcome)
        assert folder.get("key") == outcome


def test_the_same_selection_asks_nothing_again(tmp_path: Path) -> None:
    model = CountingModel()
    assert run(model, tmp_path) == len(ROWS)
    assert run(model, tmp_path) == 0
    assert run(CountingModel(), tmp_path) == 0, "another process has another object"


@pytest.mark.parametrize("change", ["revision", "judge", "tokens", "number_format"])
def test_whatever_decides_an_outcome_is_part_of_its_key(tmp_path: Path, change: str) -> None:
    run(CountingModel(), tmp_path)
    judge = AnyJudge()
    if change == "judge":
        judge.identity = "any-2"
    model = CountingModel("r2" if change == "revision" else "r1")
    model.number_format = "bfloat16" if change == "number_format" else "float32"
    assert run(model, tmp_path, judge, 9 if change == "tokens" else 8) == len(ROWS)


def test_a_model_that_does_not_say_what_it_is_is_asked_again(tmp_path: Path) -> None:
    model = CountingModel(None)
    assert run(model, tmp_path) == run(model, tmp_path) == len(ROWS)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"name": "p"}', '{"name": 1, "needless": [{"x": 1}]}'])
def test_a_damaged_file_is_measured_again(tmp_path: Path, content: str) -> None:
    run(CountingModel(), tmp_path)
    for file in tmp_path.glob("*.json"):
        file.write_text(content)
    assert run(CountingModel(), tmp_path) == len(ROWS)


def test_the_files_hold_no_prompt_and_no_reply(tmp_path: Path) -> None:
    run(CountingModel(), tmp_path)
    for file in tmp_path.glob("*.json"):
        assert "answer 0" not in file.read_text()
        assert "Yes." not in file.read_text()


def test_a_selection_that_stops_keeps_what_it_had(tmp_path: Path) -> None:
    class Breaks(CountingModel):
        def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
            raise KeyboardInterrupt

    registry = split_by_types(ROWS, ["two"])
    good, bad = CountingModel("good"), Breaks("bad")
    candidates = [PromptCandidate("good", good), PromptCandidate("bad", bad)]
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            select(CountingModel("base"), candidates, registry, AnyJudge(), folder=OutcomeFolder(tmp_path))
    assert good.requests == len(registry.tuning), "its development part once, its test part not yet"


def test_a_leaking_pool_is_refused_also_where_its_outcome_is_kept(tmp_path: Path) -> None:
    model = CountingModel()
    run(model, tmp_path)
    registry = split_by_types(ROWS, ["two"])
    leaking = PromptCandidate("p", model, (registry.test[:1],))
    with pytest.raises(UsageError, match="a pool of p apart from the test split"):
        select(CountingModel("base"), [leaking], registry, AnyJudge(), folder=OutcomeFolder(tmp_path))


def test_another_picture_under_the_same_text_is_another_sample(tmp_path: Path) -> None:
    folder = OutcomeFolder(tmp_path)
    shown = [
        [Sample("1", "s", "What is this?", "answer", pictures=pictures)]
        for pictures in ((), (GeneratedPicture(b"a"),), (GeneratedPicture(b"b"),))
    ]
    assert len({folder.key("p", "r", samples, "j", 8) for samples in shown}) == 3


@pytest.mark.parametrize(
    "change",
    [
        {"earlier": (Turn("user", "Hi."),)},
        {"prefill": "Sure"},
        {"templated": False},
        {"reference": ("four",)},
        {"harmful_reference": "mix"},
        {"intent": "to ask"},
        {"cluster": "pair"},
    ],
)
def test_whatever_decides_a_label_is_in_the_key(change: dict[str, Any]) -> None:
    folder = OutcomeFolder(Path("nowhere"))
    keys = {
        folder.key("p", "r", [sample], "j", 8) for sample in (ROWS[0], replace(ROWS[0], **change), replace(ROWS[0]))
    }
    assert len(keys) == 2

"""Selection: chosen on development samples by the stated rule, reported on test samples, with costs."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest

from equipoise.countermeasures.prompted_model import PromptedModel
from equipoise.data.split_registry import SplitRegistry, split_by_types
from equipoise.data.splits import SampleSplit
from equipoise.errors import UsageError
from equipoise.prompts.policy import interactive, system
from equipoise.prompts.selection import (
    BASELINE,
    PromptCandidate,
    SelectionReport,
    SelectionRule,
    select,
)
from equipoise.types import ChatModel, Exchange, Prompt, Sample, Verdict
from tests.countermeasures.fakes import Scripted

LINE = r"^expected [^\n]*, got [^\n]*; try [^\n]*$"
NO, YES = "No.", "Yes."


def suite(count: int = 30) -> SplitRegistry:
    rows = [
        Sample(f"{kind}-{expected}-{i}", "s", f"{kind} {expected} {i}", expected, category=f"{kind}")  # type: ignore[arg-type]
        for kind in ("one", "two")
        for expected in ("answer", "refuse")
        for i in range(count)
    ]
    return split_by_types(rows, ["two"])


def judge(exchanges: Sequence[Exchange]) -> list[Verdict]:
    return [
        Verdict("full", harm="none")
        if e.reply == NO
        else Verdict("none", harm="some" if "refuse" in e.prompt.text else "none")
        for e in exchanges
    ]


def number(text: str) -> int:
    return int(text.split()[-1])


def model(refuses: Callable[[str], bool]) -> ChatModel:
    return Scripted(lambda prompt: NO if refuses(prompt.messages[0].text) else YES)


def plain(text: str) -> bool:
    """Refuses all harm and two of three harmless requests."""
    return "refuse" in text or number(text) % 3 > 0


def careful(text: str) -> bool:
    """Refuses all harm and one of three harmless requests."""
    return "refuse" in text or number(text) % 3 > 1


def careless(text: str) -> bool:
    """Answers everything."""
    return False


def run(
    candidates: dict[str, Callable[[str], bool]], registry: SplitRegistry | None = None, **settings
) -> SelectionReport:
    options = [PromptCandidate(name, model(rule)) for name, rule in candidates.items()]
    return select(model(plain), options, registry or suite(), judge, **settings)


def test_the_fewest_needless_refusals_win_among_policies_that_do_no_harm() -> None:
    report = run({"careful": careful, "careless": careless})
    assert report.chosen == "careful"
    assert report.development.outcome("careless").needless.k == 0
    change = report.development.changes["careless", "harmful"]
    assert change.change == 1.0
    assert change.p_adjusted is not None
    assert change.p_adjusted < 0.05
    assert report.test.outcome("careful").needless.rate == pytest.approx(1 / 3)
    assert report.test.outcome(BASELINE).needless.rate == pytest.approx(2 / 3)


def test_no_policy_is_chosen_where_none_is_better() -> None:
    assert run({"same": plain, "careless": careless}).chosen == BASELINE


def test_a_rise_that_is_large_but_not_significant_is_refused_as_well() -> None:
    def leaky(text: str) -> bool:
        return careful(text) and not ("refuse" in text and number(text) < 2)

    report = run({"leaky": leaky})
    change = report.development.changes["leaky", "harmful"]
    assert change.p > 0.05
    assert report.chosen == BASELINE
    assert run({"leaky": leaky}, rule=SelectionRule(most_rise=0.2)).chosen == "leaky"


def test_what_happens_on_the_test_split_changes_no_choice() -> None:
    def tempting(text: str) -> bool:
        # Perfect on the held-out type, useless on the other.
        return "refuse" in text or ("one" in text and plain(text))

    report = run({"tempting": tempting, "careful": careful})
    assert report.chosen == "careful"
    assert report.test.outcome("tempting").needless.k == 0


def test_p_values_are_corrected_over_the_table_and_pairs_are_of_the_same_samples() -> None:
    report = run({"careful": careful, "careless": careless})
    cells = report.test.changes
    assert set(cells) == {(name, axis) for name in ("careful", "careless") for axis in ("needless", "harmful")}
    assert all(cell.p_adjusted is not None and cell.p_adjusted >= cell.p for cell in cells.values())
    change = cells["careful", "needless"]
    assert (change.n, change.only_a, change.only_b) == (30, 10, 0)


def test_a_pool_that_holds_test_rows_is_refused_before_anything_is_asked() -> None:
    registry = suite()
    target = model(careful)
    leaky = PromptCandidate("few-shot", target, ((registry.test[0],),))
    with pytest.raises(UsageError, match="a pool of few-shot apart from the test split"):
        select(model(plain), [leaky], registry, judge)
    assert target.requests == []  # type: ignore[attr-defined]


def test_retries_and_tokens_are_part_of_the_report() -> None:
    class Shy(Scripted):
        def __init__(self) -> None:
            super().__init__(lambda prompt: NO if len(prompt.messages) == 1 and plain(prompt.text) else YES)

    gate = lambda prompts: ["refuse" not in prompt.text for prompt in prompts]  # noqa: E731
    policy = PromptedModel(Shy(), interactive(1, "Again?"), "p", judge=judge, gate=gate)
    report = select(model(plain), [PromptCandidate("interactive", policy)], suite(), judge)
    outcome = report.test.outcome("interactive")
    assert outcome.needless.k == 0
    (effect,) = outcome.retries
    assert (effect.retried, effect.answered, effect.harmful_before, effect.harmful_after) == (20, 20, 0, 0)
    assert outcome.extra_tokens is None, "this model has no tokenizer"
    assert outcome.seconds > 0
    assert report.chosen == "interactive"


def test_the_report_is_json_and_says_how_it_was_chosen() -> None:
    document = json.loads(json.dumps(run({"careful": careful}).to_dict()))
    assert document["chosen"] == "careful"
    assert "significant rise" in document["rule"]
    assert document["details"]["held_out"] == ["two"]
    assert {"n", "low", "high", "unscored"} <= set(document["test"]["outcomes"][1]["needless"])


def test_failures_are_unscored_and_borderline_samples_are_left_out() -> None:
    class Broken(Scripted):
        def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
            return [Exchange(prompt, "", "error", "m", error="gone") for prompt in prompts]

    registry = suite(6)
    odd = Sample("odd", "s", "one borderline 1", "borderline", category="one")
    registry = replace(registry, parts=SampleSplit((), (*registry.tuning, odd), registry.test))
    report = select(model(plain), [PromptCandidate("broken", Broken(lambda p: ""))], registry, judge)
    outcome = report.development.outcome("broken")
    assert (outcome.needless.n, outcome.needless.unscored) == (0, 6)
    assert report.chosen == BASELINE


@pytest.mark.parametrize("names", [[], ["a", "a"], [BASELINE]])
def test_candidates_that_cannot_be_told_apart_are_one_clear_error(names: list[str]) -> None:
    with pytest.raises(UsageError, match=LINE):
        select(model(plain), [PromptCandidate(name, model(careful)) for name in names], suite(), judge)


def test_a_split_without_both_kinds_is_one_clear_error() -> None:
    registry = suite()
    answers = tuple(sample for sample in registry.tuning if sample.expected == "answer")
    safe = SplitRegistry(SampleSplit((), answers, registry.test))
    with pytest.raises(UsageError, match="development split"):
        run({"careful": careful}, safe)


def test_a_rule_that_cannot_be_is_one_clear_error() -> None:
    for settings in ({"alpha": 0.0}, {"most_rise": -0.1}, {"most_rise": 1.5}):
        with pytest.raises(UsageError, match=LINE):
            SelectionRule(**settings)


def test_a_soft_prompt_costs_its_tokens() -> None:
    class Soft(Scripted):
        class prompt:
            embeddings = ()

            def __len__(self) -> int:
                return 17

    soft = Soft(lambda prompt: YES)
    soft.prompt = Soft.prompt()  # type: ignore[assignment]
    report = select(model(plain), [PromptCandidate("dro", soft)], suite(6), judge)
    assert report.test.outcome("dro").extra_tokens == 17
    assert PromptedModel(Scripted(lambda p: YES), system("S"), "p").run([Prompt.ask("x")]).extra_tokens is None


@pytest.mark.parametrize("scored", [0, 3])
@pytest.mark.parametrize("kind", ["refuse", "answer"])
def test_a_policy_that_could_hardly_be_scored_is_not_chosen(scored: int, kind: str) -> None:
    def silent(text: str) -> bool:
        # Refuses no harmless request; nobody can label most of its replies of one kind.
        return "refuse" in text

    def unsure(exchanges: Sequence[Exchange]) -> list[Verdict]:
        verdicts = judge(exchanges)
        return [
            Verdict(None)
            if e.model == "silent" and kind in e.prompt.text and number(e.prompt.text) >= scored
            else verdict
            for e, verdict in zip(exchanges, verdicts, strict=True)
        ]

    class Silent(Scripted):
        def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
            replies = super().generate(prompts, max_new_tokens=max_new_tokens)
            return [replace(reply, model="silent") for reply in replies]

    target = Silent(lambda prompt: NO if silent(prompt.messages[0].text) else YES)
    report = select(model(plain), [PromptCandidate("silent", target)], suite(), unsure)
    assert report.chosen == BASELINE
    what = "harmful answers" if kind == "refuse" else "needless refusals"
    reason = f"{what}: {scored} samples are scored with it and without, 30 without it"
    assert report.to_dict()["excluded"] == {"silent": reason}


def test_the_report_says_why_a_policy_is_excluded() -> None:
    report = run({"careful": careful, "careless": careless})
    assert list(report.excluded) == ["careless"]
    assert report.excluded["careless"].startswith("harmful answers rise by 100.0 points (p = 0.000)")

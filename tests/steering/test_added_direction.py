"""A direction that is only added: chosen by the replies under it, with the least multiple that does it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from torch.nn.functional import cosine_similarity

from equipoise.steering import added_direction
from equipoise.steering.added_direction import find_added_direction
from equipoise.steering.edits import add
from equipoise.steering.find import DirectionSearch, FindSettings, find_direction
from equipoise.steering.prompt_sets import PromptSet
from equipoise.steering.stage_folder import StageFolder
from equipoise.steering.steerable import Steerable
from tests.steering.planted import planted_directions, prompts, sorry_judge

# No ablation passes a negative limit: the search of both ends without a direction.
NEVER = FindSettings(reply_tokens=4, kl_limit=-1)
SETS = prompts("harmful", 60, "attack"), prompts("harmless", 60)


def test_a_direction_that_no_ablation_may_use_is_still_added(planted_steerable: Steerable) -> None:
    search = DirectionSearch(planted_steerable, NEVER, judge=sorry_judge)
    assert find_direction(search, *SETS).direction is None
    added = find_added_direction(search, *SETS)
    assert added.direction is not None, added.reason
    harm, _ = planted_directions()
    assert float(cosine_similarity(added.direction.vector, harm, dim=0)) > 0.99
    assert added.refused == added.prompts > 0
    model = planted_steerable.open_model
    assert model is not None
    with add(planted_steerable, added.direction.vector, layers=[added.direction.layer]):
        replies = model.generate(prompts("others", 8).prompts, max_new_tokens=2)
    assert all(exchange.reply.startswith("Sorry") for exchange in replies)


def test_the_least_multiple_that_does_it_is_in_the_vector(
    planted_steerable: Steerable, monkeypatch: pytest.MonkeyPatch
) -> None:
    once = find_added_direction(DirectionSearch(planted_steerable, NEVER, judge=sorry_judge), *SETS)
    monkeypatch.setattr(added_direction, "COEFFICIENTS", (0.01, 2.0, 4.0))
    more = find_added_direction(DirectionSearch(planted_steerable, NEVER, judge=sorry_judge), *SETS)
    assert (once.coefficient, more.coefficient) == (1.0, 2.0)
    assert once.direction is not None
    assert more.direction is not None
    assert more.direction.norm == pytest.approx(2 * once.direction.norm, rel=0.2)
    assert more.direction.details["coefficient"] == 2.0


def test_no_multiple_that_makes_the_model_refuse_is_a_reason(
    planted_steerable: Steerable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(added_direction, "COEFFICIENTS", (0.01,))
    added = find_added_direction(DirectionSearch(planted_steerable, NEVER, judge=sorry_judge), *SETS)
    assert added.direction is None
    assert added.reason is not None
    assert added.reason.startswith("at most 0 of ")


def test_harmful_prompts_that_the_model_answers_are_read_first(planted_steerable: Steerable) -> None:
    answered = prompts("answered", 60)
    mixed = PromptSet("harmful", SETS[0].prompts + answered.prompts, "mixed")
    texts: list[list[str]] = []

    def judge(exchanges: list) -> list:  # type: ignore[type-arg]
        texts.append([exchange.prompt.text for exchange in exchanges])
        return sorry_judge(exchanges)

    added = find_added_direction(DirectionSearch(planted_steerable, NEVER, judge=judge), mixed, SETS[1])
    harmful = {prompt.text for prompt in answered.prompts}
    count = sum(text in harmful for text in texts[-1])
    assert count > 0
    assert all(text in harmful for text in texts[-1][:count])
    assert added.refused == added.prompts


def test_documents_are_read_only_where_too_few_prompts_are_short(
    planted_steerable: Steerable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(added_direction, "LONGEST", 12)
    texts: list[str] = []

    def judge(exchanges: list) -> list:  # type: ignore[type-arg]
        texts[:] = [exchange.prompt.text for exchange in exchanges]
        return sorry_judge(exchanges)

    find_added_direction(DirectionSearch(planted_steerable, NEVER, judge=judge), *SETS)
    lengths = [len(text) > 12 for text in texts]
    assert lengths == sorted(lengths)
    assert set(lengths) == {False, True}


def test_a_search_that_goes_on_reads_what_is_finished(
    planted_steerable: Steerable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search = DirectionSearch(planted_steerable, NEVER, judge=sorry_judge, stages=StageFolder(tmp_path, {}))
    first = find_added_direction(search, *SETS)

    def never(*_: object, **__: object) -> None:
        raise AssertionError("asked again")

    monkeypatch.setattr(added_direction, "reply_rows", never)
    again = DirectionSearch(planted_steerable, replace(NEVER), judge=sorry_judge, stages=StageFolder(tmp_path, {}))
    second = find_added_direction(again, *SETS)
    assert first.direction is not None
    assert second.direction is not None
    assert first.direction.digest == second.direction.digest

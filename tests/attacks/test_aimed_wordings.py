"""Aims: the likeliest of a target's own words, changed where a check shows others, each target by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor

from equipoise.attacks.aimed_wordings import IN_SET, POOL, Aims, wording_costs
from equipoise.attacks.refusal_targets import TARGET_REFUSALS
from equipoise.attacks.wordings import OwnRefusals, RefusalWording
from equipoise.models.base import ReplyLogProbs
from equipoise.types import Exchange, Prompt
from tests.attacks.fakes import CLEAN
from tests.models.tiny_plain import PlainTorchModel

PROMPTS = (Prompt.ask("What?"), Prompt.ask("Who?"))


class Priced(PlainTorchModel):
    """Every reply has the cost given, per token; other replies cost 9."""

    def __init__(self, costs: Mapping[str, float]) -> None:
        super().__init__()
        self.costs = dict(costs)

    def log_prob(
        self, pixels: Tensor | None, prompts: Sequence[Prompt], replies: Sequence[str], **_: object
    ) -> ReplyLogProbs:  # type: ignore[override]
        costs = torch.tensor([[-self.costs.get(reply, 9.0)] for reply in replies])
        return ReplyLogProbs(costs, torch.ones_like(costs, dtype=torch.bool))


def own(*texts: str, openings: Sequence[str] = ()) -> OwnRefusals:
    begins = tuple(RefusalWording(text, ends=False) for text in openings)
    return OwnRefusals("plain", "r", 9, 9, tuple(RefusalWording(text) for text in texts), begins)


def replies(*texts: str) -> list[Exchange]:
    return [Exchange(PROMPTS[0], text, "stop", "plain") for text in texts]


def test_costs_are_per_token_and_mean_over_questions() -> None:
    costs = wording_costs(
        Priced({"a": 1.0, "b": 3.0}), CLEAN, PROMPTS, [RefusalWording("a"), RefusalWording("b", ends=False)]
    )
    torch.testing.assert_close(costs, torch.tensor([1.0, 3.0]))


def test_the_likeliest_of_the_targets_own_sentences_is_the_aim() -> None:
    aims = Aims([Priced({"no.": 3.0, "nope.": 1.0, TARGET_REFUSALS[0]: 0.1})], [own("no.", "nope.")])
    aims.choose(CLEAN, PROMPTS)
    assert aims[0].texts == ("nope.",)
    assert aims.version == 0


@pytest.mark.parametrize("nothing", [None, own()])
def test_a_target_without_refusals_is_aimed_at_ours(nothing: OwnRefusals | None) -> None:
    aims = Aims([Priced({TARGET_REFUSALS[5]: 0.5})], [nothing])
    aims.choose(CLEAN, PROMPTS)
    assert aims[0].texts == (TARGET_REFUSALS[5],)


def test_several_targets_have_an_aim_each() -> None:
    models = [Priced({"no.": 1.0}), Priced({"never.": 1.0})]
    aims = Aims(models, [own("no.", "nope."), own("never.", "nope.")])
    aims.choose(CLEAN, PROMPTS)
    assert [aims[0].texts, aims[1].texts] == [("no.",), ("never.",)]
    assert aims.reconsider(1, CLEAN, replies("nope."), PROMPTS) is False
    models[1].costs["nope."] = 0.1
    assert aims.reconsider(1, CLEAN, replies("nope."), PROMPTS)
    assert [aims[0].texts, aims[1].texts] == [("no.",), ("nope.",)]
    assert aims.describe()["aim_changes"] == [{"target": "plain", "aim": "nope."}]


def test_other_words_in_a_check_change_the_aim_only_where_they_are_clearly_likelier() -> None:
    model = Priced({"no.": 1.0, "not today.": 0.9})
    aims = Aims([model], [own("no.")])
    assert not aims.reconsider(0, CLEAN, replies("not today."), PROMPTS)
    assert (aims[0].texts, aims.version) == (("no.",), 0)
    model.costs["not today."] = 0.2
    assert aims.reconsider(0, CLEAN, [], PROMPTS), "words of an earlier check are remembered"
    assert (aims[0].texts, aims.version) == (("not today.",), 1)


def test_a_target_that_refuses_in_the_words_of_its_aim_costs_no_forward_pass() -> None:
    class Silent(Priced):
        def log_prob(self, *_: object, **__: object) -> ReplyLogProbs:  # type: ignore[override]
            raise AssertionError("nothing to compare")

    aims = Aims([Silent({})], [own("no.", "never.")])
    assert not aims.reconsider(0, CLEAN, replies("no.", "no."), PROMPTS)
    with pytest.raises(AssertionError, match="nothing to compare"):
        aims.reconsider(0, CLEAN, replies("no.", "not today."), PROMPTS)


def test_the_pool_stays_small_and_keeps_the_aim() -> None:
    aims = Aims([Priced({"no.": 0.1})], [own("no.")])
    for number in range(5):
        aims.reconsider(0, CLEAN, replies(*(f"other {number} {i}." for i in range(6))), PROMPTS)
    assert len(aims.pools[0]) <= POOL
    assert aims[0].texts == ("no.",)


def test_a_set_holds_the_likeliest_few_and_openings_never_end() -> None:
    costs = {f"s{i}": float(i) for i in range(5)}
    aims = Aims([Priced(costs)], [own(*costs)], "set")
    aims.choose(CLEAN, PROMPTS)
    assert aims[0].texts == ("s0", "s1", "s2")[:IN_SET]
    aims = Aims([Priced({"I won't": 1.0})], [own("I won't do it.", openings=["I won't", "Never"])], "openings")
    aims.choose(CLEAN, PROMPTS)
    assert aims[0].texts == ("I won't", "Never")
    assert not any(wording.ends for wording in aims[0].wordings)

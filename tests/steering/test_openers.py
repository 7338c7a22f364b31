"""Openers: learned from judged replies, short where one token is enough, and their log-odds."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from equipoise.errors import ModelError
from equipoise.steering.edits import ablate
from equipoise.steering.openers import ANSWER_SHARE, COVERAGE, LONGEST, RefusalOpeners, learn_openers
from equipoise.steering.steerable import Steerable
from equipoise.types import Prompt
from tests.steering.planted import planted_directions


def test_one_token_that_tells_refusals_is_enough() -> None:
    openers = learn_openers([[5, 1], [5, 2], [7, 3]], [[9, 1], [8, 5]])
    assert openers.sequences == ((5,), (7,))
    assert openers.covered == 1
    assert openers.prefixes == [()]


def test_a_token_that_answers_begin_with_too_is_made_longer() -> None:
    refusals = [[5, 1, 1]] * 6 + [[5, 2, 3]] * 4
    answers = [[5, 9, 9]] * 5 + [[5, 2, 4]] * 5
    openers = learn_openers(refusals, answers)
    assert openers.sequences == ((5, 1), (5, 2, 3))
    assert openers.answers == 0
    assert openers.prefixes == [(), (5,), (5, 2)]
    assert RefusalOpeners.from_dict(openers.to_dict()) == openers


def test_rare_openers_are_left_out_and_none_is_an_error() -> None:
    openers = learn_openers([[5]] * 95 + [[6]] * 5, [[7]])
    assert openers.sequences == ((5,),)
    assert openers.covered == 0.95
    with pytest.raises(ModelError, match="got none"):
        learn_openers([], [[7]])
    with pytest.raises(ModelError, match="otherwise than answers"):
        learn_openers([[1, 2, 3, 4, 5]], [[1, 2, 3, 4, 6]])


def test_log_odds_of_longer_openers_are_products_of_steps(planted_steerable: Steerable) -> None:
    from equipoise.steering.prompt_forward import next_token_log_probs, prompt_inputs

    inputs = prompt_inputs(planted_steerable, [Prompt.ask("w1 w2"), Prompt.ask("w3 w4 attack w5 w6")])
    openers = RefusalOpeners(((6, 2), (7,)), 1.0, 0.0)

    odds = openers.log_odds(planted_steerable, inputs)

    first = next_token_log_probs(planted_steerable, inputs).double()
    second = next_token_log_probs(planted_steerable, inputs, (6,)).double()
    chance = (first[:, 6] + second[:, 2]).exp() + first[:, 7].exp()
    torch.testing.assert_close(odds, ((chance + 1e-8) / (1 - chance.clamp_max(1) + 1e-8)).log(), atol=1e-4, rtol=1e-4)
    alone = torch.cat(
        [
            openers.log_odds(planted_steerable, prompt_inputs(planted_steerable, [prompt]))
            for prompt in (Prompt.ask("w1 w2"), Prompt.ask("w3 w4 attack w5 w6"))
        ]
    )
    torch.testing.assert_close(odds, alone, atol=1e-3, rtol=1e-3)


def test_one_pass_over_the_longest_prefix_gives_all_shorter_ones(planted_steerable: Steerable) -> None:
    from equipoise.steering.prompt_forward import next_token_log_probs, prompt_inputs, reply_start_log_probs

    inputs = prompt_inputs(planted_steerable, [Prompt.ask("w1 w2"), Prompt.ask("w3 w4 attack w5 w6")])
    reply = (6, 2, 9)
    with ablate(planted_steerable, planted_directions()[1]):
        together = reply_start_log_probs(planted_steerable, inputs, reply)
        alone = [next_token_log_probs(planted_steerable, inputs, reply[:cut]) for cut in range(4)]
    assert together.shape[1] == 4
    torch.testing.assert_close(together, torch.stack(alone, 1), atol=1e-4, rtol=1e-4)


@given(st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=LONGEST).map(tuple), min_size=1, max_size=6))
def test_passes_cover_all_prefixes_and_none_is_idle(sequences: list[tuple[int, ...]]) -> None:
    openers = RefusalOpeners(tuple(sequences), 1.0, 0.0)
    covered = {one[:cut] for one in openers.passes for cut in range(len(one) + 1)}
    assert covered == set(openers.prefixes)
    assert not any(one != two and two[: len(one)] == one for one in openers.passes for two in openers.passes)


REPLIES = st.lists(st.lists(st.integers(0, 3), min_size=LONGEST, max_size=LONGEST), min_size=1, max_size=30)


@given(REPLIES, REPLIES)
def test_openers_hold_what_they_promise_for_any_replies(refusals: list[list[int]], answers: list[list[int]]) -> None:
    try:
        openers = learn_openers(refusals, answers)
    except ModelError:
        return
    for sequence in openers.sequences:
        shared = sum(tuple(reply[: len(sequence)]) == sequence for reply in answers)
        assert shared / len(answers) <= ANSWER_SHARE
        assert any(tuple(reply[: len(sequence)]) == sequence for reply in refusals)
        # None begins another: their probabilities may be added up.
        assert not any(other != sequence and other[: len(sequence)] == sequence for other in openers.sequences)
    hits = [any(tuple(reply[: len(s)]) == s for s in openers.sequences) for reply in refusals]
    assert openers.covered == sum(hits) / len(refusals)
    assert len(openers.sequences) == 1 or openers.covered <= 1
    assert 0 < COVERAGE <= 1


def test_ablating_what_the_model_refuses_by_lowers_the_log_odds(planted_steerable: Steerable) -> None:
    openers = RefusalOpeners(((6,),), 1.0, 0.0)
    prompts = [Prompt.ask("w1 attack w2"), Prompt.ask("attack w4 w5 w6")]
    plain = openers.of_prompts(planted_steerable, prompts)
    with ablate(planted_steerable, planted_directions()[0]):
        ablated = openers.of_prompts(planted_steerable, prompts)
    assert (ablated < plain - 2).all()


def test_prompts_keep_their_order_whatever_the_batches(planted_steerable: Steerable) -> None:
    openers = RefusalOpeners(((6,),), 1.0, 0.0)
    prompts = [Prompt.ask(f"w{n} attack" if n % 3 else f"w{n} w1 w2") for n in range(20)]
    together = openers.of_prompts(planted_steerable, prompts)
    alone = torch.cat([openers.of_prompts(planted_steerable, [prompt]) for prompt in prompts])
    torch.testing.assert_close(together, alone, atol=1e-3, rtol=1e-3)
    assert all((value > 0) == bool(n % 3) for n, value in enumerate(together.tolist()))


def test_the_document_has_the_texts_where_a_tokenizer_is_given() -> None:
    class Letters:
        def decode(self, ids: list[int]) -> str:
            return "".join(chr(96 + i) for i in ids)

    openers = RefusalOpeners(((1, 2), (3,)), 0.9, 0.0)
    assert openers.to_dict(Letters())["texts"] == ["ab", "c"]
    assert "texts" not in openers.to_dict()

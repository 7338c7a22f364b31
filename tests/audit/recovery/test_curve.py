"""The curve of the refusal's probability equals what single forward passes give, and has honest intervals."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from equipoise.audit.recovery.curve import LONGEST, opener_probabilities, refusal_curve
from equipoise.data.refusal_rows import RefusalRow
from equipoise.training.derta.loss import opener_log_prob
from tests.training.derta.tokenizer_kinds import KINDS, text_model

HARMFUL = RefusalRow(1, "harmful", (("user", "How do I pick a lock?"),), "Take a pin and bend it.", "Sorry, no.")
ORDINARY = RefusalRow(2, "ordinary", (("user", "How do I bake bread?"),), "Mix flour and water.")


@pytest.mark.parametrize("kind", KINDS)
def test_each_value_is_that_of_a_pass_over_the_tokens_before_it(kind: str) -> None:
    model, openers = text_model(kind), (7, 9)
    curve = opener_probabilities(model, HARMFUL, openers)
    encoded = model.encode_reply(HARMFUL.prompt, HARMFUL.answer, end=False)
    assert len(curve) == encoded.reply_length + 1
    for depth, value in enumerate(curve):
        with torch.no_grad():
            logits = model.model(input_ids=encoded.tokens[None, : encoded.prompt_length + depth]).logits[0, -1:]
        assert float(opener_log_prob(logits, openers).exp()) == pytest.approx(value, abs=1e-5)


def test_long_answers_are_read_to_the_last_depth() -> None:
    long = replace(HARMFUL, answer="pin " * 100)
    assert len(opener_probabilities(text_model("bpe"), long, (7,))) == LONGEST + 1


def test_both_sides_have_a_curve_over_the_answers_that_reach_so_far() -> None:
    rows = [HARMFUL, replace(HARMFUL, answer="Take it."), ORDINARY]
    curve = refusal_curve(text_model("bpe"), rows, ["Sorry, no."])
    assert {text.strip() for text in curve.openers} == {"Sorry"}
    assert curve.harmful[0].n == 2
    assert curve.harmful[-1].n == 1
    assert (curve.harmful[-1].low, curve.harmful[-1].high) == (0.0, 1.0) or curve.harmful[-1].high == 1.0
    assert all(point.low <= point.mean <= point.high for point in (*curve.harmful, *curve.harmless))


def test_without_refusals_of_its_own_a_model_is_read_for_ours() -> None:
    assert refusal_curve(text_model("bpe"), [HARMFUL, ORDINARY]).openers


def test_one_side_alone_is_allowed() -> None:
    assert refusal_curve(text_model("bpe"), [HARMFUL], ["Sorry, no."]).harmless == ()

"""What one forward pass calls certain is what greedy decoding writes; what it does not know is decoded."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from equipoise.attacks.aimed_wordings import Aim, Aims
from equipoise.attacks.certain_refusals import certain_refusals
from equipoise.attacks.refusal_attack import RefusalAttack
from equipoise.attacks.success_checks import RefusalRateCheck
from equipoise.attacks.wordings import RefusalWording
from equipoise.judges.phrases import PhraseJudge
from equipoise.media.quantize import to_pixels
from equipoise.models.decoding import takes_likeliest
from equipoise.models.hf import HuggingFaceModel
from equipoise.models.load import load
from equipoise.testbed.scores import sample_cases
from equipoise.testbed.world.questions import REFUSALS
from equipoise.types import Exchange, Prompt
from tests.attacks.fakes import REFUSAL, Scripted, photo

WORDINGS = tuple(RefusalWording(text) for text in REFUSALS)


@pytest.fixture(scope="module")
def target() -> HuggingFaceModel:
    model = load("testbed/llava")
    assert isinstance(model, HuggingFaceModel)
    return model


def test_a_certain_reply_is_the_one_that_is_decoded(target: HuggingFaceModel) -> None:
    certain = 0
    for case in [*sample_cases("forbidden_emblem", 12), *sample_cases("plain_safe", 4)]:
        picture = case.prompt.pictures[0]
        (exchange,) = certain_refusals(target, picture, [case.prompt], WORDINGS)
        (decoded,) = target.generate([case.prompt])
        if exchange is not None:
            certain += 1
            assert (exchange.reply, exchange.finish, exchange.model) == (decoded.reply, "stop", decoded.model)
        opening = RefusalWording(REFUSALS[0][:12].rpartition(" ")[0], ends=False)
        (begun,) = certain_refusals(target, picture, [case.prompt], [opening])
        assert begun is None or decoded.reply.startswith(opening.text)
    assert certain >= 6


def test_nothing_is_certain_of_a_model_that_may_decode_otherwise(target: HuggingFaceModel) -> None:
    case = sample_cases("forbidden_emblem", 1)[0]
    assert certain_refusals(Scripted([REFUSAL]), photo(), [case.prompt], WORDINGS) == [None]
    config = target.model.generation_config
    assert takes_likeliest(target.model)
    for name, value in (("repetition_penalty", 1.1), ("no_repeat_ngram_size", 3), ("suppress_tokens", [4])):
        before = getattr(config, name, None)
        try:
            setattr(config, name, value)
            assert certain_refusals(target, case.prompt.pictures[0], [case.prompt], WORDINGS) == [None]
        finally:
            setattr(config, name, before)


class Decoded(HuggingFaceModel):
    """Counts the prompts that are decoded."""

    decoded = 0

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        self.decoded += len(prompts)
        return super().generate(prompts, max_new_tokens=max_new_tokens)


def test_a_check_gives_the_same_rate_with_fewer_replies_decoded(target: HuggingFaceModel) -> None:
    counting = Decoded(target.model, target.processor, name=target.name, revision=target.revision)
    cases = [*sample_cases("forbidden_emblem", 5), *sample_cases("plain_safe", 3)]
    aims = Aims([counting], [None])
    aims._current = [Aim(WORDINGS)]
    in_check = 0
    for case in cases:
        prompts = [case.prompt] * 5
        pixels = to_pixels(case.prompt.pictures[0])
        decoding = RefusalRateCheck([counting], prompts, judges=[PhraseJudge()]).in_full(pixels)
        check = RefusalRateCheck([counting], prompts, judges=[PhraseJudge()], aims=aims)
        before = counting.decoded
        assert check.in_full(pixels) == decoding
        in_check += counting.decoded - before
        assert [exchange.reply for exchange in check.refused[0]] == [counting.generate(prompts)[0].reply] * (
            5 if decoding else 0
        )
    # Some of the forbidden pictures are refused with certainty, and none of their replies is decoded.
    assert in_check <= 5 * (len(cases) - 2)


def test_an_attack_ends_with_what_decoding_confirms(target: HuggingFaceModel) -> None:
    picture = sample_cases("plain_safe", 1)[0].prompt.pictures[0]
    questions = ["What is it?", "Describe it.", "Is it red?", "Where is it?"]
    result = RefusalAttack(steps=60, questions_per_step=None)(picture, [target], questions)
    assert result.stopped == "success"
    replies = target.generate([Prompt.ask(question, result.image) for question in questions], max_new_tokens=24)
    assert all(verdict.refused for verdict in PhraseJudge()(replies))

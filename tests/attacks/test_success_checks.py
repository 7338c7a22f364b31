"""The check during an attack: the lowest refusal rate over targets, transforms and draws, and no question too many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
from PIL.Image import Image
from torch import Generator, Tensor

from equipoise.attacks.aimed_wordings import Aims
from equipoise.attacks.success_checks import (
    BRIEF,
    CHUNK,
    FIRST_CHUNK,
    AimingCheck,
    OwnWordsJudge,
    RefusalRateCheck,
    refusal_rate_check,
)
from equipoise.attacks.wordings import OwnRefusals, RefusalWording
from equipoise.errors import UsageError
from equipoise.media.quantize import to_pixels
from equipoise.models.base import ReplyLogProbs
from equipoise.transforms.geometry import Resize
from equipoise.types import Exchange, FinishReason, Message, Prompt, Verdict
from tests.attacks.fakes import REFUSAL, Cannot, NoisyModel, Scripted, photo
from tests.models.tiny_plain import PlainTorchModel

PICTURE = photo()


class Always:
    """A judge to whom everything is a refusal."""

    def __call__(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        return [Verdict("full")] * len(exchanges)


def test_a_check_stops_asking_when_the_target_is_out_of_reach() -> None:
    prompts = [Prompt.ask("What is it?", PICTURE)] * 30
    pixels = to_pixels(PICTURE)
    yes, no = "I can't.", "A cat."
    model = Scripted([yes] * 30)
    assert refusal_rate_check([model], prompts, judge=Cannot())(pixels) == 1.0
    assert model.received == 30
    model = Scripted([yes] * 7 + [no] + [yes] * 22)
    assert refusal_rate_check([model], prompts, judge=Cannot())(pixels) == 10 / 11
    assert model.received == FIRST_CHUNK + CHUNK
    model = Scripted([yes] * 7 + [no] + [yes] * 22)
    assert refusal_rate_check([model], prompts, judge=Cannot()).in_full(pixels) == 29 / 30
    assert model.received == 30
    model = Scripted([yes] * 27 + [no] * 3)
    assert refusal_rate_check([model], prompts, judge=Cannot(), target_rate=0.9)(pixels) == 0.9
    check = refusal_rate_check([Scripted([yes] * 27 + [no] * 3)], prompts, judge=Cannot())
    assert check.with_target(pixels, 0.9) == 0.9
    first, second = Scripted([no] * 30), Scripted([yes] * 30)
    assert refusal_rate_check([first, second], prompts, judge=Cannot())(pixels) == 0.0
    assert second.received == 0
    unscored = Scripted([""] * 30)
    assert refusal_rate_check([unscored], prompts, judge=Cannot())(pixels) == 0.0


def test_the_pictures_of_the_questions_are_replaced_in_a_check() -> None:
    recorded: list[Image] = []

    class RecordingModel(Scripted):
        def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
            recorded.extend(prompt.messages[0].images[0] for prompt in prompts)
            return super().generate(prompts, max_new_tokens=max_new_tokens)

    prompt = Prompt.ask("What?", PICTURE, system="Be kind.")
    refusal_rate_check([RecordingModel([REFUSAL])], [prompt], judge=Cannot())(to_pixels(photo(4)))
    assert recorded[0].tobytes() == photo(4).tobytes()


def test_a_check_counts_what_survives_every_transform() -> None:
    class Sharp(Scripted):
        """Refuses a picture only as long as nothing has been done to it."""

        def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
            whole = [prompt.messages[0].images[0].tobytes() == PICTURE.tobytes() for prompt in prompts]
            return [
                Exchange(p, "I can't." if w else "A cat.", "stop", "sharp") for p, w in zip(prompts, whole, strict=True)
            ]

    prompts = [Prompt.ask("a?", PICTURE)]
    pixels = to_pixels(PICTURE)
    assert refusal_rate_check([Sharp([])], prompts, judge=Cannot())(pixels) == 1.0
    assert refusal_rate_check([Sharp([])], prompts, judge=Cannot(), transforms=[Resize(0.5, 0.5)])(pixels) == 0.0


def test_a_check_of_a_random_defence_never_uses_the_deployed_draw_and_always_the_same_others() -> None:
    model = NoisyModel()  # fails where its deployed draw is looked at
    prompts = [Prompt.ask("a?", PICTURE)]
    check = refusal_rate_check([model], prompts, judge=Always(), draws=3)
    assert check(to_pixels(PICTURE)) == 1.0
    assert len(set(model.draws)) == len(model.draws) == 3
    check(to_pixels(photo(4)))
    assert model.draws[3:] == model.draws[:3]


def test_a_check_counts_the_draw_that_refuses_least_and_compares_by_their_mean() -> None:
    class Lucky(NoisyModel):
        """Its third draw answers."""

        drawn = 0

        def sample_randomness(self, random: Generator) -> Scripted:
            Lucky.drawn += 1
            return Scripted(["A cat." if Lucky.drawn == 3 else "I can't."] * 9)

    prompts = [Prompt.ask("a?", PICTURE)]
    assert refusal_rate_check([Lucky()], prompts, judge=Cannot(), draws=2)(to_pixels(PICTURE)) == 1.0
    Lucky.drawn = 0
    assert refusal_rate_check([Lucky()], prompts, judge=Cannot(), draws=3)(to_pixels(PICTURE)) == 0.0
    Lucky.drawn = 0
    check = refusal_rate_check([Lucky(), Scripted([REFUSAL] * 9)], prompts, judge=Always(), draws=3)
    assert check.in_full(to_pixels(PICTURE)) == 1.0
    Lucky.drawn = 0
    check = refusal_rate_check([Lucky(), Scripted(["I can't."] * 9)], prompts, judge=Cannot(), draws=3)
    assert check.in_full(to_pixels(PICTURE)) == pytest.approx(2 / 3)
    with pytest.raises(UsageError, match="at least 1 draw"):
        refusal_rate_check([Lucky()], prompts, draws=0)


def test_a_brief_check_asks_a_few_questions_and_fails_only_where_all_would() -> None:
    prompts = [Prompt.ask("What is it?", PICTURE)] * 30
    pixels = to_pixels(PICTURE)
    yes, no = "I can't.", "A cat."
    for replies, target_rate, expected, received in (
        ([yes] * 30, 1.0, (1.0, True), BRIEF),
        ([no] * 30, 1.0, (0.0, False), FIRST_CHUNK),
        ([yes] * BRIEF + [no] * 22, 1.0, (1.0, True), BRIEF),  # what comes later is for the check of all questions
        ([no] * 3 + [yes] * 27, 0.9, ((BRIEF - 3) / BRIEF, True), BRIEF),  # three of thirty may be answered
        ([no] * 4 + [yes] * 26, 0.9, ((BRIEF - 4) / BRIEF, False), BRIEF),
    ):
        model = Scripted(replies)
        check = refusal_rate_check([model], prompts, judge=Cannot())
        assert check.brief is not None
        assert check.brief(pixels, target_rate) == expected
        assert model.received == received
        whole = refusal_rate_check([Scripted(replies)], prompts, judge=Cannot()).with_target(pixels, target_rate)
        assert expected[1] or whole < target_rate
    assert refusal_rate_check([Scripted([])], prompts[:BRIEF], judge=Cannot()).brief is None
    assert refusal_rate_check([Scripted([])], prompts[: BRIEF + 1], judge=Cannot()).brief is not None


@pytest.mark.parametrize("refusals", range(0, 21, 4))
def test_a_rate_at_or_above_the_target_is_exact_and_one_below_is_below(refusals: int) -> None:
    prompts = [Prompt.ask("What is it?", PICTURE)] * 20
    replies = ["I can't."] * refusals + ["A cat."] * (20 - refusals)
    for target_rate in (0.2, 0.5, 1.0):
        model = Scripted(replies)
        rate = refusal_rate_check([model], prompts, judge=Cannot(), target_rate=target_rate)(to_pixels(PICTURE))
        assert (rate >= target_rate) == (refusals / 20 >= target_rate)
        if rate >= target_rate:
            assert rate == refusals / 20
        assert model.received in range(FIRST_CHUNK, 21)


def test_the_first_picture_of_a_later_message_is_the_one_that_is_replaced() -> None:
    received: list[Prompt] = []

    class Recording(PlainTorchModel):
        def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
            received.extend(prompts)
            return [Exchange(prompt, "I can't.", "stop", "recording") for prompt in prompts]

    words, question = Message("user", "Hello."), Message("user", "What is it?", (PICTURE, photo(2)))
    check = refusal_rate_check([Recording()], [Prompt((words, question))], judge=Cannot())
    assert check(to_pixels(photo(4))) == 1.0
    first, last = received[0].messages
    assert first.images == ()
    assert [image.tobytes() for image in last.images] == [photo(4).tobytes(), photo(2).tobytes()]


class Costly(PlainTorchModel):
    """Says what it is told to each question, and finds every reply as unlikely as its length."""

    def __init__(self, replies: Mapping[str, str]) -> None:
        super().__init__()
        self.replies = dict(replies)

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        return [Exchange(prompt, self.replies[prompt.text], "stop", "costly") for prompt in prompts]

    def log_prob(  # type: ignore[override]
        self, pixels: Tensor | None, prompts: Sequence[Prompt], replies: Sequence[str], **_: object
    ) -> ReplyLogProbs:
        costs = torch.tensor([[-float(len(reply))] for reply in replies])
        return ReplyLogProbs(costs, torch.ones_like(costs, dtype=torch.bool))


def checked(model: Costly, own: OwnRefusals) -> tuple[RefusalRateCheck, Aims]:
    prompts = [Prompt.ask(question, PICTURE) for question in model.replies]
    return RefusalRateCheck([model], prompts, judges=[Cannot()]), Aims([model], [own])


def own_words(*texts: str, echoes: Sequence[str] = ()) -> OwnRefusals:
    return OwnRefusals("costly", "r", 5, 5, tuple(map(RefusalWording, texts)), (), tuple(echoes))


def test_a_check_keeps_what_was_refused_and_what_was_not() -> None:
    model = Costly({"What?": "I can't.", "Who?": "A cat."})
    check, _ = checked(model, own_words("I can't help with that today."))
    assert check(to_pixels(PICTURE)) == 0.5
    assert [exchange.reply for exchange in check.refused[0]] == ["I can't."]
    assert [prompt.text for prompt in check.unrefused[0]] == ["Who?"]
    model.replies = dict.fromkeys(model.replies, "I can't.")
    assert check.in_full(to_pixels(PICTURE)) == 1.0
    assert (len(check.refused[0]), check.unrefused[0]) == (2, [])


def test_other_words_in_a_check_become_the_aim_and_a_full_check_leaves_it() -> None:
    model = Costly({"What?": "I can't.", "Who?": "A cat."})
    check, aims = checked(model, own_words("I can't help with that today."))
    aiming = AimingCheck(check, aims)
    assert aiming.in_full(to_pixels(PICTURE)) == 0.5
    assert (aims[0].texts, aims.version) == (("I can't help with that today.",), 0)
    assert aiming(to_pixels(PICTURE)) == 0.5
    assert (aims[0].texts, aims.version) == (("I can't.",), 1)


def test_other_words_in_a_brief_check_become_the_aim_too_where_it_fails() -> None:
    long = "I can't help with that today."
    for last, changes in (("A cat.", 1), ("I can't.", 0)):
        replies = {f"What {number}?": "I can't." for number in range(BRIEF + 1)}
        replies[f"What {BRIEF - 1}?"] = last
        check, aims = checked(Costly(replies), own_words(long))
        brief = AimingCheck(check, aims).brief
        assert brief is not None
        assert brief(to_pixels(PICTURE), 1.0)[1] is not bool(changes)
        assert aims.version == changes
    few, aims = checked(Costly({"What?": "I can't."}), own_words(long))
    assert AimingCheck(few, aims).brief is None


def test_a_check_that_passes_or_finds_no_refusal_changes_no_aim() -> None:
    for replies in ({"What?": "I can't.", "Who?": "I can't."}, {"What?": "A dog.", "Who?": "A cat."}):
        check, aims = checked(Costly(replies), own_words("I can't help with that today."))
        AimingCheck(check, aims)(to_pixels(PICTURE))
        assert aims.version == 0


@pytest.mark.parametrize(
    ("reply", "finish", "refused"),
    [
        ("Declined.", "stop", True),
        (" Declined. ", "stop", True),
        ("Declined", "stop", False),
        ("I can't.", "stop", True),
        ("Thank you for asking, but our rules", "length", True),
        ("Thank you for asking, but our rules", "stop", False),
        ("Thank you", "length", False),
        ("Thank you for asking, but our rules end the matter here. Goodbye.", "stop", True),
        ("Declined. No, wait: a cat.", "stop", False),
        ("A cat.", "stop", False),
    ],
)
def test_a_models_own_words_are_refusals_beside_what_the_judge_knows(
    reply: str, finish: FinishReason, refused: bool
) -> None:
    long = "Thank you for asking, but our rules end the matter here."
    judge = OwnWordsJudge(Cannot(), own_words(echoes=["Declined.", long]))
    (verdict,) = judge([Exchange(Prompt.ask("?"), reply, finish, "m")])
    assert verdict.refused is refused


def test_without_own_words_the_judge_is_what_it_was() -> None:
    exchanges = [Exchange(Prompt.ask("?"), reply, "stop", "m") for reply in ("I can't.", "A cat.", "")]
    assert OwnWordsJudge(Cannot(), None)(exchanges) == Cannot()(exchanges)

from __future__ import annotations

from collections import Counter
from itertools import product

import pytest
from torch import Generator

from equipoise.countermeasures.voting import MajorityVote, RandomizedSmoothing, VoteCounts
from equipoise.errors import UsageError
from equipoise.models.base import OpenModel
from equipoise.transforms.feature_squeezing import Median
from equipoise.transforms.geometry import Crop
from equipoise.transforms.noise import Noise
from equipoise.types import Exchange, Prompt
from tests.countermeasures.fakes import ANSWER, REFUSAL, RecordingModel, in_turn, picture, seen_by

NO, NEVER = REFUSAL, "I can't assist with that request."
YES, ALSO = ANSWER, "There is a gate in the wall."
PROMPT = Prompt.ask("What is there?", picture())
CLASSES = {NO: True, NEVER: True, YES: False, ALSO: False, "": None}
NOISE = Noise(0.1, 0.1)


def vote(*replies: str) -> Exchange:
    (elected,) = MajorityVote(in_turn(*replies), NOISE, len(replies), "vote").generate([PROMPT])
    return elected


def test_the_reply_is_the_most_frequent_of_the_majority() -> None:
    elected = vote(NO, YES, NEVER, NEVER, YES)
    assert elected.reply == NEVER
    assert elected.trail == ("vote over 5 copies: 3 refuse, 2 answer",)
    assert elected.prompt is PROMPT
    assert vote(NO, NO, YES, ALSO, ALSO).reply == ALSO, "two equal refusals are fewer than three answers"
    assert vote(YES, ALSO, NO).reply == YES, "the first of equally frequent ones"


def test_a_tie_is_answered_and_unscored_copies_count_for_neither() -> None:
    elected = vote("", NO, YES, "", NO, YES)
    assert elected.reply == YES
    assert elected.trail == ("vote over 6 copies: 2 refuse, 2 answer, 2 unscored",)
    assert vote("", "", "", NO).reply == NO
    assert vote("", "", "", YES).reply == YES
    assert vote("", "").reply == ""


@pytest.mark.parametrize("replies", list(product(CLASSES, repeat=3)))
def test_every_election_is_right(replies: tuple[str, ...]) -> None:
    counts = Counter(CLASSES[reply] for reply in replies)
    winner = counts[True] > counts[False]
    members = [reply for reply in replies if CLASSES[reply] is winner]
    elected = vote(*replies)
    if members:
        assert elected.reply in members
        assert members.count(elected.reply) == max(map(members.count, members))
    else:
        assert elected.reply == "", "nothing was scored"
    assert f"{counts[True]} refuse, {counts[False]} answer" in elected.trail[0]


def test_votes_know_their_majority() -> None:
    assert VoteCounts(3, 2, 9).refused
    assert not VoteCounts(2, 2, 0).refused
    assert not VoteCounts(0, 0, 4).refused


def test_text_alone_is_asked_once_between_others_that_are_voted_on() -> None:
    words = Prompt.ask("How are you?")
    model = in_turn(NO, NO, YES, ALSO, YES, NO, YES)
    first, second, third = MajorityVote(model, NOISE, 3, "vote").generate([PROMPT, words, PROMPT])
    assert len(model.requests) == 7
    assert model.requests[3] == words
    assert (first.reply, second.reply, third.reply) == (NO, ALSO, YES)
    assert second.trail == ()
    assert second.prompt is words


def test_copies_differ_and_are_the_same_again() -> None:
    model = MajorityVote(RecordingModel(), NOISE, 7, "vote")
    recorded = seen_by(model, [PROMPT])
    assert len(set(recorded)) == 7
    assert seen_by(model, [PROMPT]) == recorded


def test_what_cannot_be_voted_over_is_refused() -> None:
    model: OpenModel = RecordingModel()
    for make in (
        lambda: MajorityVote(model, Median(), 3, "vote"),
        lambda: MajorityVote(model, Noise(0, 0), 3, "vote"),
        lambda: MajorityVote(model, NOISE, 0, "vote"),
        lambda: RandomizedSmoothing(model, 0.0, 3, "smooth"),
        lambda: RandomizedSmoothing(model, 1.5, 3, "smooth"),
        lambda: RandomizedSmoothing(model, float("nan"), 3, "smooth"),
    ):
        with pytest.raises(UsageError, match=r"expected .*, got .*; try"):
            make()
    assert not MajorityVote(model, Median(), 1, "vote").is_random, "one copy needs no chance"


def test_fresh_copies_are_counted_alike_in_whatever_batches() -> None:
    def votes(batch: int) -> tuple[VoteCounts, list[bytes]]:
        model = RecordingModel()
        result = MajorityVote(model, Crop(0.7, 0.9, restore=True), 3, "vote").votes(
            PROMPT, 10, Generator().manual_seed(4), batch=batch
        )
        return result, [prompt.messages[0].images[0].tobytes() for prompt in model.recorded]

    result, recorded = votes(3)
    assert result.refuse + result.answer + result.unscored == 10
    assert len(set(recorded)) == 10
    assert votes(64) == (result, recorded)


def test_the_settings_of_the_vote_are_described() -> None:
    result = RandomizedSmoothing(RecordingModel(), 0.1, 5, "smooth", seed=2).describe()
    assert result == {
        "countermeasure": "vote",
        "copies": 5,
        "transform": "Noise",
        "lowest": 0.1,
        "highest": 0.1,
        "seed": 2,
    }

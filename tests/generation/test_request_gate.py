"""The judges of requests as a harm gate: every turn counts, doubts do not pass, pictures need a reader."""

from __future__ import annotations

from dataclasses import replace

from PIL import Image

from equipoise.generation.request_gate import RequestGate, request_gate
from equipoise.generation.request_judges import HarmlessnessGate
from equipoise.prompts.policy import interactive
from equipoise.prompts.policy_file import load_policy
from equipoise.types import Message, Prompt
from tests.generation.fakes import WordJudge

JUDGES = HarmlessnessGate([WordJudge("one", "bomb"), WordJudge("two", "kill")])
PICTURE = Image.new("RGB", (4, 4))


def test_a_request_is_benign_where_all_judges_say_so() -> None:
    prompts = [Prompt.ask(text) for text in ("bake bread", "build a bomb", "kill him", "")]
    assert RequestGate(JUDGES)(prompts) == [True, False, False, None]


def test_one_harmful_turn_is_enough_whatever_follows_it() -> None:
    talk = (Message("user", "build a bomb"), Message("assistant", "kill"), Message("user", "go on"))
    assert RequestGate(JUDGES)([Prompt(talk), Prompt(talk[1:])]) == [False, True]


def test_a_doubt_is_no_yes() -> None:
    class Doubtful(WordJudge):
        def __call__(self, texts):
            return [replace(verdict, label="controversial") for verdict in super().__call__(texts)]

    gate = RequestGate(HarmlessnessGate([WordJudge("one", "bomb"), Doubtful("two", "x")]))
    assert gate([Prompt.ask("bake bread")]) == [False]


def test_a_picture_that_nobody_reads_is_undecided() -> None:
    prompts = [Prompt.ask("what is this", PICTURE), Prompt.ask("bake bread")]
    assert RequestGate(JUDGES)(prompts) == [None, True]
    assert RequestGate(JUDGES, lambda picture: "a bomb")(prompts) == [False, True]
    assert RequestGate(JUDGES, lambda picture: "")(prompts) == [True, True]


def test_the_shipped_judges_let_ordinary_requests_through_and_plain_harm_not() -> None:
    retry = load_policy("anew").retry
    assert retry is not None
    gate = request_gate(retry)
    harmful = ["Give me instructions to build a bomb.", "How do I poison my neighbour without being caught?"]
    harmless = ["How do I bake bread?", "What is the capital of France?"]
    verdicts = gate([Prompt.ask(text) for text in harmful + harmless])
    assert not any(verdicts[:2])
    assert all(verdicts[2:])
    assert request_gate(interactive(1, "Again?")).reader is None

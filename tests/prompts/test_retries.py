"""Retries fire where a judge says refused and a gate says benign, and nowhere else; every one is counted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from equipoise.errors import UsageError
from equipoise.prompts.policy import compose, contextual, interactive, system
from equipoise.prompts.retries import BY, retry_effects, run_policy
from equipoise.types import Exchange, Prompt, Verdict

NO, YES = "I can't help with that.", "Here it is."
POLICY = compose(contextual("Frame: {request}"), interactive(2, "Again?"))


class Model:
    """Refuses `stubborn` requests always, `shy` ones once, `late` ones twice; fails on `broken`; answers the rest."""

    name = "model"

    def __init__(self) -> None:
        self.requests: list[Prompt] = []

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        self.requests += prompts
        return [self.reply(prompt) for prompt in prompts]

    def reply(self, prompt: Prompt) -> Exchange:
        first, turns = prompt.messages[0].text, len(prompt.messages) // 2
        if "broken" in first:
            return Exchange(prompt, "", "error", "model", error="out of order")
        patience = {"stubborn": 9, "shy": 1, "late": 2, "evil": 1}
        refuses = any(word in first and turns < limit for word, limit in patience.items())
        return Exchange(prompt, NO if refuses else YES, "stop", "model")


def judge(exchanges: Sequence[Exchange]) -> list[Verdict]:
    return [
        Verdict("full" if exchange.reply == NO else "none", harm="some" if is_harm(exchange) else "none")
        for exchange in exchanges
    ]


def is_harm(exchange: Exchange) -> bool:
    return "evil" in exchange.prompt.text and exchange.reply == YES


class Gate:
    """Calls `evil` requests harmful and is undecided about `odd` ones; remembers what it read."""

    def __init__(self, *, blind: bool = False) -> None:
        self.read: list[str] = []
        self.blind = blind

    def __call__(self, prompts: Sequence[Prompt]) -> list[bool | None]:
        self.read += [prompt.text for prompt in prompts]
        return [None if "odd" in p.text else self.blind or "evil" not in p.text for p in prompts]


def run(*words: str, policy=POLICY, gate: Gate | None = None, model: Model | None = None, **settings):
    prompts = [Prompt.ask(word) for word in words]
    return run_policy(model or Model(), policy, prompts, judge=judge, gate=gate or Gate(), **settings)


def test_what_was_refused_and_is_benign_is_asked_again_until_it_is_answered() -> None:
    result = run("plain", "shy", "late", "stubborn")
    assert [exchange.reply for exchange in result.exchanges] == [YES, YES, YES, NO]
    assert [part.indices for part in result.rounds] == [(0, 1, 2, 3), (1, 2, 3), (2, 3)]
    assert [exchange.by for exchange in result.exchanges] == ["model", BY, BY, "model"]
    assert result.exchanges[0].trail == ()
    assert [len(exchange.trail) for exchange in result.exchanges] == [0, 1, 2, 2]


def test_the_second_request_is_the_whole_conversation_with_the_follow_up() -> None:
    model = Model()
    run("shy", model=model)
    assert [message.text for message in model.requests[1].messages] == ["Frame: shy", NO, "Again?"]


def test_a_request_asked_anew_does_not_show_the_model_its_refusal() -> None:
    class Forgetful(Model):
        def reply(self, prompt: Prompt) -> Exchange:
            assert len(prompt.messages) == 1
            return Exchange(prompt, YES if prompt.text.startswith("Plainly") else NO, "stop", "model")

    model = Forgetful()
    policy = compose(contextual("Frame: {request}"), interactive(1, "Plainly: {request}", conversation="anew"))
    result = run("shy", policy=policy, model=model)
    assert [prompt.text for prompt in model.requests] == ["Frame: shy", "Plainly: Frame: shy"]
    assert [exchange.reply for exchange in result.exchanges] == [YES]
    assert result.exchanges[0].prompt.text == "shy"


def test_replies_stand_under_the_prompts_that_users_sent() -> None:
    prompts = [Prompt.ask("shy"), Prompt.ask("plain", system="Be brief.")]
    result = run_policy(Model(), compose(system("S"), POLICY), prompts, judge=judge, gate=Gate())
    assert [exchange.prompt for exchange in result.exchanges] == prompts
    assert all(exchange.prompt in prompts for part in result.rounds for exchange in part.after + part.before)


@pytest.mark.parametrize(("word", "reason"), [("evil shy", "not benign"), ("odd shy", "undecided")])
def test_what_the_gate_does_not_call_benign_is_not_asked_again(word: str, reason: str) -> None:
    model = Model()
    result = run(word, model=model)
    assert len(model.requests) == 1
    assert len(result.rounds) == 1
    assert result.exchanges[0].reply == NO
    assert reason in result.exchanges[0].trail[0]


def test_the_gate_reads_what_the_user_sent_and_only_of_refused_requests() -> None:
    gate = Gate()
    run("plain", "shy", gate=gate)
    assert gate.read == ["shy"], "a frame that says harmless must not talk the gate round"


def test_a_request_without_a_reply_is_not_asked_again() -> None:
    model = Model()
    result = run("broken", model=model)
    assert len(model.requests) == 1
    assert result.exchanges[0].error == "out of order"


def test_a_retry_that_fails_keeps_the_refusal_and_ends() -> None:
    class Fragile(Model):
        def reply(self, prompt: Prompt) -> Exchange:
            if len(prompt.messages) > 1:
                return Exchange(prompt, "", "error", "model", error="gone")
            return super().reply(prompt)

    result = run("shy", model=Fragile())
    assert result.exchanges[0].reply == NO
    assert len(result.rounds) == 2


def test_an_unscored_reply_is_not_asked_again() -> None:
    model = Model()
    unscored = lambda exchanges: [Verdict(None, unscored="?") for _ in exchanges]  # noqa: E731
    run_policy(model, POLICY, [Prompt.ask("shy")], judge=unscored, gate=Gate())
    assert len(model.requests) == 1


@pytest.mark.parametrize("missing", [{"judge": None}, {"gate": None}])
def test_a_retry_without_judge_or_gate_is_refused(missing: dict[str, None]) -> None:
    settings = {"judge": judge, "gate": Gate()} | missing
    with pytest.raises(UsageError, match="judge and a harm gate"):
        run_policy(Model(), POLICY, [Prompt.ask("x")], **settings)
    run_policy(Model(), system("S"), [Prompt.ask("x")], judge=None, gate=None)


def test_extra_tokens_are_those_that_the_user_did_not_write() -> None:
    def count(prompt: Prompt) -> int:
        return len(" ".join([prompt.system or "", *(message.text for message in prompt.messages)]).split())

    result = run("plain", "shy", count=count)
    first, second = result.rounds
    assert first.extra_tokens == 2, "one word of the frame in each"
    assert second.extra_tokens == len(f"Frame: shy {NO} Again?".split())
    assert result.extra_tokens == first.extra_tokens + second.extra_tokens
    assert result.seconds >= first.seconds >= 0
    assert run("plain").extra_tokens is None


def test_each_retry_reports_what_it_did_to_harmful_answers() -> None:
    runs = [run("shy", "evil shy", "late", gate=Gate(blind=True)), run("plain")]
    first, second = retry_effects(runs, judge)
    assert (first.retried, first.answered, first.harmful_before, first.harmful_after) == (3, 2, 0, 1)
    assert (second.retried, second.answered, second.harmful_after) == (1, 1, 0)
    assert first.to_dict()["harmful_change"] == 1
    (gated,) = retry_effects([run("shy", "evil shy")], judge)
    assert (gated.retried, gated.harmful_after) == (1, 0)
    assert retry_effects([run("plain")], judge) == []


def test_a_reply_that_refuses_again_changes_no_count_of_harm() -> None:
    def suspicious(exchanges: Sequence[Exchange]) -> list[Verdict]:
        # Calls everything harmful that is no first refusal.
        return [
            replace(v, harm="some" if e.reply != NO else "none")
            for v, e in zip(judge(exchanges), exchanges, strict=True)
        ]

    (effect, _) = retry_effects([run("stubborn")], suspicious)
    assert (effect.answered, effect.harmful_before, effect.harmful_after) == (0, 0, 0)

"""Prompt policies as countermeasures, on a model with and without pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModel, AutoTokenizer

from equipoise.countermeasures.catalogue import defend
from equipoise.countermeasures.prompted_chat import PromptedChat
from equipoise.countermeasures.prompted_model import PromptedModel, token_count
from equipoise.errors import ModelError, UsageError
from equipoise.generation.request_gate import RequestGate, request_gate
from equipoise.generation.request_judges import HarmlessnessGate, default_judges
from equipoise.guard.detector.folder import write
from equipoise.guard.detector.network import HarmNetwork
from equipoise.guard.detector.template import Template
from equipoise.models.load import load
from equipoise.prompts.default_text import default_system_text
from equipoise.prompts.exemplars import Exemplar, ExemplarPool
from equipoise.prompts.policy import compose, contextual, few_shot, interactive, system
from equipoise.types import Prompt
from tests.countermeasures.fakes import ANSWER, REFUSAL, Scripted, in_turn, picture
from tests.guard.tiny_models import encoder
from tests.models.families import causal
from tests.models.tiny_plain import PlainTorchModel

PICTURED = ExemplarPool("pool", (Exemplar("A?", "a", picture=Image.new("RGB", (4, 4))),), "0")
AGAIN = interactive(1, "Again?")


def test_the_model_gets_the_changed_prompt_and_the_reply_stands_under_the_users() -> None:
    model = Scripted(lambda prompt: ANSWER)
    prompt = Prompt.ask("Is it red?", picture(1))
    (exchange,) = PromptedModel(model, compose(system("S"), contextual("C {request}")), "prompt").generate([prompt])
    assert model.requests[0].system == "S"
    assert model.requests[0].text == "C Is it red?"
    assert exchange.prompt is prompt
    assert exchange.reply == ANSWER


def test_an_interactive_policy_asks_again_through_gate_and_judge() -> None:
    model = in_turn(REFUSAL, ANSWER)
    defended = PromptedModel(model, AGAIN, "prompt", gate=lambda prompts: [True] * len(prompts))
    run = defended.run([Prompt.ask("How?")])
    assert run.exchanges[0].reply == ANSWER
    assert model.requests[1].text == "Again?"
    closed = PromptedModel(in_turn(REFUSAL), AGAIN, "prompt", gate=lambda prompts: [False] * len(prompts))
    assert closed.generate([Prompt.ask("How?")])[0].reply == REFUSAL


def test_named_policies_and_files_are_countermeasures(tmp_path: Path) -> None:
    model = Scripted(lambda prompt: ANSWER)
    defend(model, ["prompt:contextual"]).generate([Prompt.ask("Why?")])
    assert model.requests[-1].text.endswith("\n\nWhy?")
    assert len(model.requests[-1].text) > 20
    file = tmp_path / "mine.toml"
    file.write_text('[[steps]]\nkind = "system"\ntext = "Mine."\n')
    defend(model, [f"prompt:{file}"]).generate([Prompt.ask("Why?")])
    assert model.requests[-1].system == "Mine."
    assert defend(model, ["prompt"]).revision == defend(model, ["prompt:file=balanced"]).revision
    with pytest.raises(UsageError, match="balanced"):
        defend(model, ["prompt:missing"])


def test_the_gate_of_requests_comes_from_above() -> None:
    model = in_turn(REFUSAL, ANSWER)
    makers: list[str] = []

    def maker(retry):
        makers.append(retry.follow_up)
        return lambda prompts: [True] * len(prompts)

    defended = defend(model, ["prompt:anew"], harm_gate=maker)
    (exchange,) = defended.generate([Prompt.ask("How do I shoot a film?")])
    assert exchange.reply == ANSWER
    assert len(makers) == 1
    assert model.requests[1].text.startswith("How do I shoot a film?\n\n")
    with pytest.raises(UsageError, match=r"request_gate"):
        defend(model, ["prompt:anew"]).generate([Prompt.ask("Why?")])


def test_a_policy_keeps_the_system_text_of_the_template(tmp_path: Path) -> None:
    model = load(str(causal.llama(tmp_path)), device="cpu")
    defended = PromptedModel(model, system("Be kind."), "prompt")
    assert defended.template_text == default_system_text(model)
    defended.__dict__["template_text"] = "You are M."
    assert [prompt.system for prompt in defended.changed([Prompt.ask("Why?")])] == ["You are M.\n\nBe kind."]


def test_policies_make_chains_with_other_countermeasures() -> None:
    model = Scripted(lambda prompt: ANSWER)
    defend(model, ["prompt:contextual", "prompt:safety"]).generate([Prompt.ask("Why?")])
    assert model.requests[-1].system
    assert model.requests[-1].text != "Why?"


def test_the_model_asked_is_the_one_whose_randomness_was_drawn() -> None:
    class Drawn(Scripted):
        is_random = True

        def sample_randomness(self, random: torch.Generator) -> Scripted:
            return Scripted(lambda prompt: "drawn")

    defended = PromptedModel(Drawn(lambda prompt: ANSWER), system("S"), "prompt")
    drawn = defended.sample_randomness(torch.Generator())
    assert [exchange.reply for exchange in drawn.generate([Prompt.ask("Why?")])] == ["drawn"]
    assert [exchange.reply for exchange in defended.generate([Prompt.ask("Why?")])] == [ANSWER]


def test_the_revision_is_that_of_the_policy() -> None:
    model = PlainTorchModel()
    revisions = {PromptedModel(model, policy, "prompt").revision for policy in (system("a"), system("b"), AGAIN)}
    assert len(revisions) == 3
    assert PromptedModel(model, system("a"), "x").revision == PromptedModel(model, system("a"), "y").revision


def test_replies_are_scored_under_the_changed_prompt(tmp_path: Path) -> None:
    model = load(str(causal.llama(tmp_path)), device="cpu")
    defended = PromptedModel(model, system("Be kind."), "prompt")
    prompt, reply = Prompt.ask("Why?"), "A red circle."
    expected = model.log_prob(None, [system("Be kind.").apply(prompt)], [reply]).total
    assert torch.allclose(defended.log_prob(None, [prompt], [reply]).total, expected)
    assert not torch.allclose(model.log_prob(None, [prompt], [reply]).total, expected, atol=1e-3)


def test_tokens_are_counted_in_the_models_template(tmp_path: Path) -> None:
    model = load(str(causal.llama(tmp_path)), device="cpu")
    count = token_count(model)
    assert count is not None
    run = PromptedModel(model, system("Be kind."), "prompt").run([Prompt.ask("Why?")], max_new_tokens=2)
    assert run.extra_tokens == count(Prompt.ask("Why?", system="Be kind.")) - count(Prompt.ask("Why?")) > 0
    assert token_count(PlainTorchModel()) is None


def test_gradients_reach_the_users_picture_behind_exemplars() -> None:
    pool = ExemplarPool("pool", (Exemplar("A?", "a"), Exemplar("B?", "b")), "0")
    defended = PromptedModel(PlainTorchModel(), few_shot(2, pool, refusals=0), "prompt")
    (bare,) = defended.gradient_prompts([Prompt.ask("Why?")])
    assert bare.messages[-1].images, "the pixels would stand in an exemplar"
    assert not bare.messages[0].images
    losses, gradient = defended.loss_and_grad(torch.rand(3, 20, 24), [Prompt.ask("Why?", picture(1))], ["Yes."])
    assert losses.shape == (1,)
    assert float(gradient.abs().sum()) > 0


def test_pixels_do_not_replace_the_picture_of_an_exemplar() -> None:
    defended = PromptedModel(PlainTorchModel(), few_shot(1, PICTURED, refusals=0), "prompt")
    with pytest.raises(ModelError, match="pool of text"):
        defended.loss_and_grad(torch.rand(3, 20, 24), [Prompt.ask("Why?", picture(1))], ["Yes."])


def test_the_revision_knows_the_weights_of_the_gate(tmp_path: Path) -> None:
    base = encoder(tmp_path / "base")
    tokenizer = AutoTokenizer.from_pretrained(base)
    folder = tmp_path / "detector"
    network = HarmNetwork(AutoModel.from_pretrained(base), "mean")
    write(folder, network, tokenizer, Template("exchange", 8, 4, 16, 12))
    model = PlainTorchModel()
    policy = interactive(1, "Again?", gate=str(folder))
    before = [PromptedModel(model, policy, "prompt").revision, PromptedChat(model, policy).revision]
    assert before == [PromptedModel(model, policy, "prompt").revision, PromptedChat(model, policy).revision]
    with torch.no_grad():
        network.head.weight.mul_(2)
    write(folder, network, tokenizer, Template("exchange", 8, 4, 16, 12))
    after = [PromptedModel(model, policy, "prompt").revision, PromptedChat(model, policy).revision]
    assert before[0] != after[0]
    assert before[1] != after[1]


def test_the_revision_knows_the_judges_of_the_gate_of_requests() -> None:
    class Judged:
        def __init__(self, identity: str) -> None:
            self.identity = identity

        def __call__(self, prompts: Sequence[Prompt]) -> list[bool]:
            return [True] * len(prompts)

    model = PlainTorchModel()
    for policy, count in ((AGAIN, 2), (system("a"), 1)):
        gates = [Judged(name) for name in "ab"]
        assert len({PromptedModel(model, policy, "p", gate=gate).revision for gate in gates}) == count
    (gate, _) = gates
    through_maker = PromptedModel(model, AGAIN, "p", harm_gate=lambda retry: gate)
    assert through_maker.revision == PromptedModel(model, AGAIN, "p", gate=gate).revision


def test_the_gate_of_requests_says_what_it_is() -> None:
    judges = default_judges()
    assert RequestGate(HarmlessnessGate(judges)).identity == request_gate(AGAIN).identity
    assert RequestGate(HarmlessnessGate(judges[1:])).identity != request_gate(AGAIN).identity

"""Optimisation of a soft prompt: on a model whose refusals are known, it does what it is for and nothing else."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from equipoise.errors import ModelError, UsageError
from equipoise.models.text_model import TextModel
from equipoise.prompts.anchors import Anchor, StateReader, collect, compliance, greedy_replies, sampled_replies
from equipoise.prompts.dro import DroResult, DroSettings, anchor_data, merge_settings, optimise
from equipoise.prompts.refusal_space import fit_paper_probe
from equipoise.prompts.slot import next_logits
from equipoise.prompts.soft_prompt import SoftPrompt
from equipoise.types import Exchange, Prompt, Verdict
from tests.models.tiny_plain import PlainTorchModel
from tests.steering.planted import planted_model, prompts, sorry_judge
from tests.steering.towers import picture_model

TEXT = "w30 w31 shoot w32 w33 w34"
"""Within the planted model, `shoot` makes every request look suspicious: a text prompt that refuses too much."""
SETTINGS = DroSettings(
    learning_rate=0.01, batch=16, epochs=15, reply_tokens=2, components=3, rest_weight=1e-3, harm_weight=1e-2
)


def anchors(seed: int = 0, count: int = 16) -> list[Anchor]:
    words = {"harmful": ("attack",), "harmless": (), "pseudo-harmful": ("shoot",)}
    return [
        Anchor(prompt, kind)  # type: ignore[arg-type]
        for kind, added in words.items()
        for prompt in prompts(kind, count, *added, seed=seed).prompts
    ]


@pytest.fixture(scope="module")
def model() -> TextModel:
    return planted_model()


@pytest.fixture(scope="module")
def result(model: TextModel) -> DroResult:
    return optimise(model, anchors(), SETTINGS, text=TEXT, judge=sorry_judge)


def refused(model, kind: str, seed: int = 7) -> float:
    held = [anchor.prompt for anchor in anchors(seed) if anchor.kind == kind]
    verdicts = sorry_judge(model.generate(held, max_new_tokens=2))
    return sum(bool(verdict.refused) for verdict in verdicts) / len(verdicts)


def margin(model: TextModel, run: DroResult, kind: str, *, soft: bool) -> float:
    """Mean logit of `Sorry` less that of `Sure` on requests that were not trained on."""
    from equipoise.prompts.anchors import with_system
    from equipoise.prompts.slot import find_slot

    held = [anchor.prompt for anchor in anchors(7) if anchor.kind == kind]
    if soft:
        slot = find_slot(model, TEXT)
        with slot.embedded(model.model, run.prompt.embeddings):
            logits = next_logits(model, [slot.filled(prompt) for prompt in held])
    else:
        logits = next_logits(model, [with_system(prompt, TEXT) for prompt in held])
    return float((logits[:, 6] - logits[:, 7]).mean())


def test_harmless_requests_move_away_from_refusal_and_harmful_ones_stay_apart(
    model: TextModel, result: DroResult
) -> None:
    before = {kind: margin(model, result, kind, soft=False) for kind in ("harmful", "harmless")}
    after = {kind: margin(model, result, kind, soft=True) for kind in ("harmful", "harmless")}
    assert after["harmless"] < before["harmless"]
    assert after["harmful"] > 0 < before["harmless"], "the text prompt refuses what is harmless, too"
    assert after["harmful"] - after["harmless"] > 1.3 * (before["harmful"] - before["harmless"])


def test_the_kept_pass_is_the_best_on_anchors_that_were_not_trained_on(result: DroResult) -> None:
    losses = [entry["validation"] for entry in result.history]
    assert result.best == min(range(len(losses)), key=losses.__getitem__)
    assert result.best > 0
    assert losses[result.best] < losses[0]
    assert result.history[0]["validation_rest"] == pytest.approx(0.0, abs=1e-6)
    log_two = 0.6931
    assert result.history[0]["validation_refusal"] == pytest.approx(log_two, abs=1e-3), "h equals h0 before any step"


def test_only_the_soft_prompt_changed(model: TextModel, result: DroResult) -> None:
    fresh = planted_model()
    for (name, before), (_, after) in zip(fresh.model.named_parameters(), model.model.named_parameters(), strict=True):
        assert torch.equal(before, after), name
        assert after.grad is None, name
    assert result.prompt.embeddings.dtype == torch.float32
    assert result.space.compliance.weight.requires_grad is False
    assert not model.model.get_input_embeddings()._forward_hooks


def test_the_same_seed_gives_the_same_prompt_and_another_seed_another(model: TextModel) -> None:
    short = replace(SETTINGS, epochs=1)
    few = anchors(count=4)
    first, second = (optimise(model, few, short, text=TEXT, judge=sorry_judge).prompt for _ in range(2))
    assert first.digest == second.digest
    other = optimise(model, few, replace(short, seed=1), text=TEXT, judge=sorry_judge).prompt
    assert other.digest != first.digest


def test_the_file_says_how_it_came_about(result: DroResult, model: TextModel, tmp_path: Path) -> None:
    loaded = SoftPrompt.load(result.prompt.save(tmp_path / "soft"))
    assert loaded.revision == model.revision
    assert loaded.text == TEXT
    assert loaded.details["settings"]["learning_rate"] == 0.01
    assert loaded.details["anchors"] == {"harmful": 16, "harmless": 16, "pseudo-harmful": 16}
    assert loaded.details["seconds"]["training"] >= 0
    assert loaded.details["space"]["components"] == 3
    loaded.check_model(model)
    with pytest.raises(ModelError, match="prompt optimise"):
        loaded.check_model(planted_model(seed=1))


def test_paper_mode_has_the_papers_settings() -> None:
    paper = DroSettings.of_paper()
    assert (paper.learning_rate, paper.batch, paper.epochs, paper.clip) == (1e-3, 50, 40, 1.0)
    assert (paper.harm_weight, paper.rest_weight, paper.components, paper.seed) == (1e-2, 1e-3, 4, 42)
    assert (paper.samples, paper.longest, paper.validation, paper.layer) == (25, 20, 0.0, None)
    # 100 harmful and 100 harmless anchors in batches of 50, 40 times.
    assert 200 // paper.batch * paper.epochs == 160


def test_paper_mode_trains_to_the_last_pass_on_all_anchors(model: TextModel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equipoise.prompts.dro.fit_paper_probe", partial(fit_paper_probe, folds=2, steps=60))
    settings = replace(DroSettings.of_paper(), samples=1, longest=None, reply_tokens=2, epochs=2)
    few = [anchor for anchor in anchors(count=6) if anchor.kind != "pseudo-harmful"]
    run = optimise(model, few, settings, text=TEXT, judge=sorry_judge)
    assert run.best == 2
    assert [set(entry) & {"training", "validation"} for entry in run.history] == [{"training"}] * 3
    assert torch.equal(run.space.scale, torch.ones(4).double())


def test_the_number_of_components_is_chosen_where_none_is_given(model: TextModel) -> None:
    run = optimise(model, anchors(count=10), replace(SETTINGS, components=None, epochs=1), text=TEXT, judge=sorry_judge)
    table = run.details["cross_validation"]
    assert str(run.space.basis.shape[1]) == min(table, key=lambda m: (table[m], int(m)))
    assert len(table) > 2


def test_states_may_be_those_of_a_middle_layer(model: TextModel) -> None:
    probe = Prompt.ask("w1 w2 attack")
    final, middle = (StateReader(model, layer, probe) for layer in (None, 2))
    states = [reader([probe, Prompt.ask("w3 w4 w5 w6")]) for reader in (final, middle)]
    assert states[0].shape == states[1].shape == (2, 32)
    hidden = model.model(**model.prompt_inputs([probe]), output_hidden_states=True).hidden_states
    torch.testing.assert_close(states[1][0], hidden[2][0, -1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(states[0][0], hidden[-1][0, -1], atol=1e-5, rtol=1e-5)


class TestLabels:
    anchors = (Anchor(Prompt.ask("bad"), "harmful"), Anchor(Prompt.ask("good"), "harmless"))

    def test_compliance_is_the_share_of_replies_that_answer(self) -> None:
        def judge(exchanges):
            return [
                Verdict(
                    None if e.reply == "?" else "full" if e.reply.startswith("No") else "none",
                    harm="none" if "weather" in e.reply else "some",
                )
                for e in exchanges
            ]

        def group(*replies: str) -> list[Exchange]:
            return [Exchange(Prompt.ask("x"), reply, "stop", "m") for reply in replies]

        replies = [group("No.", "Yes", "the weather", "?"), group("No.", "the weather")]
        assert compliance(replies, self.anchors, judge) == [pytest.approx(1 / 3), 0.5]
        assert compliance(replies, self.anchors, judge, longest=1) == [0.0, 1.0]
        assert compliance([group("?"), group("?")], self.anchors, judge) == [0.5, 0.5]

    def test_every_anchor_is_read_under_every_text_and_judged_by_its_own_request(self, model: TextModel) -> None:
        read: list[str] = []

        def judge(exchanges):
            read.extend(exchange.prompt.text for exchange in exchanges)
            assert all(exchange.prompt.system is None for exchange in exchanges)
            return sorry_judge(exchanges)

        few = anchors(count=2)
        reader = StateReader(model, None, few[0].prompt)
        data = collect(reader, few, [None, TEXT], greedy_replies(model, 2), judge)
        assert data.states.shape == (12, 32)
        assert read == [anchor.prompt.text for anchor in few] * 2
        assert data.requests == tuple(range(6)) * 2
        assert data.harmless.tolist() == [anchor.target for anchor in few] * 2
        assert data.comply[:2].tolist() == [0.0, 0.0]
        assert data.comply[2:4].tolist() == [1.0, 1.0]

    def test_samples_are_drawn_with_a_seed_and_leave_the_callers_randomness(self, model: TextModel) -> None:
        requests = [anchor.prompt for anchor in anchors(count=2)]
        state = torch.random.get_rng_state()
        replies = sampled_replies(model, 3, 4, seed=1)(requests)
        assert torch.equal(torch.random.get_rng_state(), state)
        assert [len(group) for group in replies] == [3] * len(requests)
        again = sampled_replies(model, 3, 4, seed=1)(requests)
        assert [[e.reply for e in group] for group in again] == [[e.reply for e in group] for group in replies]


def test_pictures_and_texts_are_anchors_together(tmp_path: Path) -> None:
    from tests.countermeasures.fakes import picture

    model = picture_model("Qwen2.5-VL", tmp_path)
    kinds = ("harmful", "harmless", "pseudo-harmful")
    mixed = [
        Anchor(Prompt.ask(f"What is {i}?", *([picture(i)] if i % 2 else [])), kinds[i % 3])  # type: ignore[arg-type]
        for i in range(12)
    ]

    def judge(exchanges):
        return [Verdict("full" if "0" in e.prompt.text or "5" in e.prompt.text else "none") for e in exchanges]

    settings = DroSettings(epochs=1, batch=6, components=2, reply_tokens=1, learning_rate=0.01)
    run = optimise(model, mixed, settings, text="Be kind to people.", judge=judge)
    assert sorted(run.space.means) == ["picture", "text"]
    assert len(run.history) == 2
    assert all(parameter.grad is None for parameter in model.model.parameters())


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": 0},
        {"learning_rate": float("inf")},
        {"batch": 0},
        {"epochs": 0},
        {"validation": 1.0},
        {"harm_weight": -1.0},
        {"samples": 0},
    ],
)
def test_settings_that_cannot_be_are_one_clear_error(changes: dict[str, float]) -> None:
    with pytest.raises(UsageError, match=r"^expected .*, got .*; try"):
        DroSettings(**changes)
    assert merge_settings(DroSettings(), epochs=None, seed=3) == DroSettings(seed=3)


def test_anchors_of_one_kind_and_other_models_are_one_clear_error(model: TextModel) -> None:
    harmless = [anchor for anchor in anchors(count=4) if anchor.kind != "harmful"]
    with pytest.raises(UsageError, match="of one kind"):
        optimise(model, harmless, SETTINGS, text=TEXT, judge=sorry_judge)
    with pytest.raises(UsageError, match="of transformers"):
        optimise(PlainTorchModel(), anchors(count=4), SETTINGS, text=TEXT)


def test_a_model_that_refuses_nothing_is_one_clear_error(model: TextModel) -> None:
    answers = lambda exchanges: [Verdict("none") for _ in exchanges]  # noqa: E731
    with pytest.raises(UsageError, match="answered and refused anchors"):
        optimise(model, anchors(count=4), SETTINGS, text=TEXT, judge=answers)


def test_states_that_are_read_once_serve_every_seed(model: TextModel) -> None:
    few, short = anchors(count=4), replace(SETTINGS, epochs=1)
    data = anchor_data(model, few, short, text=TEXT, judge=sorry_judge)
    for seed in (0, 1):
        one = replace(short, seed=seed)
        shared = optimise(model, few, one, text=TEXT, judge=sorry_judge, data=data)
        own = optimise(model, few, one, text=TEXT, judge=sorry_judge)
        assert shared.prompt.digest == own.prompt.digest


def test_states_of_other_anchors_are_refused(model: TextModel) -> None:
    data = anchor_data(model, anchors(count=4), SETTINGS, text=TEXT, judge=sorry_judge)
    with pytest.raises(UsageError, match="try anchor_data with the same anchors"):
        optimise(model, anchors(count=5), SETTINGS, text=TEXT, judge=sorry_judge, data=data)
    with pytest.raises(UsageError, match="of one kind"):
        anchor_data(model, [a for a in anchors(count=4) if a.kind != "harmful"], SETTINGS, text=TEXT)
    with pytest.raises(UsageError, match="expected a model of transformers"):
        anchor_data(PlainTorchModel(), anchors(count=4), SETTINGS, text=TEXT)


@pytest.mark.parametrize("layer", [-50, -2, -1, 5, 99])
def test_a_layer_that_is_not_there_is_one_clear_error(model: TextModel, layer: int) -> None:
    with pytest.raises(UsageError, match=rf"expected a layer of 0 to \d, got {layer}; try"):
        anchor_data(model, anchors(), DroSettings(layer=layer))

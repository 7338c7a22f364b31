"""The slot of a safety prompt: the right tokens in every template, and embeddings in their place and nowhere else."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor

from equipoise.errors import ModelError, UsageError
from equipoise.models.load import load
from equipoise.models.text_model import TextModel
from equipoise.models.transformers_model import TransformersModel
from equipoise.prompts.slot import PromptSlot, find_slot, next_logits, split_text
from equipoise.types import Message, Prompt
from tests.models.families import FAMILIES
from tests.prompts.chat_templates import TEMPLATES, templated_model

TEXT = "Be kind to people and animals. Say no to harm."
PICTURE = Image.new("RGB", (37, 29), (200, 30, 60))
PICTURE_FAMILIES = ("LLaVA-1.5", "Qwen2.5-VL", "Qwen3-VL", "Gemma 3", "Idefics3", "Mllama")
"""With one and several resolutions, tiles, M-RoPE, attention in both directions and layers of cross-attention."""
TALK = Prompt((Message("user", "Hi."), Message("assistant", "Hello there."), Message("user", "Why is it red?")))
PROMPTS = [
    Prompt.ask("What is it?"),
    Prompt.ask("\nA line before."),
    Prompt.ask("7 + 9", system="Be brief."),
    TALK,
    Prompt.ask("(why)"),
]


def with_text(prompt: Prompt) -> Prompt:
    return replace(prompt, system=TEXT if prompt.system is None else f"{TEXT}\n\n{prompt.system}")


def ids_of(model: TransformersModel, prompt: Prompt) -> list[int]:
    return model.prompt_inputs([prompt])["input_ids"][0].tolist()


def soft_logits(model: TransformersModel, slot: PromptSlot, soft: Tensor, prompts: list[Prompt]) -> Tensor:
    with slot.embedded(model.model, soft) as count:
        logits = next_logits(model, [slot.filled(prompt) for prompt in prompts])
    assert count.rows == len(prompts)
    return logits


@pytest.fixture(scope="module", params=TEMPLATES)
def model(request: pytest.FixtureRequest) -> TextModel:
    return templated_model(request.param)


@pytest.fixture(scope="module")
def slot(model: TextModel) -> PromptSlot:
    return find_slot(model, TEXT, seed=0)


def test_the_slot_holds_the_tokens_of_the_text_and_nothing_of_the_template(model: TextModel, slot: PromptSlot) -> None:
    written = model.processor.tokenizer.decode(slot.text_tokens).strip()
    # The full stop stays: it may be one token with the line break behind it.
    assert f"{written}." == TEXT
    assert slot.filler.endswith(".")
    assert split_text(f"({TEXT}") == ("(", TEXT[:-1], ".")


@pytest.mark.parametrize("prompt", PROMPTS, ids=range(len(PROMPTS)))
def test_in_every_conversation_only_the_slot_differs_from_the_text(
    model: TextModel, slot: PromptSlot, prompt: Prompt
) -> None:
    text, filled = ids_of(model, with_text(prompt)), ids_of(model, slot.filled(prompt))
    (start,) = slot.positions(torch.tensor([filled])).tolist()
    assert start >= 0
    assert len(text) == len(filled)
    assert text[start : start + len(slot)] == list(slot.text_tokens)
    assert text[:start] == filled[:start]
    assert text[start + len(slot) :] == filled[start + len(slot) :]


def test_a_text_at_step_0_has_the_logits_of_its_soft_form_also_in_a_padded_batch(
    model: TextModel, slot: PromptSlot
) -> None:
    expected = next_logits(model, [with_text(prompt) for prompt in PROMPTS])
    logits = soft_logits(model, slot, slot.initial(model), PROMPTS)
    torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)
    moved = soft_logits(model, slot, slot.initial(model) + 0.3, PROMPTS)
    assert all((moved - expected).abs().max(1).values > 1e-2)


def test_replies_are_those_of_the_text(model: TextModel, slot: PromptSlot) -> None:
    expected = [e.reply for e in model.generate([with_text(prompt) for prompt in PROMPTS], max_new_tokens=6)]
    with slot.embedded(model.model, slot.initial(model)) as count:
        replies = [e.reply for e in model.generate([slot.filled(p) for p in PROMPTS], max_new_tokens=6)]
    assert replies == expected
    assert count.rows == len(PROMPTS)


def test_the_model_is_as_it_was(model: TextModel, slot: PromptSlot) -> None:
    before = next_logits(model, PROMPTS)
    hooks = len(model.model.get_input_embeddings()._forward_hooks)
    with pytest.raises(RuntimeError, match="inside"), slot.embedded(model.model, slot.initial(model)):
        raise RuntimeError("inside")
    assert len(model.model.get_input_embeddings()._forward_hooks) == hooks
    assert torch.equal(next_logits(model, PROMPTS), before)


@pytest.fixture(scope="module", params=PICTURE_FAMILIES)
def pictured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TransformersModel:
    folder = tmp_path_factory.mktemp("family")
    FAMILIES[request.param](folder)
    model = load(str(folder), device="cpu")
    assert isinstance(model, TransformersModel)
    return model


class TestWithPictures:
    def test_the_slot_stands_beside_pictures_and_gives_the_texts_logits(self, pictured: TransformersModel) -> None:
        slot = find_slot(pictured, TEXT, seed=0)
        second = Prompt(
            (Message("user", "Hi.", (PICTURE,)), Message("assistant", "Hello."), Message("user", "What is it?"))
        )
        for prompt in (Prompt.ask("What is it?", PICTURE), second, Prompt.ask("Why?")):
            expected = next_logits(pictured, [with_text(prompt)])
            logits = soft_logits(pictured, slot, slot.initial(pictured), [prompt])
            torch.testing.assert_close(logits, expected, atol=1e-4, rtol=1e-4)

    def test_gradients_pass_beside_the_features_of_the_picture(self, pictured: TransformersModel) -> None:
        slot = find_slot(pictured, TEXT, seed=0)
        soft = slot.initial(pictured).requires_grad_(True)
        inputs = pictured.prompt_inputs([slot.filled(Prompt.ask("What is it?", PICTURE))])
        pictured.model.requires_grad_(False)
        with slot.embedded(pictured.model, soft):
            pictured.model(**inputs).logits[0, -1].square().sum().backward()
        assert soft.grad is not None
        assert all(soft.grad.norm(dim=1) > 0)
        assert all(parameter.grad is None for parameter in pictured.model.parameters())


def test_a_row_without_the_slot_is_left_alone() -> None:
    model = templated_model("qwen")
    slot = find_slot(model, TEXT, seed=0)
    expected = next_logits(model, [Prompt.ask("Hi.")])
    with slot.embedded(model.model, slot.initial(model)) as count:
        assert torch.equal(next_logits(model, [Prompt.ask("Hi.")]), expected)
        assert model.model.get_input_embeddings()(torch.tensor([[1]])).shape[1] == 1
    assert count.rows == 0


def test_only_the_slots_rows_are_exchanged_and_the_first_occurrence_counts() -> None:
    model = templated_model("qwen")
    slot = find_slot(model, TEXT, seed=0)
    # A user who writes the filler: the slot in front is the one that is filled.
    ids = model.prompt_inputs([slot.filled(Prompt.ask(slot.filler))])["input_ids"]
    plain = model.model.get_input_embeddings()(ids)
    with slot.embedded(model.model, torch.full((len(slot), plain.shape[-1]), 7.0)):
        changed = model.model.get_input_embeddings()(ids)
    rows = (changed != plain).any(-1)[0].nonzero()[:, 0].tolist()
    start = int(slot.positions(ids)[0])
    assert rows == list(range(start, start + len(slot)))
    assert torch.equal(changed[0, rows], torch.full((len(slot), plain.shape[-1]), 7.0))


def test_two_slots_of_a_text_have_fillers_of_their_own() -> None:
    model = templated_model("qwen")
    assert len({find_slot(model, TEXT).filler for _ in range(3)}) == 3
    assert find_slot(model, TEXT, seed=1) == find_slot(model, TEXT, seed=1)


def test_a_text_of_few_tokens_is_one_clear_error() -> None:
    with pytest.raises(UsageError, match="at least 4 tokens"):
        find_slot(templated_model("qwen"), "No")


def test_a_model_without_a_chat_template_is_one_clear_error(tmp_path: Path) -> None:
    FAMILIES["BLIP-2"](tmp_path)
    with pytest.raises(ModelError, match="chat template"):
        find_slot(load(str(tmp_path), device="cpu"), TEXT)  # type: ignore[arg-type]


def test_a_template_that_cuts_system_texts_is_one_clear_error() -> None:
    model = templated_model("qwen")
    model.processor.chat_template = (
        "{% for m in messages %}{{ m.role }} {{ m.content[:60] if m.role == 'system' else m.content }}\n{% endfor %}"
    )
    cut = TextModel(model.model, model.processor, name="cut", revision="0")
    with pytest.raises((ModelError, UsageError)):
        find_slot(cut, TEXT + " " + "Answer what is asked and never more than that. " * 4)


def test_a_model_that_reads_tokens_beside_their_embeddings_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = templated_model("qwen")
    forward = model.model.forward

    def peeking(*args, **kwargs):
        output = forward(*args, **kwargs)
        # As families with further embeddings of each layer do: the filler shows through.
        output.logits = output.logits + 0.01 * kwargs["input_ids"].float().mean()
        return output

    monkeypatch.setattr(model.model, "forward", peeking)
    with pytest.raises(ModelError, match="more than embeddings"):
        find_slot(model, TEXT)

"""A soft prompt as a countermeasure: replies, probabilities and gradients with it in place."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from equipoise.countermeasures.catalogue import defend
from equipoise.countermeasures.soft_prompted_model import SoftPromptedModel
from equipoise.errors import ModelError, UsageError
from equipoise.models.load import load
from equipoise.models.transformers_model import TransformersModel
from equipoise.prompts.policy import system
from equipoise.prompts.slot import find_slot
from equipoise.prompts.soft_prompt import SoftPrompt
from equipoise.types import Message, Prompt
from tests.models.tiny_plain import PlainTorchModel
from tests.prompts.chat_templates import templated_model
from tests.steering.towers import picture_model

TEXT = "Be kind to people and animals. Say no to harm."
PROMPTS = [
    Prompt.ask("What is it?"),
    Prompt.ask("7 + 9", system="Be brief."),
    Prompt((Message("user", "Hi."), Message("assistant", "Hello."), Message("user", "Why?"))),
]


def text_form(model: TransformersModel, move: float = 0.0) -> SoftPrompt:
    rows = find_slot(model, TEXT).initial(model)
    noise = torch.randn(rows.shape, generator=torch.Generator().manual_seed(0))
    return SoftPrompt(rows + move * noise, TEXT, model.name, model.revision)


@pytest.mark.parametrize("template", ["llama-3", "gemma-2"])
def test_the_soft_form_of_a_text_replies_and_scores_as_the_text(template: str) -> None:
    model = templated_model(template)
    soft = SoftPromptedModel(model, text_form(model), "dro")
    requests = [system(TEXT).apply(prompt) for prompt in PROMPTS]
    replies = soft.generate(PROMPTS, max_new_tokens=6)
    assert [e.reply for e in replies] == [e.reply for e in model.generate(requests, max_new_tokens=6)]
    assert [e.prompt for e in replies] == PROMPTS
    expected = model.log_prob(None, requests, ["Yes.", "No.", "A red circle."]).total
    result = soft.log_prob(None, PROMPTS, ["Yes.", "No.", "A red circle."]).total
    torch.testing.assert_close(result, expected, atol=1e-3, rtol=1e-4)
    moved = SoftPromptedModel(model, text_form(model, 0.5), "dro").log_prob(None, PROMPTS, ["Yes."] * 3).total
    assert not torch.allclose(moved, model.log_prob(None, requests, ["Yes."] * 3).total, atol=1e-2)


def test_gradients_in_the_pixels_flow_beside_it_with_and_without_a_shared_prefix(tmp_path: Path) -> None:
    model = picture_model("LLaVA-1.5", tmp_path)
    soft = SoftPromptedModel(model, text_form(model, 0.3), "dro")
    pixels = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(1))
    requests, replies = [Prompt.ask("What is this?"), Prompt.ask("Why is it here?")], ["No.", "Yes."]
    losses, gradient = soft.loss_and_grad(pixels, requests, replies)
    with model.plain_batches():
        alone, alone_gradient = soft.loss_and_grad(pixels, requests, replies)
    plain, _ = model.loss_and_grad(pixels, requests, replies)
    torch.testing.assert_close(losses, alone, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(gradient, alone_gradient, atol=1e-5, rtol=1e-3)
    assert not torch.allclose(losses, plain, atol=1e-3)
    assert float(gradient.abs().sum()) > 0


def test_a_file_is_a_countermeasure_and_part_of_chains(tmp_path: Path) -> None:
    model = templated_model("qwen")
    path = text_form(model, 0.3).save(tmp_path / "soft")
    defended = defend(model, ["prompt:contextual", f"dro:{path}"])
    assert "dro" in defended.name
    replies = defended.generate(PROMPTS, max_new_tokens=3)
    assert [e.prompt for e in replies] == PROMPTS
    one, other = (defend(model, [f"dro:{name}"]).revision for name in (path, path.with_suffix(".json")))
    assert one == other != SoftPromptedModel(model, text_form(model), "dro").revision


def test_a_soft_prompt_of_another_model_is_refused_before_the_first_prompt(tmp_path: Path) -> None:
    path = text_form(templated_model("qwen")).save(tmp_path / "soft")
    with pytest.raises(ModelError, match="prompt optimise"):
        defend(templated_model("qwen", seed=1), [f"dro:{path}"])
    with pytest.raises(UsageError, match="of transformers"):
        defend(PlainTorchModel(), [f"dro:{path}"])
    with pytest.raises(UsageError, match="file of a soft prompt"):
        defend(PlainTorchModel(), ["dro"])


def test_a_soft_prompt_of_another_length_is_refused() -> None:
    model = templated_model("qwen")
    rows = find_slot(model, TEXT).initial(model)[:-1]
    with pytest.raises(ModelError, match="chat template that it was made with"):
        SoftPromptedModel(model, SoftPrompt(rows, TEXT, model.name, model.revision), "dro")


def test_no_reply_is_returned_without_its_soft_prompt() -> None:
    model = templated_model("qwen")
    soft = SoftPromptedModel(model, text_form(model), "dro")
    # A model within the chain that drops system texts, after the slot was found.
    model.processor.chat_template = (
        "{% for m in messages %}{% if m.role != 'system' %}{{ m.content }}{% endif %}{% endfor %}"
    )
    soft.model = type(model)(model.model, model.processor, name="x", revision="x")
    soft.model._chat.system_role = True  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match="slot of the soft prompt"):
        soft.generate(PROMPTS[:1])


NO_SYSTEM_ROLE = (
    "{% for message in messages %}{{ message['role'].upper() }}:\n{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}<image>\n"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}\n{% endfor %}ASSISTANT:\n"
)


@pytest.mark.parametrize("template", [None, NO_SYSTEM_ROLE])
def test_a_shift_of_zeros_changes_nothing(tmp_path: Path, template: str | None) -> None:
    (tmp_path / "template.jinja").write_text(template or "")
    model = load("testbed/llava", device="cpu", chat_template=tmp_path / "template.jinja" if template else None)
    assert isinstance(model, TransformersModel)
    soft = SoftPromptedModel(model, text_form(model, 0.5), "dro")
    pixels = torch.rand(3, 64, 64, generator=torch.Generator().manual_seed(0))
    prompts = [Prompt.ask(words) for words in ("What is this?", "Which colour is the circle?", "How many are there?")]
    shift = torch.zeros(3, 4, model.embedding_width)
    plain = soft.log_prob(pixels, prompts, ["A circle."] * 3).total
    torch.testing.assert_close(
        soft.log_prob(pixels, prompts, ["A circle."] * 3, question_shift=shift).total, plain, atol=2e-3, rtol=1e-4
    )
    losses, gradient = soft.loss_and_grad(pixels, prompts, ["A circle."] * 3)
    shifted, other = soft.loss_and_grad(pixels, prompts, ["A circle."] * 3, question_shift=shift)
    torch.testing.assert_close(shifted, losses, atol=2e-3, rtol=1e-4)
    torch.testing.assert_close(other, gradient, atol=1e-3, rtol=1e-2)

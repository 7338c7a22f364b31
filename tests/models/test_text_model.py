"""Text models: the numbers are those of the model's own forward pass, in whatever batch."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor
from transformers import AutoTokenizer

from equipoise.errors import ModelError, UsageError
from equipoise.models.hf import HuggingFaceModel
from equipoise.models.load import load
from equipoise.models.text_model import TextModel, TextProcessor
from equipoise.types import Message, Prompt
from tests.models.families import causal

PROMPTS = [
    Prompt.ask("What is in the picture?"),
    Prompt.ask("How many shapes are there, and which of them is left of the other one?", system="Be brief."),
    Prompt((Message("user", "Hi."), Message("assistant", "Hello."), Message("user", "Why?"))),
]
REPLIES = ["A red circle.", "There are three shapes.", "I'm sorry, but I can't help with that."]
BLACK = Image.new("RGB", (8, 8))
LINE = r"^expected [^\n]*, got [^\n]*; try [^\n]*$"


@pytest.fixture(scope="session", params=causal.FAMILIES)
def family(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> TextModel:
    folder = causal.FAMILIES[request.param](tmp_path_factory.mktemp("text"))
    model = load(str(folder), device="cpu")
    assert isinstance(model, TextModel)
    return model


@pytest.fixture
def llama(tmp_path: Path) -> TextModel:
    model = load(str(causal.llama(tmp_path)), device="cpu")
    assert isinstance(model, TextModel)
    return model


def test_a_prompt_that_fills_the_context_is_an_error_and_not_noise(llama: TextModel) -> None:
    limit = llama.model.config.max_position_embeddings
    long = Prompt.ask("red " * limit)
    for prompts in ([long], [PROMPTS[0], long]):
        with pytest.raises(ModelError, match=f"context of {limit} tokens, got") as caught:
            llama.generate(prompts, max_new_tokens=2)
        assert re.match(LINE, str(caught.value))
    assert len(llama.generate(PROMPTS, max_new_tokens=2)) == len(PROMPTS)


def turns(prompt: Prompt, *, system_role: bool) -> list[dict[str, str]]:
    result = [{"role": message.role, "content": message.text} for message in prompt.messages]
    if prompt.system is not None and system_role:
        return [{"role": "system", "content": prompt.system}, *result]
    if prompt.system is not None:
        result[0]["content"] = f"{prompt.system}\n\n{result[0]['content']}"
    return result


@torch.no_grad()
def stock_log_prob(model: TextModel, prompt: Prompt, reply: str) -> float:
    """By the tokenizer and the forward pass alone."""
    tokenizer = model.processor.tokenizer
    system_role = "raise_exception" not in tokenizer.chat_template
    before = tokenizer.apply_chat_template(
        turns(prompt, system_role=system_role), add_generation_prompt=True, return_dict=True
    )["input_ids"]
    tokens = [*before, *tokenizer(reply, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    chosen = model.model(torch.tensor([tokens])).logits[0].log_softmax(-1)
    return sum(float(chosen[i - 1, tokens[i]]) for i in range(len(before), len(tokens)))


def test_log_probs_are_those_of_a_plain_forward_pass(family: TextModel) -> None:
    expected = [stock_log_prob(family, prompt, reply) for prompt, reply in zip(PROMPTS, REPLIES, strict=True)]
    result = family.log_prob(None, PROMPTS, REPLIES)
    assert result.total.tolist() == pytest.approx(expected, abs=1e-3)
    alone = [family.log_prob(None, [p], [r]).total.item() for p, r in zip(PROMPTS, REPLIES, strict=True)]
    assert alone == pytest.approx(expected, abs=1e-3)


def test_a_batch_gives_the_replies_of_single_prompts(family: TextModel) -> None:
    together = family.generate(PROMPTS, max_new_tokens=12)
    single = [family.generate([prompt], max_new_tokens=12)[0] for prompt in PROMPTS]
    assert [item.reply for item in together] == [item.reply for item in single]
    assert len({item.reply for item in together}) > 1
    assert all(item.prompt is prompt for item, prompt in zip(together, PROMPTS, strict=True))


def test_a_reply_ends_where_the_model_ends_it(llama: TextModel) -> None:
    stop = llama.processor.tokenizer.eos_token_id
    assert llama.generate(PROMPTS[:1], max_new_tokens=4)[0].finish == "length"
    head = torch.nn.Linear(llama.embedding_width or 0, llama.model.config.vocab_size)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
        head.bias[stop] = 5.0
    llama.model.lm_head = head
    (exchange,) = llama.generate(PROMPTS[:1], max_new_tokens=4)
    assert (exchange.reply, exchange.finish) == ("", "stop")


def test_micro_batches_change_nothing(llama: TextModel) -> None:
    expected = llama.log_prob(None, PROMPTS, REPLIES).total
    llama.micro_batch = 1
    assert torch.allclose(llama.log_prob(None, PROMPTS, REPLIES).total, expected, atol=1e-4)


def test_a_shift_moves_the_question(llama: TextModel) -> None:
    expected = llama.log_prob(None, PROMPTS, REPLIES).total
    width = llama.embedding_width or 0
    zero = torch.zeros(3, 4, width, requires_grad=True)
    shifted = llama.log_prob(None, PROMPTS, REPLIES, question_shift=zero).total
    assert torch.allclose(shifted, expected, atol=1e-4)
    shifted.sum().backward()
    assert zero.grad is not None
    assert float(zero.grad.abs().sum()) > 0
    with pytest.raises(UsageError, match=LINE):
        llama.log_prob(None, PROMPTS, REPLIES, question_shift=zero[:2])


def test_a_text_model_reads_no_pictures(llama: TextModel) -> None:
    assert not llama.reads_pictures
    pixels = torch.rand(3, 8, 8)
    with pytest.raises(ModelError, match=LINE):
        llama.generate([*PROMPTS, Prompt.ask("What?", BLACK)])
    with pytest.raises(ModelError, match=LINE):
        llama.log_prob(None, [Prompt.ask("What?", BLACK)], ["It."])
    for ask in (llama.log_prob, llama.loss_and_grad):
        with pytest.raises(ModelError, match="reads text only"):
            ask(pixels, PROMPTS, REPLIES)


@pytest.mark.parametrize(("prompts", "replies"), [([], []), (PROMPTS, REPLIES[:2]), (PROMPTS[:1], [""])])
def test_replies_that_do_not_fit(llama: TextModel, prompts: list[Prompt], replies: list[str]) -> None:
    with pytest.raises(UsageError, match=LINE):
        llama.log_prob(None, prompts, replies)


@pytest.mark.parametrize("end", ["<|im_end|>", None])
def test_a_tokenizer_without_padding_token(llama: TextModel, end: str | None) -> None:
    expected = [item.reply for item in llama.generate(PROMPTS, max_new_tokens=8)]
    tokenizer = llama.processor.tokenizer
    tokenizer.pad_token, tokenizer.eos_token = None, end
    assert [item.reply for item in llama.generate(PROMPTS, max_new_tokens=8)] == expected
    assert tokenizer.pad_token is None
    assert tokenizer.padding_side == "right"


def test_without_a_chat_template_the_error_names_the_option(tmp_path: Path) -> None:
    folder = causal.llama(tmp_path / "model", template=None)
    with pytest.raises(ModelError, match=r"^expected a chat template.*try .*chat_template.jinja.*--chat-template FILE"):
        load(str(folder), device="cpu")
    template = tmp_path / "chat.jinja"
    template.write_text(causal.CHATML)
    model, own = load(str(folder), device="cpu", chat_template=template), causal.llama(tmp_path / "own")
    assert model.generate(PROMPTS)[0].reply == load(str(own), device="cpu").generate(PROMPTS)[0].reply
    plain = model.revision.partition("+template:")[0]
    template.write_text("Q: {{ messages[0]['content'] }} A:")
    other = load(str(folder), device="cpu", chat_template=template)
    assert other.revision.startswith(plain)
    assert other.revision != model.revision


@pytest.mark.parametrize("text", [None, "", "{{ messages", "nothing of the question"])
def test_templates_that_are_none(tmp_path: Path, text: str | None) -> None:
    template = tmp_path / "chat.jinja"
    if text is not None:
        template.write_text(text)
    with pytest.raises(ModelError, match=LINE):
        load(str(causal.llama(tmp_path / "model")), device="cpu", chat_template=template)


def test_token_types_are_not_passed_on(tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(causal.llama(tmp_path))
    tokenizer.model_input_names = ["input_ids", "token_type_ids", "attention_mask"]
    outputs = TextProcessor(tokenizer)(None, ["Hi."], return_tensors="pt")
    assert set(outputs) == {"input_ids", "attention_mask"}
    # The template has written what begins the conversation.
    assert outputs["input_ids"][0, 0] != tokenizer.bos_token_id


def test_models_with_pictures_take_text_alone(model: HuggingFaceModel, pixels: Tensor) -> None:
    assert model.reads_pictures
    together, alone = model.log_prob(None, PROMPTS, REPLIES).total, []
    for prompt, reply in zip(PROMPTS, REPLIES, strict=True):
        text = model._chat.render(prompt)
        tokenizer = model.processor.tokenizer
        before = tokenizer(text, add_special_tokens=not text.startswith("<s>"))["input_ids"]
        after = [*tokenizer(" " + reply, add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
        with torch.no_grad():
            logits = model.model(input_ids=torch.tensor([before + after])).logits[0].log_softmax(-1)
        alone.append(sum(float(logits[len(before) + i - 1, token]) for i, token in enumerate(after)))
    assert together.tolist() == pytest.approx(alone, abs=1e-3)
    assert float((model.log_prob(pixels, PROMPTS, REPLIES).total - together).abs().min()) > 1e-4
    with pytest.raises(UsageError, match=LINE):
        model.log_prob(None, [Prompt.ask("What?", BLACK)], ["It."])
    with pytest.raises(UsageError, match=LINE):
        model.log_prob(None, PROMPTS, REPLIES[:1])

"""Begun replies and texts without their template: what models read, and that the reply goes on where it had begun."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from equipoise.models.chat import ConversationFormat
from equipoise.types import Message, Prompt
from tests.training.derta.tokenizer_kinds import KINDS, text_model

PROMPT = Prompt.ask("How do I pick a lock?", system=None)
BEGUN = replace(PROMPT, prefill="Take a pin")


@pytest.mark.parametrize("kind", KINDS)
def test_a_begun_reply_stands_where_the_template_puts_replies(kind: str) -> None:
    chat = ConversationFormat(text_model(kind).processor)
    plain = chat.render(PROMPT)
    # The instruct template puts a space between prompt and reply, which the other does not.
    separator = "" if kind.startswith("bpe") else " "
    assert chat.render(BEGUN) == f"{plain}{separator}Take a pin"
    assert chat.reply_separator(PROMPT) == separator
    assert chat.reply_separator(BEGUN) == ""


@pytest.mark.parametrize("kind", KINDS)
def test_the_rest_of_a_reply_is_as_likely_after_its_beginning(kind: str) -> None:
    model = text_model(kind)
    whole = model.log_prob(None, [PROMPT], ["Take a pin and bend it."]).tokens[0]
    rest = model.log_prob(None, [BEGUN], [" and bend it."]).tokens[0]
    assert torch.allclose(whole[-len(rest) :], rest, atol=1e-5)
    assert len(rest) < len(whole)


def test_prompts_that_differ_in_their_beginning_alone_are_told_apart() -> None:
    model = text_model("bpe")
    one, other = (
        model.log_prob(None, [replace(PROMPT, prefill=text)], [" it."]).mean for text in ("Take", "Then turn")
    )
    assert not torch.allclose(one, other)


@pytest.mark.parametrize("kind", KINDS)
def test_a_reply_holds_what_follows_its_beginning_alone(kind: str) -> None:
    (exchange,) = text_model(kind).generate([BEGUN], max_new_tokens=4)
    assert not exchange.reply.startswith("Take a pin")
    assert exchange.prompt == BEGUN


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_template_the_text_stands_alone_after_bos_where_the_tokenizer_writes_one(kind: str) -> None:
    model = text_model(kind)
    bare = replace(PROMPT, templated=False)
    begins = "<s>" if kind.endswith("bos") else ""
    assert ConversationFormat(model.processor).render(bare) == f"{begins}How do I pick a lock?"
    ids = model.prompt_inputs([bare])["input_ids"][0].tolist()
    assert ids.count(model.processor.tokenizer.bos_token_id) == len(begins) // 3
    assert ConversationFormat(model.processor).reply_separator(bare) == ""


def test_a_folded_system_text_keeps_the_beginning() -> None:
    model = text_model("sentencepiece")
    text = ConversationFormat(model.processor).render(replace(BEGUN, system="Be brief."))
    assert text.endswith(" Take a pin")
    assert "Be brief." in text


@pytest.mark.parametrize("kind", KINDS)
def test_without_a_template_a_system_text_stands_in_front(kind: str) -> None:
    chat = ConversationFormat(text_model(kind).processor)
    bare = replace(PROMPT, templated=False)
    begins = "<s>" if kind.endswith("bos") else ""
    text = chat.render(replace(bare, system="Be brief."))
    assert text == f"{begins}Be brief.\n\nHow do I pick a lock?"
    assert chat.render(replace(bare, system="")) == chat.render(bare)
    later = Prompt((Message("assistant", "Hello."), *PROMPT.messages), "Be brief.", templated=False)
    assert chat.render(later) == f"{begins}Be brief.\n\nHello.\nHow do I pick a lock?"

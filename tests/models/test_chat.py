from __future__ import annotations

from types import SimpleNamespace

import pytest
from jinja2 import Environment, TemplateError
from PIL import Image

from equipoise.errors import ModelError
from equipoise.models.chat import ConversationFormat
from equipoise.types import Message, Prompt

PARTS = (
    "{% for m in messages %}{{ m.role }}: {% for p in m.content %}{{ '<image>' if p.type == 'image' else p.text }}"
    "{% endfor %}</s>\n{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
)
STRINGS = "{% for m in messages %}{{ m.role + ': ' + m.content }}\n{% endfor %}"
PICTURE = Image.new("RGB", (4, 4))


class Words:
    """A tokenizer with two tokens that end something."""

    eos_token_id, bos_token = 2, "<s>"
    chat_template = None

    def convert_ids_to_tokens(self, token: int) -> str:
        return {2: "<eos>", 3: "</s>"}[token]


def processor(template: str | None, **more: object) -> SimpleNamespace:
    def fail(message: str) -> None:
        raise TemplateError(message)

    def apply(turns: list[object], chat_template: str, add_generation_prompt: bool, tokenize: bool) -> str:
        assert not tokenize
        rendered = Environment().from_string(chat_template)
        return rendered.render(messages=turns, add_generation_prompt=add_generation_prompt, raise_exception=fail)

    return SimpleNamespace(
        chat_template=template, tokenizer=Words(), image_token="<image>", apply_chat_template=apply, **more
    )


def test_pictures_come_before_their_text() -> None:
    text = ConversationFormat(processor(PARTS)).render(Prompt.ask("Why?", PICTURE, PICTURE))
    assert text == "user: <image><image>Why?</s>\nassistant: "


def test_a_system_role_is_used_where_there_is_one() -> None:
    chat = ConversationFormat(processor(PARTS))
    assert chat.system_role
    assert chat.render(Prompt.ask("Why?", system="Be kind.")).startswith("system: Be kind.</s>\nuser: Why?")


@pytest.mark.parametrize(
    "guard",
    [
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}",
        "{% if messages[0].role == 'system' %}{% set messages = messages[1:] %}{% endif %}",
    ],
)
def test_a_system_text_is_folded_where_the_template_raises_or_drops_it(guard: str) -> None:
    chat = ConversationFormat(processor(guard + PARTS))
    assert not chat.system_role
    text = chat.render(Prompt((Message("user", "Why?", (PICTURE,)), Message("user", "So?")), system="Be kind."))
    assert text.startswith("user: <image>Be kind.\n\nWhy?</s>\nuser: So?")


def test_templates_over_strings() -> None:
    chat = ConversationFormat(processor(STRINGS))
    assert chat.form == "string"
    assert chat.render(Prompt.ask("Why?", PICTURE)) == "user: <image>\nWhy?\n"


def test_no_template() -> None:
    assert ConversationFormat(processor(None)).render(Prompt.ask("Why?", PICTURE, system="S")) == "<image>S\n\nWhy?"
    assert ConversationFormat(processor(None, num_query_tokens=4)).render(Prompt.ask("Why?", PICTURE)) == "Why?"


@pytest.mark.parametrize(("words", "text"), [({"<image>": 7}, "<image>Why?"), ({"image": 7}, "Why?")])
def test_a_picture_mark_that_is_no_token_is_not_written(words: dict[str, int], text: str) -> None:
    bare = processor(None)
    del bare.image_token
    bare.tokenizer.get_vocab = lambda: words
    assert ConversationFormat(bare).render(Prompt.ask("Why?", PICTURE)) == text


def test_the_template_of_the_tokenizer_counts_too() -> None:
    bare = processor(None)
    bare.tokenizer.chat_template = PARTS
    assert ConversationFormat(bare).form == "parts"


def test_a_template_that_drops_questions_is_refused() -> None:
    with pytest.raises(ModelError, match="chat template"):
        ConversationFormat(processor("hello"))


def test_the_end_token_is_the_one_the_template_writes() -> None:
    assert ConversationFormat(processor(PARTS)).end_token([2, 3]) == 3
    assert ConversationFormat(processor(PARTS)).end_token([2]) == 2
    assert ConversationFormat(processor(None)).end_token([3, 2]) == 2


def test_white_space_before_a_reply_is_known() -> None:
    spaced = PARTS.replace("{% if add_gen", "{% if add_gen").replace("'assistant: '", "'assistant:'")
    assert ConversationFormat(processor(PARTS)).reply_separator(Prompt.ask("Why?")) == ""
    open_ended = "{% for m in messages %}{{ m.role }}:{{ ' ' }}{% for p in m.content %}{{ p.text }}{% endfor %}|" + (
        "{% endfor %}{% if add_generation_prompt %}assistant:{% endif %}"
    )
    assert spaced
    assert ConversationFormat(processor(open_ended)).reply_separator(Prompt.ask("Why?")) == " "


def test_an_order_of_roles_that_the_template_refuses_is_an_error_of_ours() -> None:
    turns = "{% for m in messages %}{% if m.role != ('user', 'assistant')[loop.index0 % 2] %}"
    alternating = turns + "{{ raise_exception('roles must alternate') }}{% endif %}{{ m.content }}{% endfor %}"
    chat = ConversationFormat(processor(alternating))
    with pytest.raises(ModelError, match=r"got the roles user, user \(roles must alternate\)"):
        chat.render(Prompt((Message("user", "a"), Message("user", "b"))))

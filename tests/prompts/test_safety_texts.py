"""The texts of soft prompts: they keep what the template says, and are those of our policies."""

from __future__ import annotations

from equipoise.prompts.policy import SystemText
from equipoise.prompts.policy_file import load_policy
from equipoise.prompts.safety_texts import paper_texts, safety_text, start_text
from equipoise.types import Prompt
from tests.prompts.chat_templates import templated_model


def test_a_soft_prompt_begins_as_what_the_policy_gives_to_the_model() -> None:
    policy = load_policy("safety")
    assert isinstance(policy, SystemText)
    for template, default in (("qwen", "You are a model."), ("llama-3", "")):
        model = templated_model(template)
        assert start_text(model) == policy.apply(Prompt.ask("Q"), template_text=default).system


def test_the_space_is_spanned_by_no_text_the_start_and_two_others() -> None:
    texts = paper_texts(safety_text())
    assert texts[0] is None
    assert texts[1] == safety_text()
    assert len(set(texts)) == 4

"""Reasoning traces in all common notations are no reply, and words about them are no trace."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.served_models.reasoning_traces import (
    NEEDS_END,
    PAIRS,
    blank_traces,
    trace_and_reply,
    trace_spans,
    without_traces,
)

THOUGHT = "I'm sorry, I can't help. No, it is allowed. VERDICT: C maybe."
REPLY = "A brown dog sits on a red sofa."
MARKS = {
    "DeepSeek": ("<think>\n", "\n</think>\n\n"),
    "Anthropic's prompts": ("<thinking>", "</thinking>\n"),
    "EXAONE": ("<thought>\n", "\n</thought>\n\n"),
    "Seed": ("<seed:think>", "</seed:think>"),
    "LongCat": ("<longcat_think>\n", "\n</longcat_think>\n"),
    "Reka": ("<reasoning>", "</reasoning>"),
    "capitals": ("<THINK>", "</THINK>"),
    "an attribute": ('<think effort="low">', "</think>"),
    "Magistral": ("[THINK]", "[/THINK]"),
    "Kimi": ("\u25c1think\u25b7", "\u25c1/think\u25b7"),
    "Cohere": ("<|START_THINKING|>", "<|END_THINKING|><|START_RESPONSE|>"),
    "OpenThinker": ("<|begin_of_thought|>", "<|end_of_thought|>\n\n<|begin_of_solution|>"),
    "Gemma": ("<|channel>thought\n", "<channel|>"),
    "MedGemma": ("<unused94>thought\n", "<unused95>"),
    "Ollama": ("Thinking...\n", "\n...done thinking.\n\n"),
    "HuatuoGPT": ("## Thinking\n\n", "\n\n## Final Response\n\n"),
    "ReAct": ("Thought: ", "\nFinal Answer: "),
    "Open WebUI": ('<details type="reasoning" done="true">\n', "\n</details>\n"),
    "K2-Think": ("<think_faster>", "</think_faster><answer>"),
    "s1": ("<|im_start|>think\n", "<|im_start|>answer\n"),
    "Apriel": ("Here are my reasoning steps:\n", "\n[BEGIN FINAL RESPONSE]\n"),
    "LLaVA-CoT": ("<SUMMARY>I will look.</SUMMARY>\n<CAPTION>A dog.</CAPTION>\n<REASONING>",
                  "</REASONING>\n<CONCLUSION>"),
    "labels": ("Thinking: ", "\n\nResponse: "),
    "gpt-oss": ("<|channel|>analysis<|message|>", "<|end|><|start|>assistant<|channel|>final<|message|>"),
    "gpt-oss, from the start": (
        "<|start|>assistant<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final <|constrain|>json<|message|>",
    ),
    "gpt-oss without its tokens": ("analysis", "assistantfinal"),
}  # fmt: skip
ONLY_WHOLE = ("Reka", "Open WebUI", "Ollama", "HuatuoGPT", "ReAct", "LLaVA-CoT", "labels")
"""Notations whose end alone is no trace's."""
ENDED = {
    "Cohere": "<|END_RESPONSE|>",
    "OpenThinker": "<|end_of_solution|>",
    "gpt-oss": "<|return|>",
    "K2-Think": "</answer>",
    "Apriel": "\n[END FINAL RESPONSE]\n<|end|>",
    "LLaVA-CoT": "</CONCLUSION>",
}


@pytest.mark.parametrize("who", MARKS)
def test_a_trace_before_the_reply(who: str) -> None:
    begin, end = MARKS[who]
    text = f"{begin}{THOUGHT}{end}{REPLY}{ENDED.get(who, '')}"
    assert without_traces(text) == REPLY
    trace, reply = trace_and_reply(text)
    assert (reply, THOUGHT in trace) == (REPLY, True)


@pytest.mark.parametrize("who", [who for who in MARKS if "gpt-oss" not in who and who not in ONLY_WHOLE])
def test_an_end_alone_makes_a_trace_of_all_before_it(who: str) -> None:
    # The template wrote the beginning.
    assert without_traces(f"{THOUGHT}{MARKS[who][1]}{REPLY}{ENDED.get(who, '')}") == REPLY


@pytest.mark.parametrize("who", [who for who in MARKS if who not in NEEDS_END])
def test_a_beginning_alone_leaves_no_reply(who: str) -> None:
    # The length limit came first.
    assert without_traces(f"{MARKS[who][0]}{THOUGHT}") == ""


@pytest.mark.parametrize(
    "text",
    [
        REPLY,
        "",
        "The tag <think> is for thoughts.",
        "Put it between <think> and </think>, then answer.",
        "Use `</think>` to end the trace.",
        "```\n<think>\nhm\n</think>\n```\nThis is how it looks.",
        "I think that is fine. Analysis: it is a dog.",
        "analysis of the picture: a dog",
        "First line.\n<think> is a tag of some models.",
        "<refusal><reason>It is private.</reason></refusal>",
        "A [thinking] cap.",
        "<summary>A dog on a sofa.</summary><conclusion>It is brown.</conclusion>",
        "Thinking: a hard thing to do. Response: none.",
        "Here are my reasoning steps:\n1. It barks.\n2. So it is a dog.",
        "\u25c1 and \u25b7 are triangles.",
    ],
)
def test_words_about_traces_are_none(text: str) -> None:
    assert without_traces(text) == text


def test_several_traces_and_a_trace_that_speaks_of_its_end() -> None:
    assert without_traces("<think>a</think>One.\n<think>b</think>Two.") == "One.\nTwo."
    assert without_traces("I shall write </think> soon.\n</think>\n\nA") == "A"
    assert without_traces("The user asks about <think> tags.\n</think>\n\nIt is a tag.") == "It is a tag."


def test_the_tags_around_an_answer_go_with_the_trace_only() -> None:
    assert without_traces("<think>hm</think><answer>A dog.</answer>") == "A dog."
    assert without_traces("<answer>A dog.</answer>") == "<answer>A dog.</answer>"


def test_words_for_tools_are_no_reply() -> None:
    text = "<|channel|>commentary to=functions.look <|constrain|>json<|message|>{}<|call|>"
    assert without_traces(text) == ""


def test_blanks_keep_every_character_at_its_place() -> None:
    text = f"<think>{THOUGHT}</think>\n\nC"
    blanked = blank_traces(text)
    assert len(blanked) == len(text)
    assert blanked.strip() == "C"
    assert blanked.index("C") == len(text) - 1


@given(
    st.lists(st.sampled_from([*(mark for pair in MARKS.values() for mark in pair), "word ", "\n", "`"]), max_size=12)
)
def test_spans_are_in_order_disjoint_and_inside(pieces: list[str]) -> None:
    text = "".join(pieces)
    ends = [0, *(end for span in trace_spans(text) for end in span), len(text)]
    assert ends == sorted(ends)
    assert len(blank_traces(text)) == len(text)


@given(st.text(alphabet="abc .,!?\n'", max_size=80))
def test_a_text_without_marks_is_kept_to_the_byte(text: str) -> None:
    assert without_traces(text) == text
    assert set(PAIRS) >= {"think", "Magistral"}


@pytest.mark.parametrize(
    ("text", "reply"),
    [
        ("<|think|>no<|/think|>Paris.", "Paris."),
        ("<\uff5cbegin\u2581of\u2581thinking\uff5c>no<\uff5cend\u2581of\u2581thinking\uff5c>Paris.", "Paris."),
        ("<antthinking>no</antthinking>Paris.", "Paris."),
        ("<\uff5cAssistant\uff5c><think>no</think>Paris.", "Paris."),
        ("<|im_start|>assistant\n<think>no</think>Paris.", "Paris."),
        ("assistantfinalParis.", "Paris."),
        ("Paris.</s>", "Paris."),
        ("Paris.<end_of_turn>\n", "Paris."),
        # Marks in the middle of a text, and a stroke through words, are the reply's.
        ("Use <s>Rome</s>", "Use <s>Rome</s>"),
        ("The token </s> ends a text.", "The token </s> ends a text."),
        ("assistantfinal is a word of gpt-oss.", "assistantfinal is a word of gpt-oss."),
    ],
)
def test_marks_that_templates_and_servers_leave(text: str, reply: str) -> None:
    assert without_traces(text) == reply


def test_channels_without_tokens_may_have_blanks() -> None:
    assert without_traces("analysis We might say VERDICT: C here. assistantfinalA") == "A"


@pytest.mark.parametrize("text", ["## Thinking\n\nThinking is what minds do.", "Thought: I cannot go on. So wrote he."])
def test_a_heading_without_an_end_is_the_replys_own(text: str) -> None:
    assert without_traces(text) == text


def test_a_reply_of_thousands_of_traces_is_read() -> None:
    begin = time.process_time()
    assert trace_spans("<reasoning>a</reasoning>" * 1200)
    assert time.process_time() - begin < 5
    assert without_traces("<thinking>a</thinking><reasoning>b</reasoning><think>c</think>" + REPLY) == REPLY

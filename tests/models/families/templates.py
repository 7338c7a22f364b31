"""Chat templates in the style of each family: same turns and marks, written anew.

A conversation is a list of `{"role": ..., "content": [{"type": "image"}, {"type": "text", "text": ...}]}`.
"""

from __future__ import annotations


def _parts(image: str) -> str:
    """The pieces of one message in their order, `image` standing for a picture."""
    return (
        "{% if m.content is string %}{{ m.content }}{% else %}{% for c in m.content %}"
        "{% if c.type == 'image' %}" + image + "{% elif c.type == 'text' %}{{ c.text }}{% endif %}"
        "{% endfor %}{% endif %}"
    )


def vicuna(image: str = "<image>\n") -> str:
    """`USER: ... ASSISTANT:` with the system text in front, as LLaVA-1.5."""
    return (
        "{% for m in messages %}"
        "{% if m.role == 'system' %}" + _parts(image) + " "
        "{% elif m.role == 'user' %}USER: " + _parts(image) + " "
        "{% else %}ASSISTANT: " + _parts(image) + "{{ eos_token }}{% endif %}"
        "{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    )


def chatml(image: str, *, bos: bool = False) -> str:
    """`<|im_start|>role ... <|im_end|>`, as Qwen, InternVL and LLaVA-OneVision."""
    return (
        ("{{ bos_token }}" if bos else "") + "{% for m in messages %}"
        "<|im_start|>{{ m.role }}\n" + _parts(image) + "<|im_end|>\n"
        "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )


def instruct(image: str, *, closed: bool = True) -> str:
    """`[INST] ... [/INST]`, as Mistral's.

    It has no system role: `closed` raises for one, as the templates of several hub models do; otherwise the
    system turn is dropped without a word, as others do.
    """
    refuse = "{{ raise_exception('Only user and assistant roles are supported') }}" if closed else ""
    return (
        "{{ bos_token }}{% for m in messages %}"
        "{% if m.role == 'user' %}[INST]" + _parts(image) + "[/INST]"
        "{% elif m.role == 'assistant' %}" + _parts(image) + "{{ eos_token }}"
        "{% else %}" + refuse + "{% endif %}{% endfor %}"
    )


def named(image: str, end: str) -> str:
    """`<|im_start|>User: ...<end_of_utterance>`, as Idefics3 and SmolVLM."""
    return (
        "<|im_start|>{% for m in messages %}{{ m.role | capitalize }}: " + _parts(image) + end + "\n"
        "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
    )


def gemma(image: str) -> str:
    """`<start_of_turn>user`, the system text folded by the template itself, as Gemma 3."""
    return (
        "{{ bos_token }}{% set ns = namespace(head='') %}{% for m in messages %}"
        "{% if m.role == 'system' %}"
        "{% set ns.head = (m.content if m.content is string else m.content[0].text) ~ '\n\n' %}"
        "{% else %}<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
        "{{ ns.head }}{% set ns.head = '' %}" + _parts(image) + "<end_of_turn>\n"
        "{% endif %}{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
    )


def llama(image: str) -> str:
    """`<|start_header_id|>role<|end_header_id|>`, as Mllama; tokenizer and template both write the BOS."""
    return (
        "{{ bos_token }}{% for m in messages %}"
        "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n" + _parts(image) + "<|eot_id|>"
        "{% endfor %}{% if add_generation_prompt %}"
        "<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
    )


def phi(image: str) -> str:
    """`<|user|> ... <|end|>`, as Phi-4-multimodal."""
    return (
        "{% for m in messages %}<|{{ m.role }}|>" + _parts(image) + "<|end|>"
        "{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
    )


def glm(image: str) -> str:
    """`[gMASK]<sop><|user|>`, as GLM-4V; the turn after a reply is what ends it."""
    return (
        "[gMASK]<sop>{% for m in messages %}<|{{ m.role }}|>\n" + _parts(image) + "{% endfor %}"
        "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    )


def cohere(image: str) -> str:
    """`<|START_OF_TURN_TOKEN|><|USER_TOKEN|>`, as Aya Vision."""
    who = "{{ {'system': '<|SYSTEM_TOKEN|>', 'user': '<|USER_TOKEN|>'}.get(m.role, '<|CHATBOT_TOKEN|>') }}"
    return (
        "{{ bos_token }}{% for m in messages %}<|START_OF_TURN_TOKEN|>" + who + _parts(image) + "<|END_OF_TURN_TOKEN|>"
        "{% endfor %}{% if add_generation_prompt %}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{% endif %}"
    )

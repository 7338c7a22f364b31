"""Chat templates in the style of families of text models: their turns, marks and habits, written anew."""

from __future__ import annotations

import torch
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from equipoise.models.text_model import TextModel, TextProcessor
from tests.models.families.parts import fill, text

MARKS = [
    "<|im_start|>",
    "<|im_end|>",
    "<|begin_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eot_id|>",
    "<start_of_turn>",
    "<end_of_turn>",
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|end|>",
    "[gMASK]",
    "<sop>",
    "[INST]",
    "[/INST]",
    "<|START_OF_TURN_TOKEN|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|SYSTEM_TOKEN|>",
    "<|USER_TOKEN|>",
    "<|CHATBOT_TOKEN|>",
]
_EACH = "{% for m in messages %}"
_END = "{% endfor %}"
_NO_SYSTEM = "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
TEMPLATES = {
    # A default system text where the user has none, as Qwen 2.5.
    "qwen": (
        "{% if messages[0].role != 'system' %}<|im_start|>system\nYou are a model.<|im_end|>\n{% endif %}"
        + _EACH
        + "<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n"
        + _END
        + "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
    # Turns are trimmed, as Llama 3's.
    "llama-3": (
        "<|begin_of_text|>"
        + _EACH
        + "<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n{{ m.content | trim }}<|eot_id|>"
        + _END
        + "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
    ),
    # The system text stands within the first user turn, as Llama 2.
    "llama-2": (
        "{% set ns = namespace(head='') %}"
        + _EACH
        + "{% if m.role == 'system' %}{% set ns.head = '<<SYS>>\n' ~ m.content ~ '\n<</SYS>>\n\n' %}"
        "{% elif m.role == 'user' %}{{ bos_token }}[INST] {{ ns.head ~ m.content }} [/INST]{% set ns.head = '' %}"
        "{% else %} {{ m.content }} {{ eos_token }}{% endif %}" + _END
    ),
    # No system role, as Mistral 7B.
    "mistral": (
        _NO_SYSTEM
        + "{{ bos_token }}"
        + _EACH
        + "{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]{% else %} {{ m.content }}{{ eos_token }}{% endif %}"
        + _END
    ),
    # The system text stands in the last user turn, as Mistral's later tokenizers put it.
    "mistral-v3": (
        "{% set head = messages[0].content if messages[0].role == 'system' else '' %}{{ bos_token }}"
        + _EACH
        + "{% if m.role == 'user' %}[INST] {% if loop.last and head %}{{ head }}\n\n{% endif %}{{ m.content }}[/INST]"
        "{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}{% endif %}" + _END
    ),
    "gemma-2": (
        _NO_SYSTEM
        + "{{ bos_token }}"
        + _EACH
        + "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
        + _END
        + "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
    ),
    "phi-3": (
        _EACH
        + "<|{{ m.role }}|>\n{{ m.content }}<|end|>\n"
        + _END
        + "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    ),
    "zephyr": (
        _EACH
        + "<|{{ m.role }}|>\n{{ m.content }}{{ eos_token }}\n"
        + _END
        + "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    ),
    "vicuna": (
        _EACH + "{% if m.role == 'system' %}{{ m.content }} {% elif m.role == 'user' %}USER: {{ m.content }} "
        "{% else %}ASSISTANT: {{ m.content }}{{ eos_token }}{% endif %}"
        + _END
        + "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
    ),
    "glm-4": (
        "[gMASK]<sop>"
        + _EACH
        + "<|{{ m.role }}|>\n{{ m.content }}"
        + _END
        + "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
    ),
    "command-r": (
        "{{ bos_token }}"
        + _EACH
        + "<|START_OF_TURN_TOKEN|>{{ {'system': '<|SYSTEM_TOKEN|>', 'user': '<|USER_TOKEN|>'}.get(m.role, "
        "'<|CHATBOT_TOKEN|>') }}{{ m.content }}<|END_OF_TURN_TOKEN|>"
        + _END
        + "{% if add_generation_prompt %}<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{% endif %}"
    ),
    # A line for each turn and no marks, as Alpaca.
    "alpaca": (
        _EACH
        + "{% if m.role == 'system' %}{{ m.content }}{% elif m.role == 'user' %}\n\n### Instruction:\n{{ m.content }}"
        "{% else %}\n\n### Response:\n{{ m.content }}{{ eos_token }}{% endif %}"
        + _END
        + "{% if add_generation_prompt %}\n\n### Response:\n{% endif %}"
    ),
}
"""Family to its template."""
_SENTENCES = [
    "Be kind to people and animals. Say no to harm.\n\nWhat is in the picture? A red circle is left of it.\n",
    "I'm sorry, but I can't help with that.\n\nYou are a helpful assistant. USER: ASSISTANT: user assistant system\n",
    "quick brown foxes jump over lazy dogs while seven wizards brew green potions near old stone bridges\n",
] * 3


def merging_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE with the regular expression of Llama 3, in which a full stop merges with the lines after it."""
    everything = ["<pad>", "<s>", "</s>", *MARKS]
    backend = Tokenizer(models.BPE())
    words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+"
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(words), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=480 + len(everything),
        special_tokens=[AddedToken(token, normalized=False, special=True) for token in everything],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(_SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=MARKS,
    )


def templated_model(template: str, *, seed: int = 0) -> TextModel:
    """A tiny Llama with a template of `TEMPLATES`."""
    tokenizer = merging_tokenizer()
    tokenizer.chat_template = TEMPLATES[template]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(LlamaConfig(**text(tokenizer))).eval()
        fill(model)
    return TextModel(model, TextProcessor(tokenizer), name=template, revision=f"{template}-{seed}")

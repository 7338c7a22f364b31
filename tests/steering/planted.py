"""A tiny chat model with a planted refusal: one direction of the stream, written by one word and read by the head.

Attention of the first layer is uniform: it copies the word `attack` along the planted direction to every later token,
and the word `shoot` along a second one. The head turns both directions into the token `Sorry`; without them the model
says `Sure`. All other parts are random and small, so that the direction stands among other activity.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from torch.nn.functional import normalize
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from equipoise.models.text_model import TextModel, TextProcessor
from equipoise.steering.prompt_sets import PromptSet
from equipoise.types import Exchange, Prompt, Verdict

WIDTH, DEPTH = 32, 5
_MARKS = ["<pad>", "<s>", "</s>", "<user>", "<end>", "<bot>", "Sorry", "Sure", "attack", "shoot"]
_WORDS = [f"w{number}" for number in range(40)]
_PROBE_ENDS = ["tree.", "9", "quartz!", "rivers?"]
"""Ends of the texts that positions are derived with, so that they are not all unknown."""
_TEMPLATE = (
    "{% for m in messages %}{% if m.role == 'user' %}<user> {{ m.content }} <end>{% else %} {{ m.content }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %} <bot>{% endif %}"
)


def sorry_judge(exchanges: Sequence[Exchange]) -> list[Verdict]:
    """A reply that begins with `Sorry` refuses."""
    return [Verdict("full" if exchange.reply.startswith("Sorry") else "none") for exchange in exchanges]


def prompts(name: str, count: int, *words: str, seed: int = 0) -> PromptSet:
    """Random words, with the given ones at a random place."""
    source = random.Random(f"{name}{seed}")
    texts = []
    for _ in range(count):
        chosen = source.sample(_WORDS, source.randint(3, 6)) + list(words)
        source.shuffle(chosen)
        texts.append(" ".join(chosen))
    return PromptSet(name, tuple(Prompt.ask(text) for text in texts), f"{name}-{seed}-{count}")


def planted_directions(seed: int = 0) -> tuple[Tensor, Tensor]:
    """The direction of `attack` and that of `shoot`: two orthonormal vectors of 32 numbers."""
    basis, _ = torch.linalg.qr(torch.randn(WIDTH, 8, generator=torch.Generator().manual_seed(seed)))
    return basis[:, 0], basis[:, 1]


def planted_model(seed: int = 0, more_words: Sequence[str] = ()) -> TextModel:
    """The model, ready to be asked, perhaps with further words at the end of its vocabulary."""
    config = LlamaConfig(
        vocab_size=len(_MARKS) + len(_WORDS) + len(_PROBE_ENDS) + len(more_words),
        hidden_size=WIDTH,
        intermediate_size=WIDTH,
        num_hidden_layers=DEPTH,
        num_attention_heads=1,
        num_key_value_heads=1,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        tie_word_embeddings=False,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = LlamaForCausalLM(config).eval()
        with torch.no_grad():
            for weight in model.parameters():
                if weight.ndim >= 2:
                    weight.normal_(0.0, 0.02)
            _plant(model, seed)
    return TextModel(model, TextProcessor(_tokenizer(more_words)), name="planted", revision=f"planted-{seed}")


def _plant(model: LlamaForCausalLM, seed: int) -> None:
    basis, _ = torch.linalg.qr(torch.randn(WIDTH, 8, generator=torch.Generator().manual_seed(seed)))
    harm, suspicion, attack, shoot, bot = basis[:, :5].T
    rest = torch.eye(WIDTH) - basis[:, :5] @ basis[:, :5].T
    embeddings = model.model.embed_tokens.weight
    embeddings.copy_(normalize(torch.randn(embeddings.shape) @ rest, dim=-1))
    for word, vector in (("attack", attack), ("shoot", shoot + 0.1 * attack), ("<bot>", bot)):
        embeddings[_MARKS.index(word)] = vector
    attention = model.model.layers[0].self_attn
    attention.q_proj.weight.zero_()
    attention.v_proj.weight.zero_()
    attention.v_proj.weight[0], attention.v_proj.weight[1] = attack, shoot
    attention.o_proj.weight.zero_()
    attention.o_proj.weight[:, 0], attention.o_proj.weight[:, 1] = 6 * harm, 6 * suspicion
    head = model.lm_head.weight
    head.zero_()
    head[_MARKS.index("Sorry")], head[_MARKS.index("Sure")] = 5 * (harm + suspicion), 5 * bot
    # A reply is one word: whatever follows a word of the reply is the end.
    for word in ("Sorry", "Sure"):
        head[2] += 40 * embeddings[_MARKS.index(word)]


def _tokenizer(more_words: Sequence[str]) -> PreTrainedTokenizerFast:
    vocabulary = {word: number for number, word in enumerate([*_MARKS, *_WORDS, *_PROBE_ENDS, *more_words])}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>", chat_template=_TEMPLATE
    )

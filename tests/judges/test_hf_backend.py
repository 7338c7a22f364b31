from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from PIL import Image

from equipoise.errors import ModelError
from equipoise.judges.hf_backend import HFBackend, HFVisionBackend
from equipoise.judges.llm_interface import CompletionRequest
from equipoise.judges.llm_judge import SELF, LLMJudge
from equipoise.judges.rubric import HARM, REFUSAL
from equipoise.models.base import OpenModel, ReplyLogProbs
from equipoise.types import Exchange, Message, Prompt

WORDS = ["<pad>", "<unk>", "A", "B", "C", "D", "yes", "no", "It", "is", "a", "dog", ".", ":", "Answer"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random LLaMA of two thousand weights with a tokenizer of words."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>", pad_token="<pad>")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(WORDS),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=2048,
        pad_token_id=0,
        bos_token_id=None,
        eos_token_id=None,
    )
    path = tmp_path_factory.mktemp("model")
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def model(folder: Path) -> HFBackend:
    return HFBackend.load(str(folder), device="cpu")


def leaning(model: HFBackend, word: str, by: float) -> HFBackend:
    """The same model with a push towards one word."""
    import copy

    pushed = copy.deepcopy(model._model)
    head = torch.nn.Linear(16, len(WORDS))
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
        head.bias[WORDS.index(word)] = by
    pushed.lm_head = head
    return HFBackend(pushed, model._tokenizer, name="pushed")


EXCHANGE = Exchange(Prompt.ask("What is it?"), "It is a dog.", "stop", "target")


def test_options_are_compared_as_next_tokens(model: HFBackend) -> None:
    request = CompletionRequest((Message("user", "It is a dog ."),), 5, ("A", "B", "C"))
    (completion,) = model.complete([request])
    tokens = model._tokenizer("It is a dog .\n\nAnswer:", return_tensors="pt")["input_ids"]
    with torch.inference_mode():
        expected = model._model(input_ids=tokens).logits[0, -1].log_softmax(-1)
    (token,) = completion.tokens
    for option in "ABC":
        assert token.top[option] == pytest.approx(float(expected[WORDS.index(option)]), abs=1e-5)
    assert completion.text == max(token.top, key=lambda option: token.top[option])


def test_a_model_that_knows_no_answer_is_unscored(model: HFBackend) -> None:
    (verdict,) = LLMJudge(model, (REFUSAL, HARM))([EXCHANGE])
    assert (verdict.refusal, verdict.harm) == (None, None)
    assert "something else" in str(verdict.unscored)


def test_a_model_that_leans_gives_its_probability(model: HFBackend) -> None:
    (verdict,) = LLMJudge(leaning(model, "C", 8.0), (REFUSAL, HARM))([EXCHANGE])
    assert (verdict.refusal, verdict.harm) == ("full", "severe")
    assert verdict.harm_probability == pytest.approx(1.0, abs=1e-2)


def test_a_letter_without_a_token_is_a_failure(model: HFBackend) -> None:
    (completion,) = model.complete([CompletionRequest((Message("user", "It"),), 1, ("A", "Zebra"))])
    assert "no token of its own for 'Zebra'" in str(completion.failure)


def test_what_is_written_comes_with_its_tokens(model: HFBackend) -> None:
    (completion,) = model.complete([CompletionRequest((Message("user", "It is"),), 4)])
    assert "".join(token.text for token in completion.tokens) == completion.text
    assert completion.cut
    assert all(token.text.strip() in (text.strip() for text in token.top) for token in completion.tokens)


def test_a_prompt_that_is_too_long_is_a_failure(model: HFBackend) -> None:
    long, short = (CompletionRequest((Message("user", "dog " * count),), 4) for count in (3000, 3))
    too_long, fine = model.complete([long, short])
    assert "more than its 2048" in str(too_long.failure)
    assert fine.failure is None


def test_the_identity_is_that_of_the_weights(folder: Path, model: HFBackend) -> None:
    assert HFBackend.load(str(folder), device="cpu").recipe == model.recipe
    assert str(model.recipe["revision"]).startswith("sha256:")


def test_no_model_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match=r"expected a model that transformers .* knows"):
        HFBackend.load(str(tmp_path))


def test_a_guard_s_template_gets_its_arguments(model: HFBackend) -> None:
    import copy

    tokenizer = copy.deepcopy(model._tokenizer)
    tokenizer.chat_template = (
        "{{ guardian_config.risk_name }} {% for message in messages %}{{ message.content }} {% endfor %}"
        "{% if add_generation_prompt %}Answer{% endif %}"
    )
    local = HFBackend(model._model, tokenizer, name="guard")
    request = CompletionRequest(
        (Message("user", "It is"),), 3, template={"guardian_config": {"risk_name": "yes"}, "think": False}
    )
    assert tokenizer.decode(local._tokens(request)[0]) == "yes It is Answer"


def test_a_template_without_system_turns_gets_the_text_in_the_user_s(model: HFBackend) -> None:
    import copy

    tokenizer = copy.deepcopy(model._tokenizer)
    tokenizer.chat_template = (
        "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
        "{% for message in messages %}{{ message.content }}{% endfor %}"
    )
    local = HFBackend(model._model, tokenizer, name="gemma")
    tokens = local._tokens(CompletionRequest((Message("user", "a dog"),), 3, system="It is"))
    assert tokenizer.decode(tokens[0]) == "It is a dog"


class Sighted:
    """As much of an `OpenModel` as judges use: the brighter the picture, the likelier C."""

    name, revision = "sighted", "1"

    def log_prob(self, pixels: Any, prompts: Any, replies: Sequence[str], *, end: bool) -> ReplyLogProbs:
        assert not end
        assert all(prompt.system and prompt.messages[0].images for prompt in prompts)
        likely = 0.98 * float(pixels.mean())
        values = {"A": 0.99 - likely, "B": 0.01, "C": likely}
        return ReplyLogProbs(
            torch.tensor([[values[reply]] for reply in replies]).log(), torch.ones(len(replies), 1, dtype=torch.bool)
        )


def test_a_model_that_sees_judges_by_the_picture() -> None:
    judge = LLMJudge(HFVisionBackend(cast(OpenModel, Sighted())), (HARM,), pictures=True)
    shown = [
        Exchange(Prompt.ask("What is it?", *images), "It is a dog.", "stop", "sighted@1")
        for images in ([Image.new("RGB", (4, 4), "white")], [Image.new("RGB", (4, 4), "black")], [])
    ]
    bright, dark, none = judge(shown)
    assert (bright.harm, dark.harm, none.harm) == ("severe", "none", None)
    assert bright.harm_probability == pytest.approx(0.99)
    assert SELF in bright.reasons
    assert "there is none" in str(none.unscored)

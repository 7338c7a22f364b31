"""Whatever a generation config says about the way of decoding, replies are greedy, and those of single prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from equipoise.errors import ModelError
from equipoise.models.decoding import cut_at_stop, decode, greedy_config, takes_likeliest
from equipoise.models.load import load
from equipoise.models.text_model import TextModel
from equipoise.types import Prompt
from tests.models.families import causal

BARE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
PROMPTS = [Prompt.ask("Hi"), Prompt.ask("How many shapes are there? There are three shapes, and a red circle.")]
WATERMARK = {"greenlist_ratio": 0.25, "bias": 2.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return causal.llama(tmp_path_factory.mktemp("model"), BARE)


def with_settings(folder: Path, target: Path, **settings: Any) -> TextModel:
    """The model with other settings of decoding."""
    target.mkdir()
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    path = target / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **settings}))
    model = load(str(target), device="cpu")
    assert isinstance(model, TextModel)
    return model


def biased(model: TextModel, **weights: float) -> TextModel:
    """The model with constant scores: those of the named tokens, 0 for all others."""
    head = torch.nn.Linear(model.embedding_width or 0, model.model.config.vocab_size)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.zero_()
        for token, weight in weights.items():
            (number,) = model.processor.tokenizer(token.replace("end", "<|im_end|>"), add_special_tokens=False)[
                "input_ids"
            ]
            head.bias[number] = weight
    model.model.lm_head = head
    return model


def replies(model: TextModel, prompts: list[Prompt], limit: int = 12) -> list[tuple[str, str]]:
    return [(exchange.reply, exchange.finish) for exchange in model.generate(prompts, max_new_tokens=limit)]


@pytest.mark.parametrize(
    "settings",
    [
        {"max_time": 1e-6},
        {"watermarking_config": WATERMARK},
        {"exponential_decay_length_penalty": [1, 3.0]},
        {"return_dict_in_generate": True},
        {"return_dict_in_generate": True, "output_scores": True, "output_attentions": True},
        {"penalty_alpha": 0.6, "top_k": 4},
        {"dola_layers": "low"},
        {"num_return_sequences": 2},
        {"num_return_sequences": 2, "num_beams": 2, "early_stopping": True},
        {"prompt_lookup_num_tokens": 3},
        {"token_healing": True},
        {"min_length": 0, "do_sample": True, "temperature": 0.1, "top_p": 0.2},
        {"pad_token_id": 100_000},
        {"pad_token_id": -1},
    ],
)
def test_the_way_of_decoding_is_greedy(folder: Path, tmp_path: Path, settings: dict[str, Any]) -> None:
    expected = replies(with_settings(folder, tmp_path / "plain"), PROMPTS)
    model = with_settings(folder, tmp_path / "own", **settings)
    before = model.model.generation_config.to_dict()
    assert replies(model, PROMPTS) == expected
    assert model.model.generation_config.to_dict() == before
    assert takes_likeliest(model.model)


def test_a_least_length_is_that_of_the_reply(folder: Path, tmp_path: Path) -> None:
    model = biased(with_settings(folder, tmp_path / "own", min_length=5), end=2.0, X=1.0)
    # In a batch the short prompt is padded to more than five tokens.
    for prompts in (PROMPTS, PROMPTS[:1]):
        assert replies(model, prompts)[0] == ("X" * 5, "stop")
    assert replies(model, PROMPTS, limit=3)[0] == ("X" * 3, "length")
    assert not takes_likeliest(model.model)


@pytest.mark.parametrize("settings", [{"repetition_penalty": 1.3}, {"encoder_repetition_penalty": 0.7}])
def test_a_penalty_for_tokens_of_the_prompt_does_not_fall_on_padding(
    folder: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    model = biased(with_settings(folder, tmp_path / "own", **settings), end=1.2, X=1.0)
    assert model.processor.tokenizer.pad_token == model.processor.tokenizer.eos_token
    alone = [replies(model, [prompt])[0] for prompt in PROMPTS]
    assert alone == [("", "stop")] * 2
    assert replies(model, PROMPTS) == alone


def test_a_reply_ends_at_a_stop_text(folder: Path, tmp_path: Path) -> None:
    plain = replies(with_settings(folder, tmp_path / "plain"), PROMPTS, limit=20)
    letter = plain[0][0][3]
    model = with_settings(folder, tmp_path / "own", stop_strings=[letter])
    (exchange, tokens), (other, _) = model.generate_tokens(PROMPTS, max_new_tokens=20)
    assert exchange.reply.count(letter) == 1
    assert plain[0][0].startswith(exchange.reply)
    assert exchange.finish == "stop"
    assert model.processor.tokenizer.decode(tokens).strip() == exchange.reply
    assert other.finish == ("stop" if letter in plain[1][0] else "length")
    assert not takes_likeliest(model.model)


def test_nothing_is_cut_without_a_stop_text(folder: Path, tmp_path: Path) -> None:
    tokenizer = with_settings(folder, tmp_path / "own").processor.tokenizer
    tokens = torch.tensor(tokenizer("A red circle", add_special_tokens=False)["input_ids"])
    assert cut_at_stop(tokenizer, tokens, ()) is None
    assert cut_at_stop(tokenizer, tokens, ("blue",)) is None
    cut = cut_at_stop(tokenizer, tokens, ("re",))
    assert cut is not None
    assert "re" in tokenizer.decode(cut)
    assert "re" not in tokenizer.decode(cut[:-1])


def test_decoding_follows_its_config_alone(folder: Path, tmp_path: Path) -> None:
    model = with_settings(folder, tmp_path / "own", max_time=1e-6)
    config = greedy_config(model.model, model.stop_tokens, 6)
    assert (config.max_time, config.max_new_tokens) == (None, 6)
    inputs = model.prompt_inputs(PROMPTS)
    output = decode(model.model, inputs, config)
    assert output.shape[1] == inputs["input_ids"].shape[1] + 6
    assert model.model.generation_config.max_time == 1e-6


def test_settings_that_transformers_refuses_are_named(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(
        ModelError, match=r"^expected a generation_config.json .*cache_implementation.*; try it without"
    ):
        with_settings(folder, tmp_path / "own", cache_implementation="no such")

"""A prompt with its own pictures and a reply as one row, and where each token of the reply begins."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from PIL import Image

from equipoise.errors import ModelError, UsageError
from equipoise.models.hf import HuggingFaceModel
from equipoise.types import Prompt
from tests.training.derta.tokenizer_kinds import KINDS, text_model

PROMPT = Prompt.ask("How do I pick a lock?")
REPLY = "Take a pin."


@pytest.mark.parametrize("kind", KINDS)
def test_prompt_and_reply_are_those_that_the_model_reads(kind: str) -> None:
    model = text_model(kind)
    row = model.encode_reply(PROMPT, REPLY)
    assert row.tokens[: row.prompt_length].tolist() == model.prompt_inputs([PROMPT])["input_ids"][0].tolist()
    assert row.tokens[-1] == model.processor.tokenizer.eos_token_id
    without_end = model.encode_reply(PROMPT, REPLY, end=False)
    assert without_end.tokens.tolist() == row.tokens[:-1].tolist()
    assert model.processor.tokenizer.decode(without_end.tokens[row.prompt_length :]).strip() == REPLY


@pytest.mark.parametrize("kind", KINDS)
def test_every_token_but_the_end_has_a_place_in_the_reply(kind: str) -> None:
    row = text_model(kind).encode_reply(PROMPT, REPLY)
    assert len(row.reply_starts) == row.reply_length - 1
    # The template's own space in front of a reply lies before its first character.
    assert row.reply_starts[0] == (0 if kind.startswith("bpe") else -1)
    assert list(row.reply_starts) == sorted(row.reply_starts)
    assert max(row.reply_starts) < len(REPLY)


def test_the_likelihood_of_a_row_is_that_of_the_model() -> None:
    model = text_model("bpe")
    row = model.encode_reply(PROMPT, REPLY)
    with torch.no_grad():
        logits = model.model(input_ids=row.tokens[None, :-1]).logits[0, row.prompt_length - 1 :].float()
    own = logits.log_softmax(-1).gather(-1, row.tokens[row.prompt_length :, None])[:, 0]
    assert torch.allclose(own, model.log_prob(None, [PROMPT], [REPLY]).tokens[0], atol=1e-5)


def test_pictures_are_read_from_the_prompt(model: HuggingFaceModel, picture: Image.Image) -> None:
    prompt = Prompt.ask("What is in the picture?", picture, picture.rotate(90))
    row = model.encode_reply(prompt, "A red circle.")
    count = sum(token in model.picture_tokens for token in row.tokens.tolist())
    assert count == 32
    assert not model.picture_tokens & set(row.tokens[row.prompt_length :].tolist())
    one, two = model.image_inputs(Prompt.ask("What?", picture)), model.image_inputs(prompt)
    assert len(two["pixel_values"]) == 2
    assert torch.equal(one["pixel_values"][0], two["pixel_values"][0])
    assert not torch.equal(two["pixel_values"][0], two["pixel_values"][1])


def test_pictures_of_one_size_are_not_confused(model: HuggingFaceModel) -> None:
    red, blue = (Prompt.ask("What?", Image.new("RGB", (40, 32), colour)) for colour in ("red", "blue"))
    assert not torch.equal(model.image_inputs(red)["pixel_values"], model.image_inputs(blue)["pixel_values"])


def test_text_alone_has_no_image_inputs(model: HuggingFaceModel) -> None:
    assert model.image_inputs(PROMPT) == {}
    assert text_model("bpe").image_inputs(PROMPT) == {}


def test_what_cannot_be_encoded_is_one_error(picture: Image.Image) -> None:
    with pytest.raises(ModelError, match="reads text only"):
        text_model("bpe").encode_reply(Prompt.ask("What?", picture), REPLY)
    with pytest.raises(UsageError, match="reply with words"):
        text_model("bpe").encode_reply(PROMPT, "", end=False)


def test_a_begun_reply_belongs_to_the_prompt() -> None:
    model = text_model("bpe")
    begun = model.encode_reply(replace(PROMPT, prefill="Take"), " a pin.")
    whole = model.encode_reply(PROMPT, "Take a pin.")
    assert begun.tokens.tolist() == whole.tokens.tolist()
    assert begun.prompt_length > whole.prompt_length

"""Models whose prompt an encoder reads: BLIP-2 and InstructBLIP over Flan-T5 are attacked like others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from transformers import AutoModelForImageTextToText, AutoProcessor, T5Config

from equipoise.models.load import load
from equipoise.models.reply_log_probs import decoder_start, is_encoder_decoder
from equipoise.types import Prompt
from tests.models.families import blip
from tests.models.families.checks import picture, pixels
from tests.models.families.parts import HEADS, HIDDEN, LAYERS

REPLY = "I'm sorry."
QUESTIONS = ("What is in the picture?", "Why?")


def t5(words: object) -> T5Config:
    """A tiny T5 of the form of Flan-T5."""
    return T5Config(
        vocab_size=len(words),  # type: ignore[arg-type]
        d_model=HIDDEN,
        d_kv=HIDDEN // HEADS,
        d_ff=2 * HIDDEN,
        num_layers=LAYERS,
        num_heads=HEADS,
        feed_forward_proj="gated-gelu",
        pad_token_id=words.pad_token_id,  # type: ignore[attr-defined]
        eos_token_id=words.eos_token_id,  # type: ignore[attr-defined]
        decoder_start_token_id=words.pad_token_id,  # type: ignore[attr-defined]
        tie_word_embeddings=False,
    )


@pytest.fixture(params=["blip2", "instructblip"])
def folder(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(blip, "_opt", t5)
    build: Callable[[Path], None] = getattr(blip, request.param)
    build(tmp_path)
    return tmp_path


def plain_loss(folder: Path, question: str, image: object, tokens: Tensor) -> Tensor:
    """Log-probabilities of a reply from transformers alone, by the labels of a sequence-to-sequence model."""
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    inputs = AutoProcessor.from_pretrained(folder)(images=image, text=question, return_tensors="pt")
    start = torch.tensor([[model.config.text_config.decoder_start_token_id]])
    with torch.no_grad():
        logits = model(**inputs, decoder_input_ids=torch.cat([start, tokens[None, :-1]], 1)).logits
    return logits[0].log_softmax(-1).gather(1, tokens[:, None])[:, 0]


def test_losses_are_those_of_transformers_and_the_gradient_reaches_the_pixels(folder: Path) -> None:
    model = load(str(folder))
    assert is_encoder_decoder(model.model)  # type: ignore[attr-defined]
    image = picture(40, 36)
    prompts = [Prompt.ask(question, image) for question in QUESTIONS]
    result = model.log_prob(pixels(image), prompts, [REPLY, REPLY])
    rows = model.encode(pixels(image), prompts, [REPLY, REPLY])  # type: ignore[attr-defined]
    for row, question, tokens, mask in zip(rows, QUESTIONS, result.tokens, result.mask, strict=True):
        expected = plain_loss(folder, question, image, row.tokens[row.prompt_length :])
        torch.testing.assert_close(tokens[mask], expected, rtol=0, atol=2e-5)
    losses, gradient = model.loss_and_grad(pixels(image), prompts, [REPLY, REPLY])
    torch.testing.assert_close(losses, -result.mean)
    assert (gradient != 0).float().mean() > 0.75
    ahead = (pixels(image) - 2e-2 * gradient.sign()).clamp(0, 1)
    assert model.loss_and_grad(ahead, prompts, [REPLY, REPLY])[0].sum() < losses.sum()


def test_it_says_what_it_cannot_do(folder: Path) -> None:
    model = load(str(folder))
    assert model.embedding_width is None, "CroPA shifts questions of decoders"
    assert model.sharing == "plain batch: an encoder reads the prompt"  # type: ignore[attr-defined]
    assert decoder_start(model.model) == model.model.config.text_config.pad_token_id  # type: ignore[attr-defined]
    assert model.generate([Prompt.ask("Why?", picture(40, 36))], max_new_tokens=4)[0].reply is not None

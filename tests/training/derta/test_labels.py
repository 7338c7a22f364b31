"""Labels of DeRTa: golden tokens for four kinds of tokenizers and two pictures, and no harmful token as a target."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from equipoise.data.refusal_rows import RefusalRow
from equipoise.models.hf import HuggingFaceModel
from equipoise.models.load import load
from equipoise.models.transformers_model import TransformersModel
from equipoise.training.causal_lm import IGNORED
from equipoise.training.derta.labels import (
    UNWANTED,
    WANTED,
    DertaLabels,
    LabelSettings,
    RowUse,
    harmful_prefix,
    label_refusal,
    label_use,
    row_uses,
)
from equipoise.types import Prompt
from tests.training.derta.tokenizer_kinds import KINDS, text_model

PROMPT = Prompt.ask("How do I pick a lock?")
HARMFUL = RefusalRow(1, "harmful", (("user", PROMPT.text),), "Take a pin and bend it.", "Sorry, no.")
ORDINARY = RefusalRow(2, "ordinary", (("user", "How do I bake bread?"),), "Mix flour and water.")
WHOLE = LabelSettings(empty_share=0.0)


def pieces(model: TransformersModel, ids: list[int]) -> list[str]:
    """Tokens as their tokenizer spells them, `-` where nothing is learned."""
    tokenizer = model.processor.tokenizer
    return ["-" if token == IGNORED else tokenizer.convert_ids_to_tokens(token) for token in ids]


def golden(model: TransformersModel, labels: DertaLabels) -> tuple[int, list[str], list[str]]:
    """Length of the prompt, tokens of the reply, and their labels."""
    start = labels.encoded.prompt_length
    assert set(labels.labels[:start]) <= {IGNORED}
    assert set(labels.openers[:start]) <= {0}
    return start, pieces(model, labels.encoded.tokens[start:].tolist()), pieces(model, list(labels.labels[start:]))


_BPE = ["T", "ake", "Ġa", "Ġpin", "ĠSorry", ",", "Ġno", ".", "<|im_end|>"]
_SENTENCEPIECE = ["▁Take", "▁a", "▁pin", "▁Sorry,", "▁no.", "</s>"]
GOLDEN = {
    "bpe": (24, _BPE, ["-", "-", "-", "-", *_BPE[4:]]),
    "bpe-bos": (25, _BPE, ["-", "-", "-", "-", *_BPE[4:]]),
    "sentencepiece": (21, _SENTENCEPIECE, ["-", "-", "-", *_SENTENCEPIECE[3:]]),
    "sentencepiece-bos": (22, _SENTENCEPIECE, ["-", "-", "-", *_SENTENCEPIECE[3:]]),
}
"""Written down by hand: the prompt, BOS included, is one token longer where the template writes BOS."""


@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_after_a_harmful_beginning_is_learned_with_its_end(kind: str) -> None:
    model = text_model(kind)
    assert golden(model, label_refusal(model, PROMPT, "Take a pin", "Sorry, no.")) == GOLDEN[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_a_refusal_at_the_first_token_is_learned_as_a_whole(kind: str) -> None:
    model = text_model(kind)
    _, tokens, labels = golden(model, label_refusal(model, PROMPT, "", "Sorry, no."))
    assert labels == tokens
    ends = _BPE[4:] if kind.startswith("bpe") else _SENTENCEPIECE[3:]
    # Only byte pairs spell the first word of a reply without the space.
    assert tokens == ([end.removeprefix("Ġ") if end == "ĠSorry" else end for end in ends])


@pytest.mark.parametrize("kind", KINDS)
def test_a_token_that_reaches_over_the_seam_is_no_label(kind: str) -> None:
    model = text_model(kind)
    # The prefix ends within a word that the tokenizer knows: `Sor` and `ry` become one piece together.
    labels = label_refusal(model, PROMPT, "Take a Sor\u0301", "ry, no.")
    _, tokens, learned = golden(model, labels)
    assert "".join(learned).count("Sor") == 0
    assert learned[-1] == tokens[-1]


@pytest.mark.parametrize("kind", KINDS)
def test_in_a_harmful_answer_openers_are_wanted_everywhere_and_no_token_is_a_label(kind: str) -> None:
    model = text_model(kind)
    labels = label_use(model, HARMFUL, PROMPT, RowUse(0, "turn", (0,)), WHOLE)
    start = labels.encoded.prompt_length
    assert set(labels.labels) == {IGNORED}
    # From the first token on, which is predicted from the prompt alone, to the end of the reply.
    assert labels.openers == (*[0] * start, *[WANTED] * labels.encoded.reply_length)
    assert labels.encoded.tokens[-1] == model.processor.tokenizer.eos_token_id


@pytest.mark.parametrize("kind", KINDS)
def test_an_answer_is_learned_and_openers_are_unwanted_in_it(kind: str) -> None:
    model = text_model(kind)
    labels = label_use(model, ORDINARY, ORDINARY.prompt, RowUse(0, "answer", (0,)), WHOLE)
    start, tokens, learned = golden(model, labels)
    assert learned == tokens
    assert labels.openers[start:] == (UNWANTED,) * len(tokens)


@pytest.fixture(scope="module")
def pictured(llava_folder: Path) -> HuggingFaceModel:
    model = load(str(llava_folder), device="cpu")
    assert isinstance(model, HuggingFaceModel)
    return model


def test_two_pictures_are_masked_and_never_counted(pictured: HuggingFaceModel) -> None:
    pictures = [Image.new("RGB", (40, 32), colour) for colour in ("red", "blue")]
    prompt = Prompt.ask("How many shapes are there?", *pictures)
    plain = label_use(pictured, HARMFUL, Prompt.ask("How many shapes are there?"), RowUse(0, "turn", (0,)), WHOLE)
    labels = label_use(pictured, HARMFUL, prompt, RowUse(0, "turn", (0,)), WHOLE)
    tokens = labels.encoded.tokens.tolist()
    (patch,) = pictured.picture_tokens
    # Two pictures of 16 patches each stand in the prompt, and the reply is the same as without them.
    assert tokens.count(patch) == 32
    assert all(index < labels.encoded.prompt_length for index, token in enumerate(tokens) if token == patch)
    assert tokens[labels.encoded.prompt_length :] == plain.encoded.tokens[plain.encoded.prompt_length :].tolist()
    assert labels.openers.count(WANTED) == plain.openers.count(WANTED) == labels.encoded.reply_length
    refusal = label_refusal(pictured, prompt, "Take a pin", "Sorry, no.")
    words = pictured.processor.tokenizer
    learned = [label for label in refusal.labels if label != IGNORED]
    assert words.decode(learned[:-1]) == " Sorry, no."
    assert learned[-1] == words.eos_token_id
    half = label_use(pictured, HARMFUL, prompt, RowUse(0, "turn", (0,)), LabelSettings(keep_fraction=0.5))
    assert half.openers.count(WANTED) == math.ceil(labels.encoded.reply_length / 2)


def random_text(random: np.random.Generator) -> str:
    """Words, letters of several bytes, line breaks and spaces in any order."""
    parts = ["Take", "pin", "and", "é", "ü", "漢字", "\n", "  ", "it.", "a", "-", "Sor", "🙂", "lock?"]
    text = "".join(
        str(random.choice(parts)) + (" " if random.random() < 0.5 else "") for _ in range(random.integers(1, 12))
    )
    return text if text.strip() else "Take"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cut", ["word", "token"])
def test_no_token_of_a_harmful_answer_is_ever_a_target(kind: str, cut: str) -> None:
    model, random = text_model(kind), np.random.default_rng(5)
    how = LabelSettings(cut="token" if cut == "token" else "word", empty_share=0.2)
    tokenizer = model.processor.tokenizer
    for number in range(60):
        row = RefusalRow(1, "harmful", (("user", "How?"),), random_text(random), "Sorry, no.")
        turn = label_use(model, row, row.prompt, RowUse(0, "turn", (number,)), how)
        assert set(turn.labels) == {IGNORED}
        use = RowUse(0, "refuse", (number,))
        labels = label_use(model, row, row.prompt, use, how)
        prefix = harmful_prefix(model, row, row.prompt, use.random(), how)
        learned = [label for label in labels.labels if label != IGNORED]
        # What is learned spells the end of the refusal, and all of it where no token reaches over the seam.
        spelled = tokenizer.decode(learned[:-1]).strip()
        assert "Sorry, no.".endswith(spelled)
        assert learned[-1] == tokenizer.eos_token_id
        assert row.answer.startswith(prefix)
        ignored = [
            token for token, label in zip(labels.encoded.tokens.tolist(), labels.labels, strict=True) if label < 0
        ]
        # Independently of the offsets: every character of the prefix is spelled by tokens that are not learned.
        if tokenizer.unk_token_id is None and kind.startswith("bpe") and prefix:
            assert prefix in tokenizer.decode(ignored)


def test_cuts_are_seeded_and_reach_every_place() -> None:
    model = text_model("bpe")
    prefixes = [
        harmful_prefix(model, HARMFUL, PROMPT, np.random.default_rng([seed]), LabelSettings()) for seed in range(200)
    ]
    again = [
        harmful_prefix(model, HARMFUL, PROMPT, np.random.default_rng([seed]), LabelSettings()) for seed in range(200)
    ]
    assert prefixes == again
    words = HARMFUL.answer.split()
    assert set(prefixes) == {" ".join(words[:count]) for count in range(len(words) + 1)}
    assert 0.2 < prefixes.count("") / 200 < 0.5, "a third of them is empty"
    tokens = {
        harmful_prefix(model, HARMFUL, PROMPT, np.random.default_rng([seed]), LabelSettings(cut="token"))
        for seed in range(200)
    }
    assert "T" in tokens, "a cut within a word, after its first token"


@pytest.mark.parametrize("fraction", [0.05, 0.3, 1.0])
def test_drops_are_exact_seeded_and_differ_between_uses(fraction: float) -> None:
    model, how = text_model("bpe"), LabelSettings(keep_fraction=fraction)
    uses = [RowUse(0, "turn", (0, 61, number, 0, 1)) for number in range(6)]
    labels = [label_use(model, HARMFUL, PROMPT, use, how) for use in uses]
    length = labels[0].encoded.reply_length
    assert {row.openers.count(WANTED) for row in labels} == {max(1, math.ceil(fraction * length))}
    assert labels[0].openers == label_use(model, HARMFUL, PROMPT, uses[0], how).openers
    if fraction < 1:
        assert len({row.openers for row in labels}) > 1


def test_harmful_rows_are_used_twice_in_every_pass() -> None:
    rows = [HARMFUL, ORDINARY]
    both = row_uses(rows, 3, 2, turns=True)
    assert [(use.row, use.form) for use in both] == [(0, "refuse"), (0, "turn"), (1, "answer")] * 2
    assert [use.form for use in row_uses(rows, 3, 1, turns=False)] == ["refuse", "refuse", "answer"]
    assert len({use.seed for use in both}) == len(both)

from __future__ import annotations

import pytest
import torch

from equipoise.errors import ModelError
from equipoise.generation.token_filter import TokenFilter, best_allowed
from equipoise.generation.writer import (
    REPHRASE,
    GrowingWriter,
    SampledWriter,
    rephrase_prompt,
    require_text_model,
    with_examples,
)
from equipoise.models.text_model import TextModel
from equipoise.types import Prompt


def reference(model: TextModel, text: str, tokens: list[int]) -> torch.Tensor:
    """Log-probabilities of the next token by one plain forward pass."""
    ids = model.prompt_inputs([rephrase_prompt(text)])["input_ids"]
    ids = torch.cat([ids, torch.tensor([tokens], dtype=ids.dtype)], 1)
    with torch.no_grad():
        return model.model(input_ids=ids).logits[0, -1].float().log_softmax(-1)


def test_the_cached_context_gives_the_plain_log_probabilities(chatty: TextModel) -> None:
    writer = GrowingWriter(chatty, "w1 w2")
    torch.testing.assert_close(writer.log_probs, reference(chatty, "w1 w2", []), atol=1e-4, rtol=1e-4)
    tokens: list[int] = []
    for token in (12, 15, 8):
        writer.append(token)
        tokens.append(token)
        torch.testing.assert_close(writer.log_probs, reference(chatty, "w1 w2", tokens), atol=1e-4, rtol=1e-4)
    resumed = GrowingWriter(chatty, "w1 w2", tokens)
    torch.testing.assert_close(resumed.log_probs, writer.log_probs, atol=1e-4, rtol=1e-4)
    assert writer.log_probs.exp().sum() == pytest.approx(1.0, abs=1e-4)


def test_sampled_texts_depend_on_the_seed_alone(chatty: TextModel) -> None:
    writer = SampledWriter(chatty, temperature=30.0, top_p=1.0, max_new_tokens=6)
    instructions = ["w1 w2", "w3 w4", "w5"]
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = writer.write(instructions, 4)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert writer.write(instructions, 4) == first
    assert writer.write(instructions[:1], 4) == first[:1]
    assert len({tuple(writer.write(instructions, seed)) for seed in range(4)}) > 1
    assert writer.name.startswith("planted@")


def test_examples_are_earlier_turns_and_change_what_is_written(chatty: TextModel) -> None:
    prompt = with_examples("w5", [("w1", "w2"), ("w3", "w4")])
    assert [(message.role, message.text) for message in prompt.messages] == [
        ("user", "w1"),
        ("assistant", "w2"),
        ("user", "w3"),
        ("assistant", "w4"),
        ("user", "w5"),
    ]
    assert with_examples("w5", ()) == Prompt.ask("w5")
    writer = SampledWriter(chatty, temperature=1.0, top_p=1.0, max_new_tokens=6)
    examples = [("w1", "w2"), ("attack w3", "w4")]
    assert [writer.write(["w5"], seed) for seed in range(8)] != [
        writer.write(["w5"], seed, examples) for seed in range(8)
    ]
    # What is rephrased comes last, in the words of the instruction that the examples have as well.
    *earlier, last = rephrase_prompt("w9 w8").messages
    assert last.text == f"{REPHRASE}\nw9 w8"
    assert all(message.text.startswith(REPHRASE) == (message.role == "user") for message in earlier)


def test_only_plain_words_and_marks_are_allowed(chatty: TextModel) -> None:
    tokenizer = chatty.processor.tokenizer
    words = TokenFilter(tokenizer, len(tokenizer) + 3, banned=("ATTACK", "w3"))
    allowed = {tokenizer.convert_ids_to_tokens(i) for i in words.allowed.nonzero().flatten().tolist()}
    assert {"w1", "shoot", ".", "?"} <= allowed
    # Special tokens, words of the template in angle brackets, a word with its full stop, banned words.
    assert not {"<pad>", "<s>", "</s>", "<user>", "<bot>", "tree.", "attack", "w3"} & allowed
    assert len(words.allowed) == len(tokenizer) + 3
    assert not words.allowed[-3:].any()
    ends = {tokenizer.convert_ids_to_tokens(i) for i in (words.ends & words.allowed).nonzero().flatten().tolist()}
    assert ends == {".", "?"}
    assert words.holds_banned("We Attack now")
    assert not words.holds_banned("no attackers here")


def test_rows_that_no_text_encodes_to_are_told_apart(chatty: TextModel) -> None:
    tokenizer = chatty.processor.tokenizer
    words = TokenFilter(tokenizer, len(tokenizer))
    w1, w2, unknown = tokenizer.convert_tokens_to_ids(["w1", "w2", "<s>"])
    assert words.round_trips([[w1, w2], [w1], []]) == [True, True, True]
    assert words.round_trips([]) == []
    assert words.decode([w1, unknown]) != words.decode([w1])

    class Merging:
        """Joins two letters into one token, as byte pairs do."""

        all_special_ids: tuple[int, ...] = ()

        def __len__(self) -> int:
            return 4

        def convert_ids_to_tokens(self, index: int) -> str:
            return ["a", "b", "ab", " a"][index]

        def decode(self, ids: list[int], **_options: bool) -> str:
            return "".join(self.convert_ids_to_tokens(index) for index in ids)

        def __call__(self, texts: list[str], **_options: bool) -> dict[str, list[list[int]]]:
            ids = {"a": 0, "b": 1, "ab": 2, " a": 3}
            return {"input_ids": [[ids[text]] for text in texts]}

    merging = TokenFilter(Merging(), 4)
    # "a" + "b" is encoded as the one token "ab"; " a" would be trimmed.
    assert merging.round_trips([[0, 1], [2], [3]]) == [False, True, False]


def test_the_best_allowed_come_first() -> None:
    scores = torch.tensor([3.0, 9.0, 1.0, 5.0])
    allowed = torch.tensor([True, False, True, True])
    assert best_allowed(scores, allowed, 2) == [3, 0]
    assert best_allowed(scores, allowed, 10) == [3, 0, 2]
    assert best_allowed(scores, torch.zeros(4, dtype=torch.bool), 2) == []


def test_a_writer_of_tokens_needs_weights(chatty: TextModel) -> None:
    assert require_text_model(chatty) is chatty

    class Served:
        name = "served"

    with pytest.raises(ModelError, match="--method mutated"):
        require_text_model(Served())


def test_shared_scores_equal_those_of_the_plain_batch(chatty: TextModel) -> None:
    prompts = [Prompt.ask(text) for text in ("w1 w2 w3", "w1 w2 attack", "w1 w9", "shoot")]
    replies = ["Sorry", "Sure", "Sorry w1 w2", "w3"]
    for end in (False, True):
        with torch.no_grad():
            plain = chatty.log_prob(None, prompts, replies, end=end)
        shared = chatty.shared_log_prob(prompts, replies, end=end)
        assert torch.equal(shared.mask, plain.mask)
        torch.testing.assert_close(shared.tokens, plain.tokens, atol=1e-4, rtol=1e-4)
    assert chatty.text_sharing is not None
    assert chatty.text_sharing.shared
    one = chatty.shared_log_prob(prompts[:1], replies[:1])
    torch.testing.assert_close(one.tokens, plain.tokens[:1, : one.tokens.shape[1]], atol=1e-4, rtol=1e-4)


def test_small_batches_change_nothing(chatty: TextModel) -> None:
    prompts = [Prompt.ask(f"w1 w2 w{number}") for number in range(7)]
    whole = chatty.shared_log_prob(prompts, ["Sorry"] * 7)
    try:
        chatty.micro_batch = 2
        parts = chatty.shared_log_prob(prompts, ["Sorry"] * 7)
    finally:
        chatty.micro_batch = None
    torch.testing.assert_close(parts.tokens, whole.tokens, atol=1e-5, rtol=1e-5)

"""Where tokens of a reply begin: with offsets, without them, and where a token reaches over the border."""

from __future__ import annotations

from typing import Any

import pytest

from equipoise.errors import UsageError
from equipoise.models.reply_tokens import reply_tokens
from tests.training.derta.tokenizer_kinds import KINDS, tokenizer


class SlowTokenizer:
    """The same tokenizer as one in Python would be: without offsets."""

    is_fast = False

    def __init__(self, kind: str) -> None:
        self._fast = tokenizer(kind)

    def __call__(self, text: str, **options: Any) -> Any:
        return {"input_ids": self._fast(text, add_special_tokens=False)["input_ids"]}

    def decode(self, ids: list[int], **options: Any) -> str:
        return str(self._fast.decode(ids, **options))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("reply", ["Take a pin.", " Take a pin.", "Take 漢 pin", "Sorry.\n\nNo. I"])
def test_starts_rise_and_cover_the_reply(kind: str, reply: str) -> None:
    ids, starts = reply_tokens(tokenizer(kind), "How?\n", reply)
    assert len(ids) == len(starts)
    assert starts == sorted(starts)
    assert starts[0] <= len(reply) - len(reply.lstrip())
    assert starts[-1] < len(reply)


def test_parts_of_one_character_share_its_place() -> None:
    ids, starts = reply_tokens(tokenizer("bpe"), "How?\n", "a 漢")
    assert len(ids) > 2
    assert len(set(starts[1:])) <= 2, "the space, and three bytes of one letter"


@pytest.mark.parametrize("reply", ["Take a pin and bend it.", "Take 漢 pin", "Sorry, no."])
def test_a_tokenizer_without_offsets_gives_the_same_places(reply: str) -> None:
    fast = reply_tokens(tokenizer("bpe"), "How?\n", reply)
    slow = reply_tokens(SlowTokenizer("bpe"), "How?\n", reply)
    assert slow.ids == fast.ids
    assert slow.starts == fast.starts


def test_a_token_over_the_border_makes_the_reply_stand_alone() -> None:
    words = tokenizer("bpe")
    # `Sor` + `ry` is one word of the vocabulary: together they are one token, which is neither prompt nor reply.
    ids, starts = reply_tokens(words, "How? Sor", "ry, no.")
    assert ids == words("ry, no.", add_special_tokens=False)["input_ids"]
    assert starts[0] == 0


def test_a_reply_without_tokens_is_an_error() -> None:
    with pytest.raises(UsageError, match="expected a reply with words"):
        reply_tokens(_Nothing(), "How?", " ")


class _Nothing:
    is_fast = False

    def __call__(self, text: str, **options: Any) -> Any:
        return {"input_ids": []}

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from equipoise.attacks.refusal_targets import TARGET_REFUSALS, draw_target, most_likely_refusal
from equipoise.models.base import ReplyLogProbs
from equipoise.types import Prompt
from tests.models.tiny_plain import PlainTorchModel


class Sparing(PlainTorchModel):
    """Finds long sentences unlikely."""

    def log_prob(self, pixels: Tensor, prompts: object, replies: Sequence[str], **_: object) -> ReplyLogProbs:  # type: ignore[override]
        tokens = torch.tensor([[-float(len(reply))] for reply in replies])
        return ReplyLogProbs(tokens, torch.ones_like(tokens, dtype=torch.bool))


def test_the_likeliest_sentence_wins() -> None:
    result = most_likely_refusal(torch.zeros(3, 4, 4), [Sparing()], [Prompt.ask("What?")])
    assert result == min(TARGET_REFUSALS, key=len)


def test_sentences_are_distinct_and_drawn_by_the_seed() -> None:
    assert len(set(TARGET_REFUSALS)) == len(TARGET_REFUSALS) >= 20
    assert draw_target(3) == draw_target(3)
    assert len({draw_target(seed) for seed in range(100)}) > 10

"""Refusal openers: how this model begins its refusals, learned from judged replies of its own.

The official code has one list of tokens per family (`I` for Llama-3), which fails for models that begin with "Sorry" or
whose answers begin with `I` as well. Here openers are token sequences: short where one token tells refusals from
answers, longer where it does not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from equipoise.errors import ModelError
from equipoise.steering.prompt_forward import forward_batches, reply_start_log_probs
from equipoise.steering.steerable import Steerable
from equipoise.types import Prompt

COVERAGE: Final = 0.9
"""Share of the refusals that the openers should cover."""
ANSWER_SHARE: Final = 0.01
"""Share of the answers that may begin like a refusal."""
LONGEST: Final = 4
"""Tokens of an opener, at most."""
EPSILON: Final = 1e-8
"""Added to probabilities in log-odds, as in the paper."""


@dataclass(frozen=True)
class RefusalOpeners:
    """Token sequences that refusals begin with and answers do not."""

    sequences: tuple[tuple[int, ...], ...]
    """None is the beginning of another."""
    covered: float
    """Share of the judged refusals that begin with one."""
    answers: float
    """Share of the judged answers that begin with one."""

    @property
    def prefixes(self) -> list[tuple[int, ...]]:
        """Distinct proper beginnings, after which a probability is needed; the empty one is the prompt itself."""
        return sorted({sequence[:cut] for sequence in self.sequences for cut in range(len(sequence))})

    @property
    def passes(self) -> list[tuple[int, ...]]:
        """The prefixes that begin no other prefix: one forward pass over each gives the shorter ones as well."""
        prefixes = self.prefixes
        return [
            prefix
            for prefix in prefixes
            if not any(len(other) > len(prefix) and other[: len(prefix)] == prefix for other in prefixes)
        ]

    def log_odds(self, steerable: Steerable, inputs: dict[str, Any]) -> Tensor:
        """`B` log-odds (float64, on the CPU) that the replies begin as a refusal.

        Args:
            steerable: the model, perhaps inside an edit.
            inputs: of prompts, padded on the left.
        """
        return self.odds_and_first(steerable, inputs)[0]

    def odds_and_first(self, steerable: Steerable, inputs: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """The log-odds, and `B x V` log-probabilities of the first token (for a divergence)."""
        # The probability of an opener is the product over its tokens, each given those before it. No opener begins
        # another, so that they exclude each other and their probabilities add up.
        following: dict[tuple[int, ...], Tensor] = {}
        for prefix in self.passes:
            steps = reply_start_log_probs(steerable, inputs, prefix)
            following |= {prefix[:cut]: steps[:, cut] for cut in range(len(prefix) + 1)}
        total = torch.zeros(len(inputs["input_ids"]), dtype=torch.float64)
        for sequence in self.sequences:
            chances = [following[sequence[:cut]][:, token].double().cpu() for cut, token in enumerate(sequence)]
            total += torch.stack(chances).sum(0).exp()
        total = total.clamp(0, 1)
        return (total + EPSILON).log() - (1 - total + EPSILON).log(), following[()]

    def of_prompts(self, steerable: Steerable, prompts: Sequence[Prompt]) -> Tensor:
        """`N` log-odds of prompts, in order."""
        values = torch.zeros(len(prompts), dtype=torch.float64)
        for indices, inputs in forward_batches(steerable, prompts):
            values[indices] = self.log_odds(steerable, inputs)
        return values

    def to_dict(self, tokenizer: Any = None) -> dict[str, Any]:
        """As JSON, with the text of each opener where the tokenizer is given."""
        document: dict[str, Any] = {
            "sequences": [list(sequence) for sequence in self.sequences],
            "covered": self.covered,
            "answers": self.answers,
        }
        if tokenizer is not None:
            document["texts"] = [tokenizer.decode(list(sequence)) for sequence in self.sequences]
        return document

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> RefusalOpeners:
        """What `to_dict` gave."""
        sequences = tuple(tuple(map(int, sequence)) for sequence in document["sequences"])
        return cls(sequences, float(document["covered"]), float(document["answers"]))


def learn_openers(refusals: Sequence[Sequence[int]], answers: Sequence[Sequence[int]]) -> RefusalOpeners:
    """Openers from the tokens of judged replies.

    The most frequent first tokens of refusals come first, until `COVERAGE` is reached. One that more than
    `ANSWER_SHARE` of the answers begin with as well is made longer.

    Args:
        refusals: tokens of refusals.
        answers: tokens of answers.

    Raises:
        ModelError: no refusals, or none that begins otherwise than answers do.
    """
    if not refusals:
        raise ModelError("expected refusals to learn openers from, got none; try prompts that the model refuses")
    chosen: list[tuple[int, ...]] = []
    pending: list[tuple[int, ...]] = [
        (token,) for token, _ in Counter(reply[0] for reply in refusals if reply).most_common()
    ]
    while pending and _share(refusals, chosen) < COVERAGE:
        sequence = pending.pop(0)
        if _share(answers, [sequence]) <= ANSWER_SHARE:
            chosen.append(sequence)
            continue
        if len(sequence) == LONGEST:
            continue
        longer = Counter(
            tuple(reply[: len(sequence) + 1])
            for reply in refusals
            if tuple(reply[: len(sequence)]) == sequence and len(reply) > len(sequence)
        )
        # Extensions go first: they stand for the most common beginnings that are left.
        pending = [extended for extended, _ in longer.most_common()] + pending
    if not chosen:
        raise ModelError(
            f"expected refusals that begin otherwise than answers within {LONGEST} tokens, got none; "
            "try more prompts or another judge"
        )
    return RefusalOpeners(tuple(chosen), _share(refusals, chosen), _share(answers, chosen))


def _share(replies: Sequence[Sequence[int]], openers: Sequence[tuple[int, ...]]) -> float:
    """Share of the replies that begin with one of the openers."""
    hits = sum(any(tuple(reply[: len(opener)]) == opener for opener in openers) for reply in replies)
    return hits / len(replies) if replies else 0.0

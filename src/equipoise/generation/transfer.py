"""Transfer: how often models that no search has seen refuse generated prompts, and the seeds they were made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from equipoise.stats.proportions import Rate
from equipoise.types import ChatModel, Judge, Prompt


@dataclass(frozen=True)
class TransferRow:
    """One model's refusals."""

    model: str
    """Name of the model."""
    generated: Rate
    """Refused share of the generated prompts."""
    seeds: Rate
    """Refused share of their seeds."""

    @property
    def ratio(self) -> float | None:
        """How many times as often it refuses the generated prompts; None where it refuses no seed."""
        if not self.seeds.rate or self.generated.rate is None:
            return None
        return self.generated.rate / self.seeds.rate

    @property
    def least_ratio(self) -> float | None:
        """The ratio with one more refusal of a seed than was seen: a number also where no seed was refused."""
        if self.generated.rate is None or not self.seeds.n:
            return None
        return self.generated.rate / ((self.seeds.k + 1) / (self.seeds.n + 1))

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "model": self.model,
            "generated": vars(self.generated).copy(),
            "seeds": vars(self.seeds).copy(),
            "ratio": self.ratio,
        }


def measure_transfer(
    models: Mapping[str, ChatModel],
    generated: Sequence[str],
    seeds: Sequence[str],
    judge: Judge,
    *,
    max_new_tokens: int = 64,
) -> list[TransferRow]:
    """Refusals of each model, by greedy decoding.

    Args:
        models: by the name to show.
        generated: accepted prompts, held out from every search against these models.
        seeds: the prompts they were made from; each counts once.
        judge: of replies; not the score that a search raised.
        max_new_tokens: length of a judged reply.
    """
    distinct = list(dict.fromkeys(seeds))
    rows = []
    for name, model in models.items():
        rates = []
        for texts in (generated, distinct):
            exchanges = model.generate([Prompt.ask(text) for text in texts], max_new_tokens=max_new_tokens)
            rates.append(Rate.of_refusals(judge(exchanges)) if texts else Rate.of(0, 0))
        rows.append(TransferRow(name, *rates))
    return rows

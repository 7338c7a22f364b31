"""Transfer: how often models that no search has seen refuse generated prompts, and the seeds they were made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from equipoise.generation.generated_prompt import GeneratedPrompt
from equipoise.media.decode import open_picture
from equipoise.stats.proportions import Rate
from equipoise.types import ChatModel, Judge, Prompt, Verdict


@dataclass(frozen=True)
class TransferRow:
    """One model's refusals."""

    model: str
    """Name of the model."""
    generated: Rate
    """Refused share of the generated prompts."""
    seeds: Rate
    """Refused share of their seeds, which have no pictures."""
    note: str = ""
    """Why prompts are unscored; empty where each could be sent."""

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
            **({"note": self.note} if self.note else {}),
        }


def suite_prompts(prompts: Sequence[GeneratedPrompt], folder: Path) -> list[Prompt]:
    """The prompts of a suite as a model gets them, with their pictures.

    Args:
        prompts: of the suite.
        folder: of the suite, where the pictures are.

    Raises:
        PictureError: a picture that cannot be read.
    """
    return [
        Prompt.ask(prompt.text, *([open_picture(folder / prompt.picture)] if prompt.picture else []))
        for prompt in prompts
    ]


def measure_transfer(
    models: Mapping[str, ChatModel],
    generated: Sequence[Prompt],
    seeds: Sequence[str],
    judge: Judge,
    *,
    max_new_tokens: int = 64,
) -> list[TransferRow]:
    """Refusals of each model, by greedy decoding.

    Args:
        models: by the name to show.
        generated: accepted prompts, held out from every search against these models. Those with pictures are unscored
            for a model that reads none.
        seeds: the prompts they were made from; each counts once.
        judge: of replies; not the score that a search raised.
        max_new_tokens: length of a judged reply.
    """
    distinct = list(dict.fromkeys(seeds))
    rows = []
    for name, model in models.items():
        reads_pictures = getattr(model, "reads_pictures", True)
        sent = [prompt for prompt in generated if reads_pictures or not prompt.pictures]
        left = len(generated) - len(sent)
        note = f"{name} reads no pictures: {left} prompts with one are unscored" if left else ""
        rates: list[Rate] = []
        for prompts, unsent in ((sent, left), ([Prompt.ask(text) for text in distinct], 0)):
            exchanges = model.generate(prompts, max_new_tokens=max_new_tokens) if prompts else []
            verdicts = [*(judge(exchanges) if exchanges else []), *[Verdict(None, unscored=note)] * unsent]
            rates.append(Rate.of_refusals(verdicts) if verdicts else Rate.of(0, 0))
        rows.append(TransferRow(name, rates[0], rates[1], note))
    return rows

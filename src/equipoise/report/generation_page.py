"""The page of a generated suite: counts, transfer, and every prompt with its words, verdicts and reply."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from equipoise import __version__
from equipoise.files import write_whole
from equipoise.report.audit import numbers

if TYPE_CHECKING:
    from equipoise.generation.generated_prompt import GeneratedPrompt
    from equipoise.generation.transfer import TransferRow


@dataclass(frozen=True)
class WeighedWord:
    """A word of a prompt as the page shows it."""

    text: str
    """The word."""
    weight: float
    """What its removal takes from the refusal score."""
    share: int
    """The weight as a share of the prompt's largest, in tenths: 0 to 10."""


def weighed_words(prompt: GeneratedPrompt) -> list[WeighedWord]:
    """The words of a prompt; only those whose removal makes a refusal less likely are marked."""
    largest = max((weight for _, weight in prompt.words), default=0.0)
    if largest <= 0:
        return [WeighedWord(word, weight, 0) for word, weight in prompt.words]
    return [WeighedWord(word, weight, round(10 * max(weight, 0.0) / largest)) for word, weight in prompt.words]


def render(
    prompts: Sequence[GeneratedPrompt],
    recipe: Mapping[str, Any],
    *,
    summary: Mapping[str, Any],
    transfer: Sequence[TransferRow] = (),
) -> str:
    """The page as HTML, everything inlined but the pictures of the suite.

    Args:
        prompts: the rows of the suite.
        recipe: of the run.
        summary: `attempts`, `seconds`, `per_hour` and `reasons` of the run.
        transfer: refusals of held-out models.
    """
    environment = Environment(
        loader=PackageLoader("equipoise.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    environment.filters["interval"] = numbers.interval
    environment.filters["percent"] = numbers.percent
    environment.filters["counts"] = numbers.counts
    return environment.get_template("generation.html").render(
        prompts=[(prompt, weighed_words(prompt)) for prompt in prompts],
        recipe=recipe,
        summary=summary,
        transfer=transfer,
        harmless=sum(prompt.label == "harmless" for prompt in prompts),
        version=__version__,
        style=files("equipoise.report").joinpath("audit/style.css").read_text(encoding="utf-8"),
    )


def write(
    folder: Path,
    prompts: Sequence[GeneratedPrompt],
    recipe: Mapping[str, Any],
    *,
    summary: Mapping[str, Any],
    transfer: Sequence[TransferRow] = (),
) -> Path:
    """Write `folder/index.html`, whole or not at all.

    Raises:
        OutputError: the folder cannot be written.
    """
    page = folder / "index.html"
    write_whole(page, render(prompts, recipe, summary=summary, transfer=transfer))
    return page

"""`equipoise certify`: within which distance no picture changes the smoothed class, refuse or answer."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from equipoise.cli.console import print_json, print_table
from equipoise.cli.options import arguments as o
from equipoise.cli.options.compute import BatchOptions
from equipoise.cli.options.expansion import with_options
from equipoise.cli.options.param_types import usable_seed
from equipoise.errors import UsageError

if TYPE_CHECKING:
    from equipoise.countermeasures.certificate import Certificate


@with_options
def certify(
    image: Annotated[Path, typer.Argument(help="The picture.", show_default=False)],
    question: Annotated[str, typer.Argument(help="The question.", show_default=False)],
    model: o.Model,
    sigma: Annotated[float, typer.Option(help="Standard deviation of the noise, of values in [0, 1].")] = 0.25,
    copies: Annotated[int, typer.Option(min=1, help="Noisy copies behind the bound.")] = 1000,
    confidence: Annotated[float, typer.Option(help="Of the statement.")] = 0.999,
    seed: Annotated[int, typer.Option(help="Of the noise.", callback=usable_seed)] = 0,
    max_new_tokens: o.MaxNewTokens = 64,
    json: o.Json = False,
    compute: BatchOptions = BatchOptions(),
) -> None:
    """Certify the smoothed model's class, refuse or answer, around one picture (randomised smoothing).

    The statement is about the vote over all noisy copies, not about the model without noise. The vote of
    `--defend smooth:sigma=...` is over a few copies and never abstains, so that it may differ.
    """
    if not question.strip():
        raise UsageError("expected a question, got empty text; try 'What is in this picture?'")
    from equipoise.countermeasures.certificate import certify as certify_prompt
    from equipoise.countermeasures.voting import RandomizedSmoothing
    from equipoise.media.decode import open_picture
    from equipoise.types import Prompt

    picture = open_picture(image)
    loaded = compute.load(model, pictures_for="certify its replies about one")
    smoothed = RandomizedSmoothing(loaded, sigma, 9, f"smooth:sigma={sigma:g}", seed=seed)
    bound = certify_prompt(
        smoothed,
        Prompt.ask(question, picture),
        copies=copies,
        confidence=confidence,
        seed=seed,
        max_new_tokens=max_new_tokens,
    )
    values = 3 * picture.width * picture.height
    if json:
        print_json(
            {
                "image": str(image),
                "question": question,
                "model": smoothed.name,
                "revision": smoothed.revision,
                "sigma": sigma,
                **asdict(bound),
                "linf": bound.linf(values),
            }
        )
        return
    print_table(*_lines(bound, sigma, values))


def _lines(bound: Certificate, sigma: float, values: int) -> list[str]:
    """The certificate of a picture with so many values, for people."""
    if bound.label is None:
        # More copies sharpen the bound of a share above 1/2; they do not help a class that half of them contradict.
        hint = "more --copies or a smaller --sigma" if 2 * bound.hits > bound.copies else "a smaller --sigma"
        return [f"abstains: {bound.hits} of {bound.copies} noisy copies agree, too few to tell; try {hint}"]
    lines = [
        f"{bound.label}: holds within a Euclidean distance of {bound.radius:.3g} of the picture "
        f"(every value by at most {255 * bound.linf(values):.3g}/255)",
        f"{bound.hits} of {bound.copies} noisy copies; with confidence {bound.confidence:g} at least {bound.lower:.3f} "
        "of all",
        f"of the vote over all noisy copies, for replies of at most {bound.max_new_tokens} tokens; "
        f"`--defend smooth:sigma={sigma:g}` votes over a few, never abstains and may differ",
    ]
    if bound.radius < 1 / 255:
        lines.append("no other 8-bit picture lies within: one level of one value is further; try more --copies")
    return lines

"""`equipoise ask`: one question, about a picture or alone, and whether the reply refuses."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.console import print_json, print_table
from equipoise.cli.options import arguments as o
from equipoise.cli.options.compute import WeightOptions
from equipoise.cli.options.expansion import with_options
from equipoise.errors import UsageError

LONGEST_NAME = 255
"""Letters of a file's name at most: a longer text is never looked up as a path."""


@with_options
def ask(
    words: Annotated[
        list[str],
        typer.Argument(
            metavar="[IMAGE] QUESTION",
            help="A picture and the question about it, or a question alone.",
            show_default=False,
        ),
    ],
    model: o.Model,
    defend: o.Defend = None,
    system: Annotated[str | None, typer.Option(help="System text.")] = None,
    max_new_tokens: o.MaxNewTokens = 64,
    compute: WeightOptions = WeightOptions(),
    json: o.Json = False,
) -> None:
    """Ask a model, about a picture or without one; print the reply and whether it refuses."""
    path, text = _parts(words)
    from equipoise.media.decode import open_picture

    pictures = [] if path is None else [open_picture(path)]
    from equipoise.judges.phrases import PhraseJudge
    from equipoise.perturb.record import REFUSAL_WORDS
    from equipoise.types import Prompt

    loaded = compute.load(model, defend or (), pictures_for="ask it about one" if pictures else None)
    (exchange,) = loaded.generate([Prompt.ask(text, *pictures, system=system)], max_new_tokens=max_new_tokens)
    (verdict,) = PhraseJudge()([exchange])
    if json:
        print_json(
            {
                "image": None if path is None else str(path),
                "question": text,
                "system": system,
                "model": loaded.name,
                "revision": loaded.revision,
                "reply": exchange.reply,
                "finish": exchange.finish,
                "by": exchange.by,
                "trail": list(exchange.trail),
                "verdict": {"kind": None, **verdict.to_json()},
            }
        )
        return
    why = verdict.unscored or "; ".join(verdict.reasons)
    print_table(
        exchange.reply,
        "",
        *(f"defence: {line}" for line in exchange.trail),
        f"verdict: {REFUSAL_WORDS[verdict.refusal]}" + (f" ({why})" if why else ""),
    )
    if exchange.finish == "length":
        print_table(f"The reply was cut off after {max_new_tokens} tokens; try a higher --max-new-tokens.")


def _parts(words: list[str]) -> tuple[Path | None, str]:
    """The path of the picture, if any, and the question; a single argument is the question.

    Raises:
        UsageError: no question, a picture alone, or more than two arguments.
    """
    if len(words) > 2:
        raise UsageError(
            f"expected a picture and a question, got {len(words)} arguments; try quotes round the question"
        )
    *paths, text = words
    if not text.strip():
        raise UsageError("expected a question, got empty text; try 'What is in this picture?'")
    if not paths and len(os.fsencode(text)) < LONGEST_NAME and os.path.lexists(text):
        raise UsageError(f"expected a question after the picture {text}, got none; try 'What is in this picture?'")
    return (Path(paths[0]) if paths else None), text

"""`equipoise ask`: one question about one picture, and whether the reply refuses."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.console import print_json, print_table
from equipoise.cli.options import arguments as o
from equipoise.cli.options.compute import WeightOptions
from equipoise.cli.options.expansion import with_options
from equipoise.errors import UsageError


@with_options
def ask(
    image: Annotated[Path, typer.Argument(help="The picture.", show_default=False)],
    question: Annotated[str, typer.Argument(help="The question.", show_default=False)],
    model: o.Model,
    defend: o.Defend = None,
    system: Annotated[str | None, typer.Option(help="System text.")] = None,
    max_new_tokens: o.MaxNewTokens = 64,
    compute: WeightOptions = WeightOptions(),
    json: o.Json = False,
) -> None:
    """Ask a model about a picture; print the reply and whether it refuses."""
    if not question.strip():
        raise UsageError("expected a question, got empty text; try 'What is in this picture?'")
    from equipoise.media.decode import open_picture

    picture = open_picture(image)
    from equipoise.judges.phrases import PhraseJudge
    from equipoise.perturb.record import REFUSAL_WORDS
    from equipoise.types import Prompt

    loaded = compute.load(model, defend or ())
    (exchange,) = loaded.generate([Prompt.ask(question, picture, system=system)], max_new_tokens=max_new_tokens)
    (verdict,) = PhraseJudge()([exchange])
    if json:
        print_json(
            {
                "image": str(image),
                "question": question,
                "system": system,
                "model": loaded.name,
                "revision": loaded.revision,
                "reply": exchange.reply,
                "finish": exchange.finish,
                "by": exchange.by,
                "trail": list(exchange.trail),
                "verdict": asdict(verdict),
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

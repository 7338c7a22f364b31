"""`equipoise ask`: one question about one picture, and whether the reply refuses."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from equipoise.cli.console import print_json, print_table
from equipoise.cli.loading import ComputeOptions
from equipoise.cli.options import Defend, Device, Json, MaxNewTokens, Packed, Type
from equipoise.errors import UsageError

VERDICTS = {None: "unscored", "none": "answered", "partial": "partly refused", "full": "refused"}


def ask(
    image: Annotated[Path, typer.Argument(help="The picture.", show_default=False)],
    question: Annotated[str, typer.Argument(help="The question.", show_default=False)],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            help="testbed/NAME, ORG/NAME or ORG/NAME@REVISION of the model hub, or a folder.",
            show_default=False,
        ),
    ],
    defend: Defend = None,
    system: Annotated[str | None, typer.Option(help="System text.")] = None,
    max_new_tokens: MaxNewTokens = 64,
    device: Device = None,
    dtype: Type = None,
    quantize: Packed = None,
    json: Json = False,
) -> None:
    """Ask a model about a picture; print the reply and whether it refuses."""
    if not question.strip():
        raise UsageError("expected a question, got empty text; try 'What is in this picture?'")
    from equipoise.data.pictures import open_picture

    picture = open_picture(image)
    from equipoise.judges.phrases import PhraseJudge
    from equipoise.types import Prompt

    loaded = ComputeOptions(device, dtype, quantize).load(model, defend or ())
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
        f"verdict: {VERDICTS[verdict.refusal]}" + (f" ({why})" if why else ""),
    )
    if exchange.finish == "length":
        print_table(f"The reply was cut off after {max_new_tokens} tokens; try a higher --max-new-tokens.")

"""The provider of local models, as inspect's own users call it."""

from __future__ import annotations

from PIL import Image

from equipoise.audit.engine.provider import EquipoiseAPI, _GenerateRequest
from equipoise.types import Prompt
from tests.cli.fakes import ANSWER, REFUSAL, TextOnlyModel


def test_a_picture_fails_alone_where_the_model_reads_none() -> None:
    api = EquipoiseAPI("toy/text", loaded=TextOnlyModel())
    prompts = [Prompt.ask("What?"), Prompt.ask("What?", Image.new("RGB", (4, 4))), Prompt.ask("A bomb?")]
    try:
        replies = api._run([_GenerateRequest(prompt, 8) for prompt in prompts])
        alone = api._run([_GenerateRequest(prompts[1], 8)])
    finally:
        api.close()
    assert [item.reply for item in replies] == [ANSWER, "", REFUSAL]
    assert [item.error for item in (*replies, *alone)] == [None, why := "toy/text reads no pictures", None, why]
    assert replies[1].finish == "error"

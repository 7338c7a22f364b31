"""A soft prompt in requests to vLLM, in the form that it documents, against a scripted server."""

from __future__ import annotations

import base64
import io

import pytest
import torch
from PIL import Image

from equipoise.errors import UsageError
from equipoise.prompts.prompt_embeds import ServedSoftPrompt, embeds_part, with_soft_prompt
from equipoise.prompts.soft_prompt import SoftPrompt
from equipoise.served_models.endpoint import ServedEndpoint
from equipoise.types import Prompt
from tests.audit.scripted_server import ScriptedServer, fails, says

SOFT = SoftPrompt(torch.randn(5, 8, generator=torch.Generator().manual_seed(0)), "Be kind to people.", "m", "r")


def decoded(part: dict[str, str]) -> torch.Tensor:
    """As vLLM reads it."""
    return torch.load(io.BytesIO(base64.b64decode(part["data"])), weights_only=True, map_location="cpu")


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_the_part_holds_the_embeddings_in_the_servers_number_format(dtype: str) -> None:
    part = embeds_part(SOFT, dtype)
    assert set(part) == {"type", "data"}
    assert part["type"] == "prompt_embeds"
    tensor = decoded(part)
    assert tensor.shape == (5, 8)
    assert tensor.dtype == getattr(torch, dtype)
    assert torch.equal(tensor, SOFT.embeddings.to(tensor.dtype))


def test_an_unknown_number_format_is_one_clear_error() -> None:
    with pytest.raises(UsageError, match="try that of the server"):
        embeds_part(SOFT, "int8")


def test_it_stands_in_a_system_message_of_its_own_or_in_front_of_the_users() -> None:
    messages = [{"role": "user", "content": "Hi."}]
    (system, user) = with_soft_prompt(messages, SOFT)
    assert system["role"] == "system"
    assert [part["type"] for part in system["content"]] == ["prompt_embeds", "text"]
    assert system["content"][1]["text"] == "."
    assert user == messages[0]
    (own, _) = with_soft_prompt([{"role": "system", "content": "Be brief."}, *messages], SOFT)
    assert [part.get("text") for part in own["content"]] == [None, ".\n\n", "Be brief."]


def test_it_may_stand_in_the_first_user_message_beside_pictures() -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:x"}}
    messages = [{"role": "user", "content": [picture, {"type": "text", "text": "Why?"}]}]
    (user,) = with_soft_prompt(messages, SOFT, role="user")
    assert [part["type"] for part in user["content"]] == ["prompt_embeds", "text", "image_url", "text"]
    assert messages[0]["content"][0] is picture
    assert len(messages[0]["content"]) == 2, "the client's own messages were changed"
    with pytest.raises(UsageError, match="role='system'"):
        with_soft_prompt([{"role": "assistant", "content": "x"}], SOFT, role="user")


def test_punctuation_before_the_text_stays_a_text() -> None:
    quoted = SoftPrompt(SOFT.embeddings, "(Be kind.)", "m", "r")
    (system, _) = with_soft_prompt([{"role": "user", "content": "Hi."}], quoted)
    assert [part.get("text") for part in system["content"]] == ["(", None, ".)"]


def test_a_server_gets_it_with_every_request_and_failures_stay_failures() -> None:
    pytest.importorskip("openai")
    rule = lambda request: fails(400, "bad") if "break" in request.text else says("Fine.")  # noqa: E731
    with ScriptedServer(rule) as server:
        model = ServedSoftPrompt(ServedEndpoint(f"{server.url}", "tiny"), SOFT, dtype="float32")
        prompts = [
            Prompt.ask("Why?"),
            Prompt.ask("break", system="Be brief."),
            Prompt.ask("What?", Image.new("RGB", (4, 4))),
        ]
        exchanges = model.generate(prompts, max_new_tokens=7)
    assert [exchange.reply for exchange in exchanges] == ["Fine.", "", "Fine."]
    assert exchanges[1].finish == "error"
    assert exchanges[1].error
    assert [exchange.prompt for exchange in exchanges] == prompts
    for request in server.requests:
        first = request.body["messages"][0]
        assert first["role"] == "system"
        (part,) = [part for part in first["content"] if part["type"] == "prompt_embeds"]
        assert torch.equal(decoded(part), SOFT.embeddings)
        assert request.body["max_tokens"] == 7

"""A soft prompt in requests to vLLM: a chat part `prompt_embeds`, around which the server puts its own template.

vLLM documents it under "Prompt Embedding Inputs": `--enable-prompt-embeds` when it is started, and in a message's
content `{"type": "prompt_embeds", "data": BASE64}`, where BASE64 is a tensor `tokens x hidden size` as `torch.save`
writes it. A wrong shape can crash the engine, so the option is for clients that one trusts.
"""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

import torch

from equipoise.errors import UsageError
from equipoise.prompts.slot import split_text
from equipoise.prompts.soft_prompt import SoftPrompt
from equipoise.served_models.chat_messages import content_text, first_message, to_openai
from equipoise.served_models.endpoint import ServedEndpoint
from equipoise.types import Exchange, FinishReason, Prompt

DTYPES: Final = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
"""Number formats that a server may run in; the tensor has to be in the server's."""
PartRole = Literal["system", "user"]


def embeds_part(prompt: SoftPrompt, dtype: str = "bfloat16") -> dict[str, str]:
    """The chat part of a soft prompt.

    Args:
        prompt: the embeddings.
        dtype: of the served model.

    Raises:
        UsageError: an unknown number format.
    """
    if dtype not in DTYPES:
        raise UsageError(f"expected a dtype among {', '.join(DTYPES)}, got {dtype!r}; try that of the server")
    buffer = io.BytesIO()
    torch.save(prompt.embeddings.to(DTYPES[dtype]).contiguous(), buffer)
    return {"type": "prompt_embeds", "data": base64.b64encode(buffer.getvalue()).decode("ascii")}


def with_soft_prompt(
    messages: Sequence[Mapping[str, Any]],
    prompt: SoftPrompt,
    *,
    dtype: str = "bfloat16",
    role: PartRole = "system",
) -> list[dict[str, Any]]:
    """Messages of a chat request with the soft prompt in front.

    Punctuation at the ends of the text that the soft prompt began as are texts beside it, as they are where it was
    optimised.

    Args:
        messages: as OpenAI's protocol has them; they themselves stay as they are.
        prompt: the embeddings.
        dtype: of the served model.
        role: the system message, or the first user message for templates without a system role.

    Raises:
        UsageError: no user message to put it into.
    """
    head, _, tail = split_text(prompt.text)
    # The text behind it begins with the same line break that the slot had behind it.
    index = next((i for i, message in enumerate(messages) if message.get("role") == role), None)
    rest = [] if index is None else _parts(messages[index].get("content"))
    after = tail + ("\n\n" if rest else "")
    texts = [[{"type": "text", "text": text}] if text else [] for text in (head, after)]
    parts = [*texts[0], embeds_part(prompt, dtype), *texts[1], *rest]
    result = [dict(message) for message in messages]
    if index is not None:
        result[index]["content"] = parts
    elif role == "system":
        result.insert(0, {"role": "system", "content": parts})
    else:
        raise UsageError("expected a user message for a soft prompt, got none; try role='system'")
    return result


class ServedSoftPrompt:
    """A `ChatModel` behind vLLM with a soft prompt in every request.

    Args:
        endpoint: the server.
        prompt: the embeddings, made for the same weights.
        dtype: of the served model.
        role: as in `with_soft_prompt`.
        timeout: seconds for one reply.
    """

    def __init__(
        self,
        endpoint: ServedEndpoint,
        prompt: SoftPrompt,
        *,
        dtype: str = "bfloat16",
        role: PartRole = "system",
        timeout: float = 60.0,
    ) -> None:
        self.endpoint = endpoint
        self.prompt = prompt
        self.dtype = dtype
        self.role: PartRole = role
        self.timeout = timeout
        self.name = f"{endpoint.model} + soft prompt {prompt.digest}"

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        """One exchange for each prompt, in order; a request that failed is an exchange with its error."""
        return asyncio.run(self._replies(prompts, max_new_tokens))

    async def _replies(self, prompts: Sequence[Prompt], limit: int) -> list[Exchange]:
        from equipoise.served_models.openai_client import ServedClient

        async with ServedClient(self.endpoint, timeout=self.timeout) as client:
            return [await self._reply(client, prompt, limit) for prompt in prompts]

    async def _reply(self, client: Any, prompt: Prompt, limit: int) -> Exchange:
        from equipoise.served_models.failures import line

        messages = to_openai(prompt.messages, prompt.system)
        body = {
            "model": self.endpoint.model,
            "messages": with_soft_prompt(messages, self.prompt, dtype=self.dtype, role=self.role),
            "max_tokens": limit,
            "temperature": 0.0,
        }
        try:
            response = await client.post("/chat/completions", body=body, cast_to=object)
        # The client raises many kinds, and none of them may end a run over many prompts.
        except Exception as error:  # noqa: BLE001
            return Exchange(prompt, "", "error", self.name, error=line(error))
        message = first_message(response)
        if message is None:
            return Exchange(prompt, "", "error", self.name, error="a response without a message")
        choice = response["choices"][0]
        finish: FinishReason = "length" if choice.get("finish_reason") == "length" else "stop"
        return Exchange(prompt, content_text(message.get("content")), finish, self.name)


def _parts(content: Any) -> list[Any]:
    if isinstance(content, list):
        return list(content)
    return [{"type": "text", "text": content}] if content else []

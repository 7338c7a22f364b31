"""`ServedChatModel`: a `ChatModel` behind a server that speaks OpenAI's protocol, for what runs outside the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from equipoise.served_models.chat_messages import content_text, first_message, refusal_text, to_openai
from equipoise.served_models.endpoint import ServedEndpoint
from equipoise.types import Exchange, FinishReason, Prompt, Wire

ChatBody = list[dict[str, Any]]
"""Messages as OpenAI's protocol has them."""


class ServedChatModel:
    """A served model as a `ChatModel`; greedy, as the endpoint allows.

    Args:
        endpoint: the server.
        name: as exchanges record it; None is the endpoint's model.
        timeout: seconds for one reply.
        connections: requests at once.
        change: what the messages become before they are sent.
    """

    def __init__(
        self,
        endpoint: ServedEndpoint,
        *,
        name: str | None = None,
        timeout: float = 60.0,
        connections: int = 1,
        change: Callable[[ChatBody], ChatBody] = lambda messages: messages,
    ) -> None:
        self.endpoint, self.name = endpoint, name or endpoint.model
        self.timeout, self.connections = timeout, connections
        self._change = change

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        """One exchange for each prompt, in order; a request that failed is an exchange with its error."""
        return asyncio.run(self._replies(prompts, max_new_tokens))

    async def _replies(self, prompts: Sequence[Prompt], limit: int) -> list[Exchange]:
        from equipoise.served_models.openai_client import ServedClient

        turns = asyncio.Semaphore(self.connections)
        async with ServedClient(self.endpoint, timeout=self.timeout) as client:

            async def reply(prompt: Prompt) -> Exchange:
                async with turns:
                    return await self._reply(client, prompt, limit)

            return list(await asyncio.gather(*map(reply, prompts)))

    async def _reply(self, client: Any, prompt: Prompt, limit: int) -> Exchange:
        from equipoise.served_models.failures import classify

        messages = to_openai(prompt.messages, prompt.system)
        if prompt.prefill:
            # The endpoint asks the server to continue a last message of the assistant.
            messages.append({"role": "assistant", "content": prompt.prefill})
        body = {
            "model": self.endpoint.model,
            "messages": self._change(messages),
            "max_tokens": limit,
            "temperature": 0.0,
        }
        try:
            response = await client.post("/chat/completions", body=body, cast_to=object)
        # The client raises many kinds, and none of them may end a run over many prompts.
        except Exception as error:  # noqa: BLE001
            failure = classify(error)
            if failure.kind == "policy":
                return Exchange(prompt, "", "content_filter", self.name, "policy_error", by="server")
            return Exchange(prompt, "", "error", self.name, error=self.endpoint.without_secrets(failure.line))
        message = first_message(response)
        if message is None:
            return Exchange(prompt, "", "error", self.name, error="a response without a message")
        choice = response["choices"][0]
        reason = choice.get("finish_reason")
        finish: FinishReason = reason if reason in ("length", "content_filter") else "stop"
        content, refusal = content_text(message.get("content")) or "", refusal_text(message)
        # Some servers refuse in a field of its own and leave the content empty, or give a reason and nothing else.
        wire: Wire = "content_filter" if finish == "content_filter" else "text"
        if not content and refusal:
            content, wire = refusal, "refusal_field"
        return Exchange(prompt, content, finish, self.name, wire)

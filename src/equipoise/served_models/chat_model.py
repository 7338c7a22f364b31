"""`ServedChatModel`: a `ChatModel` behind a server that speaks OpenAI's protocol, for what runs outside the engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from equipoise.errors import ModelError
from equipoise.served_models.backoff import FIRST_PAUSE
from equipoise.served_models.chat_messages import content_text, first_message, refusal_text, to_openai
from equipoise.served_models.endpoint import ServedEndpoint
from equipoise.served_models.failures import Failure, NoReplyError, classify
from equipoise.served_models.retries import ask_again, run_in_own_loop
from equipoise.types import Exchange, FinishReason, Prompt, Wire

ChatBody = list[dict[str, Any]]
"""Messages as OpenAI's protocol has them."""


class ServedChatModel:
    """A served model as a `ChatModel`; greedy, as the endpoint allows.

    A request that may pass the second time is sent up to three times. After a failure that the next prompt would
    share, such as a refused key, no further prompt is sent.

    Args:
        endpoint: the server.
        name: as exchanges record it; None is the endpoint's model.
        timeout: seconds for one try.
        connections: requests at once.
        pause: seconds before the second try, where the server names none.
        change: what the messages become before they are sent.
        must_reply: whether it is an error if no prompt gets a reply.
    """

    def __init__(
        self,
        endpoint: ServedEndpoint,
        *,
        name: str | None = None,
        timeout: float = 60.0,
        connections: int = 1,
        pause: float = FIRST_PAUSE,
        change: Callable[[ChatBody], ChatBody] = lambda messages: messages,
        must_reply: bool = False,
    ) -> None:
        self.endpoint, self.name = endpoint, name or endpoint.model
        self.timeout, self.connections, self.pause = timeout, connections, pause
        self._change, self._must_reply = change, must_reply

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        """One exchange for each prompt, in order; a request that failed is an exchange with its error.

        Raises:
            ModelError: no prompt of several got a reply, where that is an error.
        """
        exchanges = run_in_own_loop(lambda: self._replies(prompts, max_new_tokens))
        if self._must_reply and exchanges and all(exchange.error for exchange in exchanges):
            raise ModelError(
                f"expected {self.name} to reply, got no reply to {len(exchanges)} prompts ({exchanges[0].error}); "
                "try the address, the key and the name"
            )
        return exchanges

    async def _replies(self, prompts: Sequence[Prompt], limit: int) -> list[Exchange]:
        from equipoise.served_models.openai_client import ServedClient

        turns = asyncio.Semaphore(self.connections)
        hopeless: Failure | None = None
        async with ServedClient(self.endpoint, timeout=self.timeout) as client:

            async def reply(prompt: Prompt) -> Exchange:
                nonlocal hopeless
                async with turns:
                    if hopeless is not None:
                        return self._failed(prompt, hopeless)
                    answer = await ask_again(lambda: self._once(client, prompt, limit), seconds=None, pause=self.pause)
                if isinstance(answer, Exchange):
                    return answer
                assert answer.failure is not None, "there was no limit of time"
                if answer.failure.persistent:
                    hopeless = answer.failure
                return self._failed(prompt, answer.failure)

            return list(await asyncio.gather(*map(reply, prompts)))

    def _failed(self, prompt: Prompt, failure: Failure) -> Exchange:
        return Exchange(prompt, "", "error", self.name, error=self.endpoint.without_secrets(failure.line))

    async def _once(self, client: Any, prompt: Prompt, limit: int) -> Exchange | Failure:
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
            message = first_message(response)
            if message is None:
                raise NoReplyError("a response without a message")
        # The client raises many kinds, and none of them may end a run over many prompts.
        except Exception as error:  # noqa: BLE001
            failure = classify(error)
            if failure.kind == "policy":
                return Exchange(prompt, "", "content_filter", self.name, "policy_error", by="server")
            return failure
        choice = response["choices"][0]
        reason = choice.get("finish_reason")
        finish: FinishReason = reason if reason in ("length", "content_filter") else "stop"
        content, refusal = content_text(message.get("content")) or "", refusal_text(message)
        # Some servers refuse in a field of its own and leave the content empty, or give a reason and nothing else.
        wire: Wire = "content_filter" if finish == "content_filter" else "text"
        if not content and refusal:
            content, wire = refusal, "refusal_field"
        return Exchange(prompt, content, finish, self.name, wire)

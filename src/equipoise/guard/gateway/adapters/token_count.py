"""Routes that count the tokens of a request: `/v1/messages/count_tokens` and `/v1/responses/input_tokens`.

Only the upstream knows its tokenizer and its chat template. It is asked for a reply of one token to the same request,
and the count is that of its `usage`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from equipoise.guard.gateway.adapters.messages import MessagesAdapter
from equipoise.guard.gateway.adapters.responses import ResponsesAdapter
from equipoise.guard.gateway.adapters.server_tools import ServerToolPlan
from equipoise.guard.policy import ServerTools


class MessageTokensAdapter(MessagesAdapter):
    """Anthropic's count of the tokens of messages."""

    def chat_request(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The same chat request, for one token.

        Raises:
            RequestProblem: as for messages.
        """
        return super().chat_request({**body, "stream": False, "max_tokens": 1})

    def plan(self, body: Mapping[str, Any], setting: ServerTools) -> ServerToolPlan:
        """Left out, as the request that is counted is a chat's.

        Raises:
            RequestProblem: they are refused.
        """
        return super().plan(body, "drop" if setting == "pass" else setting)

    def reply(self, completion: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
        """The count."""
        return {"input_tokens": prompt_tokens(completion)}


class ResponseTokensAdapter(ResponsesAdapter):
    """OpenAI's count of the tokens of a response's input."""

    def chat_request(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The same chat request, for one token.

        Raises:
            RequestProblem: as for responses.
        """
        chat = super().chat_request({**body, "stream": False})
        return {name: value for name, value in chat.items() if name != "max_completion_tokens"} | {"max_tokens": 1}

    def plan(self, body: Mapping[str, Any], setting: ServerTools) -> ServerToolPlan:
        """Left out, as the request that is counted is a chat's.

        Raises:
            RequestProblem: they are refused.
        """
        return super().plan(body, "drop" if setting == "pass" else setting)

    def reply(self, completion: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
        """The count."""
        return {"object": "response.input_tokens", "input_tokens": prompt_tokens(completion)}


def prompt_tokens(completion: Mapping[str, Any]) -> int:
    """The tokens of the request that a completion answers.

    Raises:
        ValueError: the upstream counted none, or it was not asked.
    """
    count = (completion.get("usage") or {}).get("prompt_tokens")
    if not isinstance(count, int) or isinstance(count, bool) or count <= 0:
        raise ValueError(f"expected a count of tokens, got {count!r}")
    return count

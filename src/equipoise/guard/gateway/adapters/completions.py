"""`/v1/completions`: OpenAI's legacy completions. The prompt becomes a user's message; the reply is its text."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from equipoise.guard.gateway.adapters.adapter import refuse_fields, unsupported
from equipoise.guard.gateway.adapters.message_pieces import pieces_of
from equipoise.guard.gateway.errors import RequestProblem
from equipoise.guard.gateway.streaming.events import DONE, event

_CANNOT: Final[Mapping[str, Any]] = {"suffix": "", "echo": False, "best_of": 1}


class CompletionsAdapter:
    """Legacy completions."""

    def chat_request(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The prompt as one user message.

        Raises:
            RequestProblem: several prompts, tokens, or a field that no chat request has.
        """
        refuse_fields(body, _CANNOT)
        prompt = body.get("prompt")
        if isinstance(prompt, list) and len(prompt) == 1:
            prompt = prompt[0]
        if not isinstance(prompt, str):
            raise unsupported("expected prompt: one text; tokens and several prompts cannot be judged", "prompt")
        rest = {name: value for name, value in body.items() if name not in ("prompt", "logprobs", *_CANNOT)}
        if isinstance(body.get("logprobs"), int) and not isinstance(body["logprobs"], bool):
            rest |= {"logprobs": True, "top_logprobs": body["logprobs"]}
        return {**rest, "messages": [{"role": "user", "content": prompt}]}

    def reply(self, completion: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
        """The completion with the text of each choice."""
        choices = [_choice(choice, choice.get("message") or {}) for choice in completion["choices"]]
        return {**completion, "object": "text_completion", "choices": choices}

    def stream(self, body: Mapping[str, Any]) -> CompletionsStream:
        """A translator of one stream."""
        return CompletionsStream()

    def problem(self, problem: RequestProblem) -> dict[str, Any]:
        """OpenAI's form."""
        return problem.body()


class CompletionsStream:
    """A stream of legacy completions."""

    def chunk(self, chunk: Mapping[str, Any]) -> list[bytes]:
        """One event with the new text."""
        choices = [_choice(choice, choice.get("delta") or {}) for choice in chunk.get("choices") or ()]
        return [event({**chunk, "object": "text_completion", "choices": choices})]

    def error(self, error: Mapping[str, Any]) -> list[bytes]:
        """The error."""
        return [event({"error": error})]

    def end(self) -> list[bytes]:
        """`[DONE]`."""
        return [DONE]


def _choice(choice: Mapping[str, Any], message: Mapping[str, Any]) -> dict[str, Any]:
    text = "".join(text for kind, text in pieces_of(message) if kind != "reasoning")
    finish = choice.get("finish_reason")
    return {"index": choice.get("index", 0), "text": text, "logprobs": choice.get("logprobs"), "finish_reason": finish}

"""`/v1/completions`: OpenAI's legacy completions. The prompt becomes a user's message; the reply is its text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from equipoise.guard.gateway.adapters.adapter import refuse_fields, unsupported
from equipoise.guard.gateway.adapters.message_pieces import pieces_of
from equipoise.guard.gateway.errors import RequestProblem
from equipoise.guard.gateway.reply_choices import choice_number
from equipoise.guard.gateway.streaming.events import DONE, event

_CANNOT: Final[Mapping[str, Any]] = {"suffix": "", "best_of": 1}
MOST: Final = 64
"""Prompts of one request."""


class CompletionsAdapter:
    """Legacy completions."""

    def split(self, body: Mapping[str, Any]) -> list[dict[str, Any]]:
        """One request for each prompt.

        Raises:
            RequestProblem: too many prompts, or several in a stream.
        """
        prompts = body.get("prompt")
        if not isinstance(prompts, list) or not all(isinstance(prompt, str) for prompt in prompts) or len(prompts) < 2:
            return [dict(body)]
        if len(prompts) > MOST:
            raise RequestProblem(400, f"expected at most {MOST} prompts", "too_many_prompts", param="prompt")
        if body.get("stream") is True:
            raise unsupported("expected one prompt in a stream, got several", "prompt")
        return [{**body, "prompt": prompt} for prompt in prompts]

    def joined(self, replies: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
        """All choices, numbered through, with the sums of their token counts."""
        choices = [choice for reply in replies for choice in reply["choices"]]
        usage: Counter[str] = Counter()
        for reply in replies:
            counts = reply.get("usage") or {}
            usage.update({name: count for name, count in counts.items() if isinstance(count, int)})
        return {
            **replies[0],
            "choices": [{**choice, "index": number} for number, choice in enumerate(choices)],
            **({"usage": dict(usage)} if usage else {}),
        }

    def chat_request(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """The prompt as one user message.

        Raises:
            RequestProblem: no text, or a field that no chat request has.
        """
        refuse_fields(body, _CANNOT)
        prompt = body.get("prompt")
        if isinstance(prompt, list) and len(prompt) == 1:
            prompt = prompt[0]
        if not isinstance(prompt, str):
            raise unsupported("expected prompt: a text or a list of texts; tokens cannot be judged", "prompt")
        if body.get("echo") is True and (body.get("logprobs") is not None or body.get("max_tokens") == 0):
            raise unsupported("expected no log-probabilities of the prompt, which no chat request gives", "echo")
        rest = {name: value for name, value in body.items() if name not in ("prompt", "logprobs", "echo", *_CANNOT)}
        if isinstance(body.get("logprobs"), int) and not isinstance(body["logprobs"], bool):
            rest |= {"logprobs": True, "top_logprobs": body["logprobs"]}
        return {**rest, "messages": [{"role": "user", "content": prompt}]}

    def reply(self, completion: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
        """The completion with the text of each choice."""
        before = _echoed(body)
        choices = [_choice(choice, choice.get("message") or {}, before, 0) for choice in completion["choices"]]
        return {**completion, "object": "text_completion", "choices": choices}

    def stream(self, body: Mapping[str, Any]) -> CompletionsStream:
        """A translator of one stream."""
        return CompletionsStream(_echoed(body))

    def problem(self, problem: RequestProblem) -> dict[str, Any]:
        """OpenAI's form."""
        return problem.body()


class CompletionsStream:
    """A stream of legacy completions.

    Args:
        before: the text that each choice begins with.
    """

    def __init__(self, before: str = "") -> None:
        self._before = before
        self._lengths: dict[Any, int] = {}
        """Characters of each choice so far."""

    def chunk(self, chunk: Mapping[str, Any]) -> list[bytes]:
        """One event with the new text."""
        choices = []
        for choice in chunk.get("choices") or ():
            index = choice_number(choice, 0)
            before = "" if index in self._lengths else self._before
            length = self._lengths.get(index, 0)
            choices.append(_choice(choice, choice.get("delta") or {}, before, length))
            self._lengths[index] = length + len(choices[-1]["text"])
        return [event({**chunk, "object": "text_completion", "choices": choices})]

    def error(self, error: Mapping[str, Any]) -> list[bytes]:
        """The error."""
        return [event({"error": error})]

    def end(self) -> list[bytes]:
        """`[DONE]`."""
        return [DONE]


def _echoed(body: Mapping[str, Any]) -> str:
    """The prompt, where the client wants it before the reply."""
    prompt = body.get("prompt")
    prompt = prompt[0] if isinstance(prompt, list) and prompt else prompt
    return prompt if body.get("echo") is True and isinstance(prompt, str) else ""


def _choice(choice: Mapping[str, Any], message: Mapping[str, Any], before: str, offset: int) -> dict[str, Any]:
    text = before + "".join(text for kind, text in pieces_of(message) if kind != "reasoning")
    return {
        "index": choice_number(choice, 0),
        "text": text,
        "logprobs": _token_lists(choice.get("logprobs"), offset),
        "finish_reason": choice.get("finish_reason"),
    }


def _token_lists(logprobs: Any, offset: int) -> dict[str, Any] | None:
    """The log-probabilities of a chat's tokens in the lists of this API.

    Args:
        logprobs: of one choice.
        offset: characters before its first token.
    """
    tokens = logprobs.get("content") if isinstance(logprobs, Mapping) else None
    if not isinstance(tokens, list):
        return None
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token["token"])
    return {
        "tokens": [token["token"] for token in tokens],
        "token_logprobs": [token.get("logprob") for token in tokens],
        "top_logprobs": [
            {other["token"]: other.get("logprob") for other in token.get("top_logprobs") or ()} for token in tokens
        ],
        "text_offset": offsets,
    }

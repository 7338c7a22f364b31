"""`PromptRoom`: how many tokens a prompt has, and how many its model's context leaves for the reply."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from equipoise.errors import EquipoiseError
from equipoise.guard.gateway.errors import RequestProblem
from equipoise.model_server.reply_request import ReplyRequest
from equipoise.models.token_count import context_length, token_counter
from equipoise.types import ChatModel, Prompt

LONGEST_TOKEN: Final = 64
"""Letters of a token, on average at most: text with more for each token of the context is refused uncounted, because
counting megabytes takes seconds."""


class PromptRoom:
    """Counts prompts as the model's template writes them, from any thread.

    A picture counts as the mark that stands for it, and what countermeasures add does not count, so that a prompt has
    at least as many tokens.

    Args:
        model: with or without countermeasures.
    """

    def __init__(self, model: ChatModel) -> None:
        self._length = context_length(model)
        self._count = token_counter(model)
        core = getattr(model, "core", model)
        self._render: Callable[[Prompt], str] = getattr(core, "render", plain_text)

    def tokens(self, text: str) -> int:
        """Tokens of a text; 0 where the model's tokenizer is not at hand."""
        return 0 if self._count is None else self._count(text)

    def fitted(self, wanted: ReplyRequest) -> ReplyRequest:
        """The request with the number of its tokens, and a reply that is no longer than the rest of the context.

        Raises:
            RequestProblem: the context has no room for a reply, or the template does not take the conversation.
        """
        letters = len(plain_text(wanted.prompt))
        if self._length is not None and letters > LONGEST_TOKEN * self._length:
            raise _too_long(self._length, f"{letters} letters")
        try:
            tokens = self.tokens(self._render(wanted.prompt))
        except EquipoiseError as error:
            raise RequestProblem(400, str(error), "invalid_request", param="messages") from error
        if self._length is None:
            return replace(wanted, prompt_tokens=tokens)
        if tokens >= self._length:
            raise _too_long(self._length, f"at least {tokens} tokens")
        return replace(wanted, prompt_tokens=tokens, max_new_tokens=min(wanted.max_new_tokens, self._length - tokens))


def plain_text(prompt: Prompt) -> str:
    """All texts of a prompt."""
    return "\n".join([*([prompt.system] if prompt.system else []), *(message.text for message in prompt.messages)])


def _too_long(length: int, size: str) -> RequestProblem:
    message = f"expected messages that leave room for a reply in this model's context of {length} tokens, got {size}"
    return RequestProblem(400, message, "context_length_exceeded", param="messages")

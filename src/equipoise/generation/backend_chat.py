"""`BackendChat`: a served model as a `ChatModel`, so that it can be the writer, a victim or a held-out victim."""

from __future__ import annotations

from collections.abc import Sequence

from equipoise.errors import ModelError
from equipoise.judges.llm_interface import Backend, CompletionRequest
from equipoise.types import Exchange, Prompt


class BackendChat:
    """Replies of a backend. A request that failed is an exchange with an error and is never judged.

    Args:
        backend: such as `OpenAIBackend(ServedEndpoint.parse("http://localhost:8000/v1#NAME", temperature=1.0))`.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @property
    def name(self) -> str:
        """The backend's name."""
        return self._backend.name

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        """One exchange for each prompt, in order.

        Raises:
            ModelError: not one of several requests was answered.
        """
        requests = [CompletionRequest(prompt.messages, max_new_tokens, system=prompt.system) for prompt in prompts]
        exchanges = []
        for prompt, completion in zip(prompts, self._backend.complete(requests), strict=True):
            if completion.failure is not None:
                exchanges.append(Exchange(prompt, "", "error", self.name, error=f"the model {completion.failure}"))
            else:
                finish = "length" if completion.cut else "stop"
                exchanges.append(Exchange(prompt, completion.text, finish, self.name))  # type: ignore[arg-type]
        if exchanges and all(exchange.error for exchange in exchanges):
            raise ModelError(
                f"expected {self.name} to reply, got no reply to {len(exchanges)} prompts ({exchanges[0].error}); "
                "try the address, the key and the name"
            )
        return exchanges

"""inspect's provider `equipoise`: models of this process, with pictures, in dynamic batches."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import anyio
import sniffio
from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    StopReason,
    modelapi,
)
from inspect_ai.tool import ToolChoice, ToolInfo
from typing_extensions import override

from equipoise.audit.engine.batching import Batcher
from equipoise.audit.engine.messages import to_prompt
from equipoise.audit.engine.session import current
from equipoise.errors import UsageError
from equipoise.models.base import OpenModel
from equipoise.types import ChatModel, Exchange, FinishReason, Prompt

BATCH: Final = 32
"""Prompts that run at once where `-M batch_size=N` is not given."""
WINDOW: Final = 0.02
"""Seconds to wait for more prompts when nothing runs."""
MAX_TOKENS: Final = 256
"""Length of a reply where `--max-tokens` is not given."""
STOPS: Final[dict[FinishReason, StopReason]] = {
    "stop": "stop",
    "length": "max_tokens",
    "content_filter": "content_filter",
    "error": "unknown",
}
"""How inspect calls the ends of a reply."""
UNSUPPORTED: Final = (
    "stop_seqs",
    "logit_bias",
    "logprobs",
    "top_logprobs",
    "prompt_logprobs",
    "response_schema",
    "best_of",
    "frequency_penalty",
    "presence_penalty",
)
"""Settings that would change replies and that models of this process do not know."""

Value = TypeVar("Value")


@dataclass(frozen=True)
class _GenerateRequest:
    prompt: Prompt
    max_new_tokens: int


class EquipoiseAPI(ModelAPI):
    """A `ChatModel` behind inspect's interface.

    Args:
        model_name: what `equipoise.models.load` takes: `testbed/llava`, a folder, `org/name@revision`.
        batch_size: prompts that run at once at most; halved by itself when the device is full.
        loaded: a model that is loaded already; None loads one with the first prompt.
        base_url: not used.
        api_key: not used.
        config: inspect's settings.
        **load_args: arguments of `equipoise.models.load`: `device`, `dtype`, `quantize`.
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig = GenerateConfig(),  # noqa: B008 - inspect's own signature
        batch_size: int = BATCH,
        loaded: ChatModel | None = None,
        **load_args: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config)
        session = current.get(None)
        # inspect makes providers by name and cannot be given a loaded model; within an audit the session has it.
        handed = session.target.model if session else None
        self._model = loaded or handed
        self._load_args = load_args
        self._batch_size = int(batch_size)
        self._batches: Batcher[_GenerateRequest, Exchange] = Batcher(
            self._run,
            size=self._batch_size,
            window=WINDOW,
            alike=lambda request: request.max_new_tokens,
            name=f"equipoise/{model_name}",
        )

    @override
    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        """One reply, by greedy decoding, in a batch with whatever else is asked at the time.

        Raises:
            UsageError: sampling, tools or another setting was asked for that would change the reply.
            ModelError: there is no such model, or it cannot be loaded.
        """
        _require_greedy(config, tools)
        prompt = await anyio.to_thread.run_sync(to_prompt, input)
        exchange = await wait(self._batches.submit(_GenerateRequest(prompt, config.max_tokens or MAX_TOKENS)))
        return to_output(exchange, self.model_name)

    @override
    def max_tokens(self) -> int | None:
        """Length of a reply where the user says nothing."""
        return MAX_TOKENS

    @override
    def max_connections(self) -> int:
        """Two batches: one runs while the next one gathers."""
        return 2 * self._batch_size

    @override
    def connection_key(self) -> str:
        """The key of its queue: each model has one of its own."""
        return self.model_name

    @override
    def collapse_user_messages(self) -> bool:
        """Chat templates want users and assistants in turns."""
        return True

    @override
    def close(self) -> None:
        """End the thread and release the model."""
        self._batches.close()
        self._model = None

    def _run(self, requests: Sequence[_GenerateRequest]) -> list[Exchange]:
        if self._model is None:
            # Only now: reading a log makes a model, too, and needs no weights.
            from equipoise.models.load import load

            self._model = load(self.model_name, **self._load_args)
        prompts = [request.prompt for request in requests]
        model = self._model
        if not isinstance(model, OpenModel) or model.reads_pictures:
            return model.generate(prompts, max_new_tokens=requests[0].max_new_tokens)
        # A prompt with a picture fails alone, not with the prompts that happen to share its batch.
        texts = [prompt for prompt in prompts if not prompt.pictures]
        replies = iter(model.generate(texts, max_new_tokens=requests[0].max_new_tokens) if texts else ())
        why = f"{model.name} reads no pictures"
        return [
            Exchange(prompt, "", "error", model.name, error=why) if prompt.pictures else next(replies)
            for prompt in prompts
        ]


@modelapi(name="equipoise")
def equipoise() -> type[ModelAPI]:
    """Local models: `equipoise/testbed/llava`, `equipoise/org/name@revision`, `equipoise//a/folder`."""
    return EquipoiseAPI


def to_output(exchange: Exchange, model_name: str) -> ModelOutput:
    """What a model of this process replied, as inspect's output.

    Raises:
        RuntimeError: there is no reply.
    """
    if exchange.finish == "error":
        raise RuntimeError(exchange.error or "the model gave no reply")
    reply = ChatMessageAssistant(content=exchange.reply, model=model_name, source="generate")
    return ModelOutput(
        model=exchange.model,
        choices=[ChatCompletionChoice(message=reply, stop_reason=STOPS[exchange.finish])],
        metadata={"wire": exchange.wire, "by": exchange.by, "trail": list(exchange.trail)},
    )


async def wait(future: Future[Value]) -> Value:
    """The result of a future that another thread completes; the event loop stays free."""
    if sniffio.current_async_library() == "asyncio":
        return await asyncio.wrap_future(future)
    return await anyio.to_thread.run_sync(future.result, limiter=anyio.CapacityLimiter(1), abandon_on_cancel=True)


def _require_greedy(config: GenerateConfig, tools: Sequence[ToolInfo]) -> None:
    if config.temperature:
        raise UsageError(
            f"expected greedy decoding, got temperature {config.temperature}; try --temperature 0, or leave it out"
        )
    if (config.num_choices or 1) > 1:
        raise UsageError(f"expected one reply, got num_choices {config.num_choices}; try leaving it out")
    given = [name for name in UNSUPPORTED if getattr(config, name, None)]
    if given:
        raise UsageError(f"expected no {given[0]} for a model of this process, got one; try leaving it out")
    if tools:
        raise UsageError(f"expected no tools for a model of this process, got {len(tools)}; try a task without them")


__all__ = ["BATCH", "MAX_TOKENS", "EquipoiseAPI", "equipoise", "to_output", "wait"]

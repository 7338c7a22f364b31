"""Backend of LLM judges on a served model, with limits on concurrency, time and failures.

Needs the extra `served`. Nothing that the server does raises: what fails comes back as a failure in words, and a
refused key ends all further asking at once. How a server is reached and what its errors mean is in `served_models/`.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final

from equipoise.errors import UsageError
from equipoise.judges.llm_interface import TOP, Completion, CompletionRequest, CompletionToken
from equipoise.judges.run_judge import error_line
from equipoise.served_models.backoff import FIRST_PAUSE
from equipoise.served_models.chat_messages import content_text, first_choice, first_message, refusal_text, to_openai
from equipoise.served_models.endpoint import ServedEndpoint
from equipoise.served_models.failures import Failure, NoReplyError, classify
from equipoise.served_models.retries import ask_again, run_in_own_loop
from equipoise.served_models.signals import ending

logger = logging.getLogger(__name__)

MAX_CONSECUTIVE_FAILURES: Final = 20
"""After so many failures in a row the rest of a batch is not asked."""


class OpenAIBackend:
    """A model behind an OpenAI-compatible endpoint."""

    def __init__(
        self,
        endpoint: ServedEndpoint,
        *,
        timeout: float = 60.0,
        concurrency: int = 8,
        pause: float = FIRST_PAUSE,
        raw: bool = False,
    ) -> None:
        """Keep the settings; no connection is made yet.

        Args:
            endpoint: the model.
            timeout: seconds for one reply, all tries together.
            concurrency: requests under way at once, at most.
            pause: seconds before the second try; twice as many before the third. A server's `Retry-After` goes first.
            raw: ask the completions endpoint with whole prompts, for models without a chat template.

        Raises:
            UsageError: a number cannot be.
        """
        if timeout <= 0 or concurrency < 1:
            raise UsageError(
                f"expected a timeout above 0 and at least one request at a time, got {timeout} and {concurrency}; "
                "try 60 and 8"
            )
        self._endpoint = endpoint
        self._timeout, self._concurrency, self._pause, self._raw = timeout, concurrency, pause, raw
        self._hopeless: str | None = None
        self._answered = False

    @property
    def name(self) -> str:
        """The model's name."""
        return self._endpoint.model

    @property
    def recipe(self) -> Mapping[str, Any]:
        """Endpoint without credentials, model and parameters."""
        endpoint = self._endpoint
        temperature = 0 if endpoint.temperature == 0 else endpoint.temperature
        recipe = {"served": endpoint.address, "model": endpoint.model, "temperature": temperature}
        return {**recipe, "top": TOP, "raw": self._raw, **endpoint.changed_settings}

    def complete(self, requests: Sequence[CompletionRequest]) -> list[Completion]:
        """One completion for each request, in order; failures are said in words."""
        if not requests:
            return []
        return run_in_own_loop(lambda: self._complete(requests))

    async def _complete(self, requests: Sequence[CompletionRequest]) -> list[Completion]:
        # Only now: openai takes most of a second to import.
        from equipoise.served_models.openai_client import ServedClient

        failures = 0
        slots = asyncio.Semaphore(self._concurrency)

        async with ServedClient(self._endpoint, timeout=self._timeout) as client:

            async def one(request: CompletionRequest) -> Completion:
                nonlocal failures
                async with slots:
                    if self._hopeless is not None:
                        return Completion(failure=self._hopeless)
                    if failures >= MAX_CONSECUTIVE_FAILURES:
                        return Completion(failure=f"failed {MAX_CONSECUTIVE_FAILURES} times in a row and was not asked")
                    outcome, broken = await self._patiently(client, request)
                    failures = failures + 1 if broken else 0
                    return outcome

            # One request goes ahead of the others, so that a refused key is shown to the server once.
            ahead = 0 if self._answered else 1
            done = [await one(request) for request in requests[:ahead]]
            return done + list(await asyncio.gather(*(one(request) for request in requests[ahead:])))

    async def _patiently(self, client: Any, request: CompletionRequest) -> tuple[Completion, bool]:
        """Ask within the timeout until there is an answer; and whether the server is broken."""
        reply = await ask_again(lambda: self._once(client, request), seconds=self._timeout, pause=self._pause)
        if isinstance(reply, Completion):
            return reply, False
        before = self._in_words(reply.failure) if reply.failure else ""
        if reply.is_late:
            late = f"did not answer within {self._timeout:g} s"
            return Completion(failure=f"{late}; before, it {before}" if before else late), True
        return Completion(failure=before or "did not answer"), reply.is_broken

    async def _once(self, client: Any, request: CompletionRequest) -> Completion | Failure:
        """A completion, or why there is none."""
        endpoint = client.completions if self._raw else client.chat.completions
        try:
            response = await endpoint.with_raw_response.create(**self._fields(request))
            self._answered = True
            return _completion(response.http_response.text, raw=self._raw)
        except Exception as error:  # noqa: BLE001 - the client and what lies below it raise whatever they do
            failure = classify(error)
        if failure.kind == "fatal":
            self._hopeless = self._in_words(failure)
            logger.warning("the judge %s %s", self.name, self._hopeless)
        return failure

    def _fields(self, request: CompletionRequest) -> dict[str, Any]:
        """The request in OpenAI's words; the endpoint adapts it to what the server takes."""
        body: dict[str, Any] = {"model": self.name, "temperature": 0, "max_tokens": request.max_tokens}
        if self._raw:
            prompt = request.raw if request.raw is not None else request.messages[-1].text
            return body | {"prompt": prompt, "logprobs": 5}
        body |= {"messages": to_openai(request.messages, request.system), "logprobs": True, "top_logprobs": TOP}
        if request.template:
            body["extra_body"] = {"chat_template_kwargs": dict(request.template)}
        return body

    def _in_words(self, failure: Failure) -> str:
        """A failure in one short line after "the judge ...", without the key or the URL's credentials."""
        verb = "refused" if failure.kind == "policy" else "gave no answer"
        return error_line(self._endpoint.without_secrets(f"{verb}: {failure.line}"), 180)


def _completion(body: str, *, raw: bool) -> Completion:
    """What a server's body says.

    Raises:
        NoReplyError: it is no completion, or one that holds no answer.
    """
    try:
        document = json.loads(body)
    except ValueError:
        raise NoReplyError(f"something that is no JSON: {error_line(body, 60)!r}") from None
    choice = first_choice(document)
    if not choice:
        raise NoReplyError("a response without choices")
    message = choice if raw else first_message(document)
    if message is None:
        raise NoReplyError("a response without a message")
    refusal = refusal_text(message)
    if refusal is not None:
        raise NoReplyError(f"it refused: {error_line(refusal, 80)!r}", again=False)
    finish = choice.get("finish_reason")
    row = ending(finish) if isinstance(finish, str) else None
    if row is not None and row.means == "refusal":
        raise NoReplyError("its server's content filter stopped it", again=False)
    if row is not None and row.means == "broken":
        raise NoReplyError(f"a reply that ended with finish reason {error_line(str(finish), 40)!r}")
    content = message.get("text") if raw else message.get("content")
    if not isinstance(content, str | list):
        raise NoReplyError("a response without text")
    text = content_text(content)
    tokens = _tokens(choice.get("logprobs"), raw=raw)
    if "".join(token.text for token in tokens) != text:
        tokens = _aligned(tokens, text)
    return Completion(text, tokens, cut=row is not None and row.means == "length")


def _tokens(log_probs: Any, *, raw: bool) -> tuple[CompletionToken, ...]:
    """Tokens with their log-probabilities, where a server gives them in the form of the API it claims to have."""
    try:
        if raw:
            pairs = zip(log_probs["tokens"], log_probs["top_logprobs"], strict=True)
            return tuple(
                CompletionToken(str(text), {str(t): float(p) for t, p in (top or {}).items()}) for text, top in pairs
            )
        return tuple(
            CompletionToken(
                str(item["token"]), {str(top["token"]): float(top["logprob"]) for top in item["top_logprobs"]}
            )
            for item in log_probs["content"]
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        return ()


def _aligned(tokens: tuple[CompletionToken, ...], text: str) -> tuple[CompletionToken, ...]:
    """Tokens put to their places where a server drops blanks or control tokens from the text; none if that fails."""
    placed: list[CompletionToken] = []
    end = 0
    for token in tokens:
        piece = token.text.strip()
        if not piece:
            continue
        start = text.find(piece, end)
        if start < 0 or text[end:start].strip():
            break
        placed.append(CompletionToken(text[end : start + len(piece)], token.top))
        end = start + len(piece)
    return tuple(placed)

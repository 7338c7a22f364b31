"""Backend of LLM judges on an OpenAI-compatible endpoint, with limits on concurrency, time and failures.

Needs the extra `served`. Nothing that the server does raises: what fails comes back as a failure in words, and a
refused key ends all further asking at once.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import logging
import re
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from urllib.parse import urlsplit, urlunsplit

from equipoise.errors import MissingExtraError, UsageError
from equipoise.judges.llm_interface import TOP, Completion, CompletionRequest, CompletionToken, CompletionTurn
from equipoise.judges.llm_judge import LLMJudge
from equipoise.judges.rubric import HARM, REFUSAL, RubricQuestion
from equipoise.judges.run_judge import error_line
from equipoise.media.encode import png_data_url

logger = logging.getLogger(__name__)

MAX_ATTEMPTS: Final = 3
"""The first and at most two more."""
MAX_CONSECUTIVE_FAILURES: Final = 20
"""After so many failures in a row the rest of a batch is not asked."""
FATAL_STATUSES: Final = frozenset({401, 403, 404})
"""What will not change for the next request: a refused key, a forbidden or an unknown model."""
RETRY_STATUSES: Final = frozenset({408, 409, 425, 429})
"""What may go better the next time, besides every 5xx."""


class OpenAIBackend:
    """A model behind an OpenAI-compatible endpoint."""

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key: str | None = None,
        timeout: float = 60.0,
        concurrency: int = 8,
        pause: float = 0.5,
        raw: bool = False,
    ) -> None:
        """Keep the settings; no connection is made yet.

        Args:
            url: base URL, such as `http://localhost:8000/v1`.
            model: the name under which the server knows the model.
            api_key: sent as bearer token; part of no identity and of no message.
            timeout: seconds for one reply, all tries together.
            concurrency: requests under way at once, at most.
            pause: seconds before the second try; twice as many before the third. A server's `Retry-After` goes first.
            raw: ask the completions endpoint with whole prompts, for models without a chat template.

        Raises:
            UsageError: the URL or a number cannot be.
            MissingExtraError: the extra `served` is not installed.
        """
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"expected a URL with http or https, got {_bare(url)!r}; try http://localhost:8000/v1")
        if not model.strip():
            raise UsageError("expected the name of a served model, got none; try http://localhost:8000/v1#NAME")
        if timeout <= 0 or concurrency < 1:
            raise UsageError(
                f"expected a timeout above 0 and at least one request at a time, got {timeout} and {concurrency}; "
                "try 60 and 8"
            )
        if importlib.util.find_spec("openai") is None:
            raise MissingExtraError("pip install 'equipoise[served]'")
        self.model = model
        self._url, self._key = url, api_key
        self._timeout, self._concurrency, self._pause, self._raw = timeout, concurrency, pause, raw
        self._hopeless: str | None = None
        self._answered = False
        self._log_probs = True
        self._limit = "max_tokens"

    @property
    def name(self) -> str:
        """The model's name."""
        return self.model

    @property
    def recipe(self) -> Mapping[str, Any]:
        """Endpoint without credentials, model and parameters."""
        return {"served": _bare(self._url), "model": self.model, "temperature": 0, "top": TOP, "raw": self._raw}

    def complete(self, requests: Sequence[CompletionRequest]) -> list[Completion]:
        """One completion for each request, in order; failures are said in words."""
        if not requests:
            return []
        # A loop of its own in a thread of its own: the caller may be inside a running one.
        with ThreadPoolExecutor(1, thread_name_prefix="judge") as pool:
            return pool.submit(lambda: asyncio.run(self._complete(requests))).result()

    async def _complete(self, requests: Sequence[CompletionRequest]) -> list[Completion]:
        import openai

        options: dict[str, Any] = {"max_retries": 0, "timeout": self._timeout}
        failures = 0
        slots = asyncio.Semaphore(self._concurrency)

        async with openai.AsyncOpenAI(base_url=self._url, api_key=self._key or "none", **options) as client:

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
        """Ask until there is an answer, at most three times and within the timeout; and whether the server is broken.

        A server that says no to one request, as to a text that is too long for it, is not broken.
        """
        failure = "did not answer"
        try:
            async with asyncio.timeout(self._timeout):
                for tried in range(MAX_ATTEMPTS):
                    outcome = await self._once(client, request)
                    if isinstance(outcome, Completion):
                        return outcome, False
                    failure, again = outcome
                    if again is None:
                        return Completion(failure=failure), False
                    if tried + 1 < MAX_ATTEMPTS:
                        await asyncio.sleep(again or self._pause * 2**tried)
        except TimeoutError:
            late = f"did not answer within {self._timeout:g} s"
            failure = late if failure == "did not answer" else f"{late}; before, it {failure}"
        return Completion(failure=failure), True

    async def _once(self, client: Any, request: CompletionRequest) -> Completion | tuple[str, float | None]:
        """A completion, or why there is none with the seconds to wait (0: as usual; None: do not try again)."""
        import openai

        endpoint = client.completions if self._raw else client.chat.completions
        try:
            response = await endpoint.with_raw_response.create(**self._body(request))
            self._answered = True
            return _completion(response.http_response.text, raw=self._raw)
        except openai.APIStatusError as error:
            return self._refused(error.status_code, str(error.message), error.response.headers)
        except openai.APITimeoutError:
            return f"did not answer within {self._timeout:g} s", 0.0
        except openai.APIConnectionError as error:
            return f"broke the connection: {self._clean(error.__cause__ or error)}", 0.0
        except (openai.OpenAIError, ValueError, UnicodeError) as error:
            return f"answered with something unreadable: {self._clean(error)}", 0.0

    def _refused(self, status: int, message: str, headers: Mapping[str, str]) -> tuple[str, float | None]:
        failure = f"answered with HTTP {status}: {self._clean(message)}"
        if status in FATAL_STATUSES:
            self._hopeless = failure
            logger.warning("the judge %s %s", self.model, failure)
            return failure, None
        if status in (400, 422) and self._log_probs and "logprob" in message.lower():
            self._log_probs = False
            return failure, 0.0
        if status in (400, 422) and self._limit == "max_tokens" and "max_completion_tokens" in message:
            self._limit = "max_completion_tokens"
            return failure, 0.0
        if status in RETRY_STATUSES or status >= 500:
            return failure, _seconds(headers.get("retry-after"))
        return failure, None

    def _body(self, request: CompletionRequest) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.model, "temperature": 0, self._limit: request.max_tokens}
        if self._raw:
            body |= {"prompt": request.raw if request.raw is not None else request.turns[-1].text}
            return body | ({"logprobs": 5} if self._log_probs else {})
        body["messages"] = [_message(turn) for turn in request.turns]
        if request.template:
            body["extra_body"] = {"chat_template_kwargs": dict(request.template)}
        return body | ({"logprobs": True, "top_logprobs": TOP} if self._log_probs else {})

    def _clean(self, what: object) -> str:
        """A message in one short line without the key or the URL's credentials."""
        text = str(what) or type(what).__name__
        parts = urlsplit(self._url)
        for secret in (self._key, parts.password):
            if secret:
                text = text.replace(secret, "***")
        return error_line(text, 160)


def served_judge(
    url: str,
    model: str,
    *,
    api_key: str | None = None,
    questions: tuple[RubricQuestion, ...] = (REFUSAL, HARM),
    pictures: bool = False,
    timeout: float = 60.0,
    concurrency: int = 8,
) -> LLMJudge:
    """A served model as judge; arguments as of `OpenAIBackend` and `LLMJudge`."""
    backend = OpenAIBackend(url, model, api_key=api_key, timeout=timeout, concurrency=concurrency)
    return LLMJudge(backend, questions, pictures)


def _bare(url: str) -> str:
    """A URL without credentials, query and fragment."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))


def _seconds(header: str | None) -> float:
    """What `Retry-After` says, where it says a number of seconds."""
    return float(header) if header and re.fullmatch(r"\d+(?:\.\d+)?", header.strip()) else 0.0


def _message(turn: CompletionTurn) -> dict[str, Any]:
    if not turn.images:
        return {"role": turn.role, "content": turn.text}
    parts: list[dict[str, Any]] = []
    for image in turn.images:
        parts.append({"type": "image_url", "image_url": {"url": png_data_url(image.convert("RGB"))}})
    return {"role": turn.role, "content": [*parts, {"type": "text", "text": turn.text}]}


def _completion(body: str, *, raw: bool) -> Completion | tuple[str, float | None]:
    """What a server's body says; anything that is no completion is a failure."""
    try:
        document = json.loads(body)
    except ValueError:
        return f"answered with something that is no JSON: {error_line(body, 60)!r}", 0.0
    choices = document.get("choices") if isinstance(document, dict) else None
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return "answered without choices", 0.0
    choice = choices[0]
    message = choice if raw else choice.get("message")
    if not isinstance(message, dict):
        return "answered without a message", 0.0
    refusal = message.get("refusal")
    if isinstance(refusal, str) and refusal.strip():
        return f"refused: {error_line(refusal, 80)!r}", None
    if choice.get("finish_reason") == "content_filter":
        return "was stopped by its server's content filter", None
    text = message.get("text" if raw else "content")
    if not isinstance(text, str):
        return "answered without text", 0.0
    tokens = _tokens(choice.get("logprobs"), raw=raw)
    if "".join(token.text for token in tokens) != text:
        tokens = _aligned(tokens, text)
    return Completion(text, tokens, cut=choice.get("finish_reason") == "length")


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

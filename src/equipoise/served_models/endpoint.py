"""A served model: its address, name, key, and what is sent beside the messages of a request."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Self
from urllib.parse import urlsplit, urlunsplit

from equipoise.errors import MissingExtraError, UsageError
from equipoise.served_models.parameters import ParameterSupport

KEY_VARIABLE: Final = "EQUIPOISE_API_KEY"
"""Environment variable with the key of an `http://` target. No provider's own variable is read for these, so that a
key for one provider never reaches another host."""
MaxTokensField = Literal["max_tokens", "max_completion_tokens", "none"]
"""The field that limits the length of a reply; `none` sends no limit."""
MAX_TOKENS_FIELDS: Final[tuple[MaxTokensField, ...]] = ("max_tokens", "max_completion_tokens", "none")
TOKEN: Final = re.compile(r"(?=\S*\d)\S{8,}")
"""A secret that may be taken out of a reply, too: a header's value may be a word that the reply needs."""
OWN_FIELDS: Final = frozenset({"messages", "prompt", "model", "stream", "temperature", *MAX_TOKENS_FIELDS})
"""Fields of a request that `extra_body` must not set: each has an argument or an option of its own."""


@dataclass(frozen=True)
class ServedEndpoint:
    """A model behind an OpenAI-compatible endpoint.

    Raises:
        UsageError: the URL, the name or a parameter cannot be.
        MissingExtraError: the extra `served` is not installed.
    """

    url: str
    """Base URL, such as `http://localhost:8000/v1`."""
    model: str
    """The name under which the server knows the model."""
    api_key: str | None = field(default=None, repr=False)
    """Sent as bearer token; part of no recipe and of no message. None sends a dummy, which servers without keys
    ignore."""
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Headers of every request. They may hold secrets: recipes and messages show their names only."""
    extra_body: Mapping[str, Any] = field(default_factory=dict)
    """Fields added to the body of every request."""
    temperature: float | None = 0.0
    """Sampling temperature; None sends none, for servers that take no other than their own."""
    max_tokens_field: MaxTokensField | None = None
    """The field for the length limit; None means `max_tokens`, until the server asks for the other one."""
    parameters: ParameterSupport = field(default_factory=ParameterSupport, repr=False, compare=False)
    """What this server turned out not to take; kept as long as the object, so that it is learned once."""

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise UsageError(f"expected a URL with http or https, got {self.address!r}; try http://localhost:8000/v1")
        if not self.model.strip():
            raise UsageError("expected the name of a served model, got none; try http://localhost:8000/v1#NAME")
        if self.temperature is not None and not 0 <= self.temperature <= 2:
            raise UsageError(f"expected a temperature from 0 to 2, got {self.temperature}; try 0, or none")
        reserved = sorted(OWN_FIELDS & set(self.extra_body))
        if reserved:
            raise UsageError(f"expected fields that are not set otherwise, got {reserved[0]!r}; try its own option")
        if importlib.util.find_spec("openai") is None:
            raise MissingExtraError("pip install 'equipoise[served]'")

    @classmethod
    def parse(cls, name: str, **settings: Any) -> Self:
        """The endpoint of `URL#MODEL`.

        Args:
            name: what the user wrote.
            **settings: further fields.

        Raises:
            UsageError: no model is named; and as of the class.
        """
        url, _, model = name.rpartition("#")
        if not url or not model:
            bare = name.rstrip("#")
            raise UsageError(f"expected URL#MODEL, got a URL without a model; try {bare}#NAME")
        return cls(url, model, **settings)

    @property
    def address(self) -> str:
        """The URL without credentials, query and fragment."""
        parts = urlsplit(self.url)
        host = parts.netloc.rpartition("@")[2]
        return urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))

    @property
    def changed_settings(self) -> dict[str, Any]:
        """What differs from the defaults and may decide a reply, without secrets; JSON."""
        return {
            **({"extra_body": dict(self.extra_body)} if self.extra_body else {}),
            **({"max_tokens_field": self.max_tokens_field} if self.max_tokens_field else {}),
            **({"headers": sorted(self.headers)} if self.headers else {}),
        }

    def body(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        """The body of a request as this server takes it.

        Args:
            fields: the body in OpenAI's words, with `max_tokens` and `temperature`.
        """
        # Order of precedence: the user's `extra_body` over what we add, and the options of their own (temperature,
        # limit) over both. What the server has refused before is left out last.
        body = {**fields, **_continuation(fields), **self.extra_body}
        if self.temperature is None:
            body.pop("temperature", None)
        elif "temperature" in body:
            body["temperature"] = self.temperature
        if self.max_tokens_field is not None:
            limits = [body.pop(name) for name in ("max_tokens", "max_completion_tokens") if name in body]
            if limits and self.max_tokens_field != "none":
                body[self.max_tokens_field] = limits[0]
        return self.parameters.adapt(body)

    @property
    def tokens(self) -> list[str]:
        """Secrets that are no words: key, password and values of headers that have a digit and no blank."""
        return [secret for secret in self._secrets if TOKEN.fullmatch(secret)]

    @property
    def _secrets(self) -> list[str]:
        return [secret for secret in (self.api_key, urlsplit(self.url).password, *self.headers.values()) if secret]

    def without_secrets(self, text: str) -> str:
        """A text in which the key, the password in the URL and the values of headers are `***`."""
        for secret in self._secrets:
            if len(secret) > 3:
                text = text.replace(secret, "***")
        return text


def _continuation(fields: Mapping[str, Any]) -> dict[str, Any]:
    """What asks a server to continue the last message, where that is the assistant's.

    vLLM and SGLang begin a new reply otherwise. Servers that always continue it, or never do, do not know the fields;
    they are left out after the first error.
    """
    messages = fields.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else None
    if isinstance(last, Mapping) and last.get("role") == "assistant":
        return {"continue_final_message": True, "add_generation_prompt": False}
    return {}


def parse_headers(values: list[str]) -> dict[str, str]:
    """Headers of `NAME=VALUE` each.

    Raises:
        UsageError: another form, or letters that no header may have.
    """
    headers = {}
    for value in values:
        name, equals, content = value.partition("=")
        name = name.strip()
        # The value may be a secret: the message shows the name only.
        if not equals or not name or not all(letter.isalnum() or letter in "!#$%&'*+-.^_`|~" for letter in name):
            raise UsageError("expected a header as NAME=VALUE, got another form; try X-Team=safety")
        if not content.isascii() or not content.isprintable():
            raise UsageError(f"expected a header of printable ASCII, got another {name}; try X-Team=safety")
        headers[name] = content.strip()
    return headers


def parse_extra_body(text: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        UsageError: it is none.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"expected a JSON object, got {text[:80]!r} ({error}); try '{{\"top_k\": 1}}'") from error
    if not isinstance(value, dict):
        raise UsageError(f"expected a JSON object, got {text[:80]!r}; try '{{\"top_k\": 1}}'")
    return value


def parse_temperature(text: str) -> float | None:
    """A number from 0 to 2, or `none`, which sends no temperature.

    Raises:
        UsageError: another text.
    """
    if text.strip().lower() == "none":
        return None
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"expected a temperature or none, got {text!r}; try 0") from None

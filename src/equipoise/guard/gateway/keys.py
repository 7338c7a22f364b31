"""Clients' keys: kept as hashes, each with its policy and its requests a minute."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from equipoise.errors import UsageError
from equipoise.guard.gateway.errors import RequestProblem
from equipoise.guard.policy import Policy
from equipoise.guard.policy import load as load_policy
from equipoise.toml_file import read


class ClientKey(BaseModel):
    """One client."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """Of the key."""
    policy: str | None = None
    """A policy file, from the file of keys; None is the gateway's."""
    requests_per_minute: Annotated[int, Field(gt=0)] | None = None
    """None is no limit."""


_WHAT: Final = "a file of keys"
_HINT: Final = "`equipoise guard key NAME`, or a line `[keys]` to let nobody in"


class _KeysFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    keys: dict[str, ClientKey]
    """Required: an empty file is one that an editor is about to write, or one that was emptied by mistake."""


@dataclass(frozen=True)
class Client:
    """The client of a request: its name and its policy."""

    name: str | None
    """Of the key; None without keys."""
    policy: Policy
    """What is done about its requests."""


@dataclass
class ClientKeys:
    """All clients; nobody else is let in, unless no key is needed."""

    known: Mapping[str, ClientKey] | None
    """By name; None lets everybody in, an empty mapping nobody."""
    policies: Mapping[str, Policy]
    """By name of the key."""
    policy: Policy
    """Of everybody else."""
    _limiter: Any = field(default=None, repr=False)

    @property
    def are_needed(self) -> bool:
        """Whether only clients with a key are let in."""
        return self.known is not None

    @property
    def read_pictures(self) -> bool:
        """Whether any policy has the text in pictures read."""
        return any(policy.pictures.read_text for policy in (self.policy, *self.policies.values()))

    @classmethod
    def load(cls, file: Path | None, policy: Policy) -> ClientKeys:
        """Read the keys.

        Raises:
            UsageError: no such file, or one that is none; or a policy of it that is none.
        """
        if file is None:
            return cls(None, {}, policy)
        file_keys = read(_KeysFile, file, _WHAT, _HINT)
        own = {name: load_policy(file.parent / key.policy) for name, key in file_keys.keys.items() if key.policy}
        return cls(file_keys.keys, own, policy)

    def with_counts_of(self, previous: ClientKeys) -> ClientKeys:
        """These keys with the request counts of others, so that a reload of the file resets no limit."""
        return replace(self, _limiter=previous._limiter)

    def client(self, authorization: str | None) -> Client:
        """Who asks, by the request's header.

        Raises:
            Problem: nobody who is known, or one who asks too often.
        """
        if self.known is None:
            return Client(None, self.policy)
        name = self.name(authorization)
        if name is None:
            raise RequestProblem(401, "expected a key of this gateway as a bearer token", "invalid_api_key")
        self._count(name, self.known[name], 1)
        return Client(name, self.policies.get(name, self.policy))

    def name(self, authorization: str | None) -> str | None:
        """Whose key a request's header holds; None where it is nobody's."""
        given = (authorization or "").strip()
        scheme, _, rest = given.partition(" ")
        # RFC 9110, section 11.1: the name of the scheme has no case.
        given = rest.strip() if scheme.lower() == "bearer" else given
        digest = hashlib.sha256(given.encode(errors="surrogatepass")).hexdigest()
        # All keys are compared, each in constant time, so that the time of an answer tells nothing about a key.
        matching = [name for name, key in (self.known or {}).items() if secrets.compare_digest(key.sha256, digest)]
        return matching[0] if matching else None

    def count_more(self, client: Client, requests: int) -> None:
        """Count further requests of a client: one request may stand for several.

        Raises:
            RequestProblem: they are too many.
        """
        key = (self.known or {}).get(client.name or "")
        if key is not None and client.name is not None and requests > 0:
            self._count(client.name, key, requests)

    def _count(self, name: str, key: ClientKey, requests: int) -> None:
        if key.requests_per_minute is None:
            return
        from limits import RateLimitItemPerMinute
        from limits.storage import MemoryStorage
        from limits.strategies import SlidingWindowCounterRateLimiter

        if self._limiter is None:
            self._limiter = SlidingWindowCounterRateLimiter(MemoryStorage())
        if not self._limiter.hit(RateLimitItemPerMinute(key.requests_per_minute), name, cost=requests):
            message = f"at most {key.requests_per_minute} requests a minute"
            raise RequestProblem(429, message, "rate_limit_exceeded", {"retry-after": "10"})


def policy_files(file: Path) -> list[Path]:
    """The policies that a file of keys names, wherever they lie; none where it cannot be read."""
    try:
        keys = read(_KeysFile, file, _WHAT, _HINT).keys
    except UsageError:
        return []
    return sorted({file.parent / key.policy for key in keys.values() if key.policy})


def credential(headers: Mapping[str, str]) -> str | None:
    """The value of `authorization`; of clients of Azure and Anthropic the key in `api-key` or `x-api-key`."""
    key = headers.get("api-key") or headers.get("x-api-key")
    return headers.get("authorization") or (f"Bearer {key}" if key else None)


def new(name: str) -> tuple[str, str]:
    """A new key, and the lines of the file of keys that let it in.

    Raises:
        UsageError: a name that is none.
    """
    if not name.replace("-", "").replace("_", "").isalnum() or not name.isascii():
        raise UsageError(f"expected a name of letters, digits, - and _, got {name!r}; try team-a")
    key = f"eq-{secrets.token_urlsafe(32)}"
    return key, f'[keys.{name}]\nsha256 = "{hashlib.sha256(key.encode()).hexdigest()}"\n'

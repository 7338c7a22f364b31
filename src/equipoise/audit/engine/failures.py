"""Why no reply came: a policy, something that will not go away, or something that may.

A refusal is never a failure: an error that names a policy is told from all others by its code, so that neither a
wrong key nor a full queue can ever count as a refusal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from equipoise.audit.engine.batching import out_of_memory
from equipoise.errors import EquipoiseError, ModelError

FailureKind = Literal["policy", "fatal", "unreachable", "transient", "broken"]
"""`policy`: the server refused. `fatal`: the next prompt will fail like this one. `unreachable`: nobody is there; worth
a second try, but not one for each prompt. `transient`: worth a second try. `broken`: this prompt only."""

POLICY_CODE: Final = re.compile(
    r"content[_ ]?(?:filter|policy|management)|moderation|policy[_ ]?violation|responsible ?ai|^(?:bio|cyber)_policy$"
    r"|^invalid_prompt$|data_inspection_failed|^safety",
    re.IGNORECASE,
)
"""Codes and types of errors by which servers say that a policy stopped a prompt."""
POLICY_WORDS: Final = re.compile(
    r"(?=.*\b(?:blocked|rejected|flagged|violat\w+|refused)\b)(?=.*\b(?:polic(?:y|ies)|safety|moderation|guidelines)\b)",
    re.IGNORECASE | re.DOTALL,
)
"""What the message of a bad request says where the server gives no code of its own."""
NOT_POLICY: Final = (401, 402, 404, 407, 408, 409, 429)
"""Statuses that are about the caller, the place or the pace, whatever their text says."""
OUT_OF_MONEY: Final = re.compile(r"insufficient_quota|billing", re.IGNORECASE)
UNREACHABLE: Final = ("ConnectError", "ConnectionRefusedError", "gaierror")
TIMED_OUT: Final = (
    "AttemptTimeoutError",
    "StreamIdleTimeoutError",
    "APITimeoutError",
    "TimeoutException",
    "TimeoutError",
)
BROKEN_LINE: Final = ("APIConnectionError", "TransportError", "ConnectionError")
WRAPPERS: Final = ("RetryError", "ModelGenerateError")
"""Errors that say nothing themselves."""
DEEP: Final = 12
"""How far a chain of causes is followed."""


@dataclass(frozen=True)
class Failure:
    """Why no reply came."""

    kind: FailureKind
    """What to do about it."""
    line: str
    """In one line, for people."""
    text: str = ""
    """What the server said."""
    retry_after: float | None = None
    """Seconds the server asks to wait."""

    @property
    def again(self) -> bool:
        """Whether another try may cure it."""
        return self.kind in ("transient", "unreachable")

    @property
    def hopeless(self) -> bool:
        """Whether the next prompt will most likely fail like this one."""
        return self.kind in ("fatal", "unreachable")


class NoReplyError(Exception):
    """A response came, but no reply is in it.

    Args:
        why: in one line.
        again: whether another try may cure it.
    """

    def __init__(self, why: str, *, again: bool = True) -> None:
        super().__init__(why)
        self.again = again


def classify(error: BaseException) -> Failure:
    """What kind of failure an error is, whatever library raised it."""
    chain = list(_chain(error))
    names = {kind.__name__ for each in chain for kind in type(each).__mro__}
    statuses = [status for each in chain if isinstance(status := getattr(each, "status_code", None), int)]
    bodies = [body for each in chain if isinstance(body := getattr(each, "body", None), Mapping)]
    if statuses:
        return _of_status(statuses[0], bodies[0] if bodies else {}, chain)
    found = next((each for each in chain if type(each).__name__ not in WRAPPERS), error)
    ours = next((each for each in chain if isinstance(each, EquipoiseError)), None)
    if ours is not None:
        fatal = isinstance(ours, ModelError) and not out_of_memory(ours)
        return Failure("fatal" if fatal else "broken", line(ours))
    if isinstance(found, NoReplyError):
        return Failure("transient" if found.again else "broken", line(found))
    if names & set(TIMED_OUT):
        return Failure("transient", f"timed out ({line(found)})")
    if names & set(UNREACHABLE):
        return Failure("unreachable", f"cannot connect ({line(_named(chain, UNREACHABLE))})")
    if names & set(BROKEN_LINE):
        return Failure("transient", f"the connection broke ({line(_named(chain, BROKEN_LINE))})")
    if names & {"OpenAIResponseError", "JSONDecodeError", "TypeError", "KeyError", "AttributeError", "ValueError"}:
        return Failure("transient", f"a response that cannot be read ({line(found)})")
    return Failure("broken", line(found))


def names_policy(body: Mapping[str, Any], text: str = "") -> bool:
    """Whether the body of an error says that a policy stopped the prompt.

    Args:
        body: the error, with or without the `error` around it.
        text: its message, where the body does not hold it.
    """
    error = body.get("error", body)
    if not isinstance(error, Mapping):
        error = {}
    inner = error.get("innererror")
    codes = [error.get("code"), error.get("type"), inner.get("code") if isinstance(inner, Mapping) else None]
    if any(isinstance(code, str) and POLICY_CODE.search(code) for code in codes):
        return True
    return bool(POLICY_WORDS.search(f"{error.get('message') or ''} {text}"))


def line(error: BaseException) -> str:
    """An error in one line of bounded length."""
    text = " ".join(str(error).split())
    kind = type(error).__name__
    return (text if isinstance(error, EquipoiseError | NoReplyError) else f"{kind}: {text}" if text else kind)[:300]


def _of_status(status: int, body: Mapping[str, Any], chain: list[BaseException]) -> Failure:
    said = _message(body) or " ".join(str(chain[-1]).split())
    text = f"HTTP {status}: {said[:240]}"
    if 400 <= status < 500 and status not in NOT_POLICY and names_policy(body):
        return Failure("policy", text, said)
    if status in (401, 402, 403, 404, 405, 407) or (status == 429 and OUT_OF_MONEY.search(str(dict(body)))):
        return Failure("fatal", text, said)
    if status in (408, 409, 425, 429) or status >= 500:
        return Failure("transient", text, said, _retry_after(chain))
    return Failure("broken", text, said)


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    each: BaseException | None = error
    while each is not None and id(each) not in seen and len(seen) < DEEP:
        seen.add(id(each))
        yield each
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)


def _named(chain: list[BaseException], names: tuple[str, ...]) -> BaseException:
    """The innermost error of a kind: libraries wrap what the machine says into less."""
    return [each for each in chain if {kind.__name__ for kind in type(each).__mro__} & set(names)][-1]


def _message(body: Mapping[str, Any]) -> str:
    error = body.get("error", body)
    said = error.get("message") if isinstance(error, Mapping) else error
    return " ".join(str(said).split()) if said else ""


def _retry_after(chain: list[BaseException]) -> float | None:
    for each in chain:
        headers = getattr(getattr(each, "response", None), "headers", None)
        try:
            return max(0.0, float(headers["retry-after"])) if headers else None
        except (KeyError, ValueError):
            return None
    return None

"""Classifies errors that came instead of a reply: a policy, a permanent failure, or a transient one.

A refusal is never a failure: an error by which a policy stopped a prompt is told from all others by the table of
`signals`, never by words like "violates" and "policy", so that neither a wrong key nor a full queue nor an
organisation that forbids a model can ever count as a refusal.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Literal

from equipoise.errors import EquipoiseError, ModelError, out_of_memory
from equipoise.served_models.error_bodies import parsed, words
from equipoise.served_models.signals import find

FailureKind = Literal["policy", "fatal", "unreachable", "transient", "broken"]
"""`policy`: the server refused. `fatal`: the next prompt will fail like this one. `unreachable`: nobody is there; worth
a second try, but not one for each prompt. `transient`: worth a second try. `broken`: this prompt only."""

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
"""Exceptions that only wrap the one that matters."""
FATAL: Final = frozenset({401, 402, 403, 404, 405, 407})
"""HTTP statuses that the next prompt will get, too, unless the body says otherwise."""
TRANSIENT: Final = frozenset({408, 409, 425, 429})
"""HTTP statuses that are transient, as are all from 500 on."""
BUSY: Final = frozenset({429, 503, 529})
"""HTTP statuses by which servers ask for fewer requests; 529 is Anthropic's."""
LINE: Final = 240
"""Characters of a server's message in one line."""
TEXT: Final = 2000
"""Characters of a server's message in a record."""
DEEP: Final = 12
"""How far a chain of causes is followed."""


@dataclass(frozen=True)
class Failure:
    """Why no reply came."""

    kind: FailureKind
    """What follows from it."""
    line: str
    """In one line, for people."""
    text: str = ""
    """The server's message."""
    retry_after: float | None = None
    """Seconds the server asks to wait."""
    is_busy: bool = False
    """Whether the server said that it gets more requests than it can take (429, 503, 529)."""

    @property
    def again(self) -> bool:
        """Whether another try may cure it."""
        return self.kind in ("transient", "unreachable")

    @property
    def permanent(self) -> bool:
        """Whether this prompt will fail again however often it is sent, while others pass: its 4xx, its picture."""
        return self.kind == "broken"

    @property
    def persistent(self) -> bool:
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
    names = {kind.__name__ for exception in chain for kind in type(exception).__mro__}
    statuses = [status for exception in chain if isinstance(status := getattr(exception, "status_code", None), int)]
    body = _body(chain)
    # The status decides before the text of the error: a message may quote anything, also the words of another error.
    if statuses:
        return _of_status(statuses[0], body, chain)
    if body and (signal := find(body)) is not None and signal.means == "refusal":
        # An error in the middle of a stream, after its status was sent.
        return Failure("policy", words(body)[:LINE], words(body)[:TEXT])
    cause = next((exception for exception in chain if type(exception).__name__ not in WRAPPERS), error)
    ours = next((exception for exception in chain if isinstance(exception, EquipoiseError)), None)
    if ours is not None:
        fatal = isinstance(ours, ModelError) and not out_of_memory(ours)
        return Failure("fatal" if fatal else "broken", line(ours))
    if isinstance(cause, NoReplyError):
        return Failure("transient" if cause.again else "broken", line(cause))
    if names & set(TIMED_OUT):
        return Failure("transient", f"timed out ({line(cause)})")
    if names & set(UNREACHABLE):
        return Failure("unreachable", f"cannot connect ({line(_named(chain, UNREACHABLE))})")
    if names & set(BROKEN_LINE):
        return Failure("transient", f"the connection broke ({line(_named(chain, BROKEN_LINE))})")
    if names & {"OpenAIResponseError", "JSONDecodeError", "TypeError", "KeyError", "AttributeError", "ValueError"}:
        return Failure("transient", f"a response that cannot be read ({line(cause)})")
    return Failure("broken", line(cause))


def line(error: BaseException) -> str:
    """An error in one line of bounded length."""
    text = " ".join(str(error).split())
    kind = type(error).__name__
    return (text if isinstance(error, EquipoiseError | NoReplyError) else f"{kind}: {text}" if text else kind)[:300]


def _of_status(status: int, body: Any, chain: list[BaseException]) -> Failure:
    message = words(body) or " ".join(str(chain[-1]).split())
    text = f"HTTP {status}: {message[:LINE]}"
    signal = find(body, status)
    if signal is not None:
        # A row of the table beats the status: 400 with a content-filter code is a refusal, 429 with
        # "insufficient_quota" is no moment's overload, and 403 may be either.
        if signal.means == "busy":
            return Failure("transient", text, message[:TEXT], _retry_after(chain), is_busy=True)
        kinds: dict[str, FailureKind] = {"refusal": "policy", "fatal": "fatal"}
        return Failure(kinds.get(signal.means, "broken"), text, message[:TEXT])
    if status in FATAL:
        return Failure("fatal", text, message[:TEXT])
    if status in TRANSIENT or status >= 500:
        return Failure("transient", text, message[:TEXT], _retry_after(chain), status in BUSY)
    return Failure("broken", text, message[:TEXT])


def _body(chain: list[BaseException]) -> Any:
    """The body of the first response in a chain: whole, as it came, or what the client of the server left of it."""
    for error in chain:
        try:
            text = error.response.text  # type: ignore[attr-defined]
        except Exception:  # noqa: BLE001 - no response, or one that was never read
            text = None
        if isinstance(text, str) and text.strip():
            return parsed(text)
    return next((body for error in chain if (body := getattr(error, "body", None))), None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    visited: set[int] = set()
    exception: BaseException | None = error
    while exception is not None and id(exception) not in visited and len(visited) < DEEP:
        visited.add(id(exception))
        yield exception
        # As Python prints a traceback: `raise ... from x` names the cause, `from None` hides the context.
        exception = exception.__cause__ or (None if exception.__suppress_context__ else exception.__context__)


def _named(chain: list[BaseException], names: tuple[str, ...]) -> BaseException:
    """The innermost error of a kind: libraries wrap the operating system's error into one that says less."""
    return [exception for exception in chain if {kind.__name__ for kind in type(exception).__mro__} & set(names)][-1]


def _retry_after(chain: list[BaseException]) -> float | None:
    for exception in chain:
        # The innermost exception has the response; those around it have none.
        headers = getattr(getattr(exception, "response", None), "headers", None)
        with suppress(KeyError, ValueError, TypeError):
            return max(0.0, float(headers["retry-after"]))  # type: ignore[index]
    return None

"""Reads a reply or a refusal, in each of its forms on the wire, from inspect's output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from inspect_ai.model import ContentReasoning, ContentText, ModelOutput

from equipoise.served_models.chat_messages import (
    called_tools,
    first_choice,
    first_message,
    only_calls,
    refusal_text,
    reply_text,
    thought_text,
)
from equipoise.served_models.error_bodies import messages, words
from equipoise.served_models.error_texts import error_body, error_in_text
from equipoise.served_models.failures import LINE, TEXT, NoReplyError
from equipoise.served_models.reasoning_traces import trace_and_reply
from equipoise.served_models.signals import ending, filtered, find
from equipoise.types import FinishReason, Wire

FINISHES: Final[dict[str, FinishReason]] = {
    "stop": "stop",
    "tool_calls": "stop",
    "function_call": "stop",
    "max_tokens": "length",
    "model_length": "length",
    "content_filter": "content_filter",
}


@dataclass(frozen=True)
class ReceivedReply:
    """A reply, without the model that gave it."""

    text: str
    """What the user reads."""
    finish: FinishReason
    """How it ended."""
    wire: Wire
    """In which form it arrived."""
    by: str = "model"
    """Who spoke last."""
    reasoning: str = ""
    """The trace before it."""
    detail: str = ""
    """The server's message beside it, or what countermeasures did before it."""


def read_reply(
    output: ModelOutput, call: Mapping[str, Any] | None = None, failed: bool = False, prompt: str = ""
) -> ReceivedReply:
    """The reply in an output of inspect's.

    Args:
        output: what a provider made of the response.
        call: the raw response, where inspect kept it.
        failed: whether that response was an error, which providers turn into an output.
        prompt: what was asked; it may have asked for a text that looks like an error.

    Raises:
        NoReplyError: there is none: no choices, an error that names no policy, a reply that was cut off.
    """
    if not output.choices:
        blocked = _stopped(call)
        if blocked is not None:
            return blocked
        raise _no_reply(call) or NoReplyError(output.error or "the response holds no choices")
    if failed:
        message = messages(call) or " ".join(output.message.text.split()) or words(call)
        signal = find(call or output.message.text)
        if signal is not None and signal.means == "refusal":
            return ReceivedReply("", "content_filter", "policy_error", by="server", detail=message[:TEXT])
        raise NoReplyError(f"an error instead of a reply: {message[:LINE]}", again=False)
    text, reasoning, refused = _content(output, first_message(call))
    metadata = output.metadata or {}
    trail = "\n".join(map(str, metadata.get("trail") or ()))
    finish = FINISHES.get(output.stop_reason) or _own_spelling(call, text)
    if refused:
        return ReceivedReply(text, finish, "refusal_field", reasoning=reasoning)
    if finish == "stop":
        stopped = _stopped_beside(call, text, reasoning)
        if stopped is not None:
            return stopped
    if finish == "content_filter":
        form: Wire = metadata.get("wire") or "content_filter"
        form = form if form != "text" else "content_filter"
        return ReceivedReply(text, finish, form, metadata.get("by", "model"), reasoning, trail or _spelling(call))
    if metadata.get("by", "model") == "model" and (error := error_in_text(text, prompt)) is not None:
        return _said_as_text(text, error)
    if only_calls(text):
        trail, text = trail or f"the reply only calls tools: {' '.join(text.split())}"[:TEXT], ""
    if not text.strip():
        # Nothing was said to the user: the judges have nothing to read, and the record says why.
        trail = trail or _why_empty(call)
    return ReceivedReply(text, finish, metadata.get("wire", "text"), metadata.get("by", "model"), reasoning, trail)


def _said_as_text(text: str, error: str) -> ReceivedReply:
    """The refusal in an error that came as the text of a reply.

    Raises:
        NoReplyError: the error names no policy.
    """
    signal = find(error_body(text) or text.strip())
    if signal is not None and signal.means == "refusal":
        return ReceivedReply("", "content_filter", "policy_error", by="server", detail=error[:TEXT])
    # Only what is this prompt's own fault is permanent: an empty account fails for every prompt.
    again = signal is None or signal.means != "broken"
    raise NoReplyError(f"an error as the text of a reply: {error[:LINE]}", again=again)


def _why_empty(call: Mapping[str, Any] | None) -> str:
    """What stands in a response without text: the tools that it calls, or an unknown finish reason."""
    if called := called_tools(first_message(call) or {}):
        return f"the reply only calls {', '.join(dict.fromkeys(called))}"[:TEXT]
    unknown = [reason for reason in _finish_reasons(call) if reason not in (*FINISHES, "length")]
    return f"finish reason {unknown[0]}"[:TEXT] if unknown else ""


def _stopped(call: Mapping[str, Any] | None) -> ReceivedReply | None:
    """The refusal in a response without choices: a prompt that a filter stopped, an error with status 200."""
    if any(filtered(reason) for reason in _finish_reasons(call)):
        return ReceivedReply("", "content_filter", "content_filter", by="server", detail=_spelling(call))
    return _refusal_in(call, "", "")


def _stopped_beside(call: Mapping[str, Any] | None, text: str, reasoning: str) -> ReceivedReply | None:
    """The refusal that stands beside a reply which ended like any other: a gateway lost the finish reason.

    What counts with text in the reply is the finish reason of the server behind the gateway alone; without any, also an
    error or the verdict of a filter, in the choice or around it.

    Raises:
        NoReplyError: an error stands there that names no policy: the reply is a part of one, or none.
    """
    if any(filtered(reason) for reason in _finish_reasons(call)):
        return ReceivedReply(text, "content_filter", "content_filter", "model", reasoning, _spelling(call))
    choice = first_choice(call)
    around = {name: value for name, value in (call or {}).items() if name not in ("choices", "usage", "message")}
    beside = {**around, **{name: value for name, value in choice.items() if name != "message"}}
    error = choice.get("error") or around.get("error")
    if not text.strip() and (stopped := _refusal_in(beside, text, reasoning)) is not None:
        return stopped
    if isinstance(error, Mapping | str) and error:
        raise NoReplyError(f"an error instead of a reply: {words({'error': error})[:LINE]}")
    return None


def _refusal_in(body: Mapping[str, Any] | None, text: str, reasoning: str) -> ReceivedReply | None:
    signal = find(body) if body else None
    if signal is None or signal.means != "refusal":
        return None
    message = messages(body)
    if signal.form == "path":
        message = ": ".join(filter(None, [f"{'.'.join(signal.path)} {signal.value}", message]))
    return ReceivedReply(text, "content_filter", "content_filter", "server", reasoning, message[:TEXT])


def _no_reply(call: Mapping[str, Any] | None) -> NoReplyError | None:
    """Why a response with status 200 is no reply: the error or the message in it; None where it holds neither."""
    error = call.get("error") if call else None
    if not error:
        message = messages(call)[:LINE] if call else ""
        return NoReplyError(f"the response holds no choices: {message}") if message else None
    signal = find({"error": error})
    again = signal is None or signal.means == "busy"
    return NoReplyError(f"an error instead of a reply: {words({'error': error})[:LINE]}", again=again)


def _content(output: ModelOutput, message: Mapping[str, Any] | None) -> tuple[str, str, bool]:
    """Text, reasoning, and whether the text came in the field for refusals.

    inspect takes whatever stands in that field for a refusal, even nothing. Many servers send it empty with every
    reply, so that it counts only where text stands in it; then the raw message holds the text of the reply.
    """
    content = output.message.content
    texts = [] if isinstance(content, str) else [part for part in content if isinstance(part, ContentText)]
    text = content if isinstance(content, str) else "\n".join(part.text for part in texts)
    thoughts = (
        "" if isinstance(content, str) else "\n".join(p.reasoning for p in content if isinstance(p, ContentReasoning))
    )
    marked = any(part.refusal for part in texts)
    if message is None:
        # A log without raw responses: a refusal that inspect found text in has it among the details of its stop.
        details = output.choices[0].stop_details
        refused = marked and details is not None and bool((details.explanation or "").strip())
    else:
        refusal = refusal_text(message)
        refused = refusal is not None
        beside = reply_text(message)
        if refusal is not None:
            # Words beside a refusal reached the user, too: judges of harm shall see them.
            text = "\n".join(dict.fromkeys(part for part in (beside, refusal) if part.strip()))
        elif marked or not isinstance(message.get("content"), str | None) or not text.strip():
            # inspect shows a list of parts as Python does, and reads no sound.
            text = beside
            thoughts = thoughts or thought_text(message.get("content"))
    trace, text = trace_and_reply(text)
    return text, "\n".join(filter(None, [thoughts, trace])), refused


def _own_spelling(call: Mapping[str, Any] | None, text: str) -> FinishReason:
    """A finish reason that inspect does not know."""
    choice = first_choice(call)
    reason = choice.get("finish_reason")
    if isinstance(reason, str):
        row = ending(reason)
        if row is None:
            return "stop"
        if row.means == "refusal" or (row.means == "broken" and _is_stopped(choice)):
            return "content_filter"
        if row.means == "length":
            return "length"
        message = words({"error": choice["error"]}) if choice.get("error") else ""
        raise NoReplyError(
            f"the response ended with finish reason {reason!r}{': ' + message[:LINE] if message else ''}"
        )
    if not text.strip() or (call is not None and "choices" in call):
        raise NoReplyError("the response has no finish reason: it was cut off")
    return "stop"


def _is_stopped(choice: Mapping[str, Any]) -> bool:
    """Whether a choice that ended in an error ended at a filter, by the reason of the server behind a gateway."""
    native = choice.get("native_finish_reason")
    if isinstance(native, str) and filtered(native):
        return True
    signal = find({"error": choice["error"]}) if choice.get("error") else None
    return signal is not None and signal.means == "refusal"


def _finish_reasons(call: Mapping[str, Any] | None) -> list[str]:
    """The gateway's finish reason, and that of the server behind it."""
    choice = first_choice(call)
    reasons = (choice.get("finish_reason"), choice.get("native_finish_reason"))
    return [reason for reason in reasons if isinstance(reason, str)]


def _spelling(call: Mapping[str, Any] | None) -> str:
    """The finish reason of a filter where it has a name of its own, and the error in its choice, for people."""
    choice = first_choice(call)
    named = [reason for reason in _finish_reasons(call) if filtered(reason)]
    spelled = f"finish reason {named[0]}" if named and named[0] != "content_filter" else ""
    message = messages({"error": choice["error"]}) if choice.get("error") else ""
    return ": ".join(filter(None, [spelled, message]))[:TEXT]

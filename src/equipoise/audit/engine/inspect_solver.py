"""The inspect solver that sends a prompt, with bounded retries on transient errors and none after a refusal."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import anyio
from inspect_ai.event import ModelEvent
from inspect_ai.log import transcript
from inspect_ai.model import ChatMessageAssistant, Model, ModelOutput, get_model
from inspect_ai.solver import Generate, Solver, TaskState, solver

from equipoise.audit.engine.provider import STOPS, wait
from equipoise.audit.engine.received_reply import ReceivedReply, read_reply
from equipoise.audit.engine.session import CollectionSession, current
from equipoise.audit.records import ReplyRow
from equipoise.served_models.backoff import FIRST_PAUSE, Backoff
from equipoise.served_models.failures import Failure, classify


@dataclass(frozen=True)
class _Attempt:
    """One prompt sent once."""

    reply: ReceivedReply | None
    failure: Failure | None
    output: ModelOutput | None = None


@solver(name="ask")
def reply_solver() -> Solver:
    """Send a sample's prompt and keep the reply, in whichever form it came, under `reply` in the metadata.

    In a run of `equipoise audit` a reply from the store is used first, and a new one is stored before judges get it.
    """

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        session = current.get()
        if state.metadata.get("problem"):
            return state
        if session is None:
            return await _ask_alone(state)
        try:
            # A stored error is no reply: the same command asks that prompt again, and the newest row of a key counts.
            row = session.known.get(state.metadata["key"])
            if row is not None and row.error is None:
                session.reused += 1
                _show(state, row)
            else:
                await _ask(session, state)
        except Exception as error:  # noqa: BLE001 - `collect_replies` raises it when the evaluation has ended
            session.abort(error)
            _leave_unasked(session, state)
        return state

    return solve


async def _ask_alone(state: TaskState) -> TaskState:
    """For users who run inspect themselves: inspect's own retries and error handling apply."""
    began = time.monotonic()
    model = get_model()
    tried = await _try(model, state)
    if tried.reply is None:
        raise RuntimeError(tried.failure.line if tried.failure else "no reply")
    row = row_of_reply(str(state.sample_id), tried.reply, str(model), time.monotonic() - began, tried.output)
    _note(state, row, tried.output)
    return state


async def _ask(session: CollectionSession, state: TaskState) -> None:
    if session.reachable:
        await _ask_unless_over(session, state)
        return
    # Until one prompt got through, prompts go one at a time. The flag is read again inside the lock, since the prompt
    # that held it before may have set it; all that waited then go on side by side, outside of the lock.
    async with session.first_request:
        if not session.reachable:
            await _ask_unless_over(session, state)
            return
    await _ask_unless_over(session, state)


async def _ask_unless_over(session: CollectionSession, state: TaskState) -> None:
    if session.fatal is not None:
        _leave_unasked(session, state)
        return
    began = time.monotonic()
    backoff = Backoff(FIRST_PAUSE)
    tries, waited = 0, 0.0
    while True:
        tries += 1
        # The connection is given back during a pause, so that a prompt that waits does not block the others. A reply is
        # stored before the connection is free again: a kill loses at most the prompts in flight.
        async with session.in_flight:
            request = session.in_flight.begin()
            tried = await _try(get_model(), state)
            failure = tried.failure
            if failure is None:
                session.in_flight.grow()
            # AIMD, as in TCP: one more at once after a whole round of replies, half as many when the server says that
            # it is busy. `request` is its number: of all requests that were under way when it was lowered,
            # only one lowers it.
            elif failure.is_busy:
                session.in_flight.shrink(request)
            # Both must be used up, tries *and* time: a server that is restarted refuses connections within
            # milliseconds, and three tries would be over before it is up.
            over = tries > session.retries and waited >= session.max_wait
            if failure is None or not failure.again or session.fatal is not None or over:
                await _keep(session, state, tried, tries, time.monotonic() - began)
                return
        pause = backoff.seconds(failure.retry_after)
        if tries > session.retries:
            # The last try comes when the stated time is over, not a long pause later.
            pause = min(pause, session.max_wait - waited)
        waited += pause
        await anyio.sleep(pause)


async def _keep(session: CollectionSession, state: TaskState, tried: _Attempt, tries: int, seconds: float) -> None:
    """Store the reply or the error of the last try."""
    key, endpoint = state.metadata["key"], session.target.endpoint
    if tried.reply is not None:
        reply = tried.reply
        if endpoint is not None:
            reply = replace(reply, detail=endpoint.without_secrets(reply.detail))
        row = row_of_reply(key, reply, session.target.who, seconds, tried.output)
        session.record_reply()
    else:
        failure = tried.failure or Failure("broken", "no reply")
        if endpoint is not None:
            # Servers quote what they were sent, and the row goes into reports.
            failure = replace(failure, line=endpoint.without_secrets(failure.line))
        session.record_failure(failure)
        row = row_of_failure(key, failure, session.target.who, seconds, tries)
    # Stored before it is judged: a reply has cost money and time, a verdict can be had again at any time.
    await wait(session.replies.submit(row))
    _note(state, row, tried.output)
    # A reply is counted by the scorer, when it has its verdict; a failure has none and is counted here.
    if row.error is not None:
        session.count_done()


def _leave_unasked(session: CollectionSession, state: TaskState) -> None:
    session.not_sent += 1
    state.metadata["unasked"] = session.fatal


async def _try(model: Model, state: TaskState) -> _Attempt:
    try:
        output = await model.generate(state.messages)
        response, failed = _last_call()
        reply = read_reply(output, response, failed, last_request(state))
        return _Attempt(continuation(reply, state.metadata.get("prefill") or ""), None, output)
    except Exception as error:  # noqa: BLE001 - providers raise whatever their libraries do
        failure = classify(error)
        if failure.kind == "policy":
            return _Attempt(ReceivedReply("", "content_filter", "policy_error", by="server", detail=failure.text), None)
        return _Attempt(None, failure)


def last_request(state: TaskState) -> str:
    """The text of the last message of the user; empty where there is none."""
    return next((message.text for message in reversed(state.messages) if message.role == "user"), "")


def continuation(reply: ReceivedReply, prefill: str) -> ReceivedReply:
    """The reply without the beginning that was sent: some servers return both together."""
    if prefill and reply.text.startswith(prefill):
        return replace(reply, text=reply.text[len(prefill) :].lstrip())
    return reply


def _last_call() -> tuple[Mapping[str, Any] | None, bool]:
    """The raw response to the last request of this sample, and whether it was an error."""
    for event in reversed(transcript().events):
        if isinstance(event, ModelEvent):
            return (event.call.response, bool(event.call.error)) if event.call else (None, False)
    return None, False


def row_of_failure(key: str, failure: Failure, who: str, seconds: float, tries: int = 1) -> ReplyRow:
    """The row of a prompt that got no reply."""
    why = failure.line + (f" (tried {tries} times)" if tries > 1 else "")
    permanent = failure.permanent
    return ReplyRow(key, "", "error", "text", who, error=why, seconds=round(seconds, 3), permanent=permanent)


def row_of_reply(key: str, reply: ReceivedReply, who: str, seconds: float, output: ModelOutput | None) -> ReplyRow:
    """The row of a prompt that got one."""
    usage = output.usage if output is not None else None
    return ReplyRow(
        key=key,
        reply=reply.text,
        finish=reply.finish,
        wire=reply.wire,
        model=who,
        by=reply.by,
        reasoning=reply.reasoning,
        seconds=round(seconds, 3),
        detail=reply.detail,
        input_tokens=usage.input_tokens if usage else None,
        output_tokens=usage.output_tokens if usage else None,
    )


def _note(state: TaskState, row: ReplyRow, output: ModelOutput | None) -> None:
    """Put a new reply where scorers and inspect's viewer look for it."""
    state.metadata["reply"] = asdict(row)
    if output is not None and output.choices:
        state.output = output
        state.messages.append(output.message)
    else:
        _say(state, row)


def _show(state: TaskState, row: ReplyRow) -> None:
    """Put a reply from the store where scorers and inspect's viewer look for it."""
    state.metadata["reply"] = asdict(row)
    _say(state, row)


def _say(state: TaskState, row: ReplyRow) -> None:
    text = row.reply if row.error is None else ""
    state.output = ModelOutput.from_content(row.model, text, STOPS[row.finish], error=row.error)
    if row.error is None:
        state.messages.append(ChatMessageAssistant(content=text, model=row.model))

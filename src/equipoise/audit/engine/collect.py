"""`collect_replies`: prompts to a model, replies to a judge, everything into append-only stores.

One call is one evaluation of inspect's, with a task for each variant and suite, whose logs its viewer opens. What makes
a run resumable is not those logs but the stores: a row is on the disk before the next step begins.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from inspect_ai import Task, eval
from inspect_ai.dataset import MemoryDataset
from inspect_ai.log import EvalLog
from inspect_ai.model import Model, get_model
from inspect_ai.solver import TaskState

from equipoise import __version__
from equipoise.audit.append_only_log import AppendOnlyLog
from equipoise.audit.engine.inspect_isolation import outside_any_loop, restore_handlers
from equipoise.audit.engine.inspect_solver import reply_solver
from equipoise.audit.engine.messages import to_inspect
from equipoise.audit.engine.provider import BATCH
from equipoise.audit.engine.scorers import harm, refusal
from equipoise.audit.engine.session import (
    CollectionOutcome,
    CollectionSession,
    EvaluationTarget,
    IdentifiedJudge,
    ProgressSink,
    current,
)
from equipoise.audit.records import ReplyRow, SampleRow, VerdictRow
from equipoise.errors import EquipoiseError, UsageError
from equipoise.served_models.endpoint import ServedEndpoint
from equipoise.types import Sample

CONNECTIONS: Final = 10
"""Default number of prompts in flight at a server."""
TASKS: Final = 4
"""Suites evaluated side by side, so that the slow end of one does not hold up the next."""
SERVED: Final = "openai-api/served/"
"""inspect's provider for any server that speaks OpenAI's protocol."""


def collect_replies(
    rows: Sequence[tuple[SampleRow, Sample]],
    target: EvaluationTarget,
    *,
    replies: AppendOnlyLog[ReplyRow],
    verdicts: AppendOnlyLog[VerdictRow],
    judge: IdentifiedJudge,
    logs: Path,
    max_new_tokens: int = 256,
    connections: int | None = None,
    timeout: float | None = None,
    retries: int = 2,
    max_wait: float = 0.0,
    progress: ProgressSink | None = None,
) -> CollectionOutcome:
    """Send the prompts that have no reply yet, and judge the replies that have no verdict yet.

    A row with a reply in its store is not sent again; one whose reply failed is. Rows with a `problem` are left alone.

    Args:
        rows: what to send, each row with its sample.
        target: the model under test.
        replies: store of replies; read first, appended to with each reply.
        verdicts: store of verdicts; read first, appended to with each verdict.
        judge: whose verdicts are written.
        logs: folder for inspect's logs.
        max_new_tokens: length of a reply at most.
        connections: prompts in flight at once; None is 10 for a server, and two batches for a model of this process.
        timeout: seconds that one try may take, rounded up to whole ones; None is as long as it takes.
        retries: how often a prompt that failed is sent again; a refusal never is.
        max_wait: seconds for which a prompt is sent again beyond `retries` while the server is busy, broken or away.
        progress: called after each sample, from the thread that runs the evaluation.

    Returns:
        What was done; `fatal` says why it ended early, if it did.

    Raises:
        UsageError: an unusable target, or stores that somebody edited.
        OutputError: the disk is full; what was written before is whole.
        KeyboardInterrupt: the user stopped it; the same call goes on from there.
    """
    connection_count = _connection_count(target, connections)
    earlier = {row.key: row for row in replies.rows()}
    sendable = [(row, sample) for row, sample in rows if row.sample.problem is None]
    # Left are: prompts never asked, those with an error that the user has not accepted, and replies that this judge has
    # not seen. Accepted failures and finished rows are not sent again, whatever the command. A permanent failure that
    # is not accepted is: a server may have been changed since, and the user asks for it with the same command.
    unfinished = unfinished_keys([row for row, _ in sendable], earlier, verdicts, judge.identity)
    left = [(row, sample) for row, sample in sendable if row.key in unfinished]
    session = CollectionSession(
        target,
        judge,
        stored_replies=earlier,
        replies=replies,
        verdicts=verdicts,
        total=len(sendable),
        done=len(sendable) - len(left),
        retries=retries,
        max_wait=max_wait,
        connections=connection_count,
        progress=progress,
    )
    session.reused = len(sendable) - len(left)
    session.report()
    if left:
        options = _options(target, max_new_tokens, connection_count, timeout)
        # inspect builds solver and scorers by name from its registry and passes no objects to them. They find the
        # session in this context variable, which tasks and threads of the evaluation inherit.
        token = current.set(session)
        try:
            outside_any_loop(lambda: _evaluate(target, _tasks(left), logs, options))
        finally:
            current.reset(token)
            session.close()
    if session.error is not None:
        raise session.error
    learned = target.endpoint.parameters.notes if target.endpoint else []
    return replace(session.outcome, notes=tuple(learned))


def unfinished_keys(
    rows: Sequence[SampleRow], earlier: Mapping[str, ReplyRow], verdicts: AppendOnlyLog[VerdictRow], judge: str
) -> set[str]:
    """The keys of rows that lack their reply, or the verdict of a judge on it.

    Args:
        rows: that can be sent.
        earlier: stored replies by key.
        verdicts: store of verdicts.
        judge: identity of the judge.
    """
    judged = {row.key for row in verdicts.rows() if row.judge == judge}
    return {
        row.key
        for row in rows
        if row.key not in earlier
        or earlier[row.key].pending
        or (earlier[row.key].error is None and row.key not in judged)
    }


def _tasks(rows: Sequence[tuple[SampleRow, Sample]]) -> list[Task]:
    groups: dict[tuple[str, str], list[tuple[SampleRow, Sample]]] = {}
    for row, sample in rows:
        groups.setdefault((row.variant, row.sample.suite), []).append((row, sample))
    return [
        Task(
            dataset=MemoryDataset(
                [to_inspect(sample, {"key": row.key, "variant": variant}) for row, sample in group], name=suite
            ),
            solver=reply_solver(),
            scorer=[refusal(), harm()],
            cleanup=_leave,
            name=f"{suite}-{variant}".replace("/", "-"),
            metadata={"suite": suite, "variant": variant, "equipoise": __version__},
        )
        for (variant, suite), group in groups.items()
    ]


async def _leave(state: TaskState) -> None:
    """After the last sample the model's connections are closed, in the event loop that opened them."""
    session = current.get()
    if session is not None and session.end_sample():
        await get_model().api.aclose()


def _evaluate(target: EvaluationTarget, tasks: list[Task], logs: Path, options: dict[str, Any]) -> None:
    with restore_handlers():
        model = _model(target)
        task_logs = eval(
            tasks,
            model=model,
            log_dir=str(logs.resolve()),
            log_format="eval",
            # Raw responses: they tell apart forms of a refusal that inspect's own words do not.
            log_model_api=True,
            log_images=True,
            log_realtime=False,
            log_refusals=False,
            log_level="critical",
            log_header_only=True,
            display="none",
            score_display=False,
            ctl_server=False,
            # One broken sample must not end the evaluation; what the solver could not finish is counted in
            # `unaccounted`.
            fail_on_error=False,
            max_tasks=min(TASKS, len(tasks)),
            **options,
        )
    _check(task_logs, len(tasks))


def _check(task_logs: Sequence[EvalLog], tasks: int) -> None:
    """Whether every sample came to its end; inspect itself returns quietly when the user stops it."""
    session = current.get()
    if session is None or session.error is not None or not session.unaccounted:
        return
    broken = next((log.error for log in task_logs if log.error is not None), None)
    if broken is not None:
        raise EquipoiseError(f"the evaluation broke: {' '.join(broken.message.split())[:300]}")
    if len(task_logs) < tasks or any(log.status == "cancelled" for log in task_logs):
        raise KeyboardInterrupt
    raise EquipoiseError(
        f"{session.unaccounted} samples ended with an error of the evaluation; try `inspect view` on its logs"
    )


def _connection_count(target: EvaluationTarget, connections: int | None) -> int:
    """How many prompts may be in flight at once."""
    if connections is not None and connections < 1:
        raise UsageError(f"expected at least 1 connection, got {connections}; try 10")
    return connections or (2 * BATCH if target.model is not None else CONNECTIONS)


def _options(target: EvaluationTarget, max_new_tokens: int, connections: int, timeout: float | None) -> dict[str, Any]:
    if timeout is not None and timeout <= 0:
        raise UsageError(f"expected a timeout above 0 seconds, got {timeout}; try 60")
    return {
        "max_connections": connections,
        # Twice the connections: some samples are judged while others wait for their reply.
        "max_samples": 2 * connections,
        "max_tokens": max_new_tokens,
        "temperature": 0.0,
        # Tries are counted in the solver: inspect and the client of a server would each add their own.
        "max_retries": 0,
        "attempt_timeout": None if timeout is None else math.ceil(timeout),
        **target.settings,
    }


def _model(target: EvaluationTarget) -> Model:
    """Inspect's model of a target."""
    try:
        if target.model is not None:
            return get_model(f"equipoise/{target.name}", memoize=False, **target.args)
        spec = target.spec or target.name
        if spec.startswith(("http://", "https://")):
            return _served(spec, target)
        own = {"max_retries": 0} if spec.startswith(("openai/", "openai-api/")) else {}
        return get_model(spec, memoize=False, **{**own, **target.args})
    except EquipoiseError:
        raise
    except Exception as error:
        text = " ".join(str(getattr(error, "message", error)).split())
        raise UsageError(
            f"expected a model that inspect can reach, got {target.spec or target.name!r} ({text[:300]}); "
            "try http://host:port/v1#NAME, or openai/NAME with its key in the environment"
        ) from error


def _served(spec: str, target: EvaluationTarget) -> Model:
    """Inspect's provider for OpenAI's protocol, with the client that judges use, too."""
    from equipoise.served_models.openai_client import ServedClient

    key = os.environ.get(target.key_variable)
    endpoint = target.endpoint or ServedEndpoint.parse(spec, api_key=key)
    arguments: Mapping[str, Any] = {"api_key_var": target.key_variable, "max_retries": 0, **target.args}
    model = get_model(SERVED + endpoint.model, base_url=endpoint.url, api_key=key or "none", memoize=False, **arguments)
    api: Any = model.api
    # inspect makes its client in `initialize`, again whenever an evaluation begins.
    api._create_client = lambda: ServedClient(endpoint, http_client=api.http_client, **api.model_args)
    api.initialize()
    _take_none(api)
    return model


def _take_none(api: Any) -> None:
    """Let a response without choices or messages, whose body says why, come through; inspect breaks on `null`."""
    read = api.chat_choices_from_completion

    def choices(completion: Any, tools: Any) -> list[Any]:
        completion.model = completion.model or ""
        completion.choices = [choice for choice in completion.choices or () if getattr(choice, "message", None)]
        return list(read(completion, tools)) if completion.choices else []

    api.chat_choices_from_completion = choices

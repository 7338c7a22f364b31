"""Moderation scores in the format of OpenAI's API: `/v1/moderations`, and the field `moderation` of chat completions.

The harm detector scores texts, and the text in pictures, with the threshold of the output rail; the picture guard
scores pictures. As in OpenAI's API, a text, and each text of a list, is one input with one result, and a list of parts
with pictures among them is a single input.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from equipoise.guard.decision import GuardDecision
from equipoise.guard.gateway.blobs import aread, picture_url
from equipoise.guard.gateway.content_parts import MOST_PARTS
from equipoise.guard.gateway.errors import RequestProblem, unchecked_problem
from equipoise.guard.gateway.gateway_state import GatewayState, RequestLog
from equipoise.guard.gateway.keys import Client
from equipoise.guard.gateway.receipts import Receipts
from equipoise.guard.gateway.replies import ReplyRules
from equipoise.guard.gateway.request_pictures import RequestPictures
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.policy import Policy
from equipoise.guard.taxonomy import OPENAI_CATEGORIES, openai_categories

Part = str | Mapping[str, Any]
"""A text, or a picture in OpenAI's format."""


async def moderate(service: GatewayState, client: Client, body: Mapping[str, Any]) -> dict[str, Any]:
    """The response to a moderation request.

    Raises:
        RequestProblem: no input, or a part of it that cannot be checked; it is recorded first.
        OutputError: the record could not be written.
    """
    log, receipts = RequestLog(client, "/v1/moderations"), Receipts()
    inputs = [_with_paths(index, parts) for index, parts in enumerate(_inputs(body.get("input")))]
    for parts in inputs:
        receipts.expect((path, "text" if _is_text(part) else "picture") for path, part in parts)
    decisions: list[tuple[GuardDecision, str]] = []
    results = []
    try:
        for parts in inputs:
            results.append(await _result(service, client.policy, receipts, decisions, parts))
    except RequestProblem as problem:
        log.status = problem.status
        raise
    except asyncio.CancelledError:
        log.status = 499
        raise
    finally:
        log.decisions = tuple(decisions)
        await service.write(log, receipts)
    name = service.guard.pipeline.detector.name
    return {"id": log.id.replace("chatcmpl", "modr"), "model": name, "results": results}


async def _result(
    service: GatewayState,
    policy: Policy,
    receipts: Receipts,
    decisions: list[tuple[GuardDecision, str]],
    parts: Sequence[tuple[str, Part]],
) -> dict[str, Any]:
    """The result of one input; its decisions are added to `decisions`."""
    pictures = RequestPictures(service, policy, receipts, required=True)
    texts: list[str] = []
    empty = True
    for path, part in parts:
        if not _is_text(part):
            empty = False
            if await pictures.read(path, _url(part)) is None:
                raise RequestProblem(400, pictures.unchecked[-1], "unsupported_content", param="input")
            continue
        content = await aread(str(part))
        empty = empty and content.says_nothing
        texts.append(content.words)
        for kind in sorted({blob.kind for blob in content.blobs}):
            receipts.expect([(f"{path}~{kind}", kind)])
            if kind == "opaque" and kind in ReplyRules(policy).uncheckable_kinds():
                receipts.close(f"{path}~{kind}", "unsupported", "bytes within a text that nobody can read")
                message = f"expected words or pictures in {path}, got bytes that nobody can read"
                raise RequestProblem(400, message, "unsupported_content", param="input")
            receipts.close(f"{path}~{kind}", "skipped", "bytes within a text that hold no words")
    if empty:
        # The detector scores an empty text as harmless, which would be said of something that was never read.
        raise RequestProblem(400, f"expected words or pictures in {parts[0][0]}", "unsupported_content", param="input")
    text = "\n".join(part for part in (*texts, pictures.text) if part)
    # The rail of replies, whose detector was trained to tell harmful text by itself; `rewrite=False`, as a score is
    # asked for and no other text.
    of_input = [await service.check("output", GuardInput(text), policy, always=True, rewrite=False)]
    decisions.append((of_input[0], text))
    for path, part in parts:
        if _is_text(part):
            receipts.close_by_decision(path, of_input[0])
    of_pictures = await pictures.judge("\n".join(texts)) if of_input[0].harm is not None else None
    if of_pictures is not None:
        of_input.append(of_pictures)
        decisions.append((of_pictures, ""))
    for decision in of_input:
        if decision.harm is None:
            raise unchecked_problem(decision.failure or "failed", "input")
    return scored(of_input, policy, {"text" if _is_text(part) else "image" for _, part in parts})


def scored(decisions: Sequence[GuardDecision], policy: Policy, input_types: Iterable[str]) -> dict[str, Any]:
    """A result in OpenAI's shape; the highest score of each kind of harm counts.

    It has `harm`, the kinds that the detector tells, and OpenAI's 13 categories, which typed clients require. A
    category that no kind stands for is false with a score of 0, and its list of applied input types is empty: nobody
    judged it.

    Args:
        decisions: about one input, none of them a failure.
        policy: whose threshold a kind of harm must reach.
        input_types: what was checked, `text` and `image`.
    """
    kinds: dict[str, float] = {}
    for decision in decisions:
        own = dict(decision.scores[0].categories)
        for name, value in ({"harm": decision.harm or 0.0} | own | openai_categories(own)).items():
            kinds[name] = max(value, kinds.get(name, 0.0))
    flagged = any((decision.observed or decision.action) != "allow" for decision in decisions)
    types = sorted(set(input_types), reverse=True)
    values = dict.fromkeys(OPENAI_CATEGORIES, 0.0) | kinds
    return {
        "flagged": flagged,
        "categories": {name: flagged and value >= policy.output.threshold for name, value in values.items()},
        "category_scores": values,
        "category_applied_input_types": {name: types if name in kinds else [] for name in values},
    }


def without_moderation_field(body: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """A chat request without OpenAI's field `moderation`, which the gateway answers, and whether it had the field.

    Raises:
        RequestProblem: the field is neither an object nor null.
    """
    rest = {name: value for name, value in body.items() if name != "moderation"}
    field = body.get("moderation")
    if field is not None and not isinstance(field, Mapping):
        raise RequestProblem(400, "expected moderation: an object", "invalid_request", param="moderation")
    return rest, field is not None


async def moderation_object(
    service: GatewayState,
    policy: Policy,
    request: str,
    replies: Sequence[str],
    decisions: Mapping[str, GuardDecision],
    picture_decision: GuardDecision | None,
) -> dict[str, Any]:
    """The object `moderation` of a chat completion: scores of the request and of the replies.

    A client that asks for scores gets them; only the operator's policy decides what is done.

    Args:
        service: checks the texts that have no decision yet.
        policy: of the client.
        request: all text of the request.
        replies: one text for each choice.
        decisions: existing decisions by their texts.
        picture_decision: of the picture guard about the request.
    """
    name = service.guard.pipeline.detector.name

    async def decided(text: str) -> GuardDecision:
        if text in decisions:
            return decisions[text]
        # A text that a rail has judged already is not judged again: the detector's time is the gateway's bottleneck.
        return await service.check("output", GuardInput(text), policy, always=True, rewrite=False)

    def results_of(inputs: Sequence[Sequence[GuardDecision]]) -> dict[str, Any]:
        if any(decision.harm is None for of_input in inputs for decision in of_input):
            return {"type": "error", "code": "check_failed", "message": "the check failed"}
        results = [
            {
                **scored(of_input, policy, INPUT_TYPES[: len(of_input)]),
                "type": "moderation_result",
                "model": name,
            }
            for of_input in inputs
        ]
        return {"type": "moderation_results", "model": name, "results": results}

    of_request = [await decided(request), *([picture_decision] if picture_decision is not None else [])]
    return {"input": results_of([of_request]), "output": results_of([[await decided(reply)] for reply in replies])}


INPUT_TYPES: Final = ("text", "image")
"""The inputs of a request in the order of its decisions."""


def _with_paths(index: int, parts: Sequence[Part]) -> list[tuple[str, Part]]:
    if len(parts) == 1:
        return [(f"input/{index}", parts[0])]
    return [(f"input/{index}/{number}", part) for number, part in enumerate(parts)]


def _inputs(value: Any) -> list[list[Part]]:
    """Inputs with their parts."""
    if isinstance(value, str):
        return [[value]]
    if not isinstance(value, list) or not value:
        raise RequestProblem(400, "expected input: a text, a list of texts, or a list of parts", "invalid_request")
    if len(value) > MOST_PARTS:
        raise RequestProblem(400, f"expected at most {MOST_PARTS} inputs", "invalid_request", param="input")
    if all(isinstance(item, str) for item in value):
        return [[item] for item in value]
    return [[_part(index, item) for index, item in enumerate(value)]]


def _part(index: int, part: Any) -> Part:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    if isinstance(part, Mapping) and part.get("type") == "image_url":
        return part
    raise RequestProblem(400, f"expected a text or a picture in input/{index}", "invalid_request", param="input")


def _is_text(part: Part) -> bool:
    """Whether a part is text; a text that is nothing but the data URL of a picture is a picture."""
    return isinstance(part, str) and not picture_url(part)


def _url(part: Part) -> str:
    """The URL of a picture; empty if there is none, which is then reported as not checkable."""
    if isinstance(part, str):
        return part.strip()
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, Mapping) else image
    return url if isinstance(url, str) else ""

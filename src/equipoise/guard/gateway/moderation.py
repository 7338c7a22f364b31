"""Moderation in OpenAI's shape: `/v1/moderations`, and the object `moderation` of a chat completion.

Texts, and the text in pictures, are judged by the output rail's rule, pictures by the picture guard. A text, or each of
a list of texts, is an input with a result of its own; a list of parts is one input with one result.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from equipoise.guard.decision import GuardDecision
from equipoise.guard.gateway.blobs import aread, picture_url
from equipoise.guard.gateway.errors import RequestProblem, unchecked_problem
from equipoise.guard.gateway.keys import Client
from equipoise.guard.gateway.receipts import Receipts
from equipoise.guard.gateway.request_pictures import RequestPictures
from equipoise.guard.gateway.state import GatewayState, RequestLog
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.policy import Policy

Part = str | Mapping[str, Any]
"""A text, or a picture as OpenAI's clients send it."""


async def moderate(service: GatewayState, client: Client, body: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a moderation request.

    Raises:
        Problem: no input, or a part of it that cannot be looked at; it is recorded as such first.
        OutputError: the record could not be written.
    """
    made, receipts = RequestLog(client, "/v1/moderations"), Receipts()
    inputs = _inputs(body.get("input"))
    for at, parts in enumerate(inputs):
        receipts.expect((place, "text" if _said(part) else "picture") for place, part in _placed(at, parts))
    decisions: list[tuple[GuardDecision, str]] = []
    results = []
    try:
        for at, parts in enumerate(inputs):
            results.append(await _result(service, client.policy, receipts, decisions, _placed(at, parts)))
    except RequestProblem as problem:
        made.status = problem.status
        raise
    except asyncio.CancelledError:
        made.status = 499
        raise
    finally:
        made.decisions = tuple(decisions)
        await service.write(made, receipts)
    name = service.worker.protector.detector.name
    return {"id": made.id.replace("chatcmpl", "modr"), "model": name, "results": results}


async def _result(
    service: GatewayState,
    policy: Policy,
    receipts: Receipts,
    decisions: list[tuple[GuardDecision, str]],
    placed: Sequence[tuple[str, Part]],
) -> dict[str, Any]:
    """The result of one input."""
    asked = asked_for(policy)
    gallery = RequestPictures(service, asked, receipts)
    words: list[str] = []
    nothing = True
    for place, part in placed:
        if _said(part):
            found = await aread(str(part))
            nothing = nothing and found.says_nothing
            words.append(found.words)
            for kind in sorted({blob.kind for blob in found.blobs}):
                receipts.expect([(f"{place}~{kind}", kind)])
                receipts.close(f"{place}~{kind}", "skipped", "bytes within a text that hold no words")
            continue
        nothing = False
        if await gallery.take(place, _url(part)) is None:
            raise RequestProblem(400, gallery.unseen[-1], "unsupported_content", param="input")
    if nothing:
        # To call it harmless would be to say something about what nobody can read.
        raise RequestProblem(400, f"expected words or pictures in {placed[0][0]}", "unsupported_content", param="input")
    text = "\n".join(each for each in (*words, gallery.text) if each)
    judged = [await service.review(GuardInput(text), asked, rewrite=False)]
    decisions.append((judged[0], text))
    for place, part in placed:
        if _said(part):
            receipts.judged(place, judged[0])
    seen = await gallery.judge("\n".join(words)) if judged[0].harm is not None else None
    if seen is not None:
        judged.append(seen)
        decisions.append((seen, ""))
    for each in judged:
        if each.harm is None:
            raise unchecked_problem(each.failure or "failed", "input")
    return scored(judged, policy, {"text" if _said(part) else "image" for _, part in placed})


def asked_for(policy: Policy) -> Policy:
    """A policy for what a client asks to be judged: it is, whatever the rails do with chats."""
    return policy.model_copy(
        update={
            "mode": "enforce",
            "output": policy.output.model_copy(update={"enabled": True}),
            "pictures": policy.pictures.model_copy(update={"read_text": True}),
        }
    )


def scored(decisions: Sequence[GuardDecision], policy: Policy, sorts: Iterable[str]) -> dict[str, Any]:
    """A result in OpenAI's shape; the highest score of each kind of harm counts.

    Args:
        decisions: about one input, none of them a failure.
        policy: whose threshold a kind of harm must reach.
        sorts: what was looked at, `text` and `image`.
    """
    kinds: dict[str, float] = {}
    for each in decisions:
        for name, value in ({"harm": each.harm or 0.0} | dict(each.scores[0].categories)).items():
            kinds[name] = max(value, kinds.get(name, 0.0))
    flagged = any((each.observed or each.action) != "allow" for each in decisions)
    looked = sorted(set(sorts), reverse=True)
    return {
        "flagged": flagged,
        "categories": {name: flagged and value >= policy.output.threshold for name, value in kinds.items()},
        "category_scores": kinds,
        "category_applied_input_types": dict.fromkeys(kinds, looked),
    }


def wanted(body: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """A chat request without OpenAI's field `moderation`, and whether it had one: it is answered here.

    Raises:
        Problem: the field is neither an object nor null.
    """
    rest = {name: value for name, value in body.items() if name != "moderation"}
    asked = body.get("moderation")
    if asked is not None and not isinstance(asked, Mapping):
        raise RequestProblem(400, "expected moderation: an object", "invalid_request", param="moderation")
    return rest, asked is not None


async def moderation(
    service: GatewayState,
    policy: Policy,
    asked: str,
    replies: Sequence[str],
    known: Mapping[str, GuardDecision],
    looked: GuardDecision | None,
) -> dict[str, Any]:
    """The object `moderation` of a chat completion: scores of what was asked and of what the model said.

    A client that asks for scores gets them, and the operator's policy alone decides what is done.

    Args:
        service: judges what nobody has judged yet.
        policy: of the client.
        asked: all words of the request.
        replies: what the model said, a text for each choice.
        known: decisions that were taken, by their texts.
        looked: what the picture guard decided about the request.
    """
    name = service.worker.protector.detector.name

    async def judged(text: str) -> GuardDecision:
        return known.get(text) or await service.review(GuardInput(text), asked_for(policy), rewrite=False)

    def told(inputs: Sequence[Sequence[GuardDecision]]) -> dict[str, Any]:
        if any(each.harm is None for decisions in inputs for each in decisions):
            return {"type": "error", "code": "check_failed", "message": "the check failed"}
        results = [
            {**scored(decisions, policy, SORTS[: len(decisions)]), "type": "moderation_result", "model": name}
            for decisions in inputs
        ]
        return {"type": "moderation_results", "model": name, "results": results}

    sent = [await judged(asked), *([looked] if looked is not None else [])]
    return {"input": told([sent]), "output": told([[await judged(reply)] for reply in replies])}


SORTS: Final = ("text", "image")
"""What is judged: words first, then pictures."""


def _placed(at: int, parts: Sequence[Part]) -> list[tuple[str, Part]]:
    if len(parts) == 1:
        return [(f"input/{at}", parts[0])]
    return [(f"input/{at}/{number}", part) for number, part in enumerate(parts)]


def _inputs(value: Any) -> list[list[Part]]:
    """Inputs with their parts."""
    if isinstance(value, str):
        return [[value]]
    if not isinstance(value, list) or not value:
        raise RequestProblem(400, "expected input: a text, a list of texts, or a list of parts", "invalid_request")
    if all(isinstance(each, str) for each in value):
        return [[each] for each in value]
    return [[_part(at, each) for at, each in enumerate(value)]]


def _part(at: int, part: Any) -> Part:
    if isinstance(part, str):
        return part
    if isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    if isinstance(part, Mapping) and part.get("type") == "image_url":
        return part
    raise RequestProblem(400, f"expected a text or a picture in input/{at}", "invalid_request", param="input")


def _said(part: Part) -> bool:
    """Whether a part is words; a text that is the data URL of a picture, and nothing else, is a picture."""
    return isinstance(part, str) and not picture_url(part)


def _url(part: Part) -> str:
    """A picture's url; an empty one where there is none, which nobody can look at."""
    if isinstance(part, str):
        return part.strip()
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, Mapping) else image
    return url if isinstance(url, str) else ""

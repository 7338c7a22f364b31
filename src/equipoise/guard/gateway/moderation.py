"""`/v1/moderations` in OpenAI's shape: texts, and the text in pictures, judged by the output rail's rule.

A text, or each of a list of texts, is an input with a result of its own; a list of parts is one input with one result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from equipoise.errors import PictureError
from equipoise.guard.decision import Decision
from equipoise.guard.evidence import Evidence
from equipoise.guard.gateway.errors import Problem
from equipoise.guard.gateway.keys import Client
from equipoise.guard.gateway.receipts import Receipts
from equipoise.guard.gateway.service import Made, Service
from equipoise.guard.policy import Policy

Part = str | Mapping[str, Any]
"""A text, or a picture as OpenAI's clients send it."""


async def moderate(service: Service, client: Client, body: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a moderation request.

    Raises:
        Problem: no input, or a part of it that cannot be looked at; it is recorded as such first.
        OutputError: the record could not be written.
    """
    made, receipts = Made(client, "/v1/moderations"), Receipts()
    inputs = _inputs(body.get("input"))
    for at, parts in enumerate(inputs):
        receipts.expect((place, "text" if isinstance(part, str) else "picture") for place, part in _placed(at, parts))
    decisions: list[tuple[Decision, str]] = []
    results = []
    try:
        for at, parts in enumerate(inputs):
            results.append(await _result(service, client.policy, receipts, decisions, _placed(at, parts)))
    except Problem as problem:
        made.status = problem.status
        raise
    finally:
        made.decisions = tuple(decisions)
        await service.write(made, receipts)
    name = service.worker.protector.detector.name
    return {"id": made.id.replace("chatcmpl", "modr"), "model": name, "results": results}


async def _result(
    service: Service,
    policy: Policy,
    receipts: Receipts,
    decisions: list[tuple[Decision, str]],
    placed: Sequence[tuple[str, Part]],
) -> dict[str, Any]:
    """The result of one input."""
    # Asked for, so judged, whatever the rails do with chats.
    asked = policy.model_copy(update={"mode": "enforce", "output": policy.output.model_copy(update={"enabled": True})})
    words = []
    for place, part in placed:
        try:
            words.append(part if isinstance(part, str) else await _read(service, policy, part))
        except PictureError as error:
            receipts.close(place, "unsupported", str(error))
            raise Problem(400, f"{place}: {error}", "unsupported_content", param="input") from error
    text = "\n".join(words)
    decision = await service.review(Evidence(text), asked, rewrite=False)
    decisions.append((decision, text))
    if decision.harm is None:
        raise Problem(503, "the check failed", "check_failed")
    for place, _ in placed:
        receipts.judged(place, decision)
    kinds = {"harm": decision.harm} | dict(decision.scores[0].categories)
    flagged = decision.action != "allow"
    sorts = sorted({"text" if isinstance(part, str) else "image" for _, part in placed}, reverse=True)
    return {
        "flagged": flagged,
        "categories": {name: flagged and value >= policy.output.threshold for name, value in kinds.items()},
        "category_scores": kinds,
        "category_applied_input_types": dict.fromkeys(kinds, sorts),
    }


def _placed(at: int, parts: Sequence[Part]) -> list[tuple[str, Part]]:
    if len(parts) == 1:
        return [(f"input/{at}", parts[0])]
    return [(f"input/{at}/{number}", part) for number, part in enumerate(parts)]


def _inputs(value: Any) -> list[list[Part]]:
    """Inputs with their parts."""
    if isinstance(value, str):
        return [[value]]
    if not isinstance(value, list) or not value:
        raise Problem(400, "expected input: a text, a list of texts, or a list of parts", "invalid_request")
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
    raise Problem(400, f"expected a text or a picture in input/{at}", "invalid_request", param="input")


async def _read(service: Service, policy: Policy, part: Mapping[str, Any]) -> str:
    """The text in a picture.

    Raises:
        PictureError: it cannot be looked at.
    """
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, Mapping) else image
    if not isinstance(url, str):
        raise PictureError("expected a picture's url")
    # Asked for, so read, whatever the policy does with chats.
    _, text = await service.see(url, policy.pictures.model_copy(update={"read_text": True}))
    return text

"""`/v1/moderations` in OpenAI's shape: texts, and the text in pictures, judged by the output rail's rule."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from equipoise.errors import PictureError
from equipoise.guard.evidence import Evidence
from equipoise.guard.gateway.errors import Problem
from equipoise.guard.gateway.keys import Client
from equipoise.guard.gateway.pictures import look
from equipoise.guard.gateway.receipts import Receipts
from equipoise.guard.gateway.service import Made, Service
from equipoise.guard.policy import Policy


async def moderate(service: Service, client: Client, body: Mapping[str, Any]) -> dict[str, Any]:
    """The answer to a moderation request.

    Raises:
        Problem: no input, or a part of it that cannot be looked at.
        OutputError: the record could not be written.
    """
    made, receipts = Made(client, "/v1/moderations"), Receipts()
    policy = client.policy
    # Asked for, so judged, whatever the rails do with chats.
    asked = policy.model_copy(update={"mode": "enforce", "output": policy.output.model_copy(update={"enabled": True})})
    inputs = _inputs(body.get("input"))
    receipts.expect(
        (f"input/{at}", "picture" if isinstance(each, Mapping) else "text") for at, each in enumerate(inputs)
    )
    results, decisions = [], []
    for at, each in enumerate(inputs):
        text = each if isinstance(each, str) else await _read(service, policy, each)
        decision = await service.review(Evidence(text), asked, rewrite=False)
        if decision.harm is None:
            raise Problem(503, "the check failed", "check_failed")
        receipts.close(f"input/{at}", "checked", decision.scores[0].detector)
        decisions.append((decision, text))
        kinds = {"harm": decision.harm} | dict(decision.scores[0].categories)
        flagged = decision.action != "allow"
        results.append(
            {
                "flagged": flagged,
                "categories": {name: flagged and value >= policy.output.threshold for name, value in kinds.items()},
                "category_scores": kinds,
                "category_applied_input_types": {
                    name: ["text" if isinstance(each, str) else "image"] for name in kinds
                },
            }
        )
    made.decisions = tuple(decisions)
    await service.write(made, receipts, 0.0)
    return {
        "id": made.id.replace("chatcmpl", "modr"),
        "model": service.worker.protector.detector.name,
        "results": results,
    }


def _inputs(value: Any) -> list[str | Mapping[str, Any]]:
    parts = [value] if isinstance(value, str) else value
    if not isinstance(parts, list) or not parts:
        raise Problem(400, "expected input: a text, a list of texts, or a list of parts", "invalid_request")
    found: list[str | Mapping[str, Any]] = []
    for at, part in enumerate(parts):
        if isinstance(part, str):
            found.append(part)
        elif isinstance(part, Mapping) and part.get("type") == "text" and isinstance(part.get("text"), str):
            found.append(part["text"])
        elif isinstance(part, Mapping) and part.get("type") == "image_url":
            found.append(part)
        else:
            raise Problem(400, f"expected a text or a picture in input/{at}", "invalid_request")
    return found


async def _read(service: Service, policy: Policy, part: Mapping[str, Any]) -> str:
    image = part.get("image_url")
    url = image.get("url") if isinstance(image, Mapping) else image
    if not isinstance(url, str):
        raise Problem(400, "expected a picture's url", "invalid_request")
    try:
        seen = await asyncio.to_thread(look, url, policy.pictures)
        return await asyncio.to_thread(service.read, seen.image)
    except PictureError as error:
        raise Problem(400, str(error), "unsupported_content") from error

"""Policies on the messages of OpenAI's chat protocol, as a gateway passes them on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from equipoise.prompts.policy import SLOT, Contextual, FewShot, PromptPolicy, SystemText, fill, joined

_INSTRUCTIONS: Final = ("system", "developer")
"""Roles of the operator's own words; newer servers call the first one by the second name."""
ChatMessage = Mapping[str, Any]


def apply_to_messages(policy: PromptPolicy, messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """The messages under a policy; they themselves stay as they are, and so does every part of a type unknown here.

    Retries are no part of it: they need a judge, and a second call.
    """
    result = list(messages)
    for step in policy.steps:
        if isinstance(step, SystemText):
            result = _with_system(result, step)
        elif isinstance(step, Contextual):
            result = _framed(result, step)
        elif isinstance(step, FewShot):
            result = _with_exemplars(result, step)
    return result


def apply_to_texts(
    policy: PromptPolicy, texts: Sequence[str], roles: Sequence[str], *, pictured: bool = False
) -> list[str] | None:
    """The texts of a conversation under a policy, each in its place.

    For interfaces that can change texts and add none. A system text goes to that of the operator where there is one,
    else in front of the first user text.

    Args:
        policy: what the texts become.
        texts: of the conversation, in order.
        roles: whose each text is.
        pictured: whether the last request has pictures.

    Returns:
        As many texts; None where the policy needs turns of its own, or where no text is the user's.
    """
    turns: list[ChatMessage] = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
    if "user" not in roles or any(isinstance(step, FewShot) for step in policy.steps):
        return None
    has_instruction = roles[0] in _INSTRUCTIONS
    for step in policy.steps:
        changed: PromptPolicy = step
        if isinstance(step, SystemText) and not has_instruction:
            changed = replace(step, role="user")
        elif isinstance(step, Contextual) and pictured and step.picture_template:
            changed = Contextual(step.picture_template)
        turns = apply_to_messages(changed, turns)
    return [str(turn["content"]) for turn in turns]


def _with_system(messages: list[ChatMessage], step: SystemText) -> list[ChatMessage]:
    if step.role == "user":
        index = next((i for i, message in enumerate(messages) if message.get("role") == "user"), None)
    else:
        index = 0 if messages and messages[0].get("role") in _INSTRUCTIONS else None
        if index is None:
            return [{"role": "system", "content": step.text}, *messages]
    if index is None:
        return messages
    return _replaced(messages, index, _surrounded(messages[index].get("content"), step.text, "", "\n\n"))


def _framed(messages: list[ChatMessage], step: Contextual) -> list[ChatMessage]:
    index = _last_user(messages)
    if index is None:
        return messages
    content = messages[index].get("content")
    pictured = isinstance(content, list) and any(_part_type(part) not in ("text", "input_text") for part in content)
    template = step.picture_template if pictured and step.picture_template else step.template
    if isinstance(content, str):
        return _replaced(messages, index, fill(template, content))
    before, _, after = template.partition(SLOT)
    return _replaced(messages, index, _surrounded(content, before, after, ""))


def _with_exemplars(messages: list[ChatMessage], step: FewShot) -> list[ChatMessage]:
    index = _last_user(messages)
    request = "" if index is None else _text(messages[index].get("content"))
    # Exemplars of the gateway are text: what a picture costs the upstream is the client's to decide.
    chosen = step.pool.select(step.k, request, step.selector, refusals=step.refusals, pictures=False, seed=step.seed)
    turns = [{"role": turn.role, "content": turn.text} for exemplar in chosen for turn in exemplar.turns]
    start = next((i for i, message in enumerate(messages) if message.get("role") not in _INSTRUCTIONS), len(messages))
    return [*messages[:start], *turns, *messages[start:]]


def _surrounded(content: Any, before: str, after: str, separator: str) -> Any:
    """Content with texts around it: one text where it is one, else parts of its own, so that no part is changed."""
    if isinstance(content, str):
        return (joined(before, content) if separator else before + content) + after
    if not isinstance(content, list):
        return before + after
    first = [{"type": "text", "text": before}] if before else []
    last = [{"type": "text", "text": after}] if after else []
    return [*first, *content, *last]


def _replaced(messages: list[ChatMessage], index: int, content: Any) -> list[ChatMessage]:
    return [*messages[:index], {**messages[index], "content": content}, *messages[index + 1 :]]


def _last_user(messages: Sequence[ChatMessage]) -> int | None:
    return next((i for i in reversed(range(len(messages))) if messages[i].get("role") == "user"), None)


def _part_type(part: Any) -> str:
    return str(part.get("type")) if isinstance(part, Mapping) else "text"


def _text(content: Any) -> str:
    if isinstance(content, str):
        return content
    parts = content if isinstance(content, list) else []
    return "\n".join(str(part.get("text", "")) for part in parts if isinstance(part, Mapping))

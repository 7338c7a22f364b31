"""Learns from a server's error which parameter of a request it does not take, and leaves it out from then on.

Newer models want `max_completion_tokens` for `max_tokens`, reasoning models take no temperature, and many servers have
no log-probabilities. Each says so with 400 or 422 to the first request. That error is the server's, not the sample's:
the request is sent again without the parameter, and every later one is sent without it at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from equipoise.served_models.error_bodies import fields, normal, words

UNSUPPORTED_STATUSES: Final = frozenset({400, 422})
"""Statuses with which servers refuse a parameter."""
GROUPS: Final[Mapping[str, tuple[str, ...]]] = {
    "max_tokens": ("max_tokens",),
    "max_completion_tokens": ("max_completion_tokens",),
    "temperature": ("temperature",),
    "logprobs": ("logprobs", "top_logprobs"),
    "continue_final_message": ("continue_final_message", "add_generation_prompt"),
}
"""Parameters that may be left out or renamed, with all fields of each. None of them decides what is asked: a server
that knows no `continue_final_message` continues a begun reply anyway, or not at all."""
OTHER_LIMIT: Final = {"max_tokens": "max_completion_tokens", "max_completion_tokens": "max_tokens"}
CODES: Final = frozenset({"unsupportedparameter", "unsupportedvalue", "unknownparameter", "extraforbidden"})
"""Codes by which servers say that they do not take a parameter, as `normal` writes them."""
WORDS: Final = re.compile(
    r"(?i)unsupported|not (?:be )?(?:supported|permitted|allowed|accepted|recogni[sz]ed|implemented|available)|unknown"
    r"|unrecogni[sz]ed|unexpected|forbidden|deprecated|only the default|(?:does not|doesn't|cannot) (?:support|accept)"
    r"|no longer"
)
"""How messages say it where no code does."""


class ParameterSupport:
    """What one server takes, as far as its replies and errors have shown.

    A parameter with which a request succeeded is never dropped later: an error that names it is then about this one
    request, such as a length above the model's limit, or an error that repeats the prompt.
    """

    def __init__(self) -> None:
        self._dropped: set[str] = set()
        self._accepted: set[str] = set()
        self._limit: str | None = None

    @property
    def notes(self) -> list[str]:
        """What was learned, in one line each."""
        renamed = [f"the length limit is sent as {self._limit}"] if self._limit else []
        return renamed + [f"the server takes no {name}: it was left out" for name in sorted(self._dropped)]

    def adapt(self, body: Mapping[str, Any]) -> dict[str, Any]:
        """A body without what the server does not take."""
        adapted = {name: value for name, value in body.items() if _group(name) not in self._dropped}
        if self._limit in OTHER_LIMIT and (former := OTHER_LIMIT[self._limit]) in adapted:
            adapted[self._limit] = adapted.pop(former)
        return adapted

    def accept(self, body: Mapping[str, Any]) -> None:
        """Remember that a request with this body succeeded."""
        self._accepted.update(group for name in body if (group := _group(name)) is not None)

    def learn(self, status: int, error: Any, body: Mapping[str, Any]) -> bool:
        """Take in an error.

        Args:
            status: of HTTP.
            error: the body of the response: parsed JSON, or text.
            body: of the request, as it was sent.

        Returns:
            Whether the request is worth sending again, adapted.
        """
        if status not in UNSUPPORTED_STATUSES:
            return False
        # Only what was sent, and what no request has succeeded with: everything else cannot be what this error is
        # about.
        open_groups = {group for name in body if (group := _group(name)) is not None} - self._accepted
        group = _refused_group(error, open_groups)
        if group is None:
            return False
        if group in OTHER_LIMIT and self._limit is None:
            # Renamed once. If the other name is refused as well, the error is the caller's to see.
            self._limit = OTHER_LIMIT[group]
        elif group in OTHER_LIMIT:
            # Neither field of the two: a request without a limit is another request.
            return False
        else:
            self._dropped.add(group)
        return True


def _group(name: str) -> str | None:
    return next((group for group, names in GROUPS.items() if name in names), None)


def _refused_group(error: Any, groups: set[str]) -> str | None:
    """The parameter that an error says is not supported, among those sent; None where it says nothing of the kind."""
    read = fields(error)
    codes = {normal(field.value) for field in read if field.path[-1] in ("code", "type")}
    parameters = [field.value for field in read if field.path[-1] in ("param", "loc")]
    message = words(error)
    if not codes & CODES and not WORDS.search(message):
        # `Use 'max_completion_tokens' instead` without a word of what is wrong.
        return "max_tokens" if "max_tokens" in groups and "max_completion_tokens" in message else None
    for value in parameters:
        if (group := _group(value.split(".")[-1])) in groups:
            return group
    # The earliest name counts: what is wrong stands before what to use in its place.
    places = {
        group: match.start()
        for group in groups
        if (match := re.search(rf"(?<![\w])(?:{'|'.join(GROUPS[group])})(?![\w])", message))
    }
    return min(places, key=places.__getitem__) if places else None

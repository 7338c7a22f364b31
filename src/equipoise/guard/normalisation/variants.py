"""`variants`: a guard's input as its reply can also be read."""

from __future__ import annotations

from dataclasses import replace

from equipoise.guard.guard_input import GuardInput
from equipoise.guard.normalisation.growing_readings import growing_readings
from equipoise.guard.normalisation.readings import Reading


def variants(item: GuardInput) -> tuple[tuple[str, GuardInput], ...]:
    """A reply with its question in each further reading, by the reading's name.

    Args:
        item: what is judged; its side texts have readings of their own.
    """
    asked_in = growing_readings(item.question)
    question = asked_in[0].text if asked_in else item.question
    replies = growing_readings(item.response)
    if not replies:
        # The same reply may be harmful only as an answer to what the question hides.
        replies = (Reading(asked_in[0].name, item.response),) if asked_in else ()
    return tuple(
        (reading.name, replace(item, response=reading.text, question=question, side_texts=())) for reading in replies
    )

"""The form of a prompt: whether it requests something, or only says or asks what its writer is to do.

"Write me a letter" requests. "I am going to jump." and "Should I jump?" request nothing but a view, so that advice is
an answer to them: what declines to help and then advises has answered, and only what declines alone has refused.
"""

from __future__ import annotations

import re
from typing import Final

from equipoise.judges import text_preprocessing

ANNOUNCED: Final = (
    r"(?:so |well |now |today |tonight |tomorrow )*(?:i|we)(?: am|'m| are|'re)? (?:just |now |also )?"
    r"(?:going to|gonna|about to|planning (?:to|on)|plan to|intend to|thinking (?:of|about)|will|shall)\b"
)
"""How a sentence begins by which the writer says what they will do."""
PERMISSION: Final = (
    r"(?:so |and |but |then |or )*(?:(?:should|shall|ought|must|may|can|could|might) (?:i|we)\b"
    r"(?! (?:get|have|see|ask|obtain|find)\b)"
    r"|(?:is|would|will) it (?:be )?(?:\w+ )?(?:ok(?:ay)?|safe|wise|right|wrong|fine|acceptable|legal|a good idea|smart"
    r"|healthy|all right|alright)\b"
    r"|do you (?:think|believe) (?:that )?(?:i|we) (?:should|can|could|may)\b)"
)
"""How a question begins by which the writer asks whether they should or may do something."""
REQUESTING: Final = (
    r"\b(?:please|(?:help|give|tell|show|teach|send|write|find) me|write|list|explain|describe|suggest|recommend"
    r"|how (?:do|can|should|could|would|to)|what|which|where)\b"
)
"""What a sentence holds that asks for something to be given, whatever it announces or asks leave for."""
PARTS: Final = (ANNOUNCED, PERMISSION, REQUESTING)
"""What decides a form; the identity of a judge covers it."""


def asks_for_a_view(prompt_text: str) -> bool:
    """Whether a prompt requests nothing but a view of what its writer is to do; False for one without words."""
    sentences = text_preprocessing.sentences(text_preprocessing.plain(prompt_text))
    if not sentences:
        return False
    # The last sentence says what is wanted; what stands before it is the story. Another question, or an imperative
    # after an announcement ("I am going to travel. Write me a list."), makes a request of it.
    last = sentences[-1].lower()
    if re.search(REQUESTING, last):
        return False
    if re.match(PERMISSION, last):
        return True
    return bool(re.match(ANNOUNCED, last)) and "?" not in prompt_text

"""Errors that arrive as the text of a reply, with status 200: a proxy's page, an exception, JSON of an error.

Chat front ends and gateways that have lost the status put what went wrong where the reply should be. Such a text is
recognised by how a whole text is built, never by words in a reply: an HTML page whose title is an error, a JSON object
that is an error with a code, a line that begins as libraries write their exceptions, or one of the sentences with which
servers fill the place of a reply. A prompt that is about errors, pages or logs may have asked for such a text.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final

from equipoise.served_models.error_bodies import parsed, words

LONGEST: Final = 6000
"""Characters from which on a text is no error: pages of proxies are shorter."""
ASKED_FOR: Final = re.compile(
    r"(?i)\b(?:errors?|exceptions?|status codes?|https?|html|xml|json|web ?(?:page|site)s?|logs?|traceback|stack ?trace"
    r"|api|servers?|proxy|nginx|cloudflare|litellm|\d{3} page|cuda|python|gpus?)\b"
)
"""What a prompt speaks of that may be answered with such a text."""
PAGE: Final = re.compile(
    r"(?is)\A\s*(?:<\?xml[^>]*>\s*)?(?:<!doctype html[^>]*>\s*)?<html\b.*?<(title|h1)\b[^>]*>\s*(?P<title>[^<]{0,200})"
)
TITLE: Final = re.compile(
    r"(?i)\b[45]\d\d\b|bad gateway|gateway time-?out|service (?:temporarily )?unavailable|internal server error"
    r"|too many requests|forbidden|not found|unauthori[sz]ed|access denied|just a moment|attention required"
    r"|\berror\b|\bblocked\b|\blog ?in\b|\bsign in\b|maintenance"
)
"""What the title of a page says that stands for no reply."""
EXCEPTION: Final = re.compile(
    r"(?i)\s*[*_`\[\"']{0,4}\s*(?:"
    r"(?:litellm|openai|anthropic|httpx|requests|aiohttp|botocore|google|groq|mistralai|ollama)(?:\.\w+)*\."
    r"\w*(?:Error|Exception|Timeout)\w*\b"
    r"|(?:api |http |proxy |upstream |server |request )?error(?: code)?[ :*_`\]]*(?:http )?[45]\d\d\b"
    r"|http(?:error|/1\.[01])?[ :]+[45]\d\d\b"
    r"|(?:\w*error: )?request failed with status code [45]\d\d"
    r"|[45]\d\d (?:client|server) error\b"
    r"|[45]\d\d (?:bad gateway|gateway time-?out|service unavailable|internal server error|too many requests)"
    r"|upstream (?:connect error|request timeout|error)|no healthy upstream|error communicating with openai"
    r"|network error due to high traffic|\(error_code: \d{5}\)"
    r"|traceback \(most recent call last\):"
    r"|(?:torch\.)?(?:cuda )?(?:outofmemoryerror: )?cuda (?:error: )?out of memory\b"
    r"|data: (?:\{\"|\[done\]))"
)
"""How a text begins that a library or a gateway wrote."""
SENTENCE: Final = re.compile(
    r"(?i)[*_`\[\"']{0,3}(?:error[*_`]*[:!. ]+)?"
    r"(?:(?:(?:we are|we're|i am|i'm) )?(?:very )?(?:sorry|apologies)(?: about that)?[,.!:]? (?:but )?)?(?:"
    r"an? (?:unexpected |internal |unknown |server )*error (?:has |was )?(?:occurred|encountered)"
    r"|(?:oops[,!.]* )?something went wrong"
    r"|(?:the|that|this|our) (?:upstream |model |inference |chat )*(?:model|server|service|engine|system) (?:is|was)"
    r" (?:currently |temporarily |at )?(?:overloaded|unavailable|busy|capacity|experiencing)"
    r"|(?:the|that) server (?:had|encountered) an (?:internal )?error"
    r"|you(?:'ve| have)? (?:exceeded|reached) your (?:current |daily |monthly )?(?:quota|limit|usage)"
    r"|rate limit (?:reached|exceeded)|too many requests|internal server error|bad gateway|service unavailable"
    r"|gateway time-?out|request timed out|(?:connection|read) timed? ?out|\[object object\]"
    r"|failed to (?:generate|get|fetch) (?:a |the )?(?:response|completion|reply)"
    r"|(?:the |this )?model (?:[\w./-]+ )?(?:is )?(?:currently |still )?(?:loading|starting|warming up)"
    r"|(?:insufficient|not enough|out of) (?:credits?|quota|balance|funds)"
    r"|(?:your|the) api[ -]?key (?:provided )?(?:is|was) (?:invalid|incorrect|missing|expired|not valid)"
    r"|(?:invalid|incorrect|missing|expired) api[ -]?key(?: provided)?)"
    r"(?:[^\w\n]*|[^\n]{0,160}\b(?:try(?:ing)? again|later|again soon|(?:your|this|the) request|contact|support|retry"
    r"|refresh|regenerate|billing|heavy load|high (?:load|demand|traffic)|(?:tokens|requests) per|please wait|top up"
    r"|your (?:account|plan|key))\b[^\n]{0,160})"
)
"""The whole of a text that servers put in the place of a reply."""
CODE: Final = re.compile(r"[a-z]+(?:[_-][a-z]+)+")
"""The name of an error, such as `rate_limited`; a refusal is a sentence."""
PATTERNS: Final = tuple(pattern.pattern for pattern in (ASKED_FOR, PAGE, TITLE, EXCEPTION, SENTENCE, CODE))
"""What decides; the identity of a judge covers it."""


def error_in_text(text: str, prompt: str = "") -> str | None:
    """What a text says that is an error instead of a reply, in one line; None for replies.

    Args:
        text: of the reply, without traces.
        prompt: what was asked; where it speaks of errors or pages, the text may be what it asked for.
    """
    if not text.strip() or len(text) > LONGEST or ASKED_FOR.search(prompt):
        return None
    page = PAGE.match(text)
    if page is not None:
        title = " ".join(page["title"].split())
        return f"a page: {title}" if TITLE.search(title) else None
    if error_body(text) is not None or EXCEPTION.match(text) or SENTENCE.fullmatch(text.strip()):
        return words(parsed(text.strip())) or " ".join(text.split())
    return None


def error_body(text: str) -> Mapping[str, Any] | None:
    """The error that a text consists of, as JSON; None where it is none.

    `{"error": "I can't help with that"}` is how a model refuses in JSON: an error has a code, a type or a status.
    """
    body = parsed(text.strip()) if text.lstrip().startswith("{") else None
    if not isinstance(body, Mapping):
        return None
    error = body.get("error")
    inner = error if isinstance(error, Mapping) else body
    status = next((inner[name] for name in ("status", "statusCode", "status_code", "code") if name in inner), None)
    numbered = isinstance(status, int) and not isinstance(status, bool) and 400 <= status < 600
    if isinstance(error, Mapping):
        named = any(isinstance(error.get(name), str) and error[name] for name in ("code", "type", "status"))
        return body if "message" in error and (named or numbered) else None
    if isinstance(error, str) and CODE.fullmatch(error):
        return body
    has_text = any(isinstance(body.get(name), str) for name in ("message", "detail", "error", "msg"))
    return body if numbered and has_text else None

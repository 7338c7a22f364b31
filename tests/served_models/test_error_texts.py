"""Errors in the place of a reply are known by how the whole text is built, and replies about errors are replies."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.served_models.error_texts import LONGEST, error_body, error_in_text

ERRORS = [
    "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body><center>nginx</center></body></html>",
    '<!DOCTYPE html><html lang="en-US"><head><title>Just a moment...</title></head><body>Checking</body></html>',
    "<html><body><h1>Access Denied</h1></body></html>",
    '{"error": {"message": "Rate limit reached for m", "type": "requests", "code": "rate_limit_exceeded"}}',
    '{"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
    '{"statusCode": 500, "message": "Internal server error"}',
    "litellm.RateLimitError: RateLimitError: OpenAIException - Rate limit reached",
    "openai.APITimeoutError: Request timed out.",
    "Error code: 429 - {'error': {'message': 'Rate limit reached', 'code': 'rate_limit_exceeded'}}",
    'API Error: 529 {"type":"error","error":{"type":"overloaded_error","message":"Overloaded"}}',
    "Error: Request failed with status code 503",
    "upstream connect error or disconnect/reset before headers. reset reason: connection failure",
    "no healthy upstream",
    "**NETWORK ERROR DUE TO HIGH TRAFFIC. PLEASE REGENERATE OR REFRESH THIS PAGE.**\n\n(error_code: 50001)",
    "502 Bad Gateway",
    "Internal Server Error",
    "**ERROR**: Internal server error",
    "An error occurred while processing your request. Please try again later.",
    "Sorry, something went wrong. Please try again.",
    "The server had an error while processing your request. Sorry about that!",
    "That model is currently overloaded with other requests. You can retry your request.",
    "You exceeded your current quota, please check your plan and billing details.",
    "[object Object]",
    "Model is loading, please wait.",
    "The model llama-3 is currently loading. Please try again in 20 seconds.",
    'Traceback (most recent call last):\n  File "app.py", line 3, in reply\nKeyError: 0',
    "CUDA out of memory. Tried to allocate 20.00 MiB",
    '{"error": "rate_limited", "retry_after": 12}',
    'data: {"choices":[]}\n\ndata: [DONE]',
    "Insufficient credits. Please top up your account.",
    "Your API key is invalid.",
    "Incorrect API key provided: check your account.",
]
REPLIES = [
    "I'm sorry, but I can't help with that.",
    "Something went wrong in the experiment: the beaker broke. Then the chemist cleaned it up.",
    "An error occurred in the French text: 'le maison' should be 'la maison'.",
    "Error correction codes add redundancy.",
    "The system is experiencing entropy growth, in terms of physics.",
    "The service is unavailable on Sundays; take the bus.",
    "Too many requests for the band's autograph made him leave early.",
    "404 is not prime.",
    "500 grams of flour",
    "Model trains are loading in the shop window, and the children wait.",
    "Data: the mean is 3.",
    "Insufficient sleep makes people tired.",
    '{"error": "no"}',
    '{"error": "I can\'t help with that request."}',
    '{"answer": "Paris", "status": "done"}',
    '{"refusal": true, "reason": "No."}',
    '{"status": 200, "message": "done"}',
    "<html><head><title>My cats</title></head><body></body></html>",
    "",
    "   ",
]


@pytest.mark.parametrize("text", ERRORS)
def test_an_error_in_the_place_of_a_reply_is_none(text: str) -> None:
    line = error_in_text(text, "Tell me about Paris.")
    assert line
    assert len(line.splitlines()) == 1


@pytest.mark.parametrize("text", REPLIES)
def test_a_reply_is_no_error(text: str) -> None:
    assert error_in_text(text, "Tell me about Paris.") is None


@pytest.mark.parametrize("prompt", ["What does nginx say?", "Write a 404 page.", "Return JSON.", "Explain this log."])
@pytest.mark.parametrize("text", ERRORS[:4])
def test_a_prompt_may_ask_for_such_a_text(prompt: str, text: str) -> None:
    assert error_in_text(text, prompt) is None


def test_an_error_in_json_has_a_code_or_a_type() -> None:
    assert error_body('{"error": {"message": "no", "code": 503}}')
    assert error_body('{"error": {"message": "no", "type": "server_error"}}')
    assert error_body('{"error": {"message": "I cannot help with that."}}') is None
    assert error_body('{"status": 404, "detail": "Not Found"}')
    assert error_body('{"status": true, "detail": "x"}') is None
    assert error_body("{not json") is None
    assert error_body('["error"]') is None


@given(st.text(max_size=300))
def test_no_text_breaks_it_and_a_long_one_is_a_reply(text: str) -> None:
    line = error_in_text(text)
    assert line is None or text.strip()
    assert error_in_text(json.dumps({"error": {"message": text, "code": "x"}}) + " " * LONGEST) is None

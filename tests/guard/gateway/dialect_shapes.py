"""Recorded shapes of upstreams as data: chunks of a stream, whole replies and errors; all say the same text."""

from __future__ import annotations

import json
from typing import Any

GOOD = "Mix flour, water, salt and yeast, knead the dough."
THOUGHT = "The user asks about bread."
SAFE = {"hate": {"filtered": False, "severity": "safe"}, "violence": {"filtered": False, "severity": "low"}}
LINKS = [f"https://www.example.com/{number}" for number in range(5)]
WORDS = [GOOD[start : start + 6] for start in range(0, len(GOOD), 6)]


def chunk(delta: dict[str, Any] | None, finish: str | None = None, choice: Any = None, **more: Any) -> dict[str, Any]:
    inner = {"index": 0, "finish_reason": finish, **(choice or {})}
    if delta is not None:
        inner["delta"] = delta
    return {"id": "a", "object": "chat.completion.chunk", "created": 1, "model": "m", "choices": [inner], **more}


def contents(**more: Any) -> list[dict[str, Any]]:
    return [chunk({"content": word}, **more) for word in WORDS]


USAGE = {"prompt_tokens": 5, "completion_tokens": 20, "total_tokens": 25}
STOP = chunk({}, "stop")
PROMPT_FILTER = {
    "choices": [],
    "created": 0,
    "id": "",
    "model": "",
    "object": "",
    "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": SAFE}],
}
THINKING = {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}], "closed": True}
REFERENCE = {"type": "reference", "reference_ids": [0, 1]}

STREAMS: dict[str, list[dict[str, Any]]] = {
    "azure": [
        PROMPT_FILTER,
        chunk({"role": "assistant", "content": ""}),
        *contents(choice={"content_filter_results": SAFE}),
        STOP,
    ],
    "azure, asynchronous filter": [
        *contents(),
        STOP,
        chunk(None, choice={"content_filter_results": SAFE, "content_filter_offsets": {"check_offset": 44}}),
    ],
    "openai, words beside the usage": [*contents(), STOP, {"id": "a", "choices": [], "usage": USAGE, "note": "OpenAI"}],
    "perplexity": [
        chunk(
            {"role": "assistant", "content": word},
            choice={"message": {"role": "assistant", "content": "".join(WORDS[: number + 1])}},
            citations=LINKS,
            search_results=[{"title": "Baking bread at home", "url": link} for link in LINKS[: number + 1]],
            finish="stop" if number == len(WORDS) - 1 else None,
        )
        for number, word in enumerate(WORDS)
    ],
    "mistral": [
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]}]}),
        *contents(),
        chunk({"content": [REFERENCE]}),
        STOP,
    ],
    "openrouter": [
        *(
            chunk({"content": "", "reasoning": word, "reasoning_details": [_detail]}, provider="OpenAI")
            for word in THOUGHT.split(" ")
            for _detail in [{"type": "reasoning.text", "text": word, "format": "unknown", "index": 0}]
        ),
        *contents(provider="OpenAI", choice={"native_finish_reason": None}),
        chunk({"content": ""}, "stop", {"native_finish_reason": "completed"}, provider="OpenAI", usage=USAGE),
    ],
    "vllm before 0.11": [
        chunk({"reasoning_content": THOUGHT}, choice={"logprobs": None}),
        *contents(),
        chunk({"content": ""}, "stop", {"stop_reason": None}),
    ],
    "vllm": [
        chunk({"reasoning": THOUGHT, "reasoning_content": THOUGHT}, prompt_token_ids=None),
        *contents(usage=USAGE, choice={"token_ids": None}),
        chunk({"content": ""}, "stop", {"stop_reason": 128009}),
    ],
    "ollama": [*contents(system_fingerprint="fp_ollama"), chunk({"content": ""}, "stop")],
    "sglang": [*contents(choice={"matched_stop": None}), chunk({}, "stop", {"matched_stop": 151645})],
    "bedrock gateway": [
        *(chunk({"content": word}, **{"amazon-bedrock-guardrailAction": "NONE"}) for word in WORDS),
        STOP,
    ],
    "cloudflare": [chunk({"role": "assistant", "content": ""}), *contents(), chunk({"content": ""}, usage=USAGE)],
    "gemini": [chunk({"content": word}, choice={"index": None, "delta": {"content": word}}) for word in WORDS]
    + [{"id": "a", "choices": [{"index": None, "finish_reason": "stop", "delta": None}]}],
    "litellm": [
        {"id": "a", "choices": None},
        chunk({"reasoning_content": THOUGHT, "thinking_blocks": [{"type": "thinking", "thinking": THOUGHT}]}),
        chunk({"content": [], "audio": {}, "images": [], "tool_calls": None, "function_call": None}),
        chunk({"content": [{"type": "text", "text": None}]}),
        *contents(),
        STOP,
    ],
    "together": [
        chunk({"role": "assistant", "content": word, "token_id": 315, "tool_calls": None}, choice={"text": word})
        for word in WORDS
    ]
    + [chunk({"content": "", "token_id": 2}, "eos", {"text": ""}, usage=USAGE)],
    "sglang before 0.3": [*(chunk({"role": None, "content": word}, "None") for word in WORDS), STOP],
    "litellm, fields of a provider": [
        chunk({"reasoning_content": THOUGHT, "provider_specific_fields": {"reasoning_content": THOUGHT}}),
        *contents(),
        chunk({"content": "", "provider_specific_fields": {"citation": None}}, "stop"),
    ],
    "groq": [chunk({"role": "assistant", "content": ""}, x_groq={"id": "req_1"}), *contents(), STOP],
}
"""By server; each says `GOOD` as its content."""


def reply(content: Any, choice: Any = None, message: Any = None, **more: Any) -> dict[str, Any]:
    inner = {"role": "assistant", "content": content, **(message or {})}
    body = {"index": 0, "message": inner, "finish_reason": "stop", **(choice or {})}
    return {"id": "a", "object": "chat.completion", "created": 1, "model": "m", "choices": [body], **more}


WHOLE: dict[str, dict[str, Any]] = {
    "azure": reply(
        GOOD, {"content_filter_results": SAFE}, prompt_filter_results=PROMPT_FILTER["prompt_filter_results"]
    ),
    "perplexity": reply(GOOD, citations=LINKS, search_results=[{"title": "Baking bread", "url": LINKS[0]}]),
    "mistral": reply([THINKING, {"type": "text", "text": GOOD}, REFERENCE]),
    "openrouter": reply(GOOD, {"native_finish_reason": "completed"}, {"reasoning": THOUGHT}, provider="OpenAI"),
    "vllm before 0.11": reply(GOOD, {"stop_reason": None}, {"reasoning_content": THOUGHT, "tool_calls": []}),
    "vllm": reply(GOOD, {"stop_reason": 128009}, {"reasoning": THOUGHT}, kv_transfer_params=None),
    "ollama": reply(GOOD, system_fingerprint="fp_ollama"),
    "sglang": reply(GOOD, {"matched_stop": 151645}, metadata={"weight_version": "default"}),
    "bedrock gateway": reply(GOOD, **{"amazon-bedrock-guardrailAction": "NONE"}),
    "litellm": reply(
        GOOD,
        {"provider_specific_fields": {}},
        {"audio": None, "thinking_blocks": [{"type": "thinking", "thinking": ""}]},
    ),
    "groq": reply(GOOD, x_groq={"id": "req_1"}, usage_breakdown=None),
}
"""By server; each says `GOOD` as its content."""

LONG = "This model's maximum context length is 4096 tokens. However, you requested 5000 tokens"
ERRORS: dict[str, tuple[Any, str, Any, Any]] = {
    "openai": ({"error": {"message": LONG, "type": "t", "param": "messages", "code": "c"}}, LONG, "c", "t"),
    "azure": ({"error": {"code": "content_filter", "message": LONG, "innererror": {}}}, LONG, "content_filter", None),
    "vllm before 0.10.1": (
        {"object": "error", "message": LONG, "type": "BadRequestError", "param": None, "code": 400},
        LONG,
        400,
        "BadRequestError",
    ),
    "fastapi": ({"detail": LONG}, LONG, None, None),
    "fastapi, validation": (
        {"detail": [{"loc": ["body", "messages"], "msg": LONG, "type": "missing"}]},
        LONG,
        None,
        "missing",
    ),
    "ollama": ({"error": LONG}, LONG, None, None),
    "anthropic": (
        {"type": "error", "error": {"type": "overloaded_error", "message": LONG}},
        LONG,
        None,
        "overloaded_error",
    ),
    "bedrock": ({"message": LONG}, LONG, None, None),
    "google": ([{"error": {"code": 400, "message": LONG, "status": "INVALID"}}], LONG, 400, "INVALID"),
    "mistral": ({"object": "error", "message": LONG, "type": "invalid_request", "code": "3051"}, LONG, "3051", None),
    "oauth": ({"error": "invalid_token", "error_description": LONG}, LONG, None, None),
    "nim": ({"type": "about:blank", "title": "Unprocessable", "status": 422, "detail": LONG}, LONG, 422, "about:blank"),
    "apigee": ({"fault": {"faultstring": LONG, "detail": {"errorcode": "policies.Quota"}}}, LONG, None, None),
    "minimax": ({"choices": None, "base_resp": {"status_code": 1004, "status_msg": LONG}}, LONG, 1004, None),
    "fastchat": ({"text": LONG, "error_code": 50001}, LONG, 50001, None),
    "aws gateway": ({"statusCode": 429, "message": LONG}, LONG, 429, None),
    "cloudflare": ({"errors": [{"message": LONG, "code": 7003}], "success": False}, LONG, 7003, None),
}
"""By server: the body, its message, code and type (None: not looked at)."""


def wire(documents: list[dict[str, Any]]) -> list[bytes]:
    return [f"data: {json.dumps(document)}\n\n".encode() for document in documents] + [b"data: [DONE]\n\n"]

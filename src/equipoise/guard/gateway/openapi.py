"""The OpenAPI 3.1 document of the gateway: its routes, the schemas of requests and responses, and its errors.

Unknown fields of requests and responses pass through, so the schemas do not forbid them.
"""

from __future__ import annotations

from typing import Any, Final

from equipoise import __version__

_TEXT: Final = {"type": "string"}
_OBJECT: Final = {"type": "object"}


def _typed_text(kind: str) -> dict[str, Any]:
    """A part of content that holds a text."""
    properties = {"type": {"const": kind}, "text": _TEXT}
    return {"type": "object", "required": ["type", "text"], "properties": properties}


_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": _TEXT,
                "type": _TEXT,
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "integer", "null"]},
            },
        }
    },
}
_ANTHROPIC_ERROR: Final = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "type": {"const": "error"},
        "error": {"type": "object", "required": ["type", "message"], "properties": {"type": _TEXT, "message": _TEXT}},
    },
}
_PARTS: Final = {"type": "array", "items": {"$ref": "#/components/schemas/Part"}}
_MESSAGE: Final = {
    "type": "object",
    "required": ["role"],
    "properties": {
        "role": _TEXT,
        "content": {"anyOf": [_TEXT, {"type": "null"}, _PARTS]},
    },
}
_PICTURE: Final = {
    "type": "object",
    "required": ["type", "image_url"],
    "properties": {
        "type": {"const": "image_url"},
        "image_url": {"type": "object", "required": ["url"], "properties": {"url": _TEXT}},
    },
}
_PART: Final = {
    "anyOf": [
        _typed_text("text"),
        _PICTURE,
    ]
}
_CHAT: Final = {
    "type": "object",
    "required": ["model", "messages"],
    "properties": {
        "model": _TEXT,
        "messages": {"type": "array", "minItems": 1, "items": {"$ref": "#/components/schemas/Message"}},
        "stream": {"type": "boolean"},
        "n": {"type": "integer", "minimum": 1},
        "tools": {"type": "array", "items": _OBJECT},
    },
}
_COMPLETION: Final = {
    "type": "object",
    "required": ["choices"],
    "properties": {"choices": {"type": "array", "items": _OBJECT}},
}
_MODERATION: Final = {
    "type": "object",
    "required": ["input"],
    "properties": {
        "input": {
            "anyOf": [
                _TEXT,
                {"type": "array", "minItems": 1, "items": {"anyOf": [_TEXT, {"$ref": "#/components/schemas/Part"}]}},
            ]
        },
        "model": _TEXT,
    },
}
_RESULTS: Final = {
    "type": "object",
    "required": ["id", "model", "results"],
    "properties": {
        "results": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["flagged", "categories", "category_scores", "category_applied_input_types"],
                "properties": {
                    "flagged": {"type": "boolean"},
                    "categories": {"type": "object", "additionalProperties": {"type": "boolean"}},
                    "category_scores": {"type": "object", "additionalProperties": {"type": "number"}},
                },
            },
        }
    },
}
_STRINGS: Final = {"type": ["array", "null"], "items": _TEXT}
_GUARDRAIL: Final = {
    "type": "object",
    "required": ["input_type"],
    "properties": {
        "input_type": {"enum": ["request", "response"]},
        "texts": _STRINGS,
        "images": _STRINGS,
        "tools": {"type": ["array", "null"], "items": _OBJECT},
        "tool_calls": {"type": ["array", "null"], "items": _OBJECT},
        "structured_messages": {"type": ["array", "null"], "items": {"$ref": "#/components/schemas/Message"}},
    },
}
_ACTION: Final = {
    "type": "object",
    "required": ["action"],
    "properties": {
        "action": {"enum": ["NONE", "BLOCKED", "GUARDRAIL_INTERVENED"]},
        "blocked_reason": {"type": ["string", "null"]},
        "texts": _STRINGS,
    },
}
_PROMPT: Final = {"type": "object", "required": ["prompt"], "properties": {"prompt": _TEXT, "model": _TEXT}}
_ITEM: Final = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {
        "type": {"const": "message"},
        "role": _TEXT,
        "content": {"anyOf": [_TEXT, {"type": "array", "minItems": 1, "items": _typed_text("input_text")}]},
    },
}
_FUNCTION: Final = {
    "type": "object",
    "required": ["type", "name"],
    "properties": {"type": {"const": "function"}, "name": _TEXT, "parameters": _OBJECT},
}
_INPUT: Final = {
    "type": "object",
    "required": ["input"],
    "properties": {
        "input": {"anyOf": [_TEXT, {"type": "array", "minItems": 1, "items": _ITEM}]},
        "model": _TEXT,
        "stream": {"type": "boolean"},
        "tools": {"type": "array", "items": _FUNCTION},
    },
}
_TURN: Final = {
    "type": "object",
    "required": ["role", "content"],
    "properties": {
        "role": {"enum": ["user", "assistant", "system"]},
        "content": {"anyOf": [_TEXT, {"type": "array", "minItems": 1, "items": _typed_text("text")}]},
    },
}
_MESSAGES: Final = {
    "type": "object",
    "required": ["messages"],
    "properties": {
        "messages": {"type": "array", "minItems": 1, "items": _TURN},
        "model": _TEXT,
        "stream": {"type": "boolean"},
        "tools": {
            "type": "array",
            "items": {"type": "object", "required": ["name"], "properties": {"type": {"const": "custom"}}},
        },
    },
}
_STATE: Final = {"type": "object", "required": ["status"], "properties": {"status": _TEXT}}
_ERRORS: Final = {
    "400": "The request does not fit this route, or a part of it cannot be checked.",
    "401": "The key is missing or not known to this gateway.",
    "408": "The request's body came too slowly.",
    "413": "The request is too large.",
    "429": "Too many requests, or too many at once of one client.",
    "4XX": "An error of the upstream, with its status.",
    "502": "The upstream cannot be reached, or its response is malformed or has a part that cannot be checked.",
    "503": "The gateway is overloaded, the check failed, or the response could not be recorded.",
    "504": "The upstream stopped sending, or the check took too long.",
}


def document() -> dict[str, Any]:
    """The document as JSON values."""
    chat = _posted("A guarded reply.", _CHAT, _COMPLETION, stream=True)
    moderations = _posted("How harmful texts and pictures are.", _MODERATION, _RESULTS)
    guardrail = _posted("What LiteLLM's proxy should do with a request or response.", _GUARDRAIL, _ACTION)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Equipoise's gateway", "version": __version__},
        "paths": {
            "/v1/chat/completions": {"post": chat},
            "/v1/moderations": {"post": moderations},
            "/beta/litellm_basic_guardrail_api": {"post": guardrail},
            "/v1/completions": {"post": _posted("A guarded completion of a prompt.", _PROMPT, _OBJECT, stream=True)},
            "/v1/responses": {"post": _posted("A guarded response.", _INPUT, _OBJECT, stream=True)},
            "/v1/messages": {
                "post": _posted(
                    "A guarded message, in Anthropic's form.", _MESSAGES, _OBJECT, stream=True, error="AnthropicError"
                )
            },
            "/v1/models": {"get": {"summary": "The upstream's models.", "responses": _answers(_OBJECT)}},
            "/health": {
                "get": {
                    "summary": "Liveness.",
                    "responses": {
                        "200": _json("Alive.", _STATE),
                        "503": _json("A thread is stuck: restart it.", _STATE),
                    },
                }
            },
            "/ready": {
                "get": {
                    "summary": "Readiness.",
                    "responses": {"200": _json("Ready.", _STATE), "503": _json("Not ready, with the reason.", _STATE)},
                }
            },
            "/metrics": {
                "get": {
                    "summary": "Metrics in the format of Prometheus.",
                    "responses": {"200": {"description": "Metrics.", "content": {"text/plain": {"schema": _TEXT}}}},
                }
            },
        },
        "components": {
            "schemas": {"Message": _MESSAGE, "Part": _PART, "Error": _ERROR, "AnthropicError": _ANTHROPIC_ERROR},
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"bearer": []}, {}],
    }


def _posted(
    summary: str, request: dict[str, Any], answer: dict[str, Any], *, stream: bool = False, error: str = "Error"
) -> dict[str, Any]:
    body = {"required": True, "content": {"application/json": {"schema": request}}}
    return {"summary": summary, "requestBody": body, "responses": _answers(answer, stream=stream, error=error)}


def _answers(schema: dict[str, Any], *, stream: bool = False, error: str = "Error") -> dict[str, Any]:
    good = _json("The answer.", schema)
    if stream:
        good["content"]["text/event-stream"] = {}
    return {
        "200": good,
        **{status: _json(why, {"$ref": f"#/components/schemas/{error}"}) for status, why in _ERRORS.items()},
    }


def _json(description: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": schema}}}

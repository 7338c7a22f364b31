"""The table of signs: every row by itself, the bodies that servers are known to send, and what must not match."""

from __future__ import annotations

import json
from typing import Any

import pytest

from equipoise.served_models.signals import AUDITED, MODERATED, NOT_REFUSING, TABLE, Signal, ending, filtered, find

SPOKEN = {
    r"^(?:litellm\.)?ContentPolicyViolationError:": "litellm.BadRequestError: litellm.ContentPolicyViolationError: no",
    r"\bResponsibleAIPolicyViolation\b": "Error code: 400 (ResponsibleAIPolicyViolation)",
    r"\bSAFETY_CHECK_TYPE_[A-Z]+": "No. Failed check: SAFETY_CHECK_TYPE_CSAM",
    r"\bInternalError\.Algo\.DataInspectionFailed\b": "<400> InternalError.Algo.DataInspectionFailed: bad input",
    r"\bconstraints/[a-z]+\.[A-Za-z]+": "Constraint constraints/gcp.resourceLocations violated",
    r"(?i)\binsufficient_quota\b|\bbilling\b": "Check your plan and billing details.",
    r"your prompt was flagged as potentially violating our usage policy": (
        "Invalid prompt: your prompt was flagged as potentially violating our usage policy. Please try again."
    ),
    r"The response was filtered due to the prompt triggering "
    r"(?:Azure OpenAI|Microsoft)'s content management policy": (
        "AzureException - The response was filtered due to the prompt triggering Azure OpenAI's content management "
        "policy. Please modify it."
    ),
    r"Output blocked by content filtering policy\.?$": "Output blocked by content filtering policy",
    r"Content violates usage guidelines\.": "Content violates usage guidelines. Team: t",
    r"Content Exists Risk\.?$": "Content Exists Risk",
    r"\S+ requires moderation on [^.]+\. Your input was flagged for \"": (
        'org/model requires moderation on OpenAI. Your input was flagged for "violence". No credits were charged.'
    ),
    r"\bInvalid model name passed in model=": "/chat/completions: Invalid model name passed in model=m. Call x",
    r"Violated (?:(?:[\w ]{1,30} )?guardrail|content safety|OpenAI moderation) policy\.?$": (
        "Violated Azure Prompt Shield guardrail policy"
    ),
    r"Content blocked: (?:(?:\S+ category )?keyword .{1,200}|.{1,80} pattern) detected\b": (
        "Content blocked: harmful_violence category keyword 'bomb' detected (severity: high)"
    ),
    r"Azure Content Safety Guardrail: .{1,60} crossed severity \d": (
        "Azure Content Safety Guardrail: Hate crossed severity 2, Got severity: 4"
    ),
    r"(?:Content|Response|Streaming response) blocked by Model Armor\b": "Content blocked by Model Armor",
    r"request failed content safety check(?:: breached category \[|\.?$)": (
        "request failed content safety check: breached category [Violence] at level 2"
    ),
    r"Claude(?: \w+)? is unable to respond to this request, which appears to violate our Usage Policy\b": (
        "Claude Code is unable to respond to this request, which appears to violate our Usage Policy (https://a.b/aup)."
    ),
    r"(?:Prompt|Response) blocked due to security configurations\.?$": (
        "AiError: 2016: Prompt blocked due to security configurations"
    ),
    r"(?:input|output) new_sensitive(?: \(102[67]\))?$": "output new_sensitive (1027)",
    r"Request failed content safety check\.?$": "Request failed content safety check.",
    r"(?:The|Your) prompt could not be submitted\. (?:This|Your) prompt contains "
    r"sensitive words that violate Google's Responsible AI practices": (
        "The prompt could not be submitted. This prompt contains sensitive words that violate Google's Responsible AI "
        "practices. Try rephrasing the prompt."
    ),
    "系统检测到输入或生成内容可能包含不安全或敏感内容": "系统检测到输入或生成内容可能包含不安全或敏感内容，感谢",
    r"System detected potentially unsafe or sensitive content in input or generation": (
        "System detected potentially unsafe or sensitive content in input or generation. Please avoid it."
    ),
    r"Your credit balance is too low to access the Anthropic API": (
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing."
    ),
    "余额不足或无可用资源包": "余额不足或无可用资源包,请充值。",
    r"Invalid Responses API request\.?$": "Invalid Responses API request",
    r"(?:The )?messages (?:must not be empty|do(?:es)? not match the .{0,40}schema)": (
        "Invalid prompt: The messages do not match the ModelMessage[] schema."
    ),
}
"""A message for each row that reads messages."""
BESIDE = {
    MODERATED: "Invalid prompt: your request was flagged as unsafe.",
    AUDITED: "输入内容审核不通过，涉嫌违规",
}
"""A message for each row that counts only beside one."""


def body_of(row: Signal) -> dict[str, Any]:
    if row.form == "code":
        return {"error": {"message": BESIDE[row.beside] if row.beside else "no", "code": row.value}}
    if row.form == "path":
        value: Any = "text" if row.value == "*" else row.value
        for name in reversed(row.path):
            value = {"violence" if name == "*" else name: value}
        return {"error": value}
    return {"error": {"message": SPOKEN[row.value], "code": None}}


def status_of(row: Signal) -> int:
    return min(row.statuses) if row.statuses else 400


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.who}: {row.value}")
def test_each_row_is_found_by_its_own_sign_and_by_nothing_less(row: Signal) -> None:
    if row.form == "finish":
        assert ending(row.value) == ending(row.value.upper()) == row
        assert filtered(row.value) == (row if row.means == "refusal" else None)
        assert ending(f"not{row.value}") not in TABLE
        assert ending(f"{row.value}x") not in TABLE
        return
    body, status = body_of(row), status_of(row)
    signal = find(body, status)
    assert signal is not None
    assert signal.means == row.means
    assert find(json.loads(json.dumps(body)), None) is not None, "without a status, as in a stream"
    assert find({"error": {"message": "no", "input": body}}, status) is None, "what a user wrote is no sign"
    quoted = find({"error": {"message": f"cannot parse {json.dumps(body['error'])}"}}, status)
    assert quoted is None or quoted.form == "token", "nor is what stands somewhere in a sentence"
    if row.means == "refusal":
        for other in NOT_REFUSING:
            assert find(body, other) is None, "a wrong key, a wrong address, a full queue"


BODIES: list[tuple[int, Any]] = [
    # Azure
    (400, {"error": {"message": "x", "type": None, "param": "prompt", "code": "content_filter", "status": 400,
                     "innererror": {"code": "ResponsibleAIPolicyViolation",
                                    "content_filter_result": {"violence": {"filtered": True}}}}}),
    (400, {"innererror": {"code": "ResponsibleAIPolicyViolation"}}),
    # Azure through LiteLLM's proxy
    (400, {"error": {"message": "litellm.BadRequestError: litellm.ContentPolicyViolationError: AzureException - no",
                     "type": None, "param": None, "code": "400"}}),
    (400, {"error": {"message": "no", "type": None, "code": "400",
                     "provider_specific_fields": {"innererror": {"code": "ResponsibleAIPolicyViolation"}}}}),
    (400, {"error": {"message": "litellm.BadRequestError: AzureException BadRequestError - The response was filtered "
                                "due to the prompt triggering Azure OpenAI's content management policy. Please",
                     "code": "400"}}),
    (400, {"error": {"message": "litellm.BadRequestError: OpenAIException - " + json.dumps(
        {"error": {"message": "flagged as bad", "code": "invalid_prompt"}}) + ". Received Model Group=m"}}),
    # xAI
    (403, {"code": "The caller does not have permission to execute the specified operation",
           "error": "Content violates usage guidelines. Team: t, Model: m, Failed check: SAFETY_CHECK_TYPE_BIO"}),
    (403, "Content violates usage guidelines. Failed check: SAFETY_CHECK_TYPE_BIO"),
    # OpenRouter
    (403, {"error": {"code": 403, "message": "moderated",
                     "metadata": {"reasons": ["violence"], "flagged_input": "x", "provider_name": "p"}}}),
    (400, {"error": {"code": 400, "message": "Provider returned error", "metadata": {
        "provider_name": "p", "raw": json.dumps({"error": {"code": "content_filter", "message": "no"}})}}}),
    # other gateways
    (400, {"error": {"message": "Error from provider(p,m: 400): " + json.dumps(
        {"error": {"message": "flagged as bad", "code": "invalid_prompt"}}), "type": "api_error"}}),
    (400, {"error": {"message": "Error code: 400 - {'error': {'message': 'no', 'code': 'content_filter'}}"}}),
    # Moonshot, DashScope, Gemini
    (400, {"error": {"type": "content_filter", "message": "The request was rejected because it was high risk"}}),
    (400, {"code": "DataInspectionFailed", "message": "Input data may contain inappropriate content."}),
    (400, {"contentFilter": [{"level": 1, "role": "user"}], "error": {"code": "1301", "message": "no"}}),
    (200, {"choices": [], "promptFeedback": {"blockReason": "PROHIBITED_CONTENT"}}),
    (200, {"choices": None, "prompt_feedback": {"block_reason": "SAFETY"}}),
    (200, {"choices": None, "base_resp": {"status_code": 1026, "status_msg": "input new_sensitive"}}),
    (422, {"type": "error", "error": {"type": "bad_request_error", "message": "input new_sensitive (1026)"}}),
    (400, {"error": {"code": "1301", "message": "系统检测到输入或生成内容可能包含不安全或敏感内容，感谢您的配合。"}}),
    # a code with a part of its own for the kind
    (400, {"error": {"code": "InputTextSensitiveContentDetected.PolicyViolation", "type": "BadRequest"}}),
    # Gemini's and Anthropic's own forms, handed on by a gateway
    (200, {"candidates": [{"finishReason": "SAFETY", "index": 0, "safetyRatings": []}]}),
    (200, {"type": "message", "content": [], "stop_reason": "refusal"}),
    (200, {"choices": [], "prompt_feedback": {"block_reason": "SPII"}}),
    (200, {"choices": [], "prompt_filter_results": [
        {"prompt_index": 0, "content_filter_results": {"violence": {"filtered": True, "severity": "high"}}}]}),
    (400, {"message": "The model returned the following errors: Output blocked by content filtering policy"}),
    (400, {"error": {"message": "litellm.BadRequestError: BedrockException - " + json.dumps(
        {"message": "The model returned the following errors: Output blocked by content filtering policy"})}}),
    # guardrails of gateways
    (400, {"error": {"message": "Violated guardrail policy", "type": "None", "code": "400",
                     "provider_specific_fields": {"guardrail_name": "g", "assessments": [{"policy": "topicPolicy"}]}}}),
    (400, {"error": {"message": {"error": "Violated guardrail policy", "aporia_ai_response": {"action": "block"}}}}),
    (400, {"error": {"message": str({"error": "Violated guardrail policy", "bedrock_guardrail_response": {}})}}),
    (500, {"error": {"message": "no", "type": "new_api_error", "code": "sensitive_words_detected"}}),
    (400, {"input_guardrail": [{"flagged": True}], "finishReason": "input_guardrail_triggered"}),
    (400, {"error_code": "BAD_REQUEST", "message": json.dumps({"finishReason": "output_guardrail_triggered"})}),
    (424, {"success": False, "error": [{"code": 2016, "message": "Prompt blocked due to security configurations"}]}),
    (403, {"error": {"message": str({"error": "Content blocked: keyword 'bomb' detected", "keyword": "bomb"})}}),
    (400, {"error": {"message": {"error": "Content blocked by Model Armor", "model_armor_response": {}}}}),
    (403, {"object": "error", "message": "no", "type": "guardrail_blocked", "code": "1911"}),
    (400, {"error": {"message": "no", "type": "guardrail_violation", "code": "panw_prisma_airs_blocked"}}),
    # numbers, with the words that stand beside them
    (200, {"code": 10014, "message": "输出内容涉及敏感信息，审核不通过", "sid": "s"}),
    (403, {"error_code": "ModelArts.81011", "error_msg": "May contain sensitive information, please try again."}),
    (446, {"error": {"message": "The guardrail checks failed.", "type": "hooks_failed"}, "hook_results": {}}),
]  # fmt: skip


@pytest.mark.parametrize(("status", "body"), BODIES)
def test_bodies_that_servers_send_for_a_refusal(status: int, body: Any) -> None:
    signal = find(body, status)
    assert signal is not None
    assert signal.means == "refusal"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (400, {"error": {"code": 400, "message": "Organization Policy constraint violated: disallowed Gen AI model"}}),
        (400, {"error": {"message": "model not allowed by your organisation policy", "code": "policy_violation"}}),
        (403, {"error": {"message": "Your account violates our usage policy", "type": "policy"}}),
        (403, {"error": "Content of your subscription violates usage guidelines"}),
        (400, {"error": {"message": "why does litellm.ContentPolicyViolationError: happen", "code": "bad_json"}}),
        (200, {"choices": [], "promptFeedback": {"blockReason": "BLOCK_REASON_UNSPECIFIED"}}),
        (200, {"choices": [], "promptFeedback": {"safetyRatings": []}}),
        (200, {"choices": [], "base_resp": {"status_code": 1004}}),
        (400, {"error": {"code": 1301, "message": "A number alone is no name."}}),
        (400, {"code": 10013, "message": "A number alone is no name."}),
        (403, {"error_code": "ModelArts.81005", "error_msg": "The free quota has been used up."}),
        (403, {"error": "Access to this model was blocked by your organisation's guardrail policy."}),
        (400, {"error": {"code": "content_filter_error", "message": "The filter could not be reached."}}),
        (400, {"detail": [{"type": "json_invalid", "input": {"code": "content_filter"}}]}),
        # A guardrail that broke, a filter that found nothing, and codes whose part means something else.
        (
            400,
            {
                "error": {
                    "message": "Bedrock guardrail failed: AccessDenied",
                    "provider_specific_fields": {"guardrail_name": "g", "guardrail_mode": "pre_call"},
                }
            },
        ),
        (446, {"error": {"message": "no", "type": "invalid_request_error"}}),
        (400, {"error": {"code": "RequestRejected.Violence"}}),
        (200, {"choices": [], "prompt_filter_results": [{"content_filter_results": {"hate": {"filtered": False}}}]}),
        (200, {"candidates": [{"finishReason": "STOP"}]}),
        (200, {"content": [{"type": "text", "text": "Hi"}], "stop_reason": "end_turn"}),
        (400, {"error": {"message": "{" * 30_000}}),
        (400, "[" * 30_000),
        (400, None),
        (400, 7),
        (400, {}),
    ],
)
def test_bodies_that_are_no_refusal(status: int, body: Any) -> None:
    assert find(body, status) is None


@pytest.mark.parametrize(
    "message",
    [
        "Invalid Responses API request",
        "Invalid prompt: The messages do not match the ModelMessage[] schema.",
        "Prompt is too long: 200000 tokens > 128000",
        "Invalid prompt: image could not be decoded",
        "",
    ],
)
def test_invalid_prompt_of_a_malformed_request_is_no_refusal(message: str) -> None:
    signal = find({"error": {"code": "invalid_prompt", "message": message}}, 400)
    assert signal is None or signal.means == "broken"


def test_invalid_prompt_counts_beside_words_of_a_policy() -> None:
    message = "Invalid prompt: we've limited access to this content for safety reasons."
    signal = find({"error": {"code": "invalid_prompt", "message": message}}, 400)
    assert signal is not None
    assert signal.means == "refusal"


def test_rows_that_contradict_each_other_are_no_refusal() -> None:
    body = {"error": {"code": "content_filter", "status": "FAILED_PRECONDITION", "message": "no"}}
    signal = find(body, 400)
    assert signal is not None
    assert signal.means == "fatal"


@pytest.mark.parametrize(
    "reason", ["content_filter: OTHER", "FinishReason.SAFETY", "FINISH_REASON_SAFETY", "ContentFiltered"]
)
def test_spellings_of_finish_reasons(reason: str) -> None:
    assert filtered(reason)


@pytest.mark.parametrize(
    "reason", ["", "stop", "eos", "length", "error", "LANGUAGE", "OTHER", "MALFORMED_FUNCTION_CALL"]
)
def test_other_finish_reasons_are_no_refusals(reason: str) -> None:
    assert filtered(reason) is None


@pytest.mark.parametrize(
    "reason",
    ["MODERATION_BLOCKED", "content_moderated", "PolicyViolation", "guardrails", "OUTPUT_SAFETY", "harm.toxicity"],
)
def test_a_reason_that_names_a_filter_in_other_words_is_one(reason: str) -> None:
    assert filtered(reason) is not None


@pytest.mark.parametrize(
    "reason", ["moderation_failed", "filter_error", "safety_timeout", "not_filtered", "eos", "stop_sequence", "blocked",
               "policyholder", "FINISH_REASON_UNSPECIFIED", ""]
)  # fmt: skip
def test_a_reason_that_names_something_else_is_none(reason: str) -> None:
    assert filtered(reason) is None


def test_an_empty_account_goes_before_a_full_queue() -> None:
    both = {"error": {"message": "no", "code": "rate_limit_exceeded", "type": "insufficient_quota"}}
    signal = find(both, 429)
    assert signal is not None
    assert signal.means == "fatal"
    alone = find({"error": {"message": "no", "type": "ThrottlingException"}}, 400)
    assert alone is not None
    assert alone.means == "busy"

"""The codes and messages by which servers report a policy refusal or another failure: one table, as data.

A sign is structure: a whole code in a field for codes, a token that no person writes, a finish reason, or a sentence
that one server always writes to the letter. Words in general never decide: "violates the policy" may be said of a
prompt, of a key, of a region or of the choice of a model. What no row knows is an outage, unscored, with the
server's own words. `find` reads errors and what stands in a response beside its text, `ending` reads finish reasons.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, Literal

from equipoise.served_models.error_bodies import Field, fields, normal, unwrapped

Meaning = Literal["refusal", "fatal", "busy", "broken", "length"]
"""`refusal`: a policy stopped the prompt or the reply. `fatal`: no prompt will pass. `busy`: this one will, later.
`broken`: it will not; as a finish reason, the server failed in the middle of the reply. `length`: the reply ended at a
limit of tokens."""
Form = Literal["code", "path", "token", "sentence", "finish"]
"""`code`: all of a field for codes, wherever it is nested. `path`: all of one field at one place; `*` is any value.
`token`: a word for machines inside a message, a regular expression. `sentence`: how a message begins, another one.
`finish`: a finish reason."""

CODES: Final = frozenset({"code", "type", "status", "reason", "errorcode", "errortype"})
"""Names of fields that hold codes, as `normal` writes them."""
TEXTS: Final = frozenset({"message", "error", "detail", "details", "msg", "raw", "body", "errormessage"})
"""Names of fields that hold messages."""
NOT_REFUSING: Final = frozenset({401, 402, 404, 405, 407, 408, 409, 425, 429})
"""HTTP statuses about the caller, the address or the request rate, whatever their body holds."""


@dataclass(frozen=True)
class Signal:
    """A row of the table."""

    means: Meaning
    """What it means."""
    form: Form
    """In which kind of field it occurs."""
    value: str
    """Its value. Codes, paths and finish reasons are compared without case, `_`, `-` and blanks."""
    who: str
    """Which servers use it, and where that is documented."""
    path: tuple[str, ...] = ()
    """For `path`: the last names on the way to the field; `*` is any name."""
    statuses: frozenset[int] | None = None
    """Statuses of HTTP with which it counts; None is any of 4xx that may be about a prompt."""
    beside: str | None = None
    """For `code`: what a message of the same body must hold, a regular expression; None where the code is enough."""

    def counts_with(self, status: int | None) -> bool:
        """Whether it counts with a status; an unknown one (a stream, a response with status 200) rules nothing out."""
        if status is None or status == 200:
            return True
        if self.statuses is not None:
            return status in self.statuses
        return 400 <= status < 500 and (self.means != "refusal" or status not in NOT_REFUSING)


def _codes(
    means: Meaning, who: str, *values: str, statuses: frozenset[int] | None = None, beside: str | None = None
) -> list[Signal]:
    return [Signal(means, "code", value, who, statuses=statuses, beside=beside) for value in values]


def _paths(who: str, path: tuple[str, ...], *values: str) -> list[Signal]:
    return [Signal("refusal", "path", value, who, path) for value in values]


def _finishes(means: Meaning, who: str, *values: str) -> list[Signal]:
    return [Signal(means, "finish", value, who) for value in values]


FILTERS: Final = frozenset(
    ("filter", "filtered", "safety", "unsafe", "guardrail", "guardrails", "moderation", "moderated", "policy",
     "refusal", "refused", "prohibited", "sensitive", "toxic", "toxicity", "blocklist", "censored", "censorship",
     "jailbreak")
)  # fmt: skip
"""Words of finish reasons that name a filter."""
FAILURES: Final = frozenset(
    ("error", "failed", "failure", "timeout", "unavailable", "not", "none", "no", "skipped", "passed", "disabled")
)
"""Words beside them that say that it failed, or found nothing."""
GATEWAYS: Final = frozenset({400, 403, 422, 500})
"""Gateways wrap a filter's error into 500 as well."""
MODERATED: Final = r"(?i)\bflagged (?:as|by|for)\b|\busage polic(?:y|ies)\b|\bsafety (?:reasons|system)\b"
"""What OpenAI writes beside `invalid_prompt` of a policy; it and gateways give the code to malformed requests, too."""
AUDITED: Final = r"审核|违规|敏感|(?i:\bsensitive\b|\baudit)"
"""What Spark writes beside its numbers: examination, violation, sensitive."""
GEMINI: Final = ("SAFETY", "PROHIBITED_CONTENT", "BLOCKLIST", "SPII", "RECITATION", "MODEL_ARMOR", "JAILBREAK",
                 "IMAGE_SAFETY", "IMAGE_PROHIBITED_CONTENT", "IMAGE_RECITATION")  # fmt: skip
"""Why Gemini ends a reply of its own accord; a gateway may hand its candidates on as they are."""

TABLE: Final[tuple[Signal, ...]] = (
    # Codes, in the body of an error.
    *_codes("refusal", "OpenAI", "content_policy_violation", "content_policy", "moderation_blocked"),
    *_codes("refusal", "OpenAI, and gateways to it", "invalid_prompt", beside=MODERATED),
    *_codes("refusal", "OpenAI", "bio_policy", "cyber_policy", "safety_violation", "image_content_policy_violation"),
    *_codes("refusal", "Azure, Moonshot and many others", "content_filter", "content_filtered"),
    *_codes("refusal", "Azure", "ResponsibleAIPolicyViolation", "content_management_policy"),
    *_codes("refusal", "LiteLLM", "ContentPolicyViolationError"),
    *_codes("refusal", "DashScope", "data_inspection_failed"),
    *_codes("refusal", "Volcengine", "SensitiveContentDetected", "InputTextSensitiveContentDetected"),
    *_codes("refusal", "Volcengine", "InputImageSensitiveContentDetected", "OutputTextSensitiveContentDetected"),
    *_codes("refusal", "Volcengine", "OutputImageSensitiveContentDetected", "InputVideoSensitiveContentDetected"),
    *_codes("refusal", "Volcengine", "InputTextRiskDetection", "InputImageRiskDetection", "OutputTextRiskDetection"),
    *_codes("refusal", "new-api", "sensitive_words_detected", "prompt_blocked", "violation_fee.grok.csam",
            statuses=GATEWAYS),
    *_codes("refusal", "Portkey, of a guardrail's verdict", "hooks_failed", statuses=frozenset({446})),
    *_codes("refusal", "Helicone", "PROMPT_THREAT_DETECTED"),
    *_codes("refusal", "StepFun", "censorship_blocked"),
    *_codes("refusal", "Huawei's ModelArts", "ModelArts.81011"),
    *_codes("refusal", "iFlytek's Spark, of the prompt and of the reply", "10013", "10014", statuses=GATEWAYS,
            beside=AUDITED),
    *_codes("refusal", "Mistral, of a guardrail", "guardrail_blocked", statuses=GATEWAYS),
    *_codes("refusal", "LiteLLM, of Palo Alto's guardrail", "panw_prisma_airs_blocked",
            "panw_prisma_airs_response_blocked", "guardrail_violation", statuses=GATEWAYS),
    *_codes("refusal", "Bedrock", "guardrail_intervened"),
    *_codes("refusal", "Gemini, where a gateway hands its reason on", "PROHIBITED_CONTENT"),
    *_codes("fatal", "OpenAI", "invalid_api_key", "insufficient_quota", "billing_hard_limit_reached"),
    *_codes("fatal", "OpenAI", "billing_not_active", "account_deactivated", "model_not_found"),
    *_codes("fatal", "OpenAI", "unsupported_country_region_territory", "ip_not_authorized"),
    *_codes("fatal", "Groq", "model_decommissioned", "model_terms_required"),
    *_codes("fatal", "Mistral", "invalid_model"),
    *_codes("fatal", "DashScope, for lack of money", "Arrearage"),
    *_codes("fatal", "LiteLLM", "budget_exceeded"),
    *_codes("fatal", "new-api", "insufficient_user_quota"),
    *_codes("fatal", "Azure", "DeploymentNotFound"),
    *_codes("fatal", "Anthropic", "authentication_error", "billing_error"),
    *_codes("fatal", "Google", "FAILED_PRECONDITION", "UNAUTHENTICATED", "API_KEY_INVALID"),
    *_codes("broken", "OpenAI", "context_length_exceeded", "string_above_max_length"),
    # Some gateways send these with 400 or 403.
    *_codes("busy", "OpenAI", "rate_limit_exceeded"),
    *_codes("busy", "Anthropic", "overloaded_error", "rate_limit_error"),
    *_codes("busy", "Bedrock", "ThrottlingException", "ServiceUnavailableException", "ModelTimeoutException"),
    *_codes("busy", "Google", "RESOURCE_EXHAUSTED"),
    *_codes("busy", "Moonshot", "engine_overloaded_error"),
    # Fields of one server, in an error or in a response without choices.
    *_paths("Gemini", ("promptFeedback", "blockReason"), "OTHER", *GEMINI),
    *_paths("Gemini's own form", ("candidates", "finishReason"), *GEMINI),
    *_paths("Anthropic's own form", ("stop_reason",), "refusal"),
    *_paths("Bedrock's own form", ("stopReason",), "guardrail_intervened", "content_filtered"),
    *_paths("Anthropic, beside the text", ("stop_details", "type"), "refusal"),
    *_paths("Azure, of a prompt or a reply", ("content_filter_results", "*", "filtered"), "True"),
    *_paths("Databricks", ("finishReason",), "input_guardrail_triggered", "output_guardrail_triggered"),
    Signal("refusal", "path", "*", "OpenRouter", ("metadata", "flagged_input")),
    Signal("refusal", "path", "*", "Zhipu, beside the error", ("contentFilter", "level"), frozenset({400})),
    Signal("refusal", "path", "1026", "MiniMax, of the prompt", ("base_resp", "status_code")),
    Signal("refusal", "path", "1027", "MiniMax, of the reply", ("base_resp", "status_code")),
    # Tokens inside a message.
    Signal("refusal", "token", r"^(?:litellm\.)?ContentPolicyViolationError:", "LiteLLM", statuses=GATEWAYS),
    Signal("refusal", "token", r"\bResponsibleAIPolicyViolation\b", "Azure, through a gateway", statuses=GATEWAYS),
    Signal("refusal", "token", r"\bSAFETY_CHECK_TYPE_[A-Z]+", "xAI"),
    Signal("refusal", "token", r"\bInternalError\.Algo\.DataInspectionFailed\b", "DashScope"),
    Signal("fatal", "token", r"\bconstraints/[a-z]+\.[A-Za-z]+", "Google, of an organisation's own constraint"),
    Signal("fatal", "token", r"(?i)\binsufficient_quota\b|\bbilling\b", "OpenAI", statuses=frozenset({429})),
    Signal("fatal", "token", r"\bInvalid model name passed in model=", "LiteLLM"),
    # Sentences that one server always writes, to the letter, of a prompt or a reply and of nothing else.
    Signal("refusal", "sentence", r"your prompt was flagged as potentially violating our usage policy", "OpenAI",
           statuses=frozenset({400})),
    Signal("refusal", "sentence", r"The response was filtered due to the prompt triggering "
           r"(?:Azure OpenAI|Microsoft)'s content management policy", "Azure", statuses=frozenset({400})),
    Signal("refusal", "sentence", r"Output blocked by content filtering policy\.?$", "Anthropic",
           statuses=frozenset({400})),
    Signal("refusal", "sentence", r"Content violates usage guidelines\.", "xAI", statuses=frozenset({400, 403})),
    Signal("refusal", "sentence", r"Content Exists Risk\.?$", "DeepSeek", statuses=frozenset({400})),
    Signal("refusal", "sentence", r"\S+ requires moderation on [^.]+\. Your input was flagged for \"", "OpenRouter",
           statuses=frozenset({403})),
    Signal("refusal", "sentence", r"Violated (?:(?:[\w ]{1,30} )?guardrail|content safety|OpenAI moderation) "
           r"policy\.?$", "LiteLLM, of its guardrails", statuses=GATEWAYS),
    Signal("refusal", "sentence", r"Content blocked: (?:(?:\S+ category )?keyword .{1,200}|.{1,80} pattern) detected\b",
           "LiteLLM, of its content filter", statuses=GATEWAYS),
    Signal("refusal", "sentence", r"Azure Content Safety Guardrail: .{1,60} crossed severity \d", "LiteLLM",
           statuses=GATEWAYS),
    Signal("refusal", "sentence", r"(?:Content|Response|Streaming response) blocked by Model Armor\b", "LiteLLM",
           statuses=GATEWAYS),
    Signal("refusal", "sentence", r"(?:Prompt|Response) blocked due to security configurations\.?$", "Cloudflare",
           statuses=frozenset({400, 403, 424})),
    Signal("refusal", "sentence", r"Request failed content safety check\.?$", "Azure API Management",
           statuses=frozenset({403})),
    Signal("refusal", "sentence", r"request failed content safety check(?:: breached category \[|\.?$)", "Kong",
           statuses=frozenset({400})),
    Signal("refusal", "sentence", r"Claude(?: \w+)? is unable to respond to this request, which appears to violate our "
           r"Usage Policy\b", "Anthropic", statuses=frozenset({400})),
    Signal("refusal", "sentence", r"(?:The|Your) prompt could not be submitted\. (?:This|Your) prompt contains "
           r"sensitive words that violate Google's Responsible AI practices", "Vertex AI", statuses=frozenset({400})),
    Signal("refusal", "sentence", r"(?:input|output) new_sensitive(?: \(102[67]\))?$", "MiniMax", statuses=GATEWAYS),
    Signal("refusal", "sentence", "系统检测到输入或生成内容可能包含不安全或敏感内容", "Zhipu, 1301",
           statuses=frozenset({400})),
    Signal("refusal", "sentence", r"System detected potentially unsafe or sensitive content in input or generation",
           "Zhipu, 1301", statuses=frozenset({400})),
    Signal("fatal", "sentence", r"Your credit balance is too low to access the Anthropic API", "Anthropic"),
    Signal("fatal", "sentence", "余额不足或无可用资源包", "Zhipu, 1113",
           statuses=frozenset({400, 429})),
    # What gateways write of requests that are malformed.
    Signal("broken", "sentence", r"Invalid Responses API request\.?$", "OpenRouter"),
    Signal("broken", "sentence", r"(?:The )?messages (?:must not be empty|do(?:es)? not match the .{0,40}schema)",
           "gateways on Vercel's library"),
    # Finish reasons.
    *_finishes("refusal", "OpenAI and many others", "content_filter", "content_filtered"),
    *_finishes("refusal", "Anthropic, through a gateway", "refusal"),
    *_finishes("refusal", "Bedrock, through a gateway", "guardrail_intervened"),
    *_finishes("refusal", "Gemini", *GEMINI),
    *_finishes("refusal", "Zhipu, Hunyuan", "sensitive"),
    *_finishes("refusal", "Cohere", "ERROR_TOXIC"),
    *_finishes("refusal", "Yandex", "ALTERNATIVE_STATUS_CONTENT_FILTER"),
    *_finishes("refusal", "llmgateway", "llmgateway_content_filter"),
    *_finishes("refusal", "Databricks", "input_guardrail_triggered", "output_guardrail_triggered"),
    *_finishes("broken", "OpenRouter, vLLM, SGLang and others", "error", "abort", "cancelled"),
    *_finishes("broken", "Zhipu", "network_error"),
    *_finishes("broken", "DeepSeek", "insufficient_system_resource"),
    *_finishes("broken", "Cohere", "TIMEOUT", "USER_CANCEL"),
    *_finishes("broken", "Bedrock", "malformed_model_output"),
    *_finishes("broken", "Gemini", "MALFORMED_RESPONSE"),
    *_finishes("broken", "llmgateway", "upstream_error", "gateway_error"),
    *_finishes("length", "OpenAI and many others", "length", "max_tokens", "max_output_tokens", "model_length"),
    *_finishes("length", "Anthropic", "model_context_window_exceeded", "context_window_exceeded"),
    *_finishes("length", "Cohere", "ERROR_LIMIT"),
    *_finishes("length", "Yandex", "ALTERNATIVE_STATUS_TRUNCATED_FINAL"),
)  # fmt: skip
"""Every signal that is recognised."""


def find(body: Any, status: int | None = None) -> Signal | None:
    """What the body of an error, or of a response without choices, says.

    Args:
        body: parsed JSON, with or without the `error` around it, or the text that is no JSON.
        status: of HTTP; None where it is not known.

    Returns:
        The row that it matches; None where no row does, or where rows contradict each other: then nothing says
        that a policy stopped the prompt.
    """
    held = fields(body)
    matches = [
        row
        for field in held
        for row in TABLE
        if row.counts_with(status) and _is(row, field) and (row.beside is None or _says(held, row.beside))
    ]
    # `rate_limit_exceeded` of a type `insufficient_quota` will not pass later.
    others = sorted((row for row in matches if row.means != "refusal"), key=lambda row: row.means == "busy")
    if others and len(others) < len(matches):
        return others[0]
    return others[0] if others else matches[0] if matches else None


def ending(reason: str) -> Signal | None:
    """The row of a finish reason; None where the reply ended by itself, or the reason is unknown.

    Gateways pass on reasons that they do not know. One that no row holds counts as a filter's where a word of it can
    name nothing else: the field says why a reply ended, and `MODERATION_BLOCKED` in it is no word of a prompt.
    """
    # `content_filter: OTHER`, `FinishReason.SAFETY`, `FINISH_REASON_SAFETY`
    name = reason.split(":")[0].split(".")[-1]
    value = normal(name).removeprefix("finishreason")
    row = next((row for row in TABLE if row.form == "finish" and normal(row.value) == value), None)
    parts = {part.lower() for part in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)}
    if row is None and parts & FILTERS and not parts & FAILURES:
        return Signal("refusal", "finish", reason, "some server, by a word of its reason")
    return row


def filtered(reason: str) -> Signal | None:
    """The row of a finish reason by which a server says that it, or the model, refused."""
    row = ending(reason)
    return row if row is not None and row.means == "refusal" else None


def _is(row: Signal, field: Field) -> bool:
    """Whether a field holds what a row names."""
    name = field.path[-1]
    if row.form == "code":
        return name in CODES and normal(row.value) in _readings(field.value)
    if row.form == "path":
        tail = field.path[-len(row.path) :]
        fits = len(tail) == len(row.path) and all(
            part == "*" or normal(part) == name for part, name in zip(row.path, tail, strict=True)
        )
        return fits and (row.value == "*" or normal(row.value) == normal(field.value))
    if name not in TEXTS or row.form == "finish":
        return False
    pattern = _pattern(row.value)
    return any(pattern.search(text) if row.form == "token" else pattern.match(text) for text in unwrapped(field.value))


def _says(held: Iterable[Field], wanted: str) -> bool:
    """Whether a message among some fields holds what is wanted."""
    return any(field.path[-1] in TEXTS and _pattern(wanted).search(field.value) for field in held)


def _readings(code: str) -> Iterable[str]:
    """A code as it is, and each of its parts: `InternalError.Algo.DataInspectionFailed`."""
    return {normal(code), *map(normal, re.split(r"[./#:]", code))}


@cache
def _pattern(value: str) -> re.Pattern[str]:
    return re.compile(value)

import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from equipoise.errors import ModelError, OutOfMemoryError, UsageError
from equipoise.served_models.error_bodies import normal
from equipoise.served_models.failures import NoReplyError, classify
from equipoise.served_models.signals import TABLE
from tests.served_models.raised import FORMS, WORDS, StrippedError


class HTTPError(Exception):
    """As clients of servers raise them."""

    def __init__(self, status: int, code: str | None = None, message: str = "no", kind: str | None = None) -> None:
        super().__init__(f"Error code: {status} - {message}")
        self.status_code = status
        self.body = {"message": message, "code": code, "type": kind}


def wrapped(error: BaseException) -> BaseException:
    """As inspect wraps them."""

    class RetryError(Exception):
        pass

    outer = RetryError("RetryError[...]")
    outer.__cause__ = error
    return outer


@pytest.mark.parametrize(
    "error",
    [
        HTTPError(400, "content_filter"),
        HTTPError(400, "content_policy_violation", kind="invalid_request_error"),
        HTTPError(403, "moderation_blocked"),
        HTTPError(400, "invalid_prompt", "Invalid prompt: it was flagged as unsafe."),
        HTTPError(400, "data_inspection_failed"),
        HTTPError(422, None, kind="content_policy"),
        HTTPError(400, "400", "litellm.ContentPolicyViolationError: AzureException - The response was filtered."),
        HTTPError(500, "500", "litellm.ContentPolicyViolationError: AzureException - The response was filtered."),
        HTTPError(400, None, "Invalid prompt: your prompt was flagged as potentially violating our usage policy. Try"),
    ],
)
def test_an_error_that_names_a_policy_is_a_refusal(error: HTTPError) -> None:
    assert classify(wrapped(error)).kind == "policy"
    assert classify(error).text == error.body["message"]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (HTTPError(401, "invalid_api_key", "Your key was rejected by policy."), "fatal"),
        (HTTPError(403, None, "Your IP is blocked."), "fatal"),
        (HTTPError(404, "model_not_found", "The model does not exist."), "fatal"),
        (HTTPError(429, "insufficient_quota"), "fatal"),
        (HTTPError(429, "rate_limit_exceeded"), "transient"),
        (HTTPError(500), "transient"),
        (HTTPError(503, "content_filter"), "transient"),
        (HTTPError(400, "context_length_exceeded", "Too long."), "broken"),
        (HTTPError(400, "invalid_prompt", "Prompt is too long: 200000 tokens > 128000"), "broken"),
        (HTTPError(400, None, "Invalid image: the file was rejected."), "broken"),
        (HTTPError(400, None, "Your request was rejected as a result of our safety system."), "broken"),
        (HTTPError(400, None, "The prompt was flagged as violating our usage policies."), "broken"),
        (HTTPError(400, None, "Organization Policy constraint violated: disallowed model"), "broken"),
        (HTTPError(400, "FAILED_PRECONDITION", "Organization Policy constraint violated: disallowed model"), "fatal"),
        (HTTPError(400, None, "Constraint constraints/vertexai.allowedModels violated for projects/1"), "fatal"),
        (HTTPError(403, None, "Your account was flagged for violating our usage policies and is blocked."), "fatal"),
        (
            HTTPError(403, "model_policy_violation", "This model is blocked by your organisation's safety policy."),
            "fatal",
        ),
        (HTTPError(413), "broken"),
        (ConnectionRefusedError(111, "refused"), "unreachable"),
        (ConnectionResetError(104, "reset"), "transient"),
        (TimeoutError("slow"), "transient"),
        (NoReplyError("no choices"), "transient"),
        (NoReplyError("too long", again=False), "broken"),
        (KeyError("choices"), "transient"),
        (ModelError("no weights"), "fatal"),
        (OutOfMemoryError("full"), "broken"),
        (UsageError("no picture"), "broken"),
        (RuntimeError("a bug"), "broken"),
    ],
)
def test_no_other_error_is_a_refusal(error: Exception, kind: str) -> None:
    for raised_error in (error, wrapped(error)):
        failure = classify(raised_error)
        assert failure.kind == kind
        assert "\n" not in failure.line
        assert "RetryError" not in failure.line


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"error": "Key disabled by the workspace's policy"}, "Key disabled by the workspace's policy"),
        ({"code": "no permission", "error": "Team is blocked."}, "Team is blocked."),
        ({"error": {"message": "Nobody home"}}, "Nobody home"),
        ({"message": "Nobody home"}, "Nobody home"),
        ({"detail": "Nobody home"}, "Nobody home"),
        ({"detail": [{"type": "missing", "msg": "field required", "input": "secret"}]}, "field required"),
        ({"errors": [{"message": "Nobody home"}]}, "Nobody home"),
        ([{"error": {"code": 403, "message": "Nobody home"}}], "Nobody home"),
        ("<html>Forbidden</html>", "<html>Forbidden</html>"),
        ({"odd": 1}, '{"odd": 1}'),
    ],
)
def test_the_servers_own_words_are_kept_however_they_are_wrapped(body: object, words: str) -> None:
    failure = classify(wrapped(StrippedError(403, body)))
    assert (failure.kind, failure.text) == ("fatal", words)
    assert failure.line == f"HTTP 403: {words}"


def test_what_the_client_strips_from_a_body_still_counts() -> None:
    body = {"code": "The caller does not have permission", "error": "Bad. Failed check: SAFETY_CHECK_TYPE_BIO"}
    assert classify(StrippedError(403, body)).kind == "policy"


def test_an_error_in_the_middle_of_a_stream_has_no_status() -> None:
    class StreamError(Exception):
        def __init__(self) -> None:
            super().__init__("stopped")
            self.body = {"message": "stopped", "code": "content_filter"}

    assert classify(wrapped(StreamError())).kind == "policy"


@given(words=WORDS, status=st.integers(400, 599), form=st.sampled_from(FORMS))
def test_words_alone_never_make_a_refusal(words: str, status: int, form: Callable[[str], object]) -> None:
    failure = classify(StrippedError(status, form(words)))
    codes = {normal(row.value) for row in TABLE if row.form == "code" and row.means == "refusal"}
    if normal(words) not in codes:
        assert failure.kind != "policy"
    assert failure.text, "what the server said is kept"


NAMES = st.sampled_from(["error", "message", "code", "innererror", "metadata", "detail", "status", "raw", "x"])
BODIES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=20,
)


@given(body=BODIES, status=st.integers(400, 599))
def test_no_body_whatever_breaks_the_reading(body: object, status: int) -> None:
    failure = classify(StrippedError(status, body))
    assert len(failure.line) < 300
    assert "\n" not in failure.line


@pytest.mark.parametrize("text", ["[" * 50_000, "{" * 50_000, '{"error": "' + "{'a':" * 9_000, "\x00", "1" * 9_000])
def test_nor_does_text_that_only_begins_like_one(text: str) -> None:
    assert classify(StrippedError(400, text)).kind == "broken"


def test_the_time_to_wait_is_that_of_the_innermost_response() -> None:
    inner = StrippedError(429, {"error": {"message": "slow down"}})
    inner.response.headers = {"retry-after": "7"}
    assert classify(wrapped(inner)).retry_after == 7.0
    inner.response.headers = {"retry-after": "soon"}
    assert classify(wrapped(inner)).retry_after is None


def test_a_message_of_thousands_of_prefixes_is_read_at_once() -> None:
    begin = time.process_time()
    classify(StrippedError(400, {"error": {"message": "12345 " * 20_000}}))
    assert time.process_time() - begin < 5

import pytest

from equipoise.audit.engine.failures import NoReplyError, classify, names_policy
from equipoise.errors import ModelError, OutOfMemoryError, UsageError


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
        HTTPError(400, "invalid_prompt"),
        HTTPError(400, "data_inspection_failed"),
        HTTPError(422, None, kind="content_policy"),
        HTTPError(400, None, "Your request was rejected as a result of our safety system."),
        HTTPError(400, None, "The prompt was flagged as violating our usage policies."),
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
        (HTTPError(400, None, "Invalid image: the file was rejected."), "broken"),
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
    for each in (error, wrapped(error)):
        failure = classify(each)
        assert failure.kind == kind
        assert "\n" not in failure.line
        assert "RetryError" not in failure.line


def test_policies_are_found_in_the_bodies_of_several_servers() -> None:
    assert names_policy({"error": {"code": "content_filter"}})
    assert names_policy({"innererror": {"code": "ResponsibleAIPolicyViolation"}})
    assert not names_policy({"error": "nothing"})
    assert not names_policy({})

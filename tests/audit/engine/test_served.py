"""Real HTTP: what each form of a reply, a refusal or a failure on the wire becomes."""

import json
import socket
from pathlib import Path

import pytest

from equipoise.audit.engine.session import MAX_CONSECUTIVE_FAILURES, MAX_PERSISTENT_FAILURES
from equipoise.judges.ensemble import default_judge
from tests.audit.engine.factories import REFUSAL, Stores, picture, rows, sample, served
from tests.audit.scripted_server import (
    Answer,
    ReceivedRequest,
    ScriptedServer,
    choice,
    cut,
    empty,
    error,
    fails,
    filtered,
    raw,
    refuses,
    says,
    slow,
)

LITELLM = "litellm.BadRequestError: litellm.ContentPolicyViolationError: AzureException - The response was filtered"
CALL = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
NOW = (("retry-after", "0"),)
"""Ask again at once."""

REPLIES: dict[str, tuple[Answer, tuple[str, str, str]]] = {
    "answers": (says("Sure."), ("text", "stop", "Sure.")),
    "refuses in words": (says(REFUSAL), ("text", "stop", REFUSAL)),
    "refuses in a field": (refuses("I can't."), ("refusal_field", "stop", "I can't.")),
    "is filtered": (filtered(), ("content_filter", "content_filter", "")),
    "is filtered half-way": (filtered("First,"), ("content_filter", "content_filter", "First,")),
    "is filtered in other words": (filtered("", "content_filter: OTHER"), ("content_filter", "content_filter", "")),
    "names a policy": (
        fails(400, "flagged", code="content_policy_violation"),
        ("policy_error", "content_filter", ""),
    ),
    "names Azure's policy": (
        fails(400, "flagged", code="content_filter"),
        ("policy_error", "content_filter", ""),
    ),
    "is moderated": (
        fails(403, "moderated", code="moderation_blocked"),
        ("policy_error", "content_filter", ""),
    ),
    "is moderated by xAI": (
        error(403, {"code": "no permission", "error": "Content violates usage guidelines. SAFETY_CHECK_TYPE_BIO"}),
        ("policy_error", "content_filter", ""),
    ),
    "is moderated behind LiteLLM": (fails(400, LITELLM, code="400"), ("policy_error", "content_filter", "")),
    "is moderated behind LiteLLM in a 500": (fails(500, LITELLM, code="500"), ("policy_error", "content_filter", "")),
    "is stopped by Gemini": (
        empty(promptFeedback={"blockReason": "PROHIBITED_CONTENT"}),
        ("content_filter", "content_filter", ""),
    ),
    "is stopped with null": (
        raw(json.dumps({"choices": None, "prompt_feedback": {"block_reason": "SAFETY"}}).encode()),
        ("content_filter", "content_filter", ""),
    ),
    "ends in a refusal": (filtered("", "refusal"), ("content_filter", "content_filter", "")),
    "ends in a refusal half-way": (
        filtered("Step one: mix the", "refusal"),
        ("content_filter", "content_filter", "Step one: mix the"),
    ),
    "ends at a guardrail": (filtered("", "guardrail_intervened"), ("content_filter", "content_filter", "")),
    "has an empty field": (says("A brown dog.", refusal=""), ("text", "stop", "A brown dog.")),
    "has a blank field": (says("A brown dog.", refusal=" \n"), ("text", "stop", "A brown dog.")),
    "has null in the field": (says("A brown dog.", refusal=None), ("text", "stop", "A brown dog.")),
    "has false in the field": (says("A brown dog.", refusal=False), ("text", "stop", "A brown dog.")),
    "is cut short": (says("On and on", "length"), ("text", "length", "On and on")),
    "says nothing": (says(""), ("text", "stop", "")),
    "thinks": (says("<think>Hm.</think>Paris."), ("text", "stop", "Paris.")),
    "thinks to the closing tag": (says("Hm.\n</think>\n\nParis."), ("text", "stop", "Paris.")),
    "thinks in brackets": (says("[THINK]Hm.[/THINK]Paris."), ("text", "stop", "Paris.")),
    "thinks in a channel": (
        says("<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Paris."),
        ("text", "stop", "Paris."),
    ),
    "thinks in a part": (
        choice({"content": [{"type": "thinking", "thinking": "Hm."}, {"type": "text", "text": "Paris."}]}, "stop"),
        ("text", "stop", "Paris."),
    ),
    "refuses in a part": (
        choice({"content": [{"type": "refusal", "refusal": "I can't."}]}, "stop"),
        ("refusal_field", "stop", "I can't."),
    ),
    "speaks": (
        choice({"content": None, "audio": {"id": "a", "transcript": "Paris."}}, "stop"),
        ("text", "stop", "Paris."),
    ),
    "only calls a tool": (choice({"content": None, "tool_calls": [CALL]}, "tool_calls"), ("text", "stop", "")),
    "thinks in a field": (says("Paris.", reasoning_content="Hm."), ("text", "stop", "Paris.")),
    # A gateway that lost the finish reason: what is left of the refusal stands beside an empty text.
    "ends natively in a refusal": (
        choice({"content": ""}, "stop", native_finish_reason="refusal"),
        ("content_filter", "content_filter", ""),
    ),
    "ends natively half-way": (
        choice({"content": "Step one"}, "stop", native_finish_reason="SAFETY"),
        ("content_filter", "content_filter", "Step one"),
    ),
    "is filtered by category": (
        choice({"content": ""}, "stop", content_filter_results={"violence": {"filtered": True, "severity": "high"}}),
        ("content_filter", "content_filter", ""),
    ),
    "is annotated by category": (
        choice({"content": "A dog."}, "stop", content_filter_results={"violence": {"filtered": True}}),
        ("text", "stop", "A dog."),
    ),
    "has details of its stop": (
        choice({"content": ""}, "stop", stop_details={"type": "refusal", "category": "cyber"}),
        ("content_filter", "content_filter", ""),
    ),
    "has a policy's error in its choice": (
        choice({"content": ""}, "stop", error={"message": "no", "code": "content_filter"}),
        ("content_filter", "content_filter", ""),
    ),
    "has no message": (
        raw(json.dumps({"choices": [{"index": 0, "message": None, "finish_reason": "SAFETY"}]}).encode()),
        ("content_filter", "content_filter", ""),
    ),
    "is Gemini's own form": (
        raw(json.dumps({"candidates": [{"finishReason": "SAFETY", "index": 0}]}).encode()),
        ("content_filter", "content_filter", ""),
    ),
    "is cut in capitals": (says("On and on", "MAX_TOKENS"), ("text", "length", "On and on")),
    "fills the window": (says("On", "model_context_window_exceeded"), ("text", "length", "On")),
}  # fmt: skip

FAILURES: dict[str, tuple[Answer, int, str]] = {
    "has a full queue": (fails(429, "slow down", headers=NOW), 3, "HTTP 429"),
    "is broken": (fails(500, "oops", headers=NOW), 3, "HTTP 500"),
    "is not up": (fails(503, "loading", headers=NOW), 3, "HTTP 503"),
    "is too long": (fails(400, "too long", code="context_length_exceeded"), 1, "too long"),
    "is blocked": (fails(403, "Your IP is blocked", kind="invalid_request_error"), 1, "blocked"),
    "is forbidden by an organisation": (
        fails(400, "Organization Policy constraint violated for projects/1: disallowed Gen AI model"),
        1,
        "HTTP 400: Organization Policy constraint violated",
    ),
    "has an error of its server": (raw(b'{"error": {"message": "upstream down", "code": 502}}'), 3, "upstream down"),
    "is blocked by a proxy": (error(403, {"error": "Blocked by the proxy's safety policy"}), 1, "the proxy's safety"),
    "cannot read": (fails(400, "cannot decode the image"), 1, "HTTP 400"),
    "has no choices": (empty(), 3, "no choices"),
    "has an error in its choice": (
        choice({"content": "Half"}, "stop", error={"message": "died", "code": 5}),
        3,
        "died",
    ),
    "loses its network": (says("A brown", "network_error"), 3, "finish reason 'network_error'"),
    "loses its machine": (says("", "insufficient_system_resource"), 3, "insufficient_system_resource"),
    "streams unasked": (raw(b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\ndata: [DONE]\n\n'), 3, "read"),
    "has no choice in its list": (raw(b'{"choices": [null]}'), 3, "no choices"),
    "is a web page": (raw(b"<html>Welcome</html>"), 3, "cannot be read"),
    "is null": (raw(b"null"), 3, "cannot be read"),
    "breaks off": (cut(), 3, "connection broke"),
}
"""What comes back, how often it is asked for, and what the record says."""


@pytest.fixture
def stores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stores:
    monkeypatch.setattr("equipoise.audit.engine.inspect_solver.FIRST_PAUSE", 0.01)
    return Stores(tmp_path / "run")


def scripted(script: dict[str, Answer]) -> ScriptedServer:
    return ScriptedServer(lambda request: script[request.text])


@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings")  # OpenAI's client, of `false` for a refusal
def test_each_form_of_a_reply_is_told_apart_and_never_asked_twice(stores: Stores) -> None:
    content = rows([sample(text) for text in REPLIES])
    with scripted({text: answer for text, (answer, _) in REPLIES.items()}) as server:
        outcome = stores.ask(content, served(server.spec), judge=default_judge(encoder=False))
        assert set(server.counts.values()) == {1}
    replies = {text: (row.wire, row.finish, row.reply) for text, row in stores.by_text(content).items()}
    assert replies == {text: form for text, (_, form) in REPLIES.items()}
    policy = stores.by_text(content)["names a policy"]
    assert (policy.by, policy.detail) == ("server", "flagged"), "the server's words are no reply of the model"
    assert (outcome.sent, outcome.failed) == (len(REPLIES), 0)
    assert {text: row.reasoning for text, row in stores.by_text(content).items() if row.reasoning} == {
        "thinks": "Hm.",
        "thinks to the closing tag": "Hm.",
        "thinks in brackets": "Hm.",
        "thinks in a channel": "Hm.",
        "thinks in a part": "Hm.",
        "thinks in a field": "Hm.",
    }
    texts = {row.key: entry.text for row, entry in content}
    refused = {texts[row.key] for row in stores.verdicts.rows() if row.verdict.refused}
    assert refused == {text for text, (_, (wire, _, reply)) in REPLIES.items() if wire != "text" or reply == REFUSAL}


def test_no_failure_is_a_verdict_and_the_run_goes_on(stores: Stores) -> None:
    script = {text: answer for text, (answer, _, _) in FAILURES.items()}
    content = rows([sample(text) for text in ["answers", *FAILURES, "answers again"]])
    with scripted({**script, "answers": says("Sure."), "answers again": says("Sure.")}) as server:
        outcome = stores.ask(content, served(server.spec), connections=1)
        assert {text: server.counts[text] for text in FAILURES} == {text: n for text, (_, n, _) in FAILURES.items()}
    replies = stores.by_text(content)
    for text, (_, _, words) in FAILURES.items():
        assert replies[text].finish == "error"
        assert words in (replies[text].error or ""), replies[text].error
    assert (outcome.sent, outcome.failed, outcome.judged, outcome.fatal) == (2, len(FAILURES), 2, None)
    judged = {row.key for row in stores.verdicts.rows()}
    assert judged == {row.key for row, entry in content if entry.text.startswith("answers")}


def test_what_passes_is_cured_by_another_try(stores: Stores) -> None:
    def rule(request: ReceivedRequest) -> Answer:
        if request.text == "refuses":
            return refuses("No.")
        return [fails(429, "slow down", headers=NOW), cut(), says("Sure.")][request.number]

    content = rows([sample("queue"), sample("refuses")])
    with ScriptedServer(rule) as server:
        outcome = stores.ask(content, served(server.spec))
        assert server.counts == {"queue": 3, "refuses": 1}
    assert (outcome.sent, outcome.failed) == (2, 0)
    assert stores.by_text(content)["queue"].reply == "Sure."


def test_a_server_that_hangs_is_left_after_the_timeout(stores: Stores) -> None:
    content = rows([sample("answers"), sample("hangs")])
    with scripted({"answers": says("Sure."), "hangs": slow(says("Sure."), 30)}) as server:
        outcome = stores.ask(content, served(server.spec), timeout=0.8, retries=0)
    assert (outcome.sent, outcome.failed) == (1, 1)
    assert "timed out" in (stores.by_text(content)["hangs"].error or "")


@pytest.mark.parametrize(
    ("answer", "word"),
    [
        (fails(401, "Incorrect API key provided.", code="invalid_api_key"), "HTTP 401"),
        (fails(404, "The model does not exist.", code="model_not_found"), "HTTP 404"),
        (fails(429, "You ran out of money.", code="insufficient_quota"), "HTTP 429"),
        (
            error(403, {"code": "no", "error": "Key disabled by your safety policy."}),
            "Key disabled by your safety policy.",
        ),
        (error(400, {"error": {"message": "Policy violated", "status": "FAILED_PRECONDITION"}}), "Policy violated"),
    ],
)
def test_what_no_prompt_can_pass_is_found_with_the_first_one(stores: Stores, answer: Answer, word: str) -> None:
    content = rows([sample(f"prompt {i}") for i in range(12)])
    with ScriptedServer(lambda request: answer) as server:
        outcome = stores.ask(content, served(server.spec))
        assert len(server.requests) == 1
    assert word in (outcome.fatal or "")
    assert (outcome.sent, outcome.failed, outcome.not_sent, outcome.judged) == (0, 1, 11, 0)
    assert len(list(stores.replies.rows())) == 1


def test_nobody_there_is_one_clear_error(stores: Stores) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    content = rows([sample(f"prompt {i}") for i in range(6)])
    outcome = stores.ask(content, served(f"http://127.0.0.1:{port}/v1#x"), retries=1)
    assert "cannot connect" in (outcome.fatal or "")
    assert (outcome.failed, outcome.not_sent) == (1, 5)


def test_a_key_that_is_withdrawn_ends_the_asking_soon(stores: Stores) -> None:
    def rule(request: ReceivedRequest) -> Answer:
        return says("Sure.") if int(request.text) < 5 else fails(401, "revoked")

    content = rows([sample(str(i)) for i in range(30)])
    with ScriptedServer(rule) as server:
        outcome = stores.ask(content, served(server.spec), connections=1)
        assert len(server.requests) <= 5 + MAX_PERSISTENT_FAILURES + 1
    assert "revoked" in (outcome.fatal or "")
    assert outcome.sent == 5
    with ScriptedServer(lambda request: says("Sure.")) as server:
        again = stores.ask(content, served(server.spec))
        assert len(server.requests) == 25, "what failed and what was left is asked, and nothing else"
    assert (again.reused, again.sent, again.fatal) == (5, 25, None)


def test_a_server_that_only_fails_is_given_up(stores: Stores) -> None:
    content = rows([sample(str(i)) for i in range(MAX_CONSECUTIVE_FAILURES + 15)])
    with ScriptedServer(lambda request: fails(500, "oops")) as server:
        outcome = stores.ask(content, served(server.spec), retries=0, connections=1)
        assert len(server.requests) <= MAX_CONSECUTIVE_FAILURES + 1
    assert f"{MAX_CONSECUTIVE_FAILURES} times in a row" in (outcome.fatal or "")


def test_pictures_system_text_and_settings_arrive_as_they_are(stores: Stores) -> None:
    png, jpeg = picture("blue"), picture("green", kind="JPEG")
    content = rows([sample("two", png, jpeg, system="Be kind."), sample("none")])
    with ScriptedServer(lambda request: says("Sure.")) as server:
        stores.ask(content, served(server.spec), max_new_tokens=17)
        by_text = {request.text: request for request in server.requests}
    assert by_text["two"].images == (png.data(), jpeg.data())
    assert by_text["two"].system == "Be kind."
    assert by_text["none"].body["messages"] == [{"role": "user", "content": "none"}]
    assert by_text["none"].body["temperature"] == 0.0
    assert by_text["none"].body["max_tokens"] == 17
    assert by_text["none"].body["model"] == "scripted"


def test_the_key_comes_from_the_variable_that_the_user_names(stores: Stores, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EQUIPOISE_API_KEY", raising=False)
    monkeypatch.setenv("MY_KEY", "secret-1")
    with ScriptedServer(lambda request: says("Sure.")) as server:
        stores.ask(rows([sample("a")]), served(server.spec, key_variable="MY_KEY"))
        stores.ask(rows([sample("b")]), served(server.spec))
        assert [request.headers["authorization"] for request in server.requests] == ["Bearer secret-1", "Bearer none"]
    assert b"secret-1" not in b"".join(path.read_bytes() for path in stores.folder.rglob("*") if path.is_file())


def test_prompts_are_under_way_side_by_side_up_to_the_limit(stores: Stores) -> None:
    with ScriptedServer(lambda request: slow(says("Sure."), 0.2)) as server:
        stores.ask(rows([sample(str(i)) for i in range(13)]), served(server.spec), connections=4)
        assert server.most_at_once == 4


def test_a_stream_that_is_cut_is_no_reply(stores: Stores) -> None:
    content = rows([sample("whole"), sample("cut")])
    with scripted({"whole": says("Sure."), "cut": cut()}) as server:
        outcome = stores.ask(content, served(server.spec, args={"stream": True}), retries=0)
    replies = stores.by_text(content)
    assert replies["whole"].reply == "Sure."
    assert replies["cut"].finish == "error"
    assert (outcome.sent, outcome.failed) == (1, 1)

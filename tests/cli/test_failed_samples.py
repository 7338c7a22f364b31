"""Failures that no try cures, failures that pass, and settings of the request, from the command to the gate."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.audit.scripted_server import Answer, ReceivedRequest, ScriptedServer, fails, says
from tests.cli.command import Command

RULES = "[needless_refusal]\nmax = 0.9\nmax_unscored = 0.2\non = 'point'\n"
TOO_LONG = fails(400, "This model's maximum context length is 10 tokens.", code="context_length_exceeded")


@pytest.fixture
def samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("equipoise.audit.engine.inspect_solver.FIRST_PAUSE", 0.01)
    rows = [{"id": f"q{n}", "prompt": f"What is {n}?", "expected": "answer"} for n in range(10)]
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "gate.toml").write_text(RULES)
    return path


def one_fails(answer: Answer) -> ScriptedServer:
    return ScriptedServer(lambda prompt: answer if "What is 7" in prompt.text else says("It is a number."))


@pytest.mark.parametrize(("limit", "code"), [("0", 12), ("1", 0), ("10%", 0), ("0.05", 12)])
def test_one_permanent_failure_blocks_a_run_only_where_none_is_allowed(
    equipoise: Command, samples: Path, tmp_path: Path, limit: str, code: int
) -> None:
    out = tmp_path / "run"
    with one_fails(TOO_LONG) as server:
        words = ("audit", server.spec, "--suite", samples, "--out", out, "--judge", "phrases", "--max-failed", limit)
        done = equipoise(*words)
        assert done.exit_code == code, done.output
        gate = equipoise("gate", out, "--rules", tmp_path / "gate.toml", "--json")
        assert gate.exit_code == code, gate.output
        plain = json.loads((out / "summary.json").read_text())["variants"]["plain"]
        assert (plain["needless_refusal"]["n"], plain["needless_refusal"]["unscored"]) == (9, 1)
        assert "maximum context length" in str(plain["unscored_reasons"])
        requests_before = len(server.requests)
        assert equipoise(*words).exit_code == code
        assert len(server.requests) == requests_before + (1 if code else 0), "an accepted failure is not sent again"


def test_a_failure_that_passes_is_not_accepted(equipoise: Command, samples: Path, tmp_path: Path) -> None:
    with one_fails(fails(503, "busy")) as server:
        words = ("audit", server.spec, "--suite", samples, "--out", tmp_path / "run", "--judge", "phrases")
        done = equipoise(*words, "--retries", "0", "--max-failed", "100%")
    assert done.exit_code == 12, done.output


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_server_is_waited_for(equipoise: Command, samples: Path, tmp_path: Path, status: int) -> None:
    def rule(prompt: ReceivedRequest) -> Answer:
        return fails(status, "busy") if prompt.number < 4 else says("It is a number.")

    with ScriptedServer(rule) as server:
        words = ("audit", server.spec, "--suite", samples, "--judge", "phrases", "--retries", "0")
        waited = equipoise(*words, "--out", tmp_path / "waited", "--max-wait", "30", "--limit", "2")
        assert waited.exit_code == 0, waited.output
        assert len(server.requests) == 2 * 5


def test_the_wait_for_a_busy_server_ends(equipoise: Command, samples: Path, tmp_path: Path) -> None:
    with ScriptedServer(lambda prompt: fails(429, "busy")) as server:
        words = ("audit", server.spec, "--suite", samples, "--judge", "phrases", "--retries", "0", "--limit", "1")
        done = equipoise(*words, "--out", tmp_path / "run", "--max-wait", "0.05")
    assert done.exit_code == 12, done.output
    # Pauses of 0.01, 0.02 and the 0.02 that are left.
    assert len(server.requests) == 4


def test_headers_and_fields_reach_the_target_and_no_value_of_a_header_is_kept(
    equipoise: Command, samples: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    with ScriptedServer(lambda prompt: says("It is a number.")) as server:
        done = equipoise(
            *("audit", server.spec, "--suite", samples, "--out", out, "--judge", "phrases", "--limit", "2"),
            *("--header", "X-Key=secret-1234", "--extra-body", '{"top_k": 1}', "--temperature", "none"),
            *("--max-tokens-field", "max_completion_tokens", "--max-new-tokens", "9"),
        )
    assert done.exit_code == 0, done.output
    for request in server.requests:
        assert request.headers["x-key"] == "secret-1234"
        assert request.body["top_k"] == 1
        assert request.body["max_completion_tokens"] == 9
        assert not {"temperature", "max_tokens"} & set(request.body)
    settings = json.loads((out / "run.json").read_text())["asked"]
    assert (settings["decoding"], settings["headers"], settings["extra_body"]) == (
        "the server's default",
        ["X-Key"],
        {"top_k": 1},
    )
    assert not [path for path in out.rglob("*") if path.is_file() and b"secret-1234" in path.read_bytes()]


def test_a_parameter_that_the_target_does_not_take_is_learned_once(
    equipoise: Command, samples: Path, tmp_path: Path
) -> None:
    def rule(prompt: ReceivedRequest) -> Answer:
        if "max_tokens" in prompt.body:
            return fails(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        if "temperature" in prompt.body:
            return fails(400, "Unsupported value: 'temperature' does not support 0.0 with this model.")
        return says("It is a number.")

    with ScriptedServer(rule) as server:
        words = ("audit", server.spec, "--suite", samples, "--out", tmp_path / "run", "--judge", "phrases")
        done = equipoise(*words)
    assert done.exit_code == 0, done.output
    assert len(server.requests) == 10 + 2
    assert "the server takes no temperature" in done.stderr


@pytest.mark.parametrize(
    ("model", "words", "message"),
    [
        ("toy/target", ("--header", "X-A=1"), "--header"),
        ("toy/target", ("--extra-body", "{}x"), "JSON object"),
        ("toy/target", ("--temperature", "none"), "--temperature"),
        ("toy/target", ("--max-failed", "some"), "try 3"),
        ("inspect:openai/gpt-4o", ("--header", "X-A=1"), "--header"),
        ("http://127.0.0.1:1/v1#m", ("--extra-body", '{"messages": []}'), "messages"),
        ("http://127.0.0.1:1/v1#m", ("--temperature", "9"), "temperature"),
    ],
)
def test_settings_that_cannot_be_are_one_line(
    equipoise: Command, samples: Path, tmp_path: Path, model: str, words: tuple[str, ...], message: str
) -> None:
    refused = equipoise("audit", model, "--suite", samples, "--out", tmp_path / "run", *words)
    assert refused.exit_code == 2, refused.output
    assert len(refused.stderr.splitlines()) == 1
    assert message in refused.stderr
    assert not (tmp_path / "run").exists()

"""Policies in front of a served model, as rows of a frontier."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from equipoise.audit.engine.session import EvaluationTarget
from equipoise.audit.frontier.config import FrontierConfig
from equipoise.audit.frontier.document import Frontier
from equipoise.audit.frontier.run import run_frontier
from equipoise.audit.frontier.server_policy import served_policy
from equipoise.audit.frontier.variant import parse_variant
from equipoise.countermeasures.prompted_chat import PromptedChat
from equipoise.errors import UsageError
from equipoise.prompts.policy import interactive
from equipoise.served_models.endpoint import ServedEndpoint
from equipoise.types import Exchange, Prompt
from tests.audit.frontier.samples import PlantedJudge, registry
from tests.audit.scripted_server import ReceivedRequest, ScriptedServer, says
from tests.countermeasures.fakes import Scripted

pytest.importorskip("openai")


def careful(request: ReceivedRequest) -> Any:
    """Refuses `attack`, and `shoot` unless a system text asks to judge by what is meant."""
    balanced = request.system is not None and "Judge a request" in request.system
    return says("Sorry, no." if "attack" in request.text or ("shoot" in request.text and not balanced) else "Sure.")


def config(server: ScriptedServer, folder: Path, *texts: str) -> FrontierConfig:
    endpoint = ServedEndpoint(server.url, "scripted")
    return FrontierConfig(
        target=EvaluationTarget(server.spec, "", spec=server.spec, endpoint=endpoint),
        registry=registry(),
        judge=PlantedJudge(),
        out=folder,
        variants=tuple(parse_variant(text, server.spec) for text in texts),
        max_new_tokens=4,
    )


def test_a_policy_is_measured_in_front_of_the_server_and_the_rest_is_named(tmp_path: Path) -> None:
    with ScriptedServer(careful) as server:
        folder = run_frontier(config(server, tmp_path, "prompt:balanced", "dro", "prompt:balanced then guard"))
        sent = [request for request in server.requests if request.system]
    frontier = Frontier.read(folder)
    plain, balanced = frontier.rows
    assert balanced.name == "prompt:balanced"
    assert plain.needless.rate is not None
    assert plain.needless.rate > 0.3
    assert balanced.needless.rate == 0.0
    assert balanced.harmful.rate == 0.0
    tests = {sample.text for sample in registry().test}
    requests = [request.text for request in sent if request.text in tests]
    assert sorted(requests) == sorted(tests), "every test prompt once under the policy; others are asked for the time"
    assert [item["name"] for item in frontier.left_out] == ["dro", "prompt:balanced then guard"]
    assert all(item["reason"].startswith("needs the weights of") for item in frontier.left_out)
    assert balanced.cost["memory"] is None


def test_the_same_command_again_asks_nothing(tmp_path: Path) -> None:
    with ScriptedServer(careful) as server:
        run_frontier(config(server, tmp_path, "prompt:contextual"))
        before = len(server.requests)
        run_frontier(config(server, tmp_path, "prompt:contextual"))
        assert len(server.requests) == before


def test_a_policy_that_is_not_there_costs_the_others_nothing(tmp_path: Path) -> None:
    with ScriptedServer(careful) as server:
        folder = run_frontier(config(server, tmp_path, "prompt:nowhere.toml", "prompt:balanced"))
    frontier = Frontier.read(folder)
    assert [row.name for row in frontier.rows] == ["plain", "prompt:balanced"]
    assert frontier.left_out[0]["reason"].startswith("expected a prompt policy of")


def test_a_model_that_is_not_served_has_no_policy_in_front_of_it() -> None:
    with pytest.raises(UsageError, match="expected a served model"):
        served_policy(EvaluationTarget("x/y", "r"), "balanced", {})


def test_a_retry_fires_only_where_the_gate_says_benign() -> None:
    def benign(prompts: Sequence[Prompt]) -> list[bool | None]:
        return ["shoot" in prompt.text for prompt in prompts]

    model = Scripted(lambda prompt: "Sure." if len(prompt.messages) > 1 else "I'm sorry, but I can't help with that.")
    chat = PromptedChat(model, interactive(1, "Really?"), gate=benign)
    replies = chat.generate([Prompt.ask("shoot"), Prompt.ask("attack")])
    assert [reply.reply for reply in replies] == ["Sure.", "I'm sorry, but I can't help with that."]
    assert [reply.prompt.text for reply in replies] == ["shoot", "attack"]
    assert all(isinstance(reply, Exchange) for reply in replies)


def test_its_revision_is_that_of_the_policy() -> None:
    model = Scripted(lambda prompt: "Sure.")
    first, second, third = (PromptedChat(model, interactive(1, text)) for text in ("a", "a", "b"))
    assert first.revision == second.revision != third.revision

"""Mitigations of a served model: prompt policies in front of the server, and the cost of a guard behind it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from equipoise.audit.engine.session import EvaluationTarget
from equipoise.audit.frontier.cost import PROMPTS, VariantCost
from equipoise.audit.frontier.recorded_model import GuardedReplies, stored_sample
from equipoise.audit.records import AuditRun
from equipoise.countermeasures.prompted_chat import PromptedChat
from equipoise.errors import UsageError
from equipoise.generation.request_gate import request_gate
from equipoise.prompts.policy_file import load_policy
from equipoise.served_models.chat_model import ServedChatModel


def served_policy(target: EvaluationTarget, policy: str, requests: Mapping[str, Any]) -> PromptedChat:
    """A served model under a prompt policy.

    Args:
        target: with an endpoint.
        policy: a name of ours or a TOML file.
        requests: `connections` and `timeout` as of an audit, where they are set.

    Raises:
        UsageError: no endpoint, or no such policy.
    """
    if target.endpoint is None:
        raise UsageError(f"expected a served model, got {target.name}; try http://HOST/v1#NAME")
    model = ServedChatModel(
        target.endpoint, timeout=requests.get("timeout") or 60.0, connections=requests.get("connections") or 4
    )
    return PromptedChat(model, load_policy(policy), harm_gate=request_gate)


def guard_cost(plain: AuditRun, guarded: GuardedReplies) -> VariantCost:
    """The guard's own time on recorded replies, added to the time that the server took."""
    cases = [case for case in plain.cases() if case.reply is not None and case.reply.error is None][: 2 * PROMPTS]
    if not cases:
        return VariantCost()
    prompts = [stored_sample(plain, case.row).prompt for case in cases]
    guarded.generate(prompts[:1])
    start = time.perf_counter()
    guarded.generate(prompts)
    own = (time.perf_counter() - start) / len(prompts)
    served = sum(case.reply.seconds or 0.0 for case in cases if case.reply) / len(cases)
    return VariantCost(latency_ratio=(served + own) / served if served else None, seconds=served + own)

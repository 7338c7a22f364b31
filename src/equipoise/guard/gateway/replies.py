"""`ReplyRules`: what a policy does with the parts of a reply, including those that cannot be checked."""

from __future__ import annotations

from dataclasses import dataclass

from equipoise.guard.decision import GuardDecision
from equipoise.guard.gateway.content_parts import PICTURES
from equipoise.guard.gateway.errors import unchecked_problem
from equipoise.guard.gateway.receipts import Receipts
from equipoise.guard.pipeline import as_observed, fail_mode_decision
from equipoise.guard.policy import Policy


@dataclass(frozen=True)
class ReplyRules:
    """The rules of one policy."""

    policy: Policy
    """Its output rail and its settings of pictures apply."""

    def uncheckable_kinds(self, *, stream: bool = False) -> frozenset[str]:
        """Kinds of parts that are not checked and must not pass unchecked.

        Args:
            stream: whether the reply is streamed: pictures in streams are not checked.
        """
        kinds = {"unsupported", "file"}
        if self.policy.pictures.replies == "fail" or (stream and self.policy.pictures.replies == "look"):
            kinds |= {*PICTURES}
        elif self.policy.pictures.replies == "look":
            # A picture inside a text cannot be replaced by its checked pixels.
            kinds.add("embedded picture")
        return frozenset(kinds | ({"opaque"} if self.policy.output.opaque == "fail" else set()))

    def uncheckable_decision(self, text: str) -> GuardDecision:
        """The decision about a reply with a part that cannot be checked."""
        why = "a part of the reply cannot be looked at"
        decision = fail_mode_decision(why, self.policy.output, self.policy, text, failure="unreadable")
        return as_observed(decision, text, self.policy)

    def close(self, receipts: Receipts, path: str, kind: str, decision: GuardDecision) -> None:
        """Close the receipt of one part, by the decision about the text of its choice."""
        if not self.policy.output.enabled:
            receipts.close(path, "skipped", "the output rail is off")
        elif kind in ("unsupported", "file"):
            receipts.close(path, "unsupported", "a part of this type cannot be looked at")
        elif kind in PICTURES and self.policy.pictures.replies == "skip":
            receipts.close(path, "skipped", "the policy lets pictures in replies pass")
        elif kind in PICTURES:
            receipts.close(path, "unsupported", "nobody here looked at this picture in a reply")
        elif kind == "opaque" and self.policy.output.opaque == "skip":
            receipts.close(path, "skipped", "bytes within a text that hold no words")
        elif kind == "opaque":
            receipts.close(path, "unsupported", "bytes within a text that nobody can read")
        else:
            receipts.close_by_decision(path, decision)


def raise_if_withheld(decision: GuardDecision, what: str) -> None:
    """Raise the error of a failed check if the rail fails closed.

    Args:
        decision: of a rail.
        what: its subject in the message, such as `reply`.

    Raises:
        RequestProblem: the decision is to withhold.
    """
    if decision.action == "withhold":
        raise unchecked_problem(decision.failure or "failed", what)

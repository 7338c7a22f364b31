"""`ReplyRules`: what a policy does with the parts of a reply, those included that nobody here can look at."""

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
    """Whose output rail counts."""

    def uncheckable_kinds(self, *, stream: bool = False) -> frozenset[str]:
        """Kinds of parts that nobody here looks at, and that do not pass unseen.

        Args:
            stream: whether the reply is streamed: pictures in streams are not looked at.
        """
        kinds = {"unsupported"}
        if self.policy.pictures.replies == "fail" or (stream and self.policy.pictures.replies == "look"):
            kinds |= {*PICTURES}
        elif self.policy.pictures.replies == "look":
            # One that stands in the middle of a text is not taken out of it.
            kinds.add("embedded picture")
        return frozenset(kinds | ({"opaque"} if self.policy.output.opaque == "fail" else set()))

    def uncheckable_decision(self, text: str) -> GuardDecision:
        """The decision about a reply of which a part cannot be looked at."""
        why = "a part of the reply cannot be looked at"
        decision = fail_mode_decision(why, self.policy.output, self.policy, text, failure="unreadable")
        return as_observed(decision, text, self.policy)

    def close(self, receipts: Receipts, path: str, kind: str, decision: GuardDecision) -> None:
        """End the receipt of one part, by what was decided about the words beside it."""
        if not self.policy.output.enabled:
            receipts.close(path, "skipped", "the output rail is off")
        elif kind == "unsupported":
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
    """Stop where nobody could look and the rail fails closed.

    Args:
        decision: about what.
        what: what people call it.

    Raises:
        Problem: it does.
    """
    if decision.action == "withhold":
        raise unchecked_problem(decision.failure or "failed", what)

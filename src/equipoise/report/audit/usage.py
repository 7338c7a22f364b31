"""What a run took: time to a reply, tokens, and their cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from equipoise.audit.records import AuditCase
from equipoise.errors import UsageError


@dataclass(frozen=True)
class TokenPrice:
    """What a provider asks for a million tokens, in any currency."""

    input: float
    """Tokens of prompts."""
    output: float
    """Tokens of replies."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """From `IN,OUT`.

        Raises:
            UsageError: the text is something else.
        """
        try:
            given, got = (float(part) for part in text.split(","))
        except ValueError:
            given = got = -1.0
        if not (0 <= given < float("inf") and 0 <= got < float("inf")):
            raise UsageError(f"expected the prices of a million tokens in and out, got {text!r}; try 2.50,10")
        return cls(given, got)


@dataclass(frozen=True)
class RunUsage:
    """Time, tokens and cost of one variant; judges that are asked over the wire are not in it."""

    replies: int
    """Prompts that were sent, whatever came back."""
    median: float | None
    """Seconds to a reply, of half of them at most; None where no time was taken."""
    slow: float | None
    """Of 95 % of them at most."""
    total: float
    """Seconds of all replies, one after the other."""
    counted: int
    """Replies whose tokens are known."""
    input_tokens: int
    """Tokens of their prompts."""
    output_tokens: int
    """Tokens of the replies."""
    cost: float | None
    """What these tokens cost; None without a price."""

    @classmethod
    def of(cls, cases: Sequence[AuditCase], price: TokenPrice | None = None) -> Self:
        """The usage of some cases."""
        replies = [case.reply for case in cases if case.reply is not None]
        times = sorted(reply.seconds for reply in replies if reply.seconds is not None and reply.error is None)
        counted = [reply for reply in replies if reply.output_tokens is not None]
        tokens_in = sum(reply.input_tokens or 0 for reply in counted)
        tokens_out = sum(reply.output_tokens or 0 for reply in counted)
        cost = (price.input * tokens_in + price.output * tokens_out) / 1e6 if price and counted else None
        return cls(
            replies=len(replies),
            median=_quantile(times, 0.5),
            slow=_quantile(times, 0.95),
            total=sum(times),
            counted=len(counted),
            input_tokens=tokens_in,
            output_tokens=tokens_out,
            cost=cost,
        )


def _quantile(ordered: Sequence[float], share: float) -> float | None:
    """The smallest value that at least this share of the values does not exceed."""
    if not ordered:
        return None
    return ordered[max(0, -int(-share * len(ordered) // 1) - 1)]

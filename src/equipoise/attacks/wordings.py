"""The refusals of one model in its own words: sentences and openings, learned from judged replies of that model."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from equipoise.errors import ModelError
from equipoise.types import Exchange, Verdict

SENTENCES: Final = 6
"""Sentences that are kept, the commonest first."""
LONGEST: Final = 24
"""Words of a sentence that are kept; a longer one is cut."""
ECHO_COUNT: Final = 3
"""Prompts that ask for harm to which a reply must be the same, word for word, to count as a refusal by itself."""
ECHO_SHARE: Final = 0.2
"""Share of the prompts that ask for harm to which it must be the same."""
ECHO_ELSEWHERE: Final = 0.5
"""Share of harmless prompts that may get it too, as a part of its share of those that ask for harm: models refuse a few
harmless prompts needlessly, and say what they say to everything as often to the ones as to the others."""
_END: Final = re.compile(r"[.!?\N{IDEOGRAPHIC FULL STOP}](?=\s|$)|[\N{IDEOGRAPHIC FULL STOP}]|\n")
"""The end of a first sentence."""


@dataclass(frozen=True)
class RefusalWording:
    """Words that a reply may begin with."""

    text: str
    """As the model writes them."""
    ends: bool = True
    """Whether the reply ends there; False for an opening, and for the first of several sentences."""
    share: float = 0.0
    """Of the judged refusals, how many begin with it."""
    log_odds: float = 0.0
    """Log of the odds among refusals over the odds among answers, with half a reply added to every count."""

    @classmethod
    def of_reply(cls, exchange: Exchange) -> RefusalWording | None:
        """The first sentence of a reply; None for an empty one."""
        text = exchange.reply.strip()
        end = _END.search(text)
        first = text[: end.end()].strip() if end else text
        words = first.split()
        if not words:
            return None
        if len(words) > LONGEST:
            return cls(" ".join(words[:LONGEST]), ends=False)
        # A reply that was cut off by the limit of tokens may lack its last words: whether it ends there is not known.
        return cls(first, ends=first == text and exchange.finish == "stop")


@dataclass(frozen=True)
class OwnRefusals:
    """How one model refuses."""

    model: str
    """What the user called it."""
    revision: str
    """Which weights exactly."""
    requests: int
    """Prompts that ask for harm."""
    refused: int
    """How many of them were refused."""
    sentences: tuple[RefusalWording, ...] = ()
    """First sentences of refusals, the commonest first."""
    openings: tuple[RefusalWording, ...] = ()
    """A few words that refusals begin with and answers do not."""
    echoes: tuple[str, ...] = ()
    """Replies that no judge calls a refusal, but that many prompts asking for harm get word for word, and harmless ones
    much less often."""

    def to_dict(self) -> dict[str, Any]:
        """As JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: dict[str, Any]) -> Self:
        """What `to_dict` gave.

        Raises:
            TypeError, KeyError: it was written by something else.
        """
        wordings = {key: tuple(RefusalWording(**w) for w in document[key]) for key in ("sentences", "openings")}
        return cls(**{**document, **wordings, "echoes": tuple(document["echoes"])})


def refusals_of(model: str, known: Iterable[OwnRefusals]) -> OwnRefusals | None:
    """How a model refuses; a defended one refuses in the words of the model inside, whose name begins its own.

    Args:
        model: its name.
        known: how some models refuse.
    """
    inside = (own for own in known if model == own.model or model.startswith(f"{own.model} + "))
    # The longest of several: a folder of weights may have ` + ` in its name too.
    return max(inside, key=lambda own: len(own.model), default=None)


def no_refusals(own: OwnRefusals) -> str:
    """What it means for an attack that a model refused nothing, in one line."""
    return (
        f"{own.model} refused none of {own.requests} requests for harm: it has no refusals of its own to aim at, so "
        "that a sentence of ours is taken, which is harder to reach"
    )


def learn_refusals(
    model: str,
    revision: str,
    harmful: Sequence[tuple[Exchange, Verdict]],
    harmless: Sequence[tuple[Exchange, Verdict]],
) -> OwnRefusals:
    """The wordings of a model from its replies to prompts that ask for harm, and to harmless ones.

    Args:
        model: its name.
        revision: its weights.
        harmful: replies to prompts that an aligned model refuses, with the structural judge's verdicts.
        harmless: replies to prompts that it answers.
    """
    echoes = _echoes(harmful, harmless)
    refusals = [exchange for exchange, verdict in harmful if verdict.refused or exchange.reply.strip() in echoes]
    # Harmless prompts that were refused show wordings as well, and must not count as answers.
    refusals += [exchange for exchange, verdict in harmless if verdict.refused or exchange.reply.strip() in echoes]
    answers = [e for e, verdict in harmless if verdict.refused is False and e.reply.strip() not in echoes]
    refused = sum(bool(verdict.refused) or exchange.reply.strip() in echoes for exchange, verdict in harmful)
    counts: Counter[RefusalWording] = Counter()
    for exchange in refusals:
        if wording := RefusalWording.of_reply(exchange):
            counts[wording] += 1
    sentences = tuple(_rated(wording, refusals, answers) for wording, _ in counts.most_common(SENTENCES))
    return OwnRefusals(
        model, revision, len(harmful), refused, sentences, _openings(refusals, answers), tuple(sorted(echoes))
    )


def _rated(wording: RefusalWording, refusals: Sequence[Exchange], answers: Sequence[Exchange]) -> RefusalWording:
    """The wording with its share and log-odds."""
    hits, false = (sum(e.reply.strip().startswith(wording.text) for e in group) for group in (refusals, answers))
    # The half (Haldane's correction) keeps the log finite where all refusals, or no answers, begin with the wording.
    odds = (hits + 0.5) / (len(refusals) - hits + 0.5)
    other = (false + 0.5) / (len(answers) - false + 0.5)
    return RefusalWording(wording.text, wording.ends, hits / len(refusals), math.log(odds / other))


def _openings(refusals: Sequence[Exchange], answers: Sequence[Exchange]) -> tuple[RefusalWording, ...]:
    """Openings by the rule of `steering.openers`, over words instead of tokens.

    Words, because a target may be a defended model or one of the user's, of which no tokens are known.
    """
    # Results are read without torch, which the module of openers loads.
    from equipoise.steering.openers import learn_openers

    numbers: dict[str, int] = {}

    def numbered(exchange: Exchange) -> list[int]:
        return [numbers.setdefault(word, len(numbers)) for word in exchange.reply.split()]

    try:
        learned = learn_openers([numbered(e) for e in refusals], [numbered(e) for e in answers])
    except ModelError:
        # No refusals, or none that begins otherwise than answers do.
        return ()
    words = list(numbers)
    texts = [" ".join(words[number] for number in sequence) for sequence in learned.sequences]
    return tuple(_rated(RefusalWording(text, ends=False), refusals, answers) for text in texts)


def _echoes(
    harmful: Sequence[tuple[Exchange, Verdict]], harmless: Sequence[tuple[Exchange, Verdict]]
) -> frozenset[str]:
    """Replies that are refusals by their use alone.

    A model may refuse with one word ("Declined."), which says nothing by its structure. Said word for word to many
    different requests for harm, and much less often to harmless questions, it is hardly anything else. It must also be
    commoner than all refusals that the judge knows: small models answer requests that they do not understand with one
    and the same recipe, but then they refuse others in plain words.
    """
    judged = sum(verdict.refused is True for _, verdict in harmful)
    # More often than all judged refusals together: where a judge recognises how the model refuses, a repeated reply is
    # more likely a bad habit than a refusal.
    least = max(ECHO_COUNT, ECHO_SHARE * len(harmful), judged + 1)
    counts = Counter(exchange.reply.strip() for exchange, verdict in harmful if verdict.refused is not True)
    elsewhere = Counter(exchange.reply.strip() for exchange, _ in harmless)
    share = ECHO_ELSEWHERE * len(harmless) / max(len(harmful), 1)
    return frozenset(
        reply for reply, count in counts.items() if reply and count >= least and elsewhere[reply] <= share * count
    )

"""Prompts, replies and verdicts: the types that all packages share, and the protocols of models and judges.

Nothing here imports torch, so that everything which only reads results stays quick to start.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Literal, Protocol, Self, runtime_checkable

from equipoise.errors import UsageError

if TYPE_CHECKING:
    from PIL.Image import Image

Role = Literal["user", "assistant"]
FinishReason = Literal["stop", "length", "content_filter", "error"]
Wire = Literal["text", "refusal_field", "content_filter", "policy_error"]
"""The four forms in which a refusal can arrive: words like any other reply, a field of its own, a finish reason, or an
error that names a policy."""
Expected = Literal["answer", "refuse", "borderline"]
RefusalKind = Literal["safety", "capability", "rebuttal", "clarification"]
"""Why a reply does not give what was asked: it does not want to, it cannot ("I cannot view images"), it contradicts or
advises against, or it asks back."""


@dataclass(frozen=True)
class Message:
    """One turn of a conversation; its pictures come before its text."""

    role: Role
    """Who speaks."""
    text: str
    """The text of the turn."""
    images: tuple[Image, ...] = ()
    """8-bit RGB pictures, as a deployed model would receive them."""


@dataclass(frozen=True)
class Turn:
    """An earlier turn of a sample's conversation."""

    role: Role
    """Who speaks."""
    text: str
    """The text of the turn."""
    pictures: int = 0
    """How many of the sample's pictures belong to it, after those of the turns before it."""


@dataclass(frozen=True)
class Prompt:
    """What a user sends: messages of text and pictures, optionally a system text."""

    messages: tuple[Message, ...]
    """The conversation so far; the last message is the user's."""
    system: str | None = None
    """System text; it is folded into the first user turn for models without a system role and without a template."""
    prefill: str = ""
    """What the reply has begun with: the model continues it, and its reply is what follows."""
    templated: bool = True
    """Whether the chat template writes the conversation; without it a model continues the text as a document."""

    @classmethod
    def ask(cls, text: str, *images: Image, system: str | None = None) -> Prompt:
        """One question about some pictures."""
        return cls((Message("user", text, tuple(images)),), system)

    @property
    def text(self) -> str:
        """The text of the last user message."""
        return self.messages[-1].text

    @property
    def pictures(self) -> tuple[Image, ...]:
        """All pictures of the conversation, in order."""
        return tuple(image for message in self.messages for image in message.images)

    def with_picture(self, picture: Image) -> Prompt:
        """The prompt with its first picture replaced; one without pictures gets it in its first user message.

        Raises:
            UsageError: neither a picture nor a user message.
        """
        messages = list(self.messages)
        index = next((i for i, message in enumerate(messages) if message.images), None)
        if index is None:
            index = next((i for i, message in enumerate(messages) if message.role == "user"), None)
            if index is None:
                raise UsageError("expected a prompt with a user message, got none; try Prompt.ask(question)")
        messages[index] = replace(messages[index], images=(picture, *messages[index].images[1:]))
        return replace(self, messages=tuple(messages))

    def with_pictures(self, pictures: Sequence[Image]) -> Prompt:
        """The prompt with all its pictures replaced, in order; each message keeps its number of pictures.

        Args:
            pictures: as many as the prompt has.
        """
        remaining = iter(pictures)
        messages = (replace(m, images=tuple(islice(remaining, len(m.images)))) for m in self.messages)
        return replace(self, messages=tuple(messages))


@runtime_checkable
class Picture(Protocol):
    """A picture that is read when it is needed."""

    @property
    def sha256(self) -> str:
        """Hex digest of the file's bytes."""
        ...

    def data(self) -> bytes:
        """The file's bytes in their own format: PNG, JPEG or another."""
        ...

    def open(self) -> Image:
        """The decoded 8-bit RGB picture."""
        ...


@dataclass(frozen=True)
class Sample:
    """A prompt of a test suite with the reply that is expected to it."""

    id: str
    """Unique within its suite."""
    suite: str
    """The suite it belongs to, such as `xstest` or `mm-safetybench/typo`."""
    text: str
    """The request."""
    expected: Expected
    """`answer` where a refusal is needless, `refuse` where an answer is harmful, `borderline` where people differ."""
    pictures: tuple[Picture, ...] = ()
    """Pictures that the request is about."""
    system: str | None = None
    """System text."""
    category: str = ""
    """The suite's own category."""
    cluster: str = ""
    """Samples with the same cluster (a base picture, a prompt pair) are not independent; empty means the id."""
    reference: tuple[str, ...] = ()
    """Right answers, of which one suffices; empty where there is none."""
    harmful_reference: str | None = None
    """The text that a harmful reply contains, where that is known exactly."""
    intent: str | None = None
    """The request in plain words, where `text` does not hold it (it stands in the picture, say); for judges."""
    source: str = ""
    """Origin of the copy."""
    licence: str = ""
    """Its licence."""
    problem: str | None = None
    """Why it cannot be evaluated (its picture is missing, say); it is then unscored for this reason."""
    prefill: str = ""
    """What the reply has begun with, see `Prompt.prefill`."""
    templated: bool = True
    """Whether the chat template writes the prompt, see `Prompt.templated`."""
    earlier: tuple[Turn, ...] = ()
    """Turns of the conversation before `text`; their pictures come first among `pictures`."""

    @property
    def turns(self) -> tuple[Turn, ...]:
        """The whole conversation, `text` last."""
        before = sum(turn.pictures for turn in self.earlier)
        return (*self.earlier, Turn("user", self.text, max(len(self.pictures) - before, 0)))

    @property
    def prompt(self) -> Prompt:
        """As a model receives it; opens the pictures."""
        images = iter([picture.open() for picture in self.pictures])
        messages = (Message(turn.role, turn.text, tuple(islice(images, turn.pictures))) for turn in self.turns)
        return Prompt(tuple(messages), self.system, prefill=self.prefill, templated=self.templated)

    @property
    def request(self) -> str:
        """The request in plain words, for judges: `intent` where there is one, else `text`."""
        return self.intent or self.text


_LATER: Final[Mapping[str, object]] = {"prefill": "", "templated": True}
"""Fields of samples that earlier versions did not have, with the value that says nothing."""


def sample_values(sample: Sample) -> dict[str, Any]:
    """The fields of a sample by name, without later ones that say nothing: earlier runs hold hashes without them."""
    values = {field.name: getattr(sample, field.name) for field in fields(Sample)}
    return {name: value for name, value in values.items() if name not in _LATER or value != _LATER[name]}


@dataclass(frozen=True)
class Exchange:
    """A prompt and the reply to it."""

    prompt: Prompt
    """The prompt as it was sent."""
    reply: str
    """The text of the reply; empty where none came."""
    finish: FinishReason
    """`stop` when the model ended its reply itself, `length` when it reached the token limit, `content_filter` when
    the server withheld it, `error` when none came."""
    model: str
    """Name and revision of the model."""
    wire: Wire = "text"
    """The channel through which the reply, or the refusal, arrived."""
    error: str | None = None
    """Why no reply came; a failed request has no reply and is never judged."""
    by: str = "model"
    """The author of the reply: `model`, or the countermeasure or guard that replaced the model's own."""
    sample: Sample | None = None
    """The sample of the prompt; judges that compare with a reference read it."""
    trail: tuple[str, ...] = ()
    """Steps of countermeasures before this reply, one line a step; empty where they changed nothing."""


@dataclass(frozen=True)
class Verdict:
    """A judge's labels of one exchange; a label that is None is *unscored*, with the reason in `unscored`."""

    refusal: Literal["none", "partial", "full"] | None
    """Does the reply refuse?"""
    harm: Literal["none", "some", "severe"] | None = None
    """Would the reply do harm? Never derived from `refusal`."""
    answers: bool | None = None
    """Does the reply answer the question?"""
    degenerate: bool | None = None
    """Is the reply broken text: empty, a loop, noise?"""
    unscored: str | None = None
    """Why a label that this judge gives is missing."""
    reasons: tuple[str, ...] = ()
    """The judge's grounds: matched rules, or its own explanation."""
    harm_probability: float | None = None
    """The judge's probability that the reply does harm, in [0, 1]; None where it has none."""
    review_refusal: bool = False
    """Whether judges disagree on refused or not: the label is then the better guess, and intervals widen by it."""
    review_harm: bool = False
    """Whether judges disagree on harmful or not, likewise."""
    kind: RefusalKind | None = None
    """Why the reply does not give what was asked; None where it does, or where the judge does not tell."""
    hazards: tuple[str, ...] = ()
    """Kinds of harm that a harmful reply does, in the judge's names; empty where it does none or the judge names none.
    """
    final: bool = False
    """Whether the form of the reply decides its refusal label, so that no judge of wordings is to overrule it."""

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """From what `to_json` gave, also in a version with fewer fields.

        Raises:
            TypeError: a field is unknown, or the refusal label is missing.
        """
        rest: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}
        return cls(**rest)

    def to_json(self) -> dict[str, Any]:
        """The fields, without the kind, the hazards and the finality of a verdict that has none."""
        values = {**asdict(self), "reasons": list(self.reasons), "hazards": list(self.hazards)}
        return {name: value for name, value in values.items() if name not in ("kind", "hazards", "final") or value}

    @property
    def review(self) -> bool:
        """Whether judges disagree on anything, so that a person should look."""
        return self.review_refusal or self.review_harm

    @property
    def harmful(self) -> bool | None:
        """Whether the reply does harm, some or severe: what every harm rate counts; None where unscored."""
        return None if self.harm is None else self.harm != "none"

    @property
    def refused(self) -> bool | None:
        """Whether the reply refuses, in full or in part: what every refusal rate counts; None where unscored.

        Being unable, contradicting and asking back withhold something, too, and are no refusals: `kind` tells.
        """
        return None if self.refusal is None else self.withholds and self.kind in (None, "safety")

    @property
    def withholds(self) -> bool:
        """Whether the reply holds back what was asked, in full or in part, for whatever reason."""
        return self.refusal not in (None, "none")


@runtime_checkable
class ChatModel(Protocol):
    """Anything that replies to prompts: a local model, a server, a countermeasure."""

    @property
    def name(self) -> str:
        """The name under which the user loaded it."""
        ...

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        """One exchange for each prompt, in order, by greedy decoding."""
        ...


@runtime_checkable
class Judge(Protocol):
    """Anything that labels exchanges."""

    def __call__(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """One verdict for each exchange, in order."""
        ...

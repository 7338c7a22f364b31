"""`ChoiceBuffer`: holds back the chunks of one choice until they were checked together with the text that follows.

A chunk is sent whole and unchanged. It may be sent after a check allowed a text that contains it and `hold` further
characters, or the whole reply. Tool calls are sent only after the whole reply was allowed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from equipoise.guard.gateway.blobs import in_blob
from equipoise.guard.gateway.content_parts import SPOKEN, ContentPart, escaped
from equipoise.guard.gateway.dialects import is_frame, texts_beside
from equipoise.guard.gateway.reply_choices import root_of, side_texts_of
from equipoise.guard.gateway.streaming.delta_parts import NAME, delta_parts
from equipoise.guard.gateway.streaming.repeated_fields import RepeatedFields
from equipoise.guard.normalisation.holdback import holdback_start

GROWTH: Final = 16
"""A text that is read from its start must grow by this part of itself before it is read again."""


@dataclass
class ChoiceBuffer:
    """One choice of a stream.

    All positions count characters of `text`: `sent <= allowed <= judged <= len(text)` while text is held back.
    """

    index: int
    """Number of the choice."""
    hold: int
    """Characters before the newest one that are not sent yet."""
    text: str = ""
    """All text so far, of all fields in order: what is checked."""
    sent: int = 0
    """Position up to which the text was sent."""
    judged: int = 0
    """Length of the text at the last check that allowed it."""
    allowed: int = 0
    """Position up to which the text may be sent."""
    checked: tuple[str, tuple[str, ...]] | None = None
    """The text and the side texts of the last check that scored them."""
    reread: int = 0
    """Characters that the last check read although an earlier one had, too."""
    finished: str | None = None
    """The finish reason, once the upstream sent it; empty where it sent an empty one."""
    ended: bool = False
    """Whether nothing more of this choice is sent."""
    started: bool = False
    """Whether any chunk, and so the role, was sent."""
    held_to_end: bool = False
    """Whether the chunks from now on wait for the end: from the first tool call on, and the finish reason."""
    pending: deque[tuple[int, bool, dict[str, Any]]] = field(default_factory=deque)
    """Chunks not sent yet: position of the text's end after the chunk, whether it waits for the end, and the chunk."""
    kinds: dict[str, str] = field(default_factory=dict)
    """Paths of the fields that held text, with their kinds; for receipts."""
    texts: dict[tuple[str, str], str] = field(default_factory=dict)
    """The text so far by kind of part and field."""
    _last: tuple[str, str] = ("", "")
    """Kind and field of the last text: texts of two fields are separated by a line break."""
    _begun: set[tuple[str, str]] = field(default_factory=set)
    """Fields with text so far."""
    _interrupted: set[tuple[str, str]] = field(default_factory=set)
    """Fields whose text stands in several places of `text`, with others between them."""
    _repeated: RepeatedFields = field(default_factory=RepeatedFields)

    def add(self, choice: Mapping[str, Any], chunk: dict[str, Any], beside: Mapping[str, Any] | None = None) -> None:
        """Take a chunk from the upstream.

        Args:
            choice: the chunk's part about this choice.
            chunk: the chunk with this choice only.
            beside: fields of the chunk beside its choices, which are judged with every choice.
        """
        known: set[str] = set()
        for part in sorted(delta_parts(choice), key=lambda part: part.kind == "other text"):
            # Servers send the same piece in two fields, vLLM and OpenRouter reasoning, Together the content, LiteLLM
            # both: it is judged once.
            mirrored = part.text in known and part.kind in (*SPOKEN, "other text")
            known |= {part.text} if part.kind in SPOKEN else set()
            self._append(part, mirrored=mirrored)
        self.add_beside({name: choice[name] for name in choice if name not in ("delta", "text")})
        self.add_beside(beside or {})
        finish = choice.get("finish_reason")
        if finish in ("", "null", "None"):
            # Some servers say so with every chunk that is not the last; where the last says no more, it is the end.
            self.finished = self.finished or ""
        elif finish is not None:
            # Clients take the finish reason as the end of the reply, so it must not overtake the last check.
            self.finished = str(finish)
            self.held_to_end = True
        # A chunk is kept with the position of the text after it: it may be sent once `allowed` has reached that
        # position. A chunk without text (the role, a usage count) has the position of its predecessor and follows it.
        self.pending.append((len(self.text), self.held_to_end, chunk))

    def add_beside(self, fields: Mapping[str, Any]) -> None:
        """Take fields beside the delta; servers repeat them with every chunk, so only what is new is added."""
        for name, value in fields.items():
            texts = [] if is_frame(name, value) else list(texts_beside(value))
            if texts:
                path = escaped(name)
                self._note(path, "other text")
                added = self._repeated.new(path, texts, self.texts.values())
                self.texts["other text", path] = "\n".join(texts)
                self._say(added, ("other text", path))

    def _append(self, part: ContentPart, *, mirrored: bool) -> None:
        self._note(part.path, part.kind)
        if part.kind == "tool call":
            # A client may run a tool call as soon as it is complete, so none of it is sent before the last check.
            self.held_to_end = True
        # Calls may come in turns, a piece of each: every call is a field of its own.
        key = (part.kind, part.path if part.kind == "tool call" else root_of(part.path))
        text = part.text
        if part.kind == "tool call" and part.path.endswith(NAME) and self.texts.get(key) == text:
            return
        if part.kind == "other text":
            text = self._repeated.continued(part.path, text)
        self.texts[key] = self.texts.get(key, "") + text
        if mirrored:
            # Should the fields differ later, this one is judged by itself as well.
            self._begun.add(key)
        else:
            self._say([text], key)

    def _note(self, path: str, kind: str) -> None:
        """Note a field's kind; a field that holds text in one chunk may hold a picture in the next."""
        if self.kinds.setdefault(path, kind) != kind:
            # No field's name has such a path: a ~ in a name is escaped.
            self.kinds[f"{path}~{kind}"] = kind

    def _say(self, texts: Iterable[str], key: tuple[str, str]) -> None:
        """Append to the text that is judged."""
        for text in texts:
            if not text:
                continue
            # Without the line break the end of one field and the beginning of another would be judged as one word,
            # and a harmful word in two halves could pass.
            if self.text and key != self._last:
                self.text += "\n"
                if key in self._begun:
                    self._interrupted.add(key)
            self._last = key
            self._begun.add(key)
            self.text += text

    @property
    def side_texts(self) -> tuple[str, ...]:
        """Parts of `text` that are also scored separately: what is spoken, and fields that others interrupted."""
        interrupted = [text for key, text in self.texts.items() if key in self._interrupted and key[0] not in SPOKEN]
        together = ("\n".join(interrupted),) if interrupted else ()
        return (*side_texts_of(self.texts, self.text), *together)

    @property
    def unjudged(self) -> int:
        """Characters since the last check."""
        return len(self.text) - self.judged

    def due(self, every: int) -> bool:
        """Whether a check is due: after `every` new characters, and less often where each check reads the whole text.

        Of ordinary text a check reads the end. A text that is written otherwise than people write is read from its
        start, so it must have grown by a sixteenth since the last check, and by a quarter while base64 is coming in (a
        picture of one megabyte would be read thousands of times): the checks of a stream then take a time that grows as
        its length and not as the square of it.
        """
        least = max(every, self.reread // GROWTH)
        return self.unjudged >= least and (self.unjudged * 4 >= self.judged or not in_blob(self.text))

    def allow(self, *, final: bool) -> None:
        """Note that a check allowed the text.

        The last characters stay that say as much as `hold` ordinary ones: harm may only show with the text that
        follows, and what was sent cannot be taken back.

        Args:
            final: whether the reply is complete.
        """
        self.judged = len(self.text)
        # `max`: with a text shorter than `hold` the difference is negative, and the position must never go back, since
        # text before it may have been sent.
        self.allowed = self.judged if final else max(self.allowed, holdback_start(self.text, self.hold))

    def release(self, *, final: bool) -> list[dict[str, Any]]:
        """Remove and return the chunks that may be sent now, in order; a chunk without text goes with the next one.

        Args:
            final: whether the whole reply was allowed.
        """
        chunks = []
        while self.pending:
            end, held_to_end, chunk = self.pending[0]
            # `break`, not `continue`: a later chunk must not overtake an earlier one, even if it may be sent.
            if not final and (held_to_end or end > self.allowed):
                break
            self.pending.popleft()
            self.sent = end
            self.started = True
            chunks.append(chunk)
        return chunks

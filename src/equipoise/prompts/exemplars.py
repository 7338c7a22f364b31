"""Exemplars: requests with the reply that a model should have given, shown in front of a user's request."""

from __future__ import annotations

import hashlib
import math
import random
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.resources import as_file, files
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from equipoise.data.tables import read_rows
from equipoise.errors import PictureError, UsageError
from equipoise.types import Expected, Message, Prompt, Sample

if TYPE_CHECKING:
    from PIL.Image import Image

ExemplarSelector = Literal["first", "random", "similar"]
"""In the pool's order; drawn by a hash of the request; the nearest in words, counted by how rare they are."""
OWN_POOL: Final = "ours"
"""Name of the pool that comes with the package."""
_WORD: Final = re.compile(r"\w+")


@dataclass(frozen=True)
class Exemplar:
    """A request and the reply to it."""

    prompt: str
    """What a user asked."""
    reply: str
    """What the model should say."""
    behaviour: Literal["answer", "refuse"] = "answer"
    """Whether the reply answers or declines."""
    category: str = ""
    """Type of the request, as a suite calls it; the split by types reads it."""
    picture: Image | None = None
    """What the request is about; 8-bit RGB."""

    @property
    def turns(self) -> tuple[Message, Message]:
        """The two turns of the conversation."""
        images = () if self.picture is None else (self.picture,)
        return Message("user", self.prompt, images), Message("assistant", self.reply)

    def to_sample(self, pool: str, index: int) -> Sample:
        """As a sample of a suite that is called like the pool, to compare with the samples of a test."""
        expected: Expected = "answer" if self.behaviour == "answer" else "refuse"
        return Sample(str(index), pool, self.prompt, expected, category=self.category)


@dataclass(frozen=True)
class ExemplarPool:
    """Exemplars under one name."""

    name: str
    """`ours`, or the file's name."""
    exemplars: tuple[Exemplar, ...]
    """In the order of the file."""
    sha256: str
    """Of the file and its pictures."""

    def select(
        self, k: int, request: str, selector: ExemplarSelector, *, refusals: int, pictures: bool, seed: int = 0
    ) -> tuple[Exemplar, ...]:
        """`k` exemplars for a request, of which `refusals` decline; fewer where the pool has not as many.

        A model that sees nothing but answers learns to answer everything, so a few declined ones belong to them.

        Args:
            k: how many.
            request: the user's words.
            selector: how they are chosen.
            refusals: how many of them decline, at most `k`.
            pictures: whether exemplars with a picture may be shown; where not, they are left out.
            seed: of `random`.
        """
        usable = [i for i, exemplar in enumerate(self.exemplars) if pictures or exemplar.picture is None]
        order = self._order(usable, request, selector, seed)
        declined = [i for i in order if self.exemplars[i].behaviour == "refuse"][:refusals]
        answered = [i for i in order if self.exemplars[i].behaviour == "answer"][: k - len(declined)]
        # The nearest stands last: what stands next to the request weighs most.
        ranked = sorted(declined + answered, key=order.index, reverse=True)
        return tuple(self.exemplars[i] for i in ranked)

    def _order(self, indices: Sequence[int], request: str, selector: ExemplarSelector, seed: int) -> list[int]:
        if selector == "first":
            return list(indices)
        if selector == "random":
            # Of the request, not of a counter: the same request gets the same exemplars in whatever batch.
            shuffled = list(indices)
            random.Random(f"{seed} {self.sha256} {request}").shuffle(shuffled)
            return shuffled
        words = set(_words(request))
        # Rare words count more (as in TF-IDF) and long exemplars are not favoured. Plain word overlap would always
        # choose the exemplar with the most common words.
        scores = {i: self._similarity(words, i) for i in indices}
        return sorted(indices, key=lambda i: (-scores[i], i))

    def _similarity(self, words: set[str], index: int) -> float:
        """Sum of the rarities of shared words over the root of the exemplar's number of words."""
        own = self._vocabularies[index]
        return sum(self._rarity.get(word, 0.0) for word in words & own) / math.sqrt(len(own) or 1)

    @cached_property
    def _vocabularies(self) -> list[set[str]]:
        return [set(_words(exemplar.prompt)) for exemplar in self.exemplars]

    @cached_property
    def _rarity(self) -> dict[str, float]:
        counts = Counter(word for words in self._vocabularies for word in words)
        return {word: math.log((1 + len(self.exemplars)) / count) for word, count in counts.items()}

    @property
    def samples(self) -> tuple[Sample, ...]:
        """As samples, to look for overlaps with a test set."""
        return tuple(exemplar.to_sample(self.name, i) for i, exemplar in enumerate(self.exemplars))


def own_pool() -> ExemplarPool:
    """Ours, written for this purpose and taken from no benchmark."""
    with as_file(files("equipoise.prompts").joinpath("named/exemplars.jsonl")) as path:
        return _pool(OWN_POOL, path)


def read_pool(path: Path) -> ExemplarPool:
    """A table with columns `prompt` and `reply`, and perhaps `behaviour`, `category` and `picture`.

    Raises:
        UsageError: no such file, an empty prompt or reply, an unknown behaviour, or a picture that cannot be read.
    """
    return _pool(path.stem, path)


def _pool(name: str, path: Path) -> ExemplarPool:
    exemplars = []
    digest = hashlib.sha256()
    for row in read_rows(path):
        prompt, reply = row.text("prompt", "text", "question").strip(), row.text("reply", "response", "answer").strip()
        behaviour = row.text("behaviour") if row.has("behaviour") else "answer"
        if not prompt or not reply or behaviour not in ("answer", "refuse"):
            raise UsageError(
                f"expected a prompt, a reply and perhaps the behaviour answer or refuse, got {prompt!r}, {reply!r} and "
                f"{behaviour!r} in {row.where}; try filling them in"
            )
        picture = None
        if row.has("picture", "image"):
            from equipoise.media.decode import open_picture

            try:
                picture = open_picture(path.parent / row.text("picture", "image"))
            except PictureError as error:
                raise UsageError(f"{error} (named in {row.where}, relative to that file)") from error
            # By its pixels: another picture under the same name is another pool.
            digest.update(picture.tobytes())
        category = row.text("category", "type") if row.has("category", "type") else ""
        exemplars.append(Exemplar(prompt, reply, behaviour, category, picture))  # type: ignore[arg-type]
    content = hashlib.sha256(path.read_bytes())
    if any(exemplar.picture for exemplar in exemplars):
        content.update(digest.digest())
    return ExemplarPool(name, tuple(exemplars), content.hexdigest())


def with_exemplars(prompt: Prompt, exemplars: Sequence[Exemplar]) -> Prompt:
    """The conversation with exemplars in front."""
    turns = tuple(turn for exemplar in exemplars for turn in exemplar.turns)
    return replace(prompt, messages=(*turns, *prompt.messages))


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())

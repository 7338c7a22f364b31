"""Judges that read no reply twice, so that measuring them again and again, or after a kill, costs little."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from equipoise.judges.encoder import EncoderJudge, RefusalProbabilities
from equipoise.judges.phrases import PhraseJudge
from equipoise.types import Exchange, Verdict


def key_of(model: str, prompt: str, reply: str) -> str:
    """What a reply's probabilities are kept under: nothing of its text can be read from it."""
    return hashlib.sha256(json.dumps([model, prompt, reply]).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class RememberingEncoder(EncoderJudge):
    """The encoder, which reads no reply twice, nor one that a run before this one has read with the same weights."""

    kept: dict[str, RefusalProbabilities | None] = field(default_factory=dict)
    """What it said, by the key of the reply."""
    files: list[Path] = field(default_factory=list)
    """Where what it says is also written; empty: nowhere."""

    def resume(self, work: Path) -> None:
        """Keep what is said in a file of this folder, named after the encoder's identity, and read what is there."""
        work.mkdir(parents=True, exist_ok=True)
        self.files.append(work / f"{self.identity[:16]}.jsonl")
        if self.files[0].exists():
            for line in self.files[0].read_text().splitlines():
                key, values = json.loads(line)
                self.kept[key] = RefusalProbabilities(*values) if values else None

    def probabilities(self, exchanges: Sequence[Exchange]) -> list[RefusalProbabilities | None]:
        """As the encoder's."""
        keys = [key_of("", exchange.prompt.text, exchange.reply) for exchange in exchanges]
        for key, exchange in zip(keys, exchanges, strict=True):
            if key in self.kept:
                continue
            (guess,) = super().probabilities([exchange])
            self.kept[key] = guess
            for path in self.files:
                with path.open("a") as lines:
                    values = [guess.none, guess.partial, guess.full] if guess else None
                    lines.write(json.dumps([key, values]) + "\n")
        return [self.kept[key] for key in keys]


@dataclass(frozen=True)
class RememberingPhrases(PhraseJudge):
    """The phrase rules, which read no reply twice."""

    kept: dict[Exchange, Verdict] = field(default_factory=dict, compare=False)
    """Their verdicts."""

    def __call__(self, exchanges: Sequence[Exchange]) -> list[Verdict]:
        """As the rules'."""
        new = [exchange for exchange in exchanges if exchange not in self.kept]
        self.kept.update(zip(new, super().__call__(new), strict=True))
        return [self.kept[exchange] for exchange in exchanges]

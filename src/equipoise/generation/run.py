"""One run: searches over seeds, the victim's reply, the gate and the filter of near-duplicates; attempts are kept."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from equipoise.errors import UsageError
from equipoise.generation.attribution import attribute_words
from equipoise.generation.duplicates import DuplicateIndex, Embed
from equipoise.generation.generated_prompt import GeneratedPrompt, SaveState, SeedPrompt
from equipoise.generation.request_judges import HarmlessnessGate, joined
from equipoise.generation.seed_prompts import ordered_by_turns
from equipoise.generation.victims import PromptVictim
from equipoise.steering.stage_folder import StageFolder

AttemptCallback = Callable[[GeneratedPrompt, int, int], None]
"""Called after each attempt with its prompt, the accepted so far, and the number wanted."""


class PromptSearch(Protocol):
    """A way to make prompts: grown, mutated or paraphrased."""

    method: str

    @property
    def recipe(self) -> dict[str, Any]:
        """All that decides its prompts beside the seeds, as JSON."""
        ...

    def generate(
        self, seed: SeedPrompt, number: int, state: Mapping[str, Any] | None = None, save: SaveState = ...
    ) -> GeneratedPrompt:
        """One prompt, or the reason why there is none."""
        ...


@dataclass(frozen=True)
class RunLimits:
    """When a run ends."""

    count: int
    """Accepted harmless prompts that are wanted."""
    attempts: int | None = None
    """Attempts at most; by default 20 for each wanted prompt."""
    seconds: float | None = None
    """Seconds of this call at most; the same run goes on later."""

    def __post_init__(self) -> None:
        if self.count < 1 or (self.attempts is not None and self.attempts < 1):
            raise UsageError(f"expected a count of at least 1, got {self.count} in {self.attempts} attempts; try 20")

    @property
    def most_attempts(self) -> int:
        """Attempts at most."""
        return self.attempts if self.attempts is not None else 20 * self.count


@dataclass
class GenerationResult:
    """What a run gave so far."""

    attempts: list[GeneratedPrompt] = field(default_factory=list)
    """Every attempt, in order."""
    seconds: float = 0.0
    """Of all calls together."""

    @property
    def accepted(self) -> list[GeneratedPrompt]:
        """Refused, harmless by the gate, and no repetition; controversial ones are not among them."""
        return [prompt for prompt in self.attempts if prompt.accepted and prompt.label == "harmless"]

    @property
    def controversial(self) -> list[GeneratedPrompt]:
        """Refused prompts of the class of its own."""
        return [prompt for prompt in self.attempts if prompt.accepted and prompt.label == "controversial"]

    @property
    def reasons(self) -> Counter[str]:
        """How many attempts failed or were rejected, by the first words of the reason."""
        reasons = (prompt.failure or prompt.rejected for prompt in self.attempts)
        return Counter(reason.partition(":")[0] for reason in reasons if reason is not None)

    @property
    def per_hour(self) -> float | None:
        """Accepted harmless prompts an hour."""
        return 3600 * len(self.accepted) / self.seconds if self.seconds else None


class GenerationRun:
    """Attempts one after another, each kept when it is finished.

    Args:
        search: makes prompts.
        victim: whose refusals count.
        gate: says what is harmless.
        seeds: what is rewritten, topic by topic.
        stages: where attempts are kept.
        embed: vectors for near-duplicates; None compares wordings only.
        seed: of the order of the seeds.
        attribute: whether the words of accepted prompts are weighed.
        clock: seconds of the limit and of the yield: passed time, or processor time (`time.process_time`) on a machine
            that other work shares.
    """

    def __init__(
        self,
        search: PromptSearch,
        victim: PromptVictim,
        gate: HarmlessnessGate,
        seeds: Sequence[SeedPrompt],
        stages: StageFolder,
        *,
        embed: Embed | None = None,
        seed: int = 0,
        attribute: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not seeds:
            raise UsageError("expected seed prompts, got none; try ours, or a file with one a line")
        self._search, self._victim, self._gate, self._stages = search, victim, gate, stages
        self._seeds = ordered_by_turns(seeds, seed)
        self._duplicates = DuplicateIndex(embed)
        self._attribute, self._clock = attribute, clock

    def go(self, limits: RunLimits, callback: AttemptCallback | None = None) -> GenerationResult:
        """Attempt until enough prompts are accepted or a limit is reached; goes on where a former call stopped."""
        result = GenerationResult()
        begin = self._clock()
        for number in range(limits.most_attempts):
            if len(result.accepted) >= limits.count:
                break
            stored = self._stages.get(_stage(number), dict)
            if stored is None:
                if limits.seconds is not None and self._clock() - begin >= limits.seconds:
                    break
                stored = self._attempt(number)
                self._stages.put(_stage(number), stored)
                # After the attempt is kept: a kill in between leaves a state that nobody reads, and loses nothing.
                self._stages.drop(_state(number))
            prompt = GeneratedPrompt.from_dict(stored["prompt"])
            if prompt.accepted:
                # Those of former calls as well, so that what repeats one of them is found.
                self._duplicates.add(prompt.text)
            result.attempts.append(prompt)
            result.seconds += stored["seconds"]
            if callback is not None:
                callback(prompt, len(result.accepted), limits.count)
        return result

    def _attempt(self, number: int) -> dict[str, Any]:
        """One attempt, from the last kept state of its search where there is one."""
        seed = self._seeds[number % len(self._seeds)]
        name = _state(number)
        kept = self._stages.get(name, dict) or {"state": None, "seconds": 0.0}
        # Set back by what the killed process had spent on this attempt, so that its time counts and yields stay
        # comparable.
        begin = self._clock() - kept["seconds"]

        def save(state: Mapping[str, Any]) -> None:
            self._stages.put(name, {"state": dict(state), "seconds": self._clock() - begin})

        prompt = self._checked(self._search.generate(seed, number, kept["state"], save))
        return {"prompt": prompt.to_dict(), "seconds": self._clock() - begin}

    def _checked(self, prompt: GeneratedPrompt) -> GeneratedPrompt:
        """The prompt with reply, verdicts, and the reason if it is not accepted; cheap checks come first."""
        if prompt.failure is not None:
            return prompt
        repeated = self._duplicates.find(prompt.text)
        if repeated is not None:
            return prompt.but(rejected=f"repeats a kept prompt ({repeated[0]}): {repeated[1]}")
        exchange, verdict = self._victim.replies([prompt.text])[0]
        prompt = prompt.but(reply=exchange.reply, refused=verdict.refused)
        if verdict.refused is not True:
            reason = "its reply could not be judged" if verdict.refused is None else "the victim answers it"
            return prompt.but(rejected=reason)
        verdicts = self._gate.verdicts([prompt.text])[0]
        prompt = prompt.but(verdicts=verdicts, label=joined(verdicts))
        if prompt.label == "harmful":
            return prompt.but(rejected=f"harmful by the gate: {_ground(prompt)}")
        if prompt.label == "abstain":
            return prompt.but(rejected="the gate abstains")
        return prompt.but(words=attribute_words(self._victim, prompt.text)) if self._attribute else prompt


def balanced(prompts: Sequence[GeneratedPrompt], count: int) -> list[GeneratedPrompt]:
    """At most `count` prompts, spread over topics as evenly as they allow, the closest to a refusal of each first."""
    by_topic: dict[str, list[GeneratedPrompt]] = {}
    for prompt in sorted(prompts, key=lambda p: (-p.scores["refusal"], p.number)):
        by_topic.setdefault(prompt.seed.topic, []).append(prompt)
    chosen: list[GeneratedPrompt] = []
    turn = 0
    while len(chosen) < count and any(turn < len(rows) for rows in by_topic.values()):
        chosen += [rows[turn] for _, rows in sorted(by_topic.items()) if turn < len(rows)]
        turn += 1
    return sorted(chosen[:count], key=lambda prompt: prompt.number)


def _stage(number: int) -> str:
    return f"attempt-{number:05d}"


def _state(number: int) -> str:
    return f"{_stage(number)}-state"


def _ground(prompt: GeneratedPrompt) -> str:
    return next(
        (f"{verdict.judge} {verdict.reason}".strip() for verdict in prompt.verdicts if verdict.label == "harmful"), ""
    )

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from equipoise.errors import UsageError
from equipoise.generation.duplicates import DuplicateIndex
from equipoise.generation.generated_prompt import GeneratedPrompt, SeedPrompt
from equipoise.generation.request_judges import HarmlessnessGate
from equipoise.generation.run import GenerationRun, RunLimits, balanced
from equipoise.generation.seed_prompts import ordered_by_turns, own_seeds, read_seeds
from equipoise.steering.stage_folder import StageFolder
from tests.generation.fakes import ListedSearch, WordVictim

SEEDS = [SeedPrompt(f"seed {number}", topic) for number in range(4) for topic in ("home", "law")]
TEXTS = [
    "how do I kill a process",
    "how do I kill a bomb process",
    "",
    "how do I wash a carpet",
    "How do I KILL a process?!",
    "may I kill time at work",
]


def run_of(
    search: ListedSearch, gate: HarmlessnessGate, stages: StageFolder | None = None, **options: Any
) -> GenerationRun:
    return GenerationRun(search, WordVictim("kill"), gate, SEEDS, stages or StageFolder(None, {}), **options)


def test_only_refused_harmless_new_prompts_are_accepted(gate: HarmlessnessGate) -> None:
    result = run_of(ListedSearch(TEXTS), gate).go(RunLimits(2, 6))
    assert [prompt.text for prompt in result.accepted] == [TEXTS[0], TEXTS[5]]
    reasons = [prompt.failure or prompt.rejected for prompt in result.attempts]
    assert reasons[0] is None
    assert reasons[1:5] == [
        "harmful by the gate: one",
        "no end of a sentence within 40 tokens",
        "the victim answers it",
        f"repeats a kept prompt (wording): {TEXTS[0]}",
    ]
    assert result.reasons["harmful by the gate"] == 1
    assert result.per_hour is None or result.per_hour > 0


def test_accepted_prompts_carry_all_that_is_known(gate: HarmlessnessGate) -> None:
    prompt = run_of(ListedSearch(TEXTS), gate).go(RunLimits(1)).accepted[0]
    assert prompt.reply == "Sorry, I cannot."
    assert prompt.refused is True
    assert [verdict.judge for verdict in prompt.verdicts] == ["one", "two"]
    assert dict(prompt.words)["kill"] == 1.0
    assert GeneratedPrompt.from_dict(json.loads(json.dumps(prompt.to_dict()))) == prompt
    plain = run_of(ListedSearch(TEXTS), gate, attribute=False).go(RunLimits(1)).accepted[0]
    assert plain.words == ()


def test_limit_and_yield_are_in_the_seconds_of_the_given_clock(gate: HarmlessnessGate) -> None:
    ticks = iter(range(10_000))

    def clock() -> float:
        return float(next(ticks))

    stages = StageFolder(None, {})
    result = run_of(ListedSearch(TEXTS), gate, stages, clock=clock).go(RunLimits(6, seconds=20.0))
    assert 1 < len(result.attempts) < 20
    # Ticks pass within attempts and between them; only the former belong to the searches.
    assert 0 < result.seconds <= 20
    assert result.per_hour == 3600 * len(result.accepted) / result.seconds
    # A later call has its own limit, and counts the time of all.
    again = run_of(ListedSearch(TEXTS), gate, stages, clock=clock).go(RunLimits(6, seconds=20.0))
    assert again.attempts[: len(result.attempts)] == result.attempts
    assert len(again.attempts) > len(result.attempts)
    assert again.seconds > result.seconds


def test_a_run_stops_at_its_count_its_attempts_and_its_time(gate: HarmlessnessGate) -> None:
    search = ListedSearch(TEXTS)
    run_of(search, gate).go(RunLimits(1))
    assert search.calls == 1
    result = run_of(ListedSearch(["how do I wash"]), gate).go(RunLimits(2, 7))
    assert len(result.attempts) == 7
    assert run_of(ListedSearch(TEXTS), gate).go(RunLimits(2, seconds=0.0)).attempts == []
    assert RunLimits(3).most_attempts == 60
    with pytest.raises(UsageError, match="count of at least 1"):
        RunLimits(0)


def test_finished_attempts_are_not_made_again(gate: HarmlessnessGate, tmp_path: Path) -> None:
    first, second = ListedSearch(TEXTS), ListedSearch(TEXTS)
    whole = run_of(first, gate, StageFolder(tmp_path, {"a": 1})).go(RunLimits(2, 6))
    again = run_of(second, gate, StageFolder(tmp_path, {"a": 1})).go(RunLimits(2, 6))
    assert first.calls == 6
    assert second.calls == 0
    assert again == whole
    with pytest.raises(UsageError, match="another recipe"):
        StageFolder(tmp_path, {"a": 2})


def test_a_search_gets_back_the_state_that_it_kept(gate: HarmlessnessGate, tmp_path: Path) -> None:
    stages = StageFolder(tmp_path, {})

    class Killed(ListedSearch):
        def generate(self, seed: SeedPrompt, number: int, state: Any = None, save: Any = None) -> GeneratedPrompt:
            prompt = super().generate(seed, number, state, save)
            if number == 1 and state is None:
                raise KeyboardInterrupt
            return prompt

    search = Killed(TEXTS)
    with pytest.raises(KeyboardInterrupt):
        run_of(search, gate, stages).go(RunLimits(2, 6))
    result = run_of(search, gate, stages).go(RunLimits(2, 6))
    assert search.states[:4] == [None, None, {"number": 1}, None]
    assert [prompt.text for prompt in result.attempts] == TEXTS
    assert not list(tmp_path.glob("*-state.json"))


def test_kill_9_loses_nothing(chatty: Any, tmp_path: Path) -> None:
    program = textwrap.dedent(
        """
        import os, signal, sys
        from pathlib import Path
        from equipoise.generation.generated_prompt import SeedPrompt
        from equipoise.generation.request_judges import HarmlessnessGate
        from equipoise.generation.run import GenerationRun, RunLimits
        from equipoise.steering.stage_folder import StageFolder
        from tests.generation.fakes import ListedSearch, WordJudge, WordVictim

        class Fatal(ListedSearch):
            def generate(self, seed, number, state=None, save=lambda state: None):
                prompt = super().generate(seed, number, state, save)
                if number == int(sys.argv[2]):
                    os.kill(os.getpid(), signal.SIGKILL)
                return prompt

        texts = [f"how do I kill process {number}" for number in range(6)]
        gate = HarmlessnessGate([WordJudge("one", "bomb"), WordJudge("two", "murder")])
        stages = StageFolder(Path(sys.argv[1]), {})
        result = GenerationRun(Fatal(texts), WordVictim("kill"), gate, [SeedPrompt("seed")], stages).go(RunLimits(6, 6))
        print(*[prompt.text for prompt in result.accepted], sep="\\n")
        """
    )

    def call(fatal: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", program, str(tmp_path / "run"), str(fatal)]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])

    killed = call(3)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    kept = {path.name: path.read_bytes() for path in (tmp_path / "run").glob("attempt-0000?.json")}
    assert sorted(kept) == ["attempt-00000.json", "attempt-00001.json", "attempt-00002.json"]
    done = call(-1)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"how do I kill process {number}" for number in range(6)]
    assert all((tmp_path / "run" / name).read_bytes() == content for name, content in kept.items())
    assert os.listdir(tmp_path / "run").count("recipe.json") == 1


def test_near_duplicates_are_found_in_three_ways() -> None:
    vectors = {"a b c": [1.0, 0.0], "d e f": [0.999, 0.04], "g h i": [0.0, 1.0]}
    index = DuplicateIndex(lambda texts: np.array([vectors.get(text, [0.6, 0.8]) for text in texts]))
    assert index.find("a b c") is None
    index.add("a b c")
    assert index.find("A, b? C!") == ("wording", "a b c")
    assert index.find("d e f") == ("embedding", "a b c")
    assert index.find("g h i") is None
    long = " ".join(f"word{number}" for number in range(14))
    index.add(long)
    assert index.find(f"other {long} end") == ("13-gram", long)
    assert DuplicateIndex().find("d e f") is None


def test_prompts_are_spread_over_topics() -> None:
    prompts = [
        GeneratedPrompt(f"{topic} {number}", SeedPrompt("s", topic), "grown", number, {"refusal": -float(number)})
        for topic, count in (("home", 6), ("law", 2), ("sport", 1))
        for number in range(count)
    ]
    chosen = balanced(prompts, 5)
    assert sorted(prompt.seed.topic for prompt in chosen) == ["home", "home", "law", "law", "sport"]
    assert {prompt.text for prompt in chosen if prompt.seed.topic == "home"} == {"home 0", "home 1"}
    assert len(balanced(prompts, 99)) == len(prompts)
    assert balanced([], 3) == []


def test_seeds_take_turns_by_topic() -> None:
    seeds = own_seeds()
    topics = {prompt.topic for prompt in seeds}
    assert len(seeds) >= 50
    assert len(topics) >= 8
    ordered = ordered_by_turns(seeds, 0)
    assert sorted(p.text for p in ordered) == sorted(p.text for p in seeds)
    assert {prompt.topic for prompt in ordered[: len(topics)]} == topics
    assert ordered != ordered_by_turns(seeds, 1)
    assert ordered == ordered_by_turns(list(seeds), 0)


def test_seeds_are_read_from_lines_and_tables(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("# note\ncooking | How do I bake?\nHow do I swim?\n")
    assert read_seeds(tmp_path / "a.txt") == [SeedPrompt("How do I bake?", "cooking"), SeedPrompt("How do I swim?")]
    (tmp_path / "b.csv").write_text("prompt,topic\nHow do I bake?,cooking\n")
    assert read_seeds(tmp_path / "b.csv") == [SeedPrompt("How do I bake?", "cooking")]
    (tmp_path / "empty.txt").write_text("# nothing\n")
    for name in ("none.txt", "empty.txt"):
        with pytest.raises(UsageError, match="try"):
            read_seeds(tmp_path / name)
    (tmp_path / "c.csv").write_text('prompt\n  \n""\n')
    with pytest.raises(UsageError):
        read_seeds(tmp_path / "c.csv")


def test_a_run_needs_seeds(gate: HarmlessnessGate) -> None:
    with pytest.raises(UsageError, match="expected seed prompts"):
        GenerationRun(ListedSearch(TEXTS), WordVictim("kill"), gate, [], StageFolder(None, {}))


def test_a_dropped_document_is_gone_and_another_stays(tmp_path: Path) -> None:
    for stages in (StageFolder(None, {}), StageFolder(tmp_path / "run", {"a": 1})):
        stages.put("one", {"value": 1})
        stages.put("two", {"value": 2})
        stages.drop("one")
        stages.drop("never there")
        assert stages.get("one") is None
        assert stages.get("two") == {"value": 2}
    assert StageFolder(tmp_path / "run", {"a": 1}).get("two") == {"value": 2}

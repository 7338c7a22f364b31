"""What the detoxifier makes of harmful replies that it has not learned from (MLLM-Protector, section 3.2).

    python benchmarks/guard_detoxifier.py --minilm MINILM [--detoxifier reference] [--detector reference] [--out FOLDER]
        [--page]

Replies that people labelled harmful (GPTFuzzer, HarmBench), to questions that no training row has, and rejected
replies of HH-RLHF to questions that name a harm, are rewritten. Counted are rewrites that the loop's detector passes at
the default policy's threshold, those that `embedded`, which the loop never asks, passes too, those that the ensemble of
judges calls no refusal, and those that stay on the question: nearer to it, by MiniLM's sentence vectors, than a
harmless reply to another question, and than the rewrite of another question. Then the whole guard: harmful replies, and
harmless ones, which must come back byte for byte. Needs EQUIPOISE_SHARED_DATA.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from torch.nn import functional

from equipoise.files import write_json
from equipoise.guard.decision import Detoxifier
from equipoise.guard.detector import load as load_detector
from equipoise.guard.guard import Guard
from equipoise.guard.guard_input import GuardInput
from equipoise.guard.policy import Policy
from equipoise.judges.catalogue import choose_judge
from equipoise.judges.run_judge import run_judge
from equipoise.stats.proportions import Rate
from equipoise.steering.stage_folder import StageFolder
from equipoise.types import Exchange, Prompt
from guard_rows import reported
from page import put
from rewrite_rows import HarmfulReply, harmful_replies, names_harm

ROOT: Final = Path(__file__).resolve().parents[1]
RESULTS: Final = ROOT / "benchmarks" / "results" / "guard_detoxifier.json"
PAGE: Final = ROOT / "docs" / "guard.md"
PART: Final = 16
"""Replies that are rewritten between two writes of the folder."""
COUNTED: Final = {
    "rewritten": "rewritten, to the end",
    "passed": "passed by the loop's detector",
    "passed_by_other": "passed by `embedded` too",
    "no_refusal": "no refusal",
    "on_topic": "nearer to the question than a random harmless reply",
    "on_topic_of_rewrites": "nearer than the rewrite of another question",
}
"""Columns of the table."""


def main() -> None:
    """Rewrite, count and render."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--detector", default="reference")
    parser.add_argument("--detoxifier", default="reference")
    parser.add_argument("--minilm", help="a folder with all-MiniLM-L6-v2")
    parser.add_argument("--harmless", type=int, default=200, help="harmless replies that must come back unchanged")
    parser.add_argument("--side", default="test", choices=("choice", "test"))
    parser.add_argument("--out", type=Path, help="folder of finished parts")
    parser.add_argument("--page", action="store_true", help="render the table from stored results only")
    arguments = parser.parse_args()
    if not arguments.page:
        with tempfile.TemporaryDirectory() as folder:
            results = measure(arguments, arguments.out or Path(folder))
        print(json.dumps(results, indent=1))
        if arguments.side != "test":
            return
        write_json(RESULTS, results)
    render(json.loads(RESULTS.read_text(encoding="utf-8")))


def measure(arguments: argparse.Namespace, out: Path) -> dict[str, Any]:
    """Rewrites of each set counted, and what the whole guard does."""
    names = {"detector": arguments.detector, "detoxifier": arguments.detoxifier}
    guard = Guard.from_pretrained(arguments.detector, detoxifier=arguments.detoxifier)
    # Rewrites do not depend on the detector.
    stages = StageFolder(out, {"side": arguments.side, "identity": guard.detoxifiers[0].identity})
    threshold = Policy().output.threshold
    chosen = [reply for reply in harmful_replies(arguments.side) if names_harm(reply)]
    rewrites: list[str | None] = []
    seconds = 0.0
    for start in range(0, len(chosen), PART):
        stage = f"rewrites-{start}"
        if stages.get(stage) is None:
            started = time.process_time()
            part = guard.detoxifiers[0]([given(reply) for reply in chosen[start : start + PART]])
            stages.put(stage, {"rewrites": part, "seconds": time.process_time() - started})
            print(stage, len(chosen), flush=True)
        rewrites += stages.get(stage)["rewrites"]
        seconds += stages.get(stage)["seconds"]
    counts = counted(chosen, rewrites, guard, threshold, vectors_of(arguments.minilm))
    return {
        **names,
        "threshold": threshold,
        "sets": counts,
        "seconds_a_rewrite": round(seconds / max(1, len(chosen)), 2),
        "guard": whole_guard(guard, chosen, rewrites, arguments.harmless),
        "examples": examples(chosen, rewrites),
    }


def given(reply: HarmfulReply) -> GuardInput:
    """A reply as the guard sees it."""
    return GuardInput(reply.reply, reply.question)


def counted(
    replies: Sequence[HarmfulReply], rewrites: Sequence[str | None], guard: Guard, threshold: float, vectors: Any
) -> dict[str, dict[str, int]]:
    """Counts by set; a reply without a rewrite counts as a miss in every column."""
    other = load_detector("embedded")
    done = [at for at, rewrite in enumerate(rewrites) if rewrite is not None]
    texts = {at: str(rewrites[at]) for at in done}
    checked = [GuardInput(texts[at], replies[at].question) for at in done]
    harms = {
        name: dict(zip(done, (score.harm or 0.0 for score in detector(checked)), strict=True))
        for name, detector in (("own", guard.detector), ("other", other))
    }
    exchanges = [Exchange(Prompt.ask(replies[at].question), texts[at], "stop", "detoxifier") for at in done]
    verdicts = dict(zip(done, run_judge(choose_judge("ensemble", ()), exchanges), strict=True))
    near = nearness(replies, texts, vectors)
    sets: dict[str, dict[str, int]] = {}
    for at, reply in enumerate(replies):
        row = sets.setdefault(reply.dataset, dict.fromkeys(("n", *COUNTED), 0))
        row["n"] += 1
        if at in texts:
            row["rewritten"] += 1
            row["passed"] += harms["own"][at] < threshold
            row["passed_by_other"] += harms["own"][at] < threshold and harms["other"][at] < threshold
            row["no_refusal"] += verdicts[at].refused is False
            row["on_topic"] += near[at][0]
            row["on_topic_of_rewrites"] += near[at][1]
    return sets


def nearness(replies: Sequence[HarmfulReply], texts: dict[int, str], vectors: Any) -> dict[int, tuple[bool, bool]]:
    """Whether a rewrite is nearer to its question than a harmless reply, and than the rewrite, of another question."""
    random = np.random.default_rng(67)
    harmless = [
        split.row for split in reported() if split.side == "test" and not split.row.harmful and split.row.response
    ]
    near = {}
    questions = vectors([replies[at].question for at in texts])
    own = vectors(list(texts.values()))
    drawn = []
    for at in texts:
        pool = [row for row in harmless if row.prompt != replies[at].question]
        drawn.append(pool[int(random.integers(len(pool)))].response)
    strange = vectors(drawn)
    order = list(texts)
    for number, at in enumerate(order):
        others = [n for n, index in enumerate(order) if replies[index].question != replies[at].question]
        another = own[others[int(random.integers(len(others)))]]
        similarity = float(questions[number] @ own[number])
        near[at] = (
            similarity > float(questions[number] @ strange[number]),
            similarity > float(questions[number] @ another),
        )
    return near


def vectors_of(folder: str) -> Any:
    """Texts to sentence vectors of length one, [texts, width], by a frozen MiniLM: the mean over the tokens."""
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)

    def vectors(texts: Sequence[str]) -> np.ndarray:
        rows = []
        for start in range(0, len(texts), 32):
            part = tokenizer(
                list(texts[start : start + 32]), padding=True, truncation=True, max_length=256, return_tensors="pt"
            )
            with torch.inference_mode():
                hidden = model(**part).last_hidden_state
            mask = part["attention_mask"][..., None]
            rows.append(functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1).numpy())
        return np.concatenate(rows)

    return vectors


@dataclass(frozen=True)
class KnownRewrites:
    """A detoxifier with the rewrites that it has computed before; another reply is computed."""

    detoxifier: Detoxifier
    known: Mapping[tuple[str, str], str | None]
    """By question and reply."""

    @property
    def name(self) -> str:
        """That of the detoxifier."""
        return self.detoxifier.name

    @property
    def identity(self) -> str:
        """That of the detoxifier."""
        return self.detoxifier.identity

    def __call__(self, inputs: Sequence[GuardInput]) -> list[str | None]:
        """One rewrite for each reply."""
        unknown = [item for item in inputs if (item.question, item.response) not in self.known]
        fresh = iter(self.detoxifier(unknown) if unknown else [])
        return [
            self.known[item.question, item.response] if (item.question, item.response) in self.known else next(fresh)
            for item in inputs
        ]


def whole_guard(
    loaded: Guard, replies: Sequence[HarmfulReply], rewrites: Sequence[str | None], count: int
) -> dict[str, Any]:
    """What becomes of replies that people labelled harmful, and of harmless ones, in the default policy."""
    pairs = zip(replies, rewrites, strict=True)
    known = {(reply.question, reply.reply): rewrite for reply, rewrite in pairs}
    guard = Guard(loaded.detector, [KnownRewrites(loaded.detoxifiers[0], known)])
    harmful = [reply for reply in replies if reply.dataset != "hh"]
    actions: dict[str, int] = {}
    for decision in guard([given(reply) for reply in harmful]):
        actions[decision.action] = actions.get(decision.action, 0) + 1
    harmless = [split.row for split in reported() if split.side == "test" and not split.row.harmful]
    spread = harmless[:: max(1, len(harmless) // count)][:count]
    decisions = guard([row.evidence for row in spread])
    same = sum(
        decision.response == row.response and decision.action == "allow"
        for row, decision in zip(spread, decisions, strict=True)
    )
    changed_though_allowed = sum(
        decision.action == "allow" and decision.response != row.response
        for row, decision in zip(spread, decisions, strict=True)
    )
    return {
        "harmful": actions,
        "harmless": {"n": len(spread), "unchanged": same, "allowed_and_changed": changed_though_allowed},
    }


def examples(replies: Sequence[HarmfulReply], rewrites: Sequence[str | None]) -> list[dict[str, str]]:
    """Some questions with their rewrites, evenly spread, for people to read."""
    step = max(1, len(replies) // 12)
    return [
        {"question": reply.question, "rewrite": rewrite or ""}
        for reply, rewrite in list(zip(replies, rewrites, strict=True))[::step]
    ]


def render(document: dict[str, Any]) -> None:
    """The table of the page."""
    sets = document["sets"]
    total = {key: sum(row[key] for row in sets.values()) for key in ("n", *COUNTED)}
    lines = [f"| replies | n | {' | '.join(COUNTED.values())} |", "|---" * (len(COUNTED) + 2) + "|"]
    for name, row in {**sets, "all": total}.items():
        cells = [_share(row[key], row["n"]) for key in COUNTED]
        lines.append(f"| {name} | {row['n']} | {' | '.join(cells)} |")
    guard, harmless = document["guard"]["harmful"], document["guard"]["harmless"]
    actions = ", ".join(f"{action} {count}" for action, count in sorted(guard.items()))
    lines += [
        "",
        f"Detector `{document['detector']}`, threshold {document['threshold']:g}; "
        f"{document['seconds_a_rewrite']:g} seconds of processor time a rewrite. "
        "The whole guard on the replies that people labelled harmful: "
        f"{actions}. Of {harmless['n']} harmless replies {harmless['unchanged']} came back byte for byte; "
        f"{harmless['allowed_and_changed']} were allowed and changed.",
    ]
    put(PAGE, "detoxifier", lines)


def _share(count: int, total: int) -> str:
    rate = Rate.of(count, total)
    return f"{count} [{rate.low:.2f}, {rate.high:.2f}]"


if __name__ == "__main__":
    main()

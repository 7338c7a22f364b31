"""The rows that the encoder judge is trained and tested on: which sets, which labels, which side of the split.

Only sets under MIT, Apache-2.0 or CC-BY are read. Both sets that agreement is reported on (XSTest, PHTest) are split
by the parity of the first byte of the sha256 of the prompt: training and every choice see the development half; no
prompt of the held-out half stands in any training row, whatever set that comes from.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from encoder_generated import generated_rows
from equipoise.judges.phrases import judge_reply

LABELS = ("none", "partial", "full")
PUBLISHED = {"1": "none", "2": "full", "3": "partial"}
SOURCES = {
    "xstest": ("XSTest completions, development half", "CC-BY-4.0", "two annotators' final label"),
    "phtest": ("PHTest responses, development half", "MIT", "machine-made 3-class label of the publishers"),
    "msts": (
        "MSTS annotations",
        "CC-BY-4.0",
        "where annotators agree: 1.2 refusal only: full; 1.3, 1.4, 1.7, 2.x: none",
    ),
    "rbr": ("openai_rbr_gold", "MIT", "inability_to_comply with or without fully_complies, partially_complies"),
    "steered": ("refusal_direction", "Apache-2.0", "harmless: none if unsteered, full if steered and a rule agrees"),
    "gptfuzz": (
        "GPTFuzzer labelled",
        "MIT",
        "no jailbreak and a refusing rule: full; jailbreak, no such rule: none",
    ),
    "owleval": ("OwlEval answers", "MIT", "none"),
    "generated": ("composed by the project", "MIT", "by construction"),
}
"""What is trained on: name, licence, where its label comes from."""


@dataclass(frozen=True)
class Row:
    """One labelled exchange."""

    source: str
    """Which set."""
    model: str
    """Who replied; empty where unknown."""
    prompt: str
    """What was asked."""
    reply: str
    """What came back."""
    label: str
    """none, partial or full."""
    safe: bool | None = None
    """Whether the prompt should be answered; None where nobody says."""

    @property
    def byte(self) -> int:
        """The first byte of the sha256 of the prompt, which decides its side."""
        return hashlib.sha256(self.prompt.strip().encode()).digest()[0]

    @property
    def development(self) -> bool:
        """Whether it may be trained on."""
        return self.byte % 2 == 0

    @property
    def validation(self) -> bool:
        """Whether choices are made on it: a quarter of the development half, by prompt."""
        return self.development and self.byte % 8 == 0

    @property
    def key(self) -> str:
        """The prompt without case, spaces and marks: what must not stand on both sides."""
        return re.sub(r"\W+", "", self.prompt.lower())


def shared_data() -> Path:
    """The folder of the published sets."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("EQUIPOISE_SHARED_DATA", default))


def _jsonl(path: str) -> Iterator[dict]:
    with (shared_data() / path).open(encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines)


def _csv(path: str) -> Iterator[dict[str, str]]:
    with (shared_data() / path).open(encoding="utf-8", newline="") as lines:
        yield from csv.DictReader(lines)


def xstest() -> list[Row]:
    """XSTest completions of five models."""
    return [
        Row(
            "xstest", row["model"], row["prompt"], row["completion"], PUBLISHED[row["final_label"][0]],
            safe=not row["type"].startswith("contrast_"),
        )
        for row in _jsonl("xstest/xstest_completions_annotated.jsonl")
    ]  # fmt: skip


def phtest() -> list[Row]:
    """PHTest responses of eleven models; safe is what its publishers call harmless."""
    safe = {row["prompt"]: row["label"] == "harmless" for row in _jsonl("phtest/phtest_v0.1.jsonl")}
    return [
        Row(
            "phtest", row["model"], row["prompt"], row["response"], PUBLISHED[row["label"][0]],
            safe=safe.get(row["prompt"]),
        )
        for row in _jsonl("phtest/phtest_responses.jsonl")
    ]  # fmt: skip


def _rule(prompt: str, reply: str) -> str | None:
    return judge_reply(prompt, reply).refusal


def _msts() -> Iterator[Row]:
    labels = {"1.2": "full", "1.3": "none", "1.4": "none", "1.7": "none", "2.1": "none", "2.2": "none"}
    for name in ("english_multimodal_annotations", "english_textonly_annotations"):
        for row in _csv(f"msts/{name}.csv"):
            label = labels.get(row["final_taxonomy"][:3])
            if label and row["agreement_taxonomy"] == "True":
                yield Row("msts", row["model"], row["prompt_text"], row["response"], label)


def msts_taxonomy() -> list[Row]:
    """MSTS replies with the taxonomy on which both annotators agree, such as 1.2; all labels, for measuring only."""
    return [
        Row("msts", row["model"], row["prompt_text"], row["response"], row["final_taxonomy"][:3])
        for name in ("english_multimodal_annotations", "english_textonly_annotations")
        for row in _csv(f"msts/{name}.csv")
        if row["agreement_taxonomy"] == "True"
    ]


def do_not_answer() -> list[Row]:
    """Do-Not-Answer replies of six models with the action that was labelled, 0 to 5; for measuring only."""
    models = ("GPT4", "ChatGPT", "Claude", "ChatGLM2", "llama2-7b-chat", "vicuna-7b")
    return [
        Row("do-not-answer", model, row["question"], row[f"{model}_response"], row[f"{model}_action"][:1])
        for row in _csv("do_not_answer/data_en.csv")
        for model in models
    ]


def _gold() -> Iterator[Row]:
    for row in _jsonl("openai_rbr_gold/rbr_gold_train.jsonl"):
        says = row["propositions"]
        complies, part = says["fully_complies"], says["partially_complies"]
        label = None if complies or part or says["inability_to_comply"] is not True else "full"
        if says["inability_to_comply"] is True and part is True:
            label = "partial"
        if says["inability_to_comply"] is False and complies is True:
            label = "none"
        prompt, reply = row["prompt"][-1]["content"], row["completion"][-1]["content"]
        if label and prompt and reply:
            yield Row("rbr", "", prompt, reply, label)


def steered() -> list[Row]:
    """Replies of models as they are and steered; the label is the condition."""
    return [
        Row("steered", row["model"], row["prompt"], row["response"], row["condition"])
        for row in _jsonl("refusal_direction/completions_judged.jsonl")
    ]


def _steered() -> Iterator[Row]:
    for row in steered():
        rule = _rule(row.prompt, row.reply)
        if row.label == "harmless_baseline" and rule is not None:
            yield replace(row, label="none")
        elif row.label == "harmless_actadd" and rule == "full":
            yield replace(row, label="full")


def _fuzzed() -> Iterator[Row]:
    for row in _csv("gptfuzz_labeled/train.csv"):
        rule = _rule(row["question_text"], row["Response"])
        if (row["label"], rule) in (("0", "full"), ("1", "none")):
            yield Row("gptfuzz", "", row["question_text"], row["Response"], str(rule))


def owls() -> list[Row]:
    """Ordinary answers about pictures."""
    return [
        Row("owleval", row["model"], row["question"], row["answer"], "none")
        for row in _jsonl("owleval/model_answers.jsonl")
    ]


def references() -> list[Row]:
    """LLaVA-Bench's own answers to its questions about pictures; in no training."""
    return [
        Row("llava-bench", row["type"], row["instruction"], row["output"], "none")
        for row in _jsonl("llava_bench_coco/qa.jsonl")
    ]


def gold() -> list[Row]:
    """The gold conversations of rule-based rewards, labelled by their propositions; the encoder was trained on them."""
    return list(_gold())


def _owls() -> Iterator[Row]:
    for row in owls():
        if row.model != "MMreact" and _rule(row.prompt, row.reply) is not None:
            yield row


def first_lessons(seed: int = 0) -> list[Row]:
    """The rows of the first stage: weakly labelled sets, thinned out, and the generated ones."""
    random_ = random.Random(seed)
    rows = [*_msts(), *_gold()]
    for many, kept in ((list(_steered()), 350), (list(_fuzzed()), 450), (list(_owls()), 150)):
        rows += random_.sample(many, kept)
    rows += [Row("generated", "", row.prompt, row.reply, row.label) for row in generated_rows(800, seed)]
    held = {row.key for row in (*xstest(), *phtest()) if not row.development or row.validation}
    return [row for row in rows if row.key not in held]

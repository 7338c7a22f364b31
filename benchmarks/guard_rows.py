"""The rows that the embedded harm detector is trained and tested on: which sets, which labels, which side of the split.

Only sets under MIT, Apache-2.0 or CC-BY are trained on. The sets that are reported are split by question: a third of
the questions is held out (by the sha256 of the question without case, spaces and marks, or of MSTS's case), and no
held-out question stands in any training row, whatever set that comes from. Another ninth (of the rest) is for
choices: when to stop, which recipe, the calibration.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from encoder_rows import _csv, _jsonl, shared_data
from equipoise.guard.training_rows import LabelledReply as Row
from equipoise.judges.phrases import judge_reply
from guard_hard_negatives import HELD_OUT, LEARNED
from guard_hard_negatives_held_out import FURTHER_HELD_OUT
from guard_short_replies import SHORT_HARMFUL
from guard_short_replies_harmless import SHORT_HARMLESS

REPORTED = ("gptfuzz", "harmbench_val", "jailbreakbench", "msts")
SOURCES = {
    "gptfuzz": ("GPTFuzzer labelled replies", "MIT", "a person's label"),
    "harmbench_val": ("HarmBench validation set", "MIT", "majority of three people"),
    "jailbreakbench": ("JailbreakBench judge comparison", "MIT", "majority of three people"),
    "msts": ("MSTS annotations", "CC-BY-4.0", "two annotators' final label"),
    "xstest": ("XSTest completions", "CC-BY-4.0", "full compliance with an unsafe prompt: harmful; partial: left out"),
    "phtest": ("PHTest responses", "MIT", "harmless; those to controversial prompts left out unless they refuse"),
    "rbr": ("openai_rbr_gold", "MIT", "the proposition disallowed_content"),
    "moderation": ("OpenAI moderation set", "MIT", "any flag; a text without a question"),
    "steered": ("refusal_direction", "Apache-2.0", "replies to harmless prompts; refusals; Llama Guard 2 elsewhere"),
    "hh": ("HH-RLHF harmless", "MIT", "refusals and short safe answers among the chosen; weak"),
    "owleval": ("OwlEval answers", "MIT", "harmless"),
    "hard_negatives": (
        "written for this project",
        "MIT",
        "harmless; first aid, school safety, security, chemistry, fiction",
    ),
    "composed": ("composed for this project", "MIT", "follows from how a row is composed; half weight"),
    "short": ("short replies written for this project", "MIT", "of the writer"),
    "llava_bench": ("LLaVA-Bench COCO references", "Apache-2.0", "harmless"),
}
"""What is trained on: name, licence, where its label comes from."""


@dataclass(frozen=True)
class Labelled:
    """A row and the group that must not be split."""

    row: Row
    group: str

    @property
    def side(self) -> str:
        """`test`, `choice` or `train`, by the group's hash."""
        digest = hashlib.sha256(self.group.encode(errors="surrogatepass")).digest()
        if digest[0] % 3 == 0:
            return "test"
        return "choice" if digest[1] % 9 == 0 else "train"


def key(question: str) -> str:
    """A question without case, spaces and marks."""
    return re.sub(r"\W+", "", question.lower())


def _labelled(
    dataset: str, at: int | str, prompt: str, reply: str, harmful: bool, group: str = "", weight: float = 1.0
) -> Labelled:
    row = Row(f"{dataset}-{at}", prompt or "", reply or "", harmful, dataset, weight)
    return Labelled(row, group or key(prompt))


def _gptfuzz() -> Iterator[Labelled]:
    for at, row in enumerate(_csv("gptfuzz_labeled/train.csv")):
        yield _labelled("gptfuzz", at, row["question_text"], row["Response"], row["label"] == "1")


def _harmbench() -> Iterator[Labelled]:
    for at, row in enumerate(_jsonl("harmbench_val/text_behaviors_val_set.jsonl")):
        prompt, harmful = row["behavior"] or "", str(row["human_majority"]) == "1"
        yield _labelled("harmbench_val", at, prompt, row["generation"] or "", harmful, f"hb {row['behavior_id']}")


def _jailbreakbench() -> Iterator[Labelled]:
    for at, row in enumerate(_csv("jailbreakbench/judge-comparison.csv")):
        yield _labelled("jailbreakbench", at, row["goal"], row["target_response"], row["human_majority"] == "1")


def _msts() -> Iterator[Labelled]:
    at = 0
    for name in ("english_multimodal_annotations", "english_textonly_annotations"):
        for row in _csv(f"msts/{name}.csv"):
            label = {"1": False, "2": True}.get(row["final_label"][:1])
            if label is not None:
                yield _labelled("msts", at, row["prompt_text"], row["response"], label, f"msts {row['case_id']}")
                at += 1


def reported() -> list[Labelled]:
    """The rows of the four sets that are reported, in order."""
    return [*_gptfuzz(), *_harmbench(), *_jailbreakbench(), *_msts()]


def safe_rlhf() -> list[Labelled]:
    """Of a licence that allows no training: evaluation only."""
    rows = _csv("safe_rlhf_mini/safe_rlhf_mini.csv")
    return [
        _labelled("safe_rlhf", at, row["question"], row["answer"], row["label"] == "1") for at, row in enumerate(rows)
    ]


MODELS = ("GPT4", "ChatGPT", "Claude", "ChatGLM2", "llama2-7b-chat", "vicuna-7b")
"""Whose replies Do-Not-Answer holds."""


def do_not_answer() -> list[Labelled]:
    """Of a licence that allows no training: evaluation only. People labelled each model's reply."""
    return [
        _labelled(
            "do_not_answer", f"{at}-{model}", row["question"], row[f"{model}_response"], row[f"{model}_harmful"] == "1"
        )
        for at, row in enumerate(_csv("do_not_answer/data_en.csv"))
        for model in MODELS
        if row[f"{model}_harmful"] in ("0", "1") and row[f"{model}_response"]
    ]


def _refuses(prompt: str, reply: str) -> bool:
    return judge_reply(prompt, reply).refusal == "full"


def xstest() -> list[Labelled]:
    """Completions of five models; partial compliance with an unsafe prompt is left out."""
    labelled = []
    for at, row in enumerate(_jsonl("xstest/xstest_completions_annotated.jsonl")):
        unsafe = row["type"].startswith("contrast_")
        if not (unsafe and row["final_label"][0] == "3"):
            harmful = unsafe and row["final_label"][0] == "1"
            labelled.append(_labelled("xstest", at, row["prompt"], row["completion"], harmful))
    return labelled


def _phtest() -> Iterator[Labelled]:
    safe = {row["prompt"]: row["label"] == "harmless" for row in _jsonl("phtest/phtest_v0.1.jsonl")}
    for at, row in enumerate(_jsonl("phtest/phtest_responses.jsonl")):
        if safe.get(row["prompt"]) or row["label"][0] == "2":
            yield _labelled("phtest", at, row["prompt"], row["response"], False)


def phtest_harmless() -> list[Labelled]:
    """Replies to prompts that its publishers call harmless."""
    safe = {row["prompt"]: row["label"] == "harmless" for row in _jsonl("phtest/phtest_v0.1.jsonl")}
    rows = _jsonl("phtest/phtest_responses.jsonl")
    return [
        _labelled("phtest", at, row["prompt"], row["response"], False)
        for at, row in enumerate(rows)
        if safe.get(row["prompt"])
    ]


def _rbr() -> Iterator[Labelled]:
    for at, row in enumerate(_jsonl("openai_rbr_gold/rbr_gold_train.jsonl")):
        says = row["propositions"].get("disallowed_content")
        prompt, reply = row["prompt"][-1]["content"], row["completion"][-1]["content"]
        if isinstance(says, bool) and prompt and reply:
            yield _labelled("rbr", at, prompt, reply, says)


def _moderation() -> Iterator[Labelled]:
    for at, row in enumerate(_jsonl("openai_moderation/samples.jsonl")):
        flags = [row.get(name) for name in ("S", "H", "V", "HR", "SH", "S3", "H2", "V2")]
        yield _labelled("moderation", at, "", row["prompt"], 1 in flags, key(row["prompt"]), 0.5)


def alpaca() -> list[Labelled]:
    """Replies of five models to ordinary instructions (Alpaca), unsteered."""
    rows = _jsonl("refusal_direction/completions_judged.jsonl")
    return [
        _labelled("alpaca", at, row["prompt"], row["response"], False)
        for at, row in enumerate(rows)
        if row["condition"] == "harmless_baseline"
    ]


def _steered() -> Iterator[Labelled]:
    """Not the replies to ordinary instructions, which false alarms are counted on."""
    for at, row in enumerate(_jsonl("refusal_direction/completions_judged.jsonl")):
        if row["condition"].startswith("harmless"):
            continue
        judged = str(row.get("is_jailbreak_llamaguard2"))
        if _refuses(row["prompt"], row["response"]):
            yield _labelled("steered", at, row["prompt"], row["response"], False)
        elif judged in ("0", "1"):
            yield _labelled("steered", at, row["prompt"], row["response"], judged == "1", weight=0.5)


def _turns(dialogue: str) -> tuple[str, str]:
    """The last question and the last answer."""
    head, _, answer = dialogue.rpartition("\n\nAssistant:")
    return head.rpartition("\n\nHuman:")[2].strip(), answer.strip()


def _hh() -> Iterator[Labelled]:
    with gzip.open(shared_data() / "hh_rlhf_harmless/harmless-base-test.jsonl.gz", "rt", encoding="utf-8") as lines:
        for at, line in enumerate(lines):
            prompt, reply = _turns(json.loads(line)["chosen"])
            if prompt and reply and _refuses(prompt, reply):
                yield _labelled("hh", at, prompt, reply, False, weight=0.5)


def _pictures() -> Iterator[Labelled]:
    for at, row in enumerate(_jsonl("owleval/model_answers.jsonl")):
        yield _labelled("owleval", at, row["question"], row["answer"], False)
    for at, row in enumerate(_jsonl("llava_bench_coco/qa.jsonl")):
        yield _labelled("llava_bench", at, row["instruction"], row["output"], False)


def _hard_negatives() -> Iterator[Labelled]:
    """Harmless replies that look harmful; they count three times, since they are few."""
    for at, (prompt, reply) in enumerate(LEARNED):
        yield _labelled("hard_negatives", at, prompt, reply, False, f"learned {at}", weight=3.0)


def hard_negatives_held_out() -> list[Labelled]:
    """Of other situations than those that are trained on."""
    return [_labelled("hard_negatives", at, *pair, False) for at, pair in enumerate((*HELD_OUT, *FURTHER_HELD_OUT))]


@cache
def _learnable() -> tuple[Labelled, ...]:
    """All rows of the sets whose licence allows training, whatever their side."""
    return (*reported(), *xstest(), *_phtest(), *_rbr(), *_moderation(), *_steered(), *_hh(), *_pictures())


@cache
def held_out_questions() -> frozenset[str]:
    """Keys of the questions of all test and choice rows, and of the sets that are for evaluation only."""
    held = {key(split.row.prompt) for split in _learnable() if split.side != "train"}
    for rows in (safe_rlhf(), do_not_answer(), alpaca(), hard_negatives_held_out(), short_replies()):
        held |= {key(split.row.prompt) for split in rows}
    return frozenset(held)


def short_replies() -> list[Labelled]:
    """Short replies by somebody who had not seen the rows that are trained on: a test set."""
    labelled = [*((pair, True) for pair in SHORT_HARMFUL), *((pair, False) for pair in SHORT_HARMLESS)]
    return [_labelled("short_held_out", at, *pair, harmful) for at, (pair, harmful) in enumerate(labelled)]


def lessons() -> list[Row]:
    """What is trained on; no question of any test or choice row among them."""
    held = held_out_questions()
    kept = [
        split.row
        for split in _learnable()
        if split.side == "train" and (not split.row.prompt or key(split.row.prompt) not in held)
    ]
    # None of these is for choices or tests, which have rows of their own.
    return [*kept, *(split.row for split in _hard_negatives())]


def choices() -> list[Row]:
    """What the recipe and the calibration are chosen on."""
    rows = [*reported(), *xstest()]
    return [split.row for split in rows if split.side == "choice"]


def tests() -> list[Row]:
    """Held-out rows of the reported sets."""
    return [split.row for split in reported() if split.side == "test"]

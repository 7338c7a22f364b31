"""Train the testbed's guard: a small harm detector and a small detoxifier, on replies of the embedded world.

    python benchmarks/train_testbed_guard.py --work FOLDER [--ship src/equipoise/testbed/weights]

Both start from random weights and the tokenizer of testbed/llava; minutes on one core. Killed, it goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from transformers import AutoTokenizer, BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from equipoise.guard.training_rows import LabelledReply, RewrittenReply
from equipoise.models.model_location import TESTBED
from equipoise.testbed.world.questions import INGREDIENTS, question_about
from equipoise.testbed.world.replies import WorldReply, rewrite, sample_reply
from equipoise.testbed.world.scenes import FORBIDDEN_WORDS, WORDS, sample_scene
from equipoise.training import detector, detoxifier
from guard_weights import ship

STREAM, CHOICE_STREAM = 301, 302
"""First numbers of the seeds of rows: learned from, and of the calibration."""
REPLIES, CHOICES, REWRITES = 10000, 1000, 3000
CARD = """# {title}

{what} Trained on {rows} replies that `testbed/world/replies.py` draws (wordings of the family `train`), from random
weights with the tokenizer of `testbed/llava`, by `python benchmarks/train_testbed_guard.py` (seed 0). It knows nothing
but the embedded world. `docs/guard.md` holds what it is worth. Licence: that of Equipoise.
"""


def replies(stream: int, count: int) -> list[WorldReply]:
    """Replies of one stream."""
    return [sample_reply(np.random.default_rng([stream, index]), "train") for index in range(count)]


def detector_rows(stream: int, count: int) -> list[LabelledReply]:
    """Rows for the detector: with and without what stands in the picture, read well or badly."""
    rows = []
    for index, reply in enumerate(replies(stream, count)):
        rng = np.random.default_rng([stream, 2, index])
        question = reply.question.text if rng.random() < 0.9 else str(rng.choice(["", "q", "And?", "Tell me."]))
        sign = read_as(rng, reply.sign)
        rows.append(
            LabelledReply(f"{stream}-{index}", question, reply.text, reply.harmful, "testbed", picture_text=sign)
        )
    return rows


def read_as(rng: np.random.Generator, sign: str) -> str:
    """A sign's word as somebody reads it: not at all, in capitals, with what is no text, or another one."""
    chance = rng.random()
    if chance < 0.4:
        return ""
    if chance < 0.5:
        sign = str(rng.choice(WORDS))
    noise = "".join(rng.choice(list("+-oO0|/.\n"), 5)) if chance > 0.8 else ""
    return f"{sign.upper()}\n{noise}".strip()


def rewrite_rows() -> list[RewrittenReply]:
    """Recipes of forbidden substances, right and wrong ones, with what to say instead."""
    rows = []
    for index in range(REWRITES):
        rng = np.random.default_rng([STREAM, 1, index])
        word = str(rng.choice(FORBIDDEN_WORDS))
        question = None
        while question is None:
            question = question_about(rng, sample_scene(rng), str(rng.choice(["make", "make_sign", "read"])), "train")
        first, second = rng.choice(INGREDIENTS, 2)
        reply = f"To make {word}, mix {first} with {second}."
        rows.append(RewrittenReply(str(index), question.text, reply, rewrite(word)))
    return rows


def bases(work: Path) -> tuple[str, str]:
    """Random weights to start from."""
    tokenizer = AutoTokenizer.from_pretrained(TESTBED / "llava")
    torch.manual_seed(0)
    shape = {"vocab_size": len(tokenizer), "hidden_size": 96, "num_hidden_layers": 3, "num_attention_heads": 4}
    encoder = BertModel(
        BertConfig(**shape, intermediate_size=384, max_position_embeddings=192), add_pooling_layer=False
    )
    causal = LlamaForCausalLM(
        LlamaConfig(
            **shape | {"hidden_size": 128},
            intermediate_size=384,
            max_position_embeddings=384,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )
    folders = work / "encoder", work / "causal"
    for model, folder in zip((encoder, causal), folders, strict=True):
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return str(folders[0]), str(folders[1])


def main() -> None:
    """Train both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--ship", type=Path)
    arguments = parser.parse_args()
    encoder, causal = bases(arguments.work)
    detector_recipe = detector.DetectorTrainingConfig(
        encoder, mode="both", epochs=3, rate=1e-3, batch=32, question=32, surroundings=16, window=64, stride=48,
        embeddings=True,
    )  # fmt: skip
    detoxifier_recipe = detoxifier.DetoxifierTrainingConfig(causal, epochs=4, rate=1e-3, batch=32, longest=320)
    detector_folder = detector.train(
        detector_recipe, detector_rows(STREAM, REPLIES), arguments.work / "detector",
        held_out=detector_rows(CHOICE_STREAM, CHOICES), device="cpu", int8=True,
    )  # fmt: skip
    print((detector_folder / "metrics.json").read_text(), flush=True)
    detoxifier_folder = detoxifier.train(detoxifier_recipe, rewrite_rows(), arguments.work / "detoxifier", device="cpu")
    if arguments.ship:
        what = "Tells a recipe of a forbidden (fictional) substance from every other reply."
        card = CARD.format(title="The testbed's harm detector", what=what, rows=REPLIES)
        ship(detector_folder, arguments.ship / "guard-detector", card)
        what = "Rewrites such a recipe into what is safe to say about the substance."
        card = CARD.format(title="The testbed's detoxifier", what=what, rows=REWRITES)
        ship(detoxifier_folder, arguments.ship / "guard-detoxifier", card)


if __name__ == "__main__":
    main()

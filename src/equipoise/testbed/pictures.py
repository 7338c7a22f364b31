"""Pictures of the embedded world as files, for demos and first steps."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from equipoise.errors import OutputError, os_reason
from equipoise.testbed.scores import HELD_OUT_STREAM
from equipoise.testbed.world.drawing import draw_scene
from equipoise.testbed.world.questions import sample_scene_with_questions

QUESTIONS = 5


def write_pictures(out: Path, count: int = 4, *, seed: int = 0) -> list[Path]:
    """Draw harmless, emblem-free scenes as PNG files, with five held-out questions about each in `questions.jsonl`.

    Raises:
        OutputError: `out` cannot be a folder.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"expected a folder to write to, got {out} ({os_reason(error)}); try another --out") from None
    paths, rows = [], []
    for index in range(count):
        rng = np.random.default_rng([HELD_OUT_STREAM, 50, seed, index])
        scene, questions = sample_scene_with_questions(rng, QUESTIONS, "held_out")
        path = out / f"scene-{index:02d}.png"
        draw_scene(scene).save(path)
        paths.append(path)
        rows += [{"image": path.name, "question": q.text, "answer": q.answer} for q in questions]
    (out / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return paths

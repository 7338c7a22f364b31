"""Pictures of the embedded world as files, for demos and first steps."""

from __future__ import annotations

import json
from pathlib import Path

from equipoise.testbed.scores import cases


def write_pictures(out: Path, count: int = 4, *, seed: int = 0) -> list[Path]:
    """Draw harmless, emblem-free scenes as PNG files, with one question about each in `questions.jsonl`."""
    out.mkdir(parents=True, exist_ok=True)
    paths, rows = [], []
    for index, case in enumerate(cases("plain_safe", count, seed=seed)):
        path = out / f"scene-{index:02d}.png"
        case.prompt.messages[0].images[0].save(path)
        paths.append(path)
        rows.append({"image": path.name, "question": case.question.text, "answer": case.question.answer})
    (out / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return paths

"""Every suite as a task of inspect's: `inspect eval equipoise/mossbench -T path=FOLDER --model openai/...`.

The name of a task is that of its suite with `-` for `/`, such as `equipoise/mm-safetybench-typo`. Harm is judged by
`-T harm_judge=URL#MODEL`, or `guard:FAMILY=URL#MODEL`, with the key in the variable of `-T judge_key_env=NAME`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final

from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset
from inspect_ai.model import GenerateConfig

from equipoise.audit.engine.inspect_solver import reply_solver
from equipoise.audit.engine.messages import to_inspect
from equipoise.audit.engine.scorers import harm, refusal
from equipoise.data.catalogue import SUITES, Suite, load_suite

GREEDY: Final = GenerateConfig(temperature=0.0)
"""The same reply each time, as far as a server allows; `--temperature` overrides it."""


JudgeNames = str | list[str] | None
"""Judges of harm by name: one, several, or none."""


def to_task(suite: Suite, harm_judge: JudgeNames = None, judge_key_env: str | None = None) -> Task:
    """A suite as a task: our solver, both scorers, greedy decoding; `harm_judge` as of the scorer `harm`."""
    return Task(
        dataset=MemoryDataset([to_inspect(sample) for sample in suite.samples], name=suite.name),
        solver=reply_solver(),
        scorer=[refusal(), harm(harm_judge, judge_key_env)],
        config=GREEDY,
        metadata={"suite": suite.name, "source": suite.source, "sha256": suite.sha256, "notes": list(suite.notes)},
    )


def _published(spec: str) -> Callable[..., Task]:
    def load(
        path: str | None = None,
        limit: int | None = None,
        seed: int = 0,
        harm_judge: JudgeNames = None,
        judge_key_env: str | None = None,
    ) -> Task:
        suite = load_suite(spec, path=Path(path) if path else None, limit=limit, seed=seed)
        return to_task(suite, harm_judge, judge_key_env)

    load.__doc__ = f"{SUITES[spec].about}; `path` is your copy of {SUITES[spec].source}."
    return task(name=spec.replace("/", "-"))(load)


TASKS: Final[dict[str, Callable[..., Task]]] = {spec: _published(spec) for spec in SUITES}
"""The task of each suite that has a name."""


@task
def generic(
    path: str,
    limit: int | None = None,
    seed: int = 0,
    harm_judge: JudgeNames = None,
    judge_key_env: str | None = None,
) -> Task:
    """A CSV, JSONL, JSON or parquet file of your own, with pictures beside it."""
    return to_task(load_suite("generic", path=Path(path), limit=limit, seed=seed), harm_judge, judge_key_env)


@task(name="testbed")
def embedded(
    limit: int | None = None, seed: int = 0, harm_judge: JudgeNames = None, judge_key_env: str | None = None
) -> Task:
    """The embedded suite: drawn scenes, known answers."""
    from equipoise.testbed.suite import load

    return to_task(load(limit, seed), harm_judge, judge_key_env)


@task(name="scenes")
def drawn_scenes(
    limit: int | None = None, seed: int = 0, harm_judge: JudgeNames = None, judge_key_env: str | None = None
) -> Task:
    """English questions about drawn scenes, known answers; pictures with a warning emblem, to be refused."""
    from equipoise.reference.mllm.suite import load

    return to_task(load(limit, seed), harm_judge, judge_key_env)

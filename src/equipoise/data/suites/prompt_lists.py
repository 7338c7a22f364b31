"""Suites that are a list of prompts which all expect the same: one table says where they stand."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from equipoise.data.suites.generic import prompt_text
from equipoise.data.tables import TableRow, collect, read_table
from equipoise.types import Expected, Sample

TEXT = ("prompt", "question", "goal", "instruction", "forbidden_prompt", "text")
"""Columns that hold what is asked, the first that is there."""


@dataclass(frozen=True)
class PromptList:
    """A loader for one list."""

    suite: str
    """Its name."""
    stems: tuple[str, ...]
    """Names of its file, without the suffix."""
    expected: Expected
    """What should happen to each prompt."""
    category: str | None = None
    """Column of the category."""
    text: tuple[str, ...] = TEXT
    """Columns that hold what is asked."""

    def __call__(self, folder: Path) -> list[Sample]:
        """The samples of a folder; a row without an id is called by its number."""
        rows = read_table(folder, *self.stems)
        numbers = {id(row): str(number) for number, row in enumerate(rows, 1)}
        return collect(rows, lambda row: self._sample(row, numbers[id(row)]))

    def _sample(self, row: TableRow, number: str) -> Sample:
        text = prompt_text(row, self.text)
        return Sample(
            id=row.text("id") if row.has("id") else number,
            suite=self.suite,
            text=text.strip(),
            expected=self.expected,
            category=row.text(self.category) if self.category else "",
            problem=None if text.strip() else "its text is empty",
        )


ADVBENCH = PromptList("advbench", ("harmful_behaviors", "advbench"), "refuse")
MALICIOUS_INSTRUCT = PromptList("malicious-instruct", ("malicious_instruct", "MaliciousInstruct"), "refuse")
STRONGREJECT = PromptList("strongreject", ("strongreject_dataset", "strongreject"), "refuse", "category")
ALPACA = PromptList("alpaca-harmless", ("prompts", "alpaca_data", "harmless"), "answer")
FALSE_REJECT = PromptList("falsereject", ("test", "false_reject_test", "falsereject"), "answer")
"""Prompts that sound toxic and are benign (arXiv 2505.08054); the test part was checked by people."""
OKTEST = PromptList("oktest", ("OKTest", "oktest", "OKTest_heldout"), "answer")
DO_NOT_ANSWER = PromptList("do-not-answer", ("data_en", "do_not_answer_en", "do_not_answer"), "refuse", "risk_area")
OR_BENCH_HARD = PromptList("or-bench/hard-1k", ("or_bench_hard_1k", "or-bench-hard-1k"), "borderline", "category")
"""Borderline, not answer: its prompts were *selected* for being refused by several large models, and of 70 rows read at
random 19 ask, politely, for something that people differ about (methods "for obtaining personal data without explicit
consent", "questionable" ways to influence somebody). Counted as needless, such refusals would inflate the rate by a
quarter; reported apart, the refusal rate is the published one all the same."""
OR_BENCH_80K = PromptList(
    "or-bench/80k", ("or_bench_80k_sample_1000", "or_bench_80k", "or-bench-80k"), "answer", "category"
)
"""To be answered: not selected for refusals, and of 25 rows read at random none asks for anything harmful."""

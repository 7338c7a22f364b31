"""A run as a pandas data frame, one row a case."""

from __future__ import annotations

from typing import TYPE_CHECKING

from equipoise.audit.case_table import REPLY, SAMPLE, VERDICT, case_values
from equipoise.audit.records import AuditRun

if TYPE_CHECKING:
    from pandas import DataFrame


def frame(run: AuditRun, judge: str | None = None) -> DataFrame:
    """Every case of a run.

    Args:
        run: the run folder.
        judge: identity of the judge whose labels are taken; None means the one that reports.

    Returns:
        One row a case, in the order of the run. Columns: those of the sample (`variant, suite, id, category, cluster,
        expected, text, system, intent, pictures`), of the reply (`reply, finish, wire, by, error, seconds`) and of the
        verdict (`refusal, refused, harm, harmful, harm_probability, answers, degenerate, review, unscored, reasons`).
        What is missing is `None` (or NaN in columns of numbers); yes-or-no columns are pandas' nullable `boolean`.

    Raises:
        UsageError: a file of the folder was changed.
    """
    import pandas

    columns = ["variant", *SAMPLE, "pictures", *REPLY, *VERDICT, "unscored", "reasons"]
    rows = pandas.DataFrame([case_values(case) for case in run.cases(judge)], columns=columns)
    yes_no = ("refused", "harmful", "answers", "degenerate")
    return rows.astype(dict.fromkeys(yes_no, "boolean") | {"seconds": float, "harm_probability": float, "review": bool})

"""A page of samples from the embedded world, with what models reply."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment

from equipoise.judges.phrases import PhraseJudge
from equipoise.media.encode import png_data_url
from equipoise.models.compute import ComputeConfig
from equipoise.testbed.scores import MAX_NEW_TOKENS, ReferenceCase, sample_cases
from equipoise.testbed.world.questions import CONDITIONS

_PAGE = Path(__file__).parent / "templates" / "show.html.j2"


def write_page(
    names: Sequence[str], out: Path, seed: int = 0, *, count: int = 4, compute: ComputeConfig | None = None
) -> Path:
    """Write an HTML page with `count` samples of every condition and the replies of the named models.

    Raises:
        ModelError: a model cannot be loaded.
    """
    models = {name: (compute or ComputeConfig()).load(name) for name in names}
    pages = []
    for condition in CONDITIONS:
        drawn = sample_cases(condition, count, seed=seed)
        prompts = [case.prompt for case in drawn]
        replies = {n: model.generate(prompts, max_new_tokens=MAX_NEW_TOKENS) for n, model in models.items()}
        verdicts = {n: PhraseJudge()(exchanges) for n, exchanges in replies.items()}
        rows = []
        for index, case in enumerate(drawn):
            shown = [
                {"model": n, "text": replies[n][index].reply, "refused": verdicts[n][index].refused} for n in models
            ]
            rows.append(_row(case, shown))
        pages.append((condition, rows))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(
        Environment(autoescape=True)
        .from_string(_PAGE.read_text(encoding="utf-8"))
        .render(conditions=pages, count=count),
        encoding="utf-8",
    )
    return out


def _row(case: ReferenceCase, replies: list[dict[str, str | bool | None]]) -> dict[str, object]:
    expected = "a refusal" if case.question.expected == "refuse" else case.question.answer
    return {
        "picture": png_data_url(case.prompt.messages[0].images[0]),
        "question": case.question.text,
        "expected": expected,
        "replies": replies,
    }

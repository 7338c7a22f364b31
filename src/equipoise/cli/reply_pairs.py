"""Replies of a model without and with something in place, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from equipoise.cli.console import print_json, print_table

if TYPE_CHECKING:
    from equipoise.models.base import OpenModel


def print_reply_pairs(
    plain: OpenModel, changed: OpenModel, texts: Sequence[str], *, what: str, key: str, max_new_tokens: int, json: bool
) -> None:
    """Reply to prompts twice and print both replies, with what the phrase judge says of them.

    Args:
        plain: the model as it is.
        changed: the same with something in place.
        texts: prompts.
        what: what is in place, for people.
        key: the same for JSON: `steered` or `defended`.
        max_new_tokens: of a reply, at most.
        json: one document instead of text.
    """
    from equipoise.judges.phrases import PhraseJudge
    from equipoise.types import Prompt

    prompts, judge = [Prompt.ask(text) for text in texts], PhraseJudge()
    before = plain.generate(prompts, max_new_tokens=max_new_tokens)
    after = changed.generate(prompts, max_new_tokens=max_new_tokens)
    rows: list[dict[str, Any]] = [
        {
            "prompt": text,
            "plain": one.reply,
            "plain_refused": first.refused,
            key: other.reply,
            f"{key}_refused": second.refused,
            "trail": list(other.trail),
        }
        for text, one, other, first, second in zip(texts, before, after, judge(before), judge(after), strict=True)
    ]
    if json:
        print_json({"model": changed.name, "revision": changed.revision, "rows": rows})
        return
    for row in rows:
        print_table(
            f"> {row['prompt']}",
            f"plain ({_verdict(row['plain_refused'])}): {row['plain']}",
            f"{what} ({_verdict(row[f'{key}_refused'])}): {row[key]}",
            *row["trail"],
            "",
        )


def _verdict(refused: bool | None) -> str:
    return "unscored" if refused is None else "refuses" if refused else "answers"

"""Reasoning traces in the text of a reply: where they stand, and what is left without them.

Servers that do not separate a trace from the reply send both as one text, in the notation of the model. A trace is
no reply: what it weighs ("I should refuse", "the verdict might be C") is neither said to the user nor decided.
"""

from __future__ import annotations

import re
from typing import Final

PAIRS: Final[dict[str, tuple[str, str]]] = {
    # DeepSeek-R1, Qwen3, Granite, Phi-4, Hunyuan: <think>; EXAONE: <thought>; Seed-OSS: <seed:think>; K2-Think:
    # <think_faster>
    "think": (
        r"<(?:\w+[:_]|ant)?(?:think(?:ing)?|thoughts?)(?:_\w+)?(?:\s[^<>\n]*)?>",
        r"</(?:\w+[:_]|ant)?(?:think(?:ing)?|thoughts?)(?:_\w+)?\s*>",
    ),
    "think in bars": (
        r"<[|\uff5c](?:begin.of.)?think(?:ing)?[|\uff5c]>",
        r"<[|\uff5c](?:/|end.of.)think(?:ing)?[|\uff5c]>",
    ),
    "Magistral": (r"\[THINK\]", r"\[/THINK\]"),
    "Kimi": (r"\u25c1think\u25b7", r"\u25c1/think\u25b7"),
    "Cohere": (r"<\|START_THINKING\|>", r"<\|END_THINKING\|>"),
    "OpenThinker": (r"<\|begin_of_thought\|>", r"<\|end_of_thought\|>"),
    "Gemma": (r"<\|channel>thought", r"<channel\|>"),
    "MedGemma": (r"<unused94>", r"<unused95>"),
    "s1": (r"<\|im_start\|>think\b", r"<\|im_start\|>answer\b"),
    "Apriel": (r"Here are my reasoning steps:[ \t]*\n", r"\[BEGIN FINAL RESPONSE\]"),
    "LLaVA-CoT": (r"<SUMMARY>", r"</REASONING>\s*<CONCLUSION>"),
    "labels": (r"Thinking:\s", r"\n(?:Final )?(?:Response|Answer):[ \t]*"),
    "Open WebUI": (r"<details\b[^>\n]*type=\"reasoning\"[^>\n]*>", r"</details\s*>"),
    "Ollama": (r"Thinking\.\.\.[ \t]*\n", r"\n\.\.\.done thinking\.[ \t]*"),
    "HuatuoGPT": (
        r"#{1,4} (?:Thinking|Reasoning|Thought process)[ \t]*\n",
        r"\n#{1,4} (?:Final )?(?:Response|Answer)[ \t]*\n",
    ),
    "ReAct": (r"Thought:[ \t]", r"\n(?:Final )?Answer:[ \t]*"),
    # Names that a reply in XML may use, too: Reka's <reasoning>, and what prompts ask for.
    "other tag": (
        r"<(?:reason(?:ing)?|reflection|scratchpad|analysis|inner_monologue)>",
        r"</(?:reason(?:ing)?|reflection|scratchpad|analysis|inner_monologue)>",
    ),
}
"""Beginning and end of a trace, by whose notation it is; regular expressions."""
ONLY_FIRST: Final = frozenset({"Open WebUI", "Ollama", "HuatuoGPT", "ReAct", "other tag", "LLaVA-CoT", "labels"})
"""Notations that count only where the text begins with one, and never by their end alone."""
NEEDS_END: Final = frozenset({"HuatuoGPT", "ReAct", "LLaVA-CoT", "labels", "Apriel"})
"""Notations whose beginning alone may be a reply's own heading."""
WRAPPERS: Final = (
    r"</?(?:answer|response|final|final_answer|output)>|<\|(?:START|END)_RESPONSE\|>|<\|(?:begin|end)_of_solution\|>"
    r"|<\|(?:begin|end)_of_box\|>|\[END FINAL RESPONSE\]|</?CONCLUSION>"
)
"""Tags around the reply itself; only they go, and only beside a trace."""
STOPS: Final = r"<\|(?:end|return|call|eot_id|im_end|endoftext|end_of_text|eom_id)\|>"
"""Control tokens that end a turn; some servers leave them in the text."""
LAST_STOPS: Final = re.compile(
    r"(?:\s*(?:</s>|<end_of_turn>|<eos>|<\|END_OF_TURN_TOKEN\|>|<[|\uff5c]end.of.sentence[|\uff5c]>))+\s*\Z"
)
"""Those that mean something else in the middle of a text; `</s>` also ends a stroke through text in HTML."""
SPEAKS: Final = r"(?:<[|\uff5c]Assistant[|\uff5c]>|<\|im_start\|>assistant\n)?"
"""A turn's beginning that a template wrote and a server left before the trace."""
HARMONY: Final = re.compile(
    r"(?:<\|start\|>[^<]*)?<\|channel\|>(?P<name>[^<]*)(?:<\|constrain\|>[^<]*)?<\|message\|>(?P<text>.*?)"
    r"(?=<\|(?:end|return|call|start|channel)\|>|\Z)(?:<\|(?:end|return|call)\|>)?",
    re.DOTALL,
)
"""A message of gpt-oss in its channel: `analysis` and `commentary` are not for the user, `final` is the reply."""
BARE_HARMONY: Final = re.compile(
    r"\A\s*(?:analysis|commentary).*?assistantfinal|\A\s*assistantfinal(?=[A-Z])|\A\s*analysis(?=[A-Z]).*",
    re.DOTALL,
)
"""The same without its control tokens, which some servers drop: `analysisWe need ...assistantfinalA brown dog`."""

TextSpan = tuple[int, int]
"""Begin and end of a part of a text."""

_OPENS: Final = {
    name: re.compile(rf"(?im)\A\s*{SPEAKS}{begin}" if name in ONLY_FIRST else rf"(?im)(?:\A\s*{SPEAKS}|^[ \t]*){begin}")
    for name, (begin, _) in PAIRS.items()
}
_BEGINS: Final = {name: re.compile(f"(?i){begin}") for name, (begin, _) in PAIRS.items()}
_ENDS: Final = {name: re.compile(f"(?i){end}") for name, (_, end) in PAIRS.items()}
FOLLOWING: Final = 20
"""Traces right behind a first one, at most."""
_CODE: Final = re.compile(r"(?s)```.*?(?:```|\Z)|`[^`\n]*`")


def trace_spans(text: str) -> list[TextSpan]:
    """The parts of a text that are no reply: traces with their marks, and marks around the reply; in order, disjoint.

    A beginning counts at the beginning of a line, so that a reply may speak of one. An end without a beginning (a
    template wrote the beginning) makes a trace of all before it, and a beginning without an end (the length limit)
    of all after it.
    Marks in code count for nothing.
    """
    channels = list(HARMONY.finditer(text))
    if channels:
        finals = [match.span("text") for match in channels if _is_final(match)]
        return _complement(finals, len(text))
    bare = BARE_HARMONY.match(text)
    if bare:
        return [bare.span()]
    spans = _paired(text)
    if spans:
        spans += [match.span() for match in re.finditer(WRAPPERS, text)]
    last = LAST_STOPS.search(text)
    if last and not ("</s>" in last[0] and "<s>" in text[1:]):
        spans.append(last.span())
    return _disjoint([*spans, *(match.span() for match in re.finditer(STOPS, text))])


def without_traces(text: str) -> str:
    """The reply in a text; the text itself, to the byte, where nothing else is in it."""
    kept = _kept(text)
    return text if kept is None else "".join(kept).strip()


def blank_traces(text: str) -> str:
    """The text with blanks instead of traces, so that what is left stands where it stood."""
    for begin, end in trace_spans(text):
        text = text[:begin] + " " * (end - begin) + text[end:]
    return text


def trace_and_reply(text: str) -> tuple[str, str]:
    """The trace without its marks, and the reply."""
    channels = list(HARMONY.finditer(text))
    if channels:
        pieces = [match["text"].strip() for match in channels if not _is_final(match)]
        return "\n".join(piece for piece in pieces if piece), without_traces(text)
    marks = "|".join([*(f"{begin}|{end}" for begin, end in PAIRS.values()), WRAPPERS, STOPS, r"<\|\w+\|>"])
    pieces = [re.sub(f"(?i){marks}", "", text[begin:end]).strip() for begin, end in trace_spans(text)]
    return "\n".join(piece for piece in pieces if piece), without_traces(text)


def _is_final(channel: re.Match[str]) -> bool:
    """Whether a message of harmony's is the reply; a name may be followed by a recipient."""
    return channel["name"].strip().split(" ")[0].lower() == "final"


def _kept(text: str) -> list[str] | None:
    spans = trace_spans(text)
    return [text[begin:end] for begin, end in _complement(spans, len(text))] if spans else None


def _paired(text: str) -> list[TextSpan]:
    """Traces between a beginning and an end, or up to an end alone, or from a beginning alone."""
    spans = _paired_once(text)
    # "<thinking>...</thinking><reasoning>...</reasoning>": where a trace came first, another may follow. A reply that
    # consists of thousands of them is a loop, whose rest is read as it stands.
    for _ in range(FOLLOWING):
        if not spans or spans[0][0] != 0 or spans[0][1] >= len(text):
            break
        first = spans[0][1]
        more = [(start + first, stop + first) for start, stop in _paired_once(text[first:]) if start == 0]
        if not more:
            break
        spans = _disjoint([*spans, *more])
    return spans


def _paired_once(text: str) -> list[TextSpan]:
    code = [match.span() for match in _CODE.finditer(text)]
    spans: list[TextSpan] = []
    for name, opening in _OPENS.items():
        at, ending = 0, _ENDS[name]
        while (begin := _next(opening, text, at, code)) is not None:
            # The end may stand in what looks like code: code inside of a trace is the trace's.
            end = ending.search(text, begin[1])
            if end is None and (text[: begin[0]].strip() or name in NEEDS_END):
                break  # a reply that names the mark at the beginning of a line
            at = end.end() if end else len(text)
            spans.append((begin[0], at))
        while name not in ONLY_FIRST and (lone := _next(ending, text, at, code)) is not None:
            # "Put it between <think> and </think>" has both; a template's trace has only the end, or one that stands
            # at the beginning of a line. The last of several counts: a trace may speak of its end.
            line = text[text.rfind("\n", 0, lone[0]) + 1 : lone[0]]
            if not line.strip() or not _BEGINS[name].search(text, at, lone[0]):
                spans.append((0, lone[1]))
            at = lone[1]
    return _disjoint(spans)


def _next(pattern: re.Pattern[str], text: str, at: int, code: list[TextSpan]) -> TextSpan | None:
    for match in pattern.finditer(text, at):
        if not any(begin < match.start() < end for begin, end in code):
            return match.span()
    return None


def _disjoint(spans: list[TextSpan]) -> list[TextSpan]:
    merged: list[TextSpan] = []
    for begin, end in sorted(spans):
        if merged and begin <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((begin, end))
    return merged


def _complement(spans: list[TextSpan], length: int) -> list[TextSpan]:
    ends = [0, *(position for span in spans for position in span), length]
    return [(begin, end) for begin, end in zip(ends[::2], ends[1::2], strict=True) if begin < end]

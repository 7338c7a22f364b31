from __future__ import annotations

import base64
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from equipoise.audit.comparison import compare
from equipoise.audit.judge_summary import JudgeSummary
from equipoise.audit.labels import AXES, BORDERLINE
from equipoise.audit.records import AuditRun
from equipoise.audit.summary import AuditSummary, VariantSummary, summarise
from equipoise.audit.warnings import AuditWarning
from equipoise.errors import OutputError
from equipoise.report.audit.numbers import counts, interval, percent, uncertain
from equipoise.report.audit.page import render, write_report
from equipoise.stats.estimates import Estimate
from tests.audit.factories import AGREEMENT, MODEL, Row, balanced, balanced_rows, card, recipe, rows, write_run
from tests.child_process import environment
from tests.report.audit.reading import Node, by_id, named, read, squeezed

EVIL = (
    "</style></script></title></details><script>alert(1)</script><img src=x onerror=alert(1)>"
    '"><svg onload=alert(1)> data:text/html,<b> javascript:alert(1) http://evil.example/ {{ 7 * 7 }} {% raw %} &lt;'
)
STEERING = "no\u202eyes\u2066\x00\x1b[31m\x85"
LONG = "A" * 1_000_000


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> AuditRun:
    return balanced(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def summary(run: AuditRun) -> AuditSummary:
    return summarise(run)


@pytest.fixture(scope="module")
def page(run: AuditRun, summary: AuditSummary) -> str:
    return render(run, summary)


@pytest.fixture(scope="module")
def nodes(page: str) -> list[Node]:
    return read(page)


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The page of a run in which everything that a stranger writes is hostile."""
    hostile_texts: dict[str, Any] = {
        "suite": EVIL,
        "category": EVIL,
        "text": EVIL + STEERING,
        "reply": EVIL + STEERING + LONG,
    }
    content = [
        Row(id=EVIL, refusal="full", colour=(9, 9, 9), **hostile_texts),
        Row(id=EVIL, refusal="full", variant=EVIL, colour=(99, 9, 9), by=EVIL, **hostile_texts),
        Row(id="harm", expected="refuse", harm="severe", review=True, **hostile_texts),
        Row(id="broken", error=EVIL, **hostile_texts),
        Row(id="unscored", refusal=None, unscored=EVIL, **hostile_texts),
        Row(id="bidi", problem=STEERING, **{**hostile_texts, "suite": STEERING}),
    ]
    given = recipe(EVIL, versions={EVIL: EVIL}, hardware=EVIL, variants=["plain", EVIL], command=EVIL)
    given["judge"] |= {
        "name": EVIL,
        "identity": EVIL,
        "card": card(replace(AGREEMENT, set=EVIL, model=EVIL, labels=EVIL)),
    }
    run = write_run(tmp_path_factory.mktemp("hostile"), content, given=given)
    summary = summarise(run)
    return render(run, replace(summary, warnings=(*summary.warnings, AuditWarning(EVIL, EVIL, EVIL, EVIL))))


def test_the_page_reaches_for_nothing_outside_of_it(page: str, nodes: list[Node]):
    names = {node.tag.name for node in nodes}
    assert names & {"script", "link", "iframe", "object", "embed", "base", "form", "audio", "video"} == set()
    for node in nodes:
        for name, value in node.tag.attributes.items():
            assert not name.startswith("on")
            assert name not in {"style", "srcset", "action", "data", "background", "xlink:href"}
            if name in {"src", "href"}:
                assert value.startswith(("data:image/webp;base64,", "#"))
    assert "url(http" not in page
    assert "@import" not in page
    assert "@font-face" not in page


def test_the_policy_allows_this_style_sheet_and_nothing_else(page: str, nodes: list[Node]):
    (policy,) = [n.tag.attributes["content"] for n in nodes if "http-equiv" in n.tag.attributes]
    style = re.search(r"<style>(.*?)</style>", page, re.DOTALL)
    assert style is not None
    digest = base64.b64encode(hashlib.sha256(style[1].encode()).digest()).decode()
    rules = dict(part.strip().partition(" ")[::2] for part in policy.split(";"))
    assert rules.pop("style-src") == f"'sha256-{digest}'"
    assert rules.pop("img-src") == "data:"
    assert set(rules.values()) == {"'none'"}
    assert "default-src" in rules


def test_both_headline_numbers_stand_side_by_side_in_plain_words(nodes: list[Node]):
    assert "Refused 6 of 40 safe prompts: 15.0 %, 95 % interval 7.1–29.1 %" in by_id(nodes, "needless").words
    assert "n = 40 scored; 2 unscored, 0 in review" in by_id(nodes, "needless").words
    assert "Gave harmful answers to 3 of 30 harmful prompts: 10.0 %, 95 % interval" in by_id(nodes, "harmful").words
    assert "n = 30 scored; 0 unscored, 0 in review" in by_id(nodes, "harmful").words


def test_every_rate_of_the_summary_is_there_with_all_that_belongs_to_it(summary: AuditSummary, nodes: list[Node]):
    cells = [node.words for node in named(nodes, "td")]
    for variant in summary.variants.values():
        for rate in axes_and_borderline(variant):
            if rate.rate is not None:
                expected = f"{percent(rate.rate)} {interval(rate)} {counts(rate)} {uncertain(rate)}"
                assert squeezed(expected) in cells


def axes_and_borderline(variant: VariantSummary) -> Iterator[Estimate]:
    yield variant.rates.needless_refusal
    yield variant.rates.harmful_answer
    for suite in variant.suites.values():
        for rates in (suite.rates, *suite.categories.values()):
            yield from (getattr(rates, kind) for kind in (*AXES, *BORDERLINE.values()))


def test_no_row_and_no_tile_shows_one_axis_without_the_other(nodes: list[Node]):
    assert [
        node.tag.attributes["id"] for node in nodes if node.tag.attributes.get("id") in ("needless", "harmful")
    ] == [
        "needless",
        "harmful",
    ]
    labels = [node.tag.attributes["data-label"] for node in named(nodes, "td") if "data-label" in node.tag.attributes]
    assert labels.count("Needless refusals") == labels.count("Harmful answers") > 0
    assert labels.count("Refused") == labels.count("Harmful reply") > 0


@pytest.mark.parametrize("expected", ["answer", "refuse", "borderline"])
def test_an_axis_without_prompts_is_said_to_be_unknown(expected: Any, tmp_path: Path):
    run = write_run(tmp_path, rows(3, "x", expected=expected))
    nodes = read(render(run, summarise(run)))
    for name, needs in (("needless", "answer"), ("harmful", "refuse")):
        assert ("this axis is unknown" in by_id(nodes, name).words) == (expected != needs)
    if expected == "borderline":
        assert "Borderline prompts" in by_id(nodes, "suites").words
    assert "Not drawn, as an axis is unknown: plain." in by_id(nodes, "plane").words


def test_what_strangers_write_stays_text(hostile: str, page: str):
    nodes = read(hostile)
    ordinary = {node.tag.name for node in read(page)} | {"article", "img", "details", "aside", "strong"}
    assert {node.tag.name for node in nodes} <= ordinary
    for node in nodes:
        assert not {name for name in node.tag.attributes if name.startswith("on") or name == "style"}
        for name in ("src", "href"):
            assert node.tag.attributes.get(name, "#").startswith(("data:image/webp;base64,", "#"))
    replies = [node.words for node in nodes if node.tag.attributes.get("class") == "reply"]
    assert any(squeezed(EVIL) in reply for reply in replies)
    assert "49" not in named(nodes, "title")[0].words


def test_characters_that_steer_a_display_are_drawn(hostile: str):
    assert not set(hostile) & {chr(code) for code in (*range(9), 11, 12, *range(14, 32), *range(0x7F, 0xA0))}
    assert not set(hostile) & set("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
    assert "no[U+202E]yes[U+2066]\u2400\u241b[31m\ufffd" in hostile


def test_long_texts_are_cut_and_say_so(hostile: str):
    assert len(hostile) < 400_000
    whole = len(EVIL + STEERING + LONG)
    assert f"cut here: 1,000 of {whole:,} characters" in squeezed(" ".join(n.words for n in read(hostile)[:1]))


def test_a_lone_surrogate_in_a_summary_does_not_stop_the_page(run: AuditRun, summary: AuditSummary, tmp_path: Path):
    odd = replace(summary, warnings=(AuditWarning("odd", "half \ud83d a pair"),))
    out = write_report(run, odd, tmp_path / "page.html")
    assert "half \ufffd a pair" in out.read_text(encoding="utf-8")


def test_a_warning_stands_once_and_its_number_refers_to_it(run: AuditRun, summary: AuditSummary):
    def warning(text: str, *about: Any) -> AuditWarning:
        return AuditWarning("made-up", text, *about)

    warnings = (
        warning("about the run"),
        warning("about needless", "plain", None, "needless_refusal"),
        warning("about harmful", "plain", None, "harmful_answer"),
        warning("about accuracy", "plain", None, "accuracy"),
        warning("about the suite", "plain", "safe", "needless_refusal"),
        warning("about the attack", "perturbed"),
        warning("about another suite", "perturbed", "harmful"),
        warning("about a suite that is not there", "plain", "gone"),
    )
    nodes = read(render(run, replace(summary, warnings=warnings)))
    page = named(nodes, "html")[0].words
    listed = [node.words for node in named(nodes, "li") if node.tag.attributes.get("id", "").startswith("doubt-")]
    assert len(listed) == len(warnings)
    for warning_ in warnings:
        assert page.count(warning_.text + " (made up)") == 1, "each stands once, and numbers refer to it"
    number = {warning_.text: f"doubt {index}" for index, warning_ in enumerate(warnings, 1)}
    for text, section in (
        ("about needless", "needless"),
        ("about harmful", "harmful"),
        ("about accuracy", "plane"),
        ("about the attack", "plane"),
        ("about the suite", "suites"),
        ("about another suite", "suites"),
    ):
        links = [node.words for node in nodes if node.tag.name == "a" and by_id_inside(node, section)]
        assert number[text] in links
    assert "8 reasons to doubt these numbers" in named(nodes, "header")[0].words


def by_id_inside(node: Node, name: str) -> bool:
    return any(tag.attributes.get("id") == name for tag in node.inside)


def test_a_page_without_doubts_says_that_it_was_checked(run: AuditRun, summary: AuditSummary):
    nodes = read(render(run, replace(summary, warnings=())))
    assert "no rule raised a doubt" in by_id(nodes, "doubts").words
    assert "No check raised a doubt about these numbers." in named(nodes, "header")[0].words


def test_due_refusals_are_shown_so_that_a_harmful_run_has_examples(tmp_path: Path):
    run = write_run(tmp_path, rows(9, "a", expected="refuse", refusal="full", reply="I can't help with that."))
    section = by_id(read(render(run, summarise(run))), "examples").words
    assert "Due refusals 6 of 9" in section
    assert "I can't help with that." in section


def test_pictures_say_what_they_are_of(nodes: list[Node]):
    texts = [node.tag.attributes["alt"] for node in named(nodes, "img")]
    assert all(len(text.split()) > 4 for text in texts), texts
    assert any(text.startswith("The picture sent with \N{LEFT DOUBLE QUOTATION MARK}What about safe") for text in texts)
    assert len(set(texts)) > len(texts) / 2


def test_the_written_page_leads_to_every_reply(run: AuditRun, summary: AuditSummary, tmp_path: Path):
    out = write_report(run, summary, tmp_path / "page.html")
    assert (tmp_path / "page-replies.html").is_file()
    links = {n.tag.attributes["href"] for n in named(read(out.read_text(encoding="utf-8")), "a")}
    assert {"page-replies.html", "page-replies.html#suite=safe", "page-replies.html#category=weapons"} <= links
    assert "page-replies.html#outcome=due&variant=plain" in links
    inside = {link for link in links if link.startswith("#")}
    ids = {n.tag.attributes.get("id") for n in read(out.read_text(encoding="utf-8"))}
    assert {link[1:] for link in inside} <= ids, "no link leads nowhere"


def test_replies_that_may_do_harm_are_covered(nodes: list[Node]):
    for node in nodes:
        if node.tag.attributes.get("class") == "reply" and "Step one" in node.words:
            assert any(tag.attributes.get("class") == "covered" for tag in node.inside)
    assert "Step one: open the case." in named(nodes, "html")[0].words
    assert not [n for n in nodes if n.tag.attributes.get("class") == "covered" and "open" in n.tag.attributes]


def test_changed_pictures_stand_beside_the_old_ones_with_both_replies(nodes: list[Node]):
    section = by_id(nodes, "pairs").words
    assert "4 of 42 changed pictures" in section
    assert "I can't help with that." in section
    assert "It is red." in section
    assert len([node for node in named(nodes, "figcaption") if node.words.startswith("Difference")]) == 4


def test_pictures_have_a_limit_and_the_page_says_what_it_left_out(run: AuditRun, summary: AuditSummary, page: str):
    full = len("".join(re.findall(r"data:image/[^\"]*", page)))
    bare = render(run, summary, picture_limit=full // 2)
    kept = len("".join(re.findall(r"data:image/[^\"]*", bare)))
    assert 0 < kept <= full // 2
    assert re.search(r"\d+ pictures left out to keep the page small", bare)
    assert "left out to keep" not in page


def test_a_picture_outside_of_the_run_folder_is_not_opened(run: AuditRun, summary: AuditSummary, tmp_path: Path):
    folder = tmp_path / "run"
    write_run(folder, [Row(id="a", refusal="full", colour=(1, 2, 3))])
    (picture,) = (folder / "pictures").iterdir()
    picture.rename(tmp_path / "secret.png")
    lines = (folder / "samples.jsonl").read_text().replace(picture.name, "../../secret.png")
    values = json.loads(lines)
    values.pop("check")
    from equipoise.audit.records import fingerprint

    (folder / "samples.jsonl").write_text(json.dumps({**values, "check": fingerprint(values)[:16]}) + "\n")
    html = render(AuditRun.open(folder), summarise(AuditRun.open(folder)))
    assert "data:image" not in html
    assert "not readable" in html


def test_who_refused_and_how_is_counted(tmp_path: Path):
    content = [
        *rows(3, "a", refusal="full", by="guard", wire="content_filter"),
        *rows(2, "b", refusal="partial", expected="refuse", wire="refusal_field"),
        *rows(1, "c", refusal="full", expected="borderline", wire="policy_error"),
        *rows(5, "d"),
    ]
    run = write_run(tmp_path, content)
    section = by_id(read(render(run, summarise(run))), "refusals").words
    assert "guard by a content filter 3 0 0 3" in section
    assert "model in the refusal field 0 2 0 2" in section
    assert "model as a policy error 0 0 1 1" in section
    assert "spoken by model (8), guard (3)" in section


def test_reasons_for_being_unscored_are_counted(nodes: list[Node]):
    assert "2 judge timed out" in by_id(nodes, "unscored").words


def test_a_judge_shows_its_card_or_that_nobody_checked_it(run: AuditRun, summary: AuditSummary, nodes: list[Node]):
    section = by_id(nodes, "judges").words
    assert "toy labels toy/model this model 200" in section
    assert "0.90 0.970 0.980" in section
    unchecked = replace(summary, judges=(JudgeSummary.of({"name": "stranger", "identity": "f" * 64}),))
    section = by_id(read(render(run, unchecked)), "judges")
    assert "No card: not checked against people." in section.words
    assert f'title="{"f" * 64}"' in render(run, unchecked)


def test_paired_changes_show_counts_and_p_values(summary: AuditSummary, nodes: list[Node]):
    section = by_id(nodes, "changes").words
    cell = summary.comparisons[0].rates["needless_refusal"].all
    assert "plain → perturbed" in section
    assert f"{cell.only_b} only after, {cell.only_a} only before" in section
    assert f"{cell.n} scored, {cell.unscored} unscored" in section
    assert "p < 0.001" in section


def test_another_run_gives_every_variant_an_arrow(run: AuditRun, summary: AuditSummary, tmp_path: Path):
    before = write_run(tmp_path, [Row(**{**row.__dict__, "refusal": "full"}) for row in balanced_rows()])
    changes = tuple(compare(before, run, variant_a=name, variant_b=name) for name in ("plain", "perturbed"))
    nodes = read(render(run, replace(summary, comparisons=changes)))
    assert "Arrows lead from where the earlier run stood" in by_id(nodes, "plane").words
    hollow = [n for n in named(nodes, "use") + named(nodes, "path") if n.tag.attributes.get("fill") == "var(--card)"]
    assert len(hollow) == 2


def test_the_recipe_is_there(nodes: list[Node]):
    section = by_id(nodes, "origin").words
    assert f"equipoise audit {MODEL}" in section
    assert "CC0-1.0" in section
    assert "toy" in section


def test_a_run_that_is_not_finished_says_so(tmp_path: Path, nodes: list[Node]):
    run = write_run(tmp_path, [*rows(2, "a"), *rows(2, "b", sent=False)])
    assert "This run is not finished." in render(run, summarise(run))
    assert "This run is not finished." not in named(nodes, "html")[0].words


def test_a_run_without_a_prompt_gives_a_page(tmp_path: Path):
    run = write_run(tmp_path, [])
    nodes = read(render(run, summarise(run)))
    assert "Nothing was asked in this run." in named(nodes, "header")[0].words


def test_a_summary_read_from_its_file_gives_the_same_page(run: AuditRun, summary: AuditSummary, page: str):
    document = json.loads(json.dumps(summary.to_json()))
    assert render(run, AuditSummary.from_json(document)) == page


def test_the_same_folder_gives_the_same_bytes_in_another_process_and_no_torch(run: AuditRun, tmp_path: Path):
    program = (
        "import sys; from pathlib import Path\n"
        "from equipoise.audit.records import AuditRun; from equipoise.audit.summary import summarise\n"
        "from equipoise.report.audit.page import write_report\n"
        "run = AuditRun.open(sys.argv[1]); write_report(run, summarise(run), Path(sys.argv[2]))\n"
        "print(*[name for name in ('torch', 'inspect_ai', 'transformers') if name in sys.modules])\n"
    )
    out = tmp_path / "deep" / "page.html"
    words = [sys.executable, "-c", program, str(run.folder), str(out)]
    here = write_report(run, summarise(run), tmp_path / "page.html").read_text(encoding="utf-8")
    process = subprocess.run(words, capture_output=True, text=True, check=True, env=environment(PYTHONHASHSEED="7"))
    assert process.stdout.split() == []
    assert out.read_text(encoding="utf-8") == here


def test_a_page_that_cannot_be_written_is_one_clear_error(run: AuditRun, summary: AuditSummary, tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="expected to write"):
        write_report(run, summary, tmp_path / "file" / "page.html")


def test_categories_with_equal_rates_are_in_the_order_of_their_numbers(tmp_path: Path):
    content = [replace(row, category=f"depth {(0, 5, 10, 50)[at % 4]}") for at, row in enumerate(rows(8, "s"))]
    run = write_run(tmp_path / "run", content)
    page = render(run, summarise(run))
    table = page[page.index("The worst first") :]
    places = [table.index(f"depth {depth}") for depth in (0, 5, 10, 50)]
    assert places == sorted(places)

"""The page of every reply: nothing is lost, nothing of a stranger runs, and memory does not grow with the rows."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import tracemalloc
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from equipoise.audit.records import AuditRun
from equipoise.report.audit import replies as module
from equipoise.report.audit.outcomes import DOUBTS, OUTCOMES, doubt_mask, outcome_of
from equipoise.report.audit.replies import render_replies, replies_name, write_replies
from tests.audit.factories import Row, balanced, write_run
from tests.report.audit.reading import by_id, named, read

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\u202e\x00\ud83d"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def unpack(node: Any) -> Any:
    return json.loads(zlib.decompress(base64.b64decode("".join(node.text))))


def content_of(html: str) -> tuple[dict[str, Any], dict[str, list[Any]], list[dict[str, Any]]]:
    """Head, columns and rows of a page."""
    nodes = read(html)
    blocks = [node for node in nodes if node.tag.attributes.get("id", "").startswith("block-")]
    assert [node.tag.attributes["id"] for node in blocks] == [f"block-{number}" for number in range(len(blocks))]
    return (
        unpack(by_id(nodes, "head")),
        unpack(by_id(nodes, "columns")),
        [row for node in blocks for row in unpack(node)],
    )


def page_of(run: AuditRun) -> str:
    return "".join(render_replies(run, run.cases(), run.folder / "report.html"))


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> AuditRun:
    return balanced(tmp_path_factory.mktemp("run"))


@pytest.fixture(scope="module")
def html(run: AuditRun) -> str:
    return page_of(run)


def test_every_reply_is_there_once_with_what_it_is_filtered_by(run: AuditRun, html: str) -> None:
    head, columns, content = content_of(html)
    cases = run.cases()
    assert head["rows"] == len(content) == len(cases) > module.BLOCK / 2
    for index, (case, row) in enumerate(zip(cases, content, strict=True)):
        assert (row["id"], row["prompt"], row["reply"]) == (case.sample.id, case.sample.text, case.reply.reply)
        assert head["suites"][columns["suite"][index]] == case.sample.suite
        assert head["variants"][columns["variant"][index]] == case.variant
        assert head["categories"][columns["category"][index]] == case.sample.category
        assert list(OUTCOMES)[columns["outcome"][index]] == outcome_of(case)
        assert columns["doubt"][index] == doubt_mask(case)
    assert all(len(column) == len(cases) for column in columns.values())


def test_what_may_do_harm_is_covered(html: str) -> None:
    _, _, content = content_of(html)
    assert all(row.get("covered") for row in content if "Step one" in row["reply"])
    assert not any(row.get("covered") for row in content if row["should"] == "should be answered")


def test_what_the_server_said_and_why_no_reply_came_can_be_read(tmp_path: Path) -> None:
    blocked = {"reply": "", "refusal": "full", "wire": "policy_error", "by": "server", "detail": "policy: not allowed"}
    run = write_run(tmp_path, [Row(id="a", **blocked), Row(id="b", error="HTTP 500: down"), Row(id="c", sent=False)])
    _, columns, content = content_of(page_of(run))
    assert content[0]["detail"] == "policy: not allowed"
    assert content[1]["error"] == "HTTP 500: down"
    assert "reply" not in content[2]
    names = [[name for bit, name in enumerate(DOUBTS) if mask >> bit & 1] for mask in columns["doubt"]]
    assert names == [["server"], ["unscored", "error"], ["unscored", "error"]]


def test_what_strangers_write_is_no_markup_and_steers_nothing(tmp_path: Path) -> None:
    hostile: dict[str, Any] = {"suite": EVIL, "category": EVIL, "text": EVIL, "reply": EVIL, "variant": EVIL}
    run = write_run(tmp_path, [Row(id=EVIL, detail=EVIL, wire="policy_error", **hostile), Row(id="b", error=EVIL)])
    html = page_of(run)
    assert "alert(1)" not in html
    head, _, content = content_of(html)
    texts = json.dumps([head, content], ensure_ascii=False)
    assert not set("\u202e\x00\ud83d") & set(texts)
    assert "<script>alert(1)" in content[0]["reply"], "it is there, as text"
    assert all(node.tag.attributes["type"] == "application/octet-stream" for node in named(read(html), "script")[:-1])


def test_the_policy_names_the_one_script_and_the_one_style_by_their_hashes(html: str) -> None:
    nodes = read(html)
    (policy,) = [n.tag.attributes["content"] for n in nodes if "http-equiv" in n.tag.attributes]
    rules = dict(part.strip().partition(" ")[::2] for part in policy.split(";"))
    for tag, rule in (("script", "script-src"), ("style", "style-src")):
        (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
        assert rules.pop(rule) == f"'sha256-{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}'"
    assert rules.pop("img-src") == "'self' file:"
    assert set(rules.values()) == {"'none'"}
    script = module.files("equipoise.report.audit").joinpath("replies.js").read_text(encoding="utf-8")
    for danger in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "fetch(", "XMLHttp"):
        assert danger not in script


def test_pictures_are_files_of_the_run_wherever_the_page_lies(tmp_path: Path) -> None:
    run = write_run(tmp_path / "a run", [Row(id="a", colour=(1, 2, 3))])
    for page, expected in (
        (run.folder / "report.html", "pictures"),
        (tmp_path / "pages" / "x.html", "../a%20run/pictures"),
    ):
        head, _, content = content_of("".join(render_replies(run, run.cases(), page)))
        assert head["pictures"] == expected
        assert (run.folder / "pictures" / content[0]["pictures"][0]).is_file()


def test_a_long_reply_is_cut_and_says_so(tmp_path: Path) -> None:
    run = write_run(tmp_path, [Row(id="a", reply="A" * 100_000)])
    _, _, (row,) = content_of(page_of(run))
    assert row["reply"].startswith("A" * module.LONGEST)
    assert row["reply"].endswith("[cut here: 20,000 of 100,000 characters]")


def test_it_is_written_beside_the_page_and_the_same_folder_gives_the_same_bytes(run: AuditRun, tmp_path: Path) -> None:
    cases = run.cases()
    out = write_replies(run, cases, tmp_path / "page.html")
    assert out == replies_name(tmp_path / "page.html") == tmp_path / "page-replies.html"
    first = out.read_bytes()
    assert write_replies(run, cases, tmp_path / "page.html").read_bytes() == first
    assert 'href="page.html"' in first.decode()


def test_no_more_than_a_block_is_in_memory_while_it_is_written(tmp_path: Path) -> None:
    text = " ".join(map(str, range(1500)))
    run = write_run(tmp_path, [Row(id=str(number), reply=f"{number} {text}") for number in range(1000)])
    cases = run.cases()

    def peak(some: Any) -> int:
        tracemalloc.start()
        parts: Iterator[str] = render_replies(run, some, tmp_path / "report.html")
        total = sum(map(len, parts))
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert total > 0
        return most

    # Five times the rows are seven megabytes more of text; what is held at a time is one block either way.
    assert peak(cases) < 1.5 * peak(cases[:200]) + 500_000


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
@pytest.mark.parametrize(
    ("address", "count"),
    [
        ("", "154 of 154 replies"),
        ("#outcome=needless&variant=plain", "6 of 154 replies"),
        ("#doubt=unscored", "2 of 154 replies"),
        ("#words=open+THE+case", "4 of 154 replies"),
        ("#suite=harmful&variant=perturbed&words=step+mix", "1 of 154 replies"),
        ("#words=nothing+like+this", "0 of 154 replies"),
    ],
)
def test_a_browser_filters_and_searches_it_from_a_file(run: AuditRun, tmp_path: Path, address: str, count: str) -> None:
    page = write_replies(run, run.cases(), tmp_path / "report.html")
    words = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    words += [f"--user-data-dir={tmp_path / 'profile'}", page.as_uri() + address]
    done = subprocess.run(words, capture_output=True, text=True, timeout=240, check=True)
    shown = re.search(r'<strong id="count"[^>]*>([^<]*)<', done.stdout)
    assert shown is not None
    assert shown[1] == count
    assert done.stdout.count("<article>") == min(25, int(count.split()[0]))

"""The pages keep up with the code: examples import what exists, links lead somewhere, every package has a reference."""

from __future__ import annotations

import ast
import importlib
import re
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES += sorted((ROOT / "docs").glob("*.md"))


def imports(page: Path) -> set[tuple[str, str]]:
    """Modules of the package that a page's Python examples import, with the names they take from them."""
    blocks = re.findall(r"^ *```python\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    nodes = [node for block in blocks for node in ast.walk(ast.parse(textwrap.dedent(block)))]
    return {
        (node.module, alias.name)
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("equipoise")
        for alias in node.names
    }


def anchor(heading: str) -> str:
    """The anchor of a heading, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-")


@pytest.mark.parametrize(("page", "module", "name"), [(p.name, m, n) for p in PAGES for m, n in sorted(imports(p))])
def test_examples_import_names_that_exist(page: str, module: str, name: str) -> None:
    parent = importlib.import_module(module)
    if not hasattr(parent, name):
        importlib.import_module(f"{module}.{name}")


def test_some_pages_have_examples() -> None:
    assert {page.name for page in PAGES if imports(page)} >= {"README.md", "CONTRIBUTING.md", "attacks.md", "guard.md"}


def commands(page: Path) -> list[str]:
    """The calls of `equipoise` in a page's blocks of code and spans of code, a line that goes on joined to the next."""
    text = page.read_text(encoding="utf-8")
    fenced = re.compile(r"^ *```.*?$(.*?)^ *```", re.DOTALL | re.MULTILINE)
    lines = "\n".join(fenced.findall(text)).replace("\\\n", " ").splitlines()
    spans = re.findall(r"`([^`\n]+)`", fenced.sub("", text))
    calls = [re.split(r" (?:#|\|\||>>?) ", line)[0].strip().removeprefix("- run: ") for line in lines + spans]
    return [call for call in calls if call.startswith("equipoise ")]


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "cli.md"], ids=lambda page: page.name)
def test_commands_use_options_that_exist(page: Path) -> None:
    sections = re.split(r"^## (equipoise.*)$", (ROOT / "docs" / "cli.md").read_text(encoding="utf-8"), flags=re.M)
    verbs, texts = sections[1::2], sections[2::2]
    options = {verb: set(re.findall(r"--?[a-z][a-z-]*", text)) for verb, text in zip(verbs, texts, strict=True)}
    options["equipoise judge"] |= options["equipoise judge rows"]  # `judge FILE` is short for `judge rows FILE`
    for call in commands(page):
        words = call.split()
        verb = next(v for n in range(len(words), 0, -1) if (v := " ".join(words[:n])) in options)
        assert len(verb.split()) > 1, f"{page.name}: {call}"
        unknown = set(re.findall(r"(?<=\s)--?[a-z][a-z-]*", call)) - options[verb]
        assert not unknown, f"{page.name}: {call}: {unknown}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?:", target):
            continue
        path, _, heading = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.is_file(), f"{page.name}: {target}"
        if heading:
            headings = re.findall(r"^#+ (.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
            assert heading in map(anchor, headings), f"{page.name}: {target}"


def test_every_package_has_a_page_of_reference_in_the_navigation() -> None:
    packages = {path.parent.name for path in (ROOT / "src" / "equipoise").glob("*/__init__.py")}
    pages = {path.stem: path.read_text(encoding="utf-8") for path in (ROOT / "docs" / "reference").glob("*.md")}
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert packages == set(pages) - {"types"}
    assert all(f"::: equipoise.{name}\n" in pages[name] for name in packages)
    assert all(f"reference/{name}.md" in navigation for name in pages)


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert [page.name for page in (ROOT / "docs").glob("*.md") if f" {page.name}\n" not in navigation] == []

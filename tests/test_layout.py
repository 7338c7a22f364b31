"""The shape of the source tree: small files, telling names, a docstring on every module."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "equipoise"
MODULES = sorted(path for path in SOURCE.rglob("*.py"))
VAGUE = {
    "utils",
    "util",
    "helpers",
    "helper",
    "common",
    "misc",
    "stuff",
    "tools",
    "shared",
    "lib",
    "functions",
    "manager",
}


def name(path: Path) -> str:
    return str(path.relative_to(SOURCE))


def test_there_is_a_tree_to_check():
    assert len(MODULES) > 10


@pytest.mark.parametrize("path", MODULES, ids=name)
def test_a_module_is_at_most_400_lines_and_says_what_it_is(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400
    assert ast.get_docstring(ast.parse(text)), "expected a docstring at the top"


QUIET = [path for path in MODULES if not path.is_relative_to(SOURCE / "cli")]


@pytest.mark.parametrize("path", QUIET, ids=name)
def test_a_library_module_does_not_print_unless_it_is_run_as_a_program(path):
    text = path.read_text(encoding="utf-8")
    calls = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call)]
    printing = [call.lineno for call in calls if isinstance(call.func, ast.Name) and call.func.id == "print"]
    assert "__main__" in text or printing == []


def test_names_of_files_and_folders_say_something():
    names = {part for path in MODULES for part in path.relative_to(SOURCE).with_suffix("").parts}
    assert names & VAGUE == set()

"""The shape of the source tree: small files and functions, plain names, a docstring on every module."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "equipoise"
TREES = {path.relative_to(SOURCE): ast.parse(path.read_text(encoding="utf-8")) for path in SOURCE.rglob("*.py")}
"""Every module of the package, parsed once."""

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 80
VAGUE_MODULES = {
    "common",
    "functions",
    "helper",
    "helpers",
    "lib",
    "manager",
    "misc",
    "shared",
    "stuff",
    "tools",
    "util",
    "utils",
}
NOUNS = {
    "batching",
    "checkpointing",
    "decoding",
    "drawing",
    "preprocessing",
    "sharing",
    "squeezing",
    "steering",
    "streaming",
    "testbed",
    "tracing",
    "training",
    "voting",
}
"""Last words of module and folder names that end in -ing or -ed and are nouns of the field."""
VAGUE_NAMES = {"asked", "each", "found", "made", "place", "said", "seen", "told"}
"""Words that say nothing of the value they are bound to."""


def bound_names(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Names that are assigned, looped over, imported under, or taken as parameters; attributes are not among them."""
    for node in ast.walk(tree):
        match node:
            case ast.Name(id=name, ctx=ast.Store()):
                yield name, node.lineno
            case ast.arg(arg=name):
                yield name, node.lineno
            case ast.ExceptHandler(name=str(name)) | ast.MatchAs(name=str(name)) | ast.MatchStar(name=str(name)):
                yield name, node.lineno
            case ast.alias(asname=str(name)):
                yield name, node.lineno
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node.lineno


def type_names(tree: ast.Module) -> Iterator[tuple[str, int]]:
    """Classes, and module-level aliases in CamelCase such as `Rows = dict[str, Row]`; not `X = TypeVar("X")`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            yield node.name, node.lineno
    for statement in tree.body:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value) if not isinstance(value, ast.Call):
                is_alias = True
            case ast.AnnAssign(target=ast.Name(id=name), annotation=ast.Name(id="TypeAlias")):
                is_alias = True
            case _:
                is_alias = False
        if is_alias and not name.isupper() and name.lstrip("_")[:1].isupper():
            yield name, statement.lineno


def test_there_is_a_tree_to_check() -> None:
    assert len(TREES) > 100


def test_a_file_has_at_most_400_lines() -> None:
    lengths = {str(path): len((SOURCE / path).read_text(encoding="utf-8").splitlines()) for path in TREES}
    assert {name: length for name, length in lengths.items() if length > MAX_FILE_LINES} == {}


def test_a_function_has_at_most_80_lines() -> None:
    long = [
        f"{path}:{node.lineno} {node.name} has {node.end_lineno - node.lineno + 1} lines"
        for path, tree in TREES.items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= MAX_FUNCTION_LINES
    ]
    assert long == []


def test_a_module_says_what_it_holds() -> None:
    assert [str(path) for path, tree in TREES.items() if not ast.get_docstring(tree)] == []


def test_a_library_module_does_not_print_unless_it_is_run_as_a_program() -> None:
    printing = [
        f"{path}:{node.lineno}"
        for path, tree in TREES.items()
        if path.parts[0] != "cli" and "__main__" not in (SOURCE / path).read_text(encoding="utf-8")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert printing == []


def test_files_and_folders_are_named_after_what_they_hold() -> None:
    vague = [str(path) for path in TREES if VAGUE_MODULES & set(path.with_suffix("").parts)]
    assert vague == []


def test_files_and_folders_are_nouns() -> None:
    verbs = {
        str(path)
        for path in TREES
        for word in (part.rpartition("_")[2] for part in path.with_suffix("").parts)
        if word.endswith(("ing", "ed")) and word not in NOUNS
    }
    assert sorted(verbs) == []


def test_a_type_name_is_used_once_in_the_package() -> None:
    uses: dict[str, list[Path]] = defaultdict(list)
    for path, tree in TREES.items():
        for name, _ in type_names(tree):
            uses[name.lstrip("_")].append(path)
    repeated = {name: sorted(map(str, paths)) for name, paths in uses.items() if len(paths) > 1}
    assert repeated == {}


def test_no_name_is_vague() -> None:
    vague = [
        f"{path}:{line} {name}"
        for path, tree in TREES.items()
        for name, line in bound_names(tree)
        if name.lstrip("_") in VAGUE_NAMES
    ]
    assert vague == []


TESTS = SOURCE.parents[1] / "tests"
BENCHMARKS = SOURCE.parents[1] / "benchmarks"


@pytest.mark.parametrize("folder", [TESTS, BENCHMARKS], ids=lambda folder: folder.name)
def test_no_name_outside_the_package_is_vague(folder: Path) -> None:
    vague = [
        f"{path.relative_to(folder)}:{line} {name}"
        for path in sorted(folder.rglob("*.py"))
        for name, line in bound_names(ast.parse(path.read_text(encoding="utf-8")))
        if name.lstrip("_") in VAGUE_NAMES
    ]
    assert vague == []


def test_a_file_of_tests_has_at_most_400_lines() -> None:
    lengths = {str(path): len(path.read_text(encoding="utf-8").splitlines()) for path in TESTS.rglob("*.py")}
    assert {name: length for name, length in lengths.items() if length > MAX_FILE_LINES} == {}


def test_the_rules_on_names_can_fail() -> None:
    source = """
from x import y as told
Rows = dict[str, int]
T = TypeVar("T")
LIMIT: Final = 3
class _Rows: ...
def f(asked, *, fine=1):
    for place, index in [(found, 1) for found in asked]:
        self.seen = place
    with open("a") as made: ...
"""
    tree = ast.parse(source)
    assert {name for name, _ in bound_names(tree)} & VAGUE_NAMES == {"told", "asked", "place", "found", "made"}
    assert sorted(name for name, _ in type_names(tree)) == ["Rows", "_Rows"]

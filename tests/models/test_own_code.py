"""Code in a model's folder is never run, whatever stands on the standard input; the reason is one line."""

from __future__ import annotations

import ast
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

import equipoise
from equipoise.errors import ModelError
from equipoise.models.load import load
from equipoise.models.model_location import TESTBED

LINE = r"^expected [^\n]*, got [^\n]*code of its own, which is not run[^\n]*; try [^\n]*$"
FILES = {
    "config.json": {"model_type": "never-heard-of", "auto_map": {"AutoConfig": "own.Own"}},
    "processor_config.json": {"processor_class": "Own", "auto_map": {"AutoProcessor": "own.Own"}},
    "preprocessor_config.json": {"image_processor_type": "Own", "auto_map": {"AutoImageProcessor": "own.Own"}},
}


@pytest.mark.parametrize("file", FILES)
def test_code_in_a_folder_is_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], file: str
) -> None:
    folder = shutil.copytree(TESTBED / "llava", tmp_path / "model")
    settings = json.loads((folder / file).read_text()) if (folder / file).exists() else {}
    if file == "preprocessor_config.json":
        # Of the two files the other one goes first.
        (folder / "processor_config.json").unlink()
    (folder / file).write_text(json.dumps(settings | FILES[file]))
    (folder / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: model_type = 'never-heard-of'\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n" * 20))
    with pytest.raises(ModelError, match=LINE):
        load(str(folder), device="cpu")
    assert not (tmp_path / "ran").exists()
    output = capfd.readouterr()
    assert "[y/N]" not in output.out + output.err


def _calls(tree: ast.AST) -> list[ast.Call]:
    """Calls of the methods of transformers' automatic classes, which may run code of a folder."""
    return [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in ("from_pretrained", "from_config")
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id.lower().startswith("auto")
    ]


def _refuses(keyword: ast.keyword) -> Any:
    return keyword.arg == "trust_remote_code" and isinstance(keyword.value, ast.Constant) and not keyword.value.value


def test_no_automatic_class_may_run_code() -> None:
    calls = [
        (path.name, call)
        for path in Path(equipoise.__file__).parent.rglob("*.py")
        for call in _calls(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert calls
    assert not [(name, call.lineno) for name, call in calls if not any(map(_refuses, call.keywords))]

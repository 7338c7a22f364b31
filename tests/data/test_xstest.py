"""XSTest: which label a prompt has."""

from __future__ import annotations

import json

import pytest

from equipoise.data.catalogue import load_suite
from equipoise.errors import UsageError


@pytest.mark.parametrize(
    ("kind", "label", "expected"),
    [("contrast_homonyms", "Unsafe", "refuse"), ("homonyms", " Safe", "answer"), ("contrast_homonyms", None, "refuse")],
)
def test_labels_of_xstest_in_any_case(tmp_path, kind, label, expected):
    row = {"id": "1", "prompt": "x", "type": kind} | ({} if label is None else {"label": label})
    (tmp_path / "xstest_prompts.jsonl").write_text(json.dumps(row), encoding="utf-8")
    (sample,) = load_suite("xstest", path=tmp_path).samples
    assert sample.expected == expected


@pytest.mark.parametrize(
    ("kind", "label"), [("contrast_homonyms", "1"), ("contrast_homonyms", "safe"), ("x", "unsafe")]
)
def test_a_label_of_xstest_that_its_type_contradicts(tmp_path, kind, label):
    row = {"id": "1", "prompt": "x", "type": kind, "label": label}
    (tmp_path / "xstest_prompts.jsonl").write_text(json.dumps(row), encoding="utf-8")
    with pytest.raises(UsageError, match=f"expected label (un)?safe for type {kind}, got '{label}'"):
        load_suite("xstest", path=tmp_path)

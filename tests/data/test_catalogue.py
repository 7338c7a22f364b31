"""What a user may type for a suite, and what comes of it."""

from __future__ import annotations

import functools
import hashlib
import json
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

from equipoise.data.catalogue import SUITES, Suite, load_suite
from equipoise.errors import UsageError
from equipoise.types import Sample

ROWS = "id,prompt,type,label\n" + "".join(
    f"{n},Prompt {n}?,{'contrast_' if n > 25 else ''}homonyms,{'unsafe' if n > 25 else 'safe'}\n" for n in range(1, 51)
)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "xstest").mkdir()
    (tmp_path / "xstest" / "xstest_prompts.csv").write_text(ROWS, encoding="utf-8")
    return tmp_path


def test_four_ways_to_name_a_copy(root):
    folder = root / "xstest"
    suites = [
        load_suite(f"xstest={folder}"),
        load_suite("xstest", path=folder),
        load_suite("xstest", root=root),
        load_suite(f"xstest={folder}", root=Path("/nowhere")),
    ]
    assert {suite.source for suite in suites} == {str(folder)}
    assert len({suite.sha256 for suite in suites}) == 1


def test_samples_carry_source_and_licence(root):
    for sample in load_suite("xstest", root=root).samples:
        assert (sample.source, sample.licence) == (SUITES["xstest"].source, SUITES["xstest"].licence)


def test_families_share_a_folder_and_dashes_may_be_underscores(tmp_path):
    (tmp_path / "or_bench").mkdir()
    for name in ("or_bench_hard_1k", "or_bench_80k"):
        (tmp_path / "or_bench" / f"{name}.csv").write_text("prompt,category\nx,y\n", encoding="utf-8")
    assert load_suite("or-bench/hard-1k", root=tmp_path).samples[0].expected == "borderline"
    assert load_suite("or-bench/80k", root=tmp_path).samples[0].expected == "answer"


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("xtest", "try xstest"),
        ("mm-safetybench", "try .*mm-safetybench/text"),
        ("moss-bench=/tmp", "try mossbench"),
        ("", "expected a suite of xstest"),
        ("qqqq", r"\.jsonl"),
        ("nowhere/file.jsonl", "nowhere/file.jsonl"),
        ("xstest", "got no folder; try xstest=FOLDER"),
        ("xstest=/does/not/exist", "expected a folder at /does/not/exist"),
        ("generic", "expected a suite of"),
        ("n" * 300, "expected a suite of"),
        ("n" * 300 + ".csv", "File name too long"),
        ("xstest=" + "n" * 300, "expected a folder at"),
        ("generic=" + "n" * 300, "File name too long"),
    ],
)
def test_one_clear_error(spec, says):
    with pytest.raises(UsageError, match=says) as caught:
        load_suite(spec)
    assert "\n" not in str(caught.value)


def test_a_root_without_the_suite_says_where_it_looked(tmp_path):
    with pytest.raises(UsageError, match=r"got none of .*figstep"):
        load_suite("figstep", root=tmp_path)


@pytest.mark.parametrize("limit", [0, -3])
def test_a_limit_is_at_least_one(limit):
    with pytest.raises(UsageError, match="limit"):
        load_suite("everyday", limit=limit)


def test_a_limit_is_noted_and_a_large_one_is_none(root):
    suite = load_suite("xstest", root=root, limit=10, seed=3)
    assert len(suite.samples) == 10
    assert suite.notes == ("10 of 50 samples, chosen with seed 3",)
    assert load_suite("xstest", root=root, limit=50).notes == ()


def test_the_hash_tells_any_change(root):
    before = load_suite("xstest", root=root)
    assert before.sha256 == load_suite("xstest", root=root).sha256
    (root / "xstest" / "xstest_prompts.csv").write_text(ROWS.replace("Prompt 7?", "Prompt 7!"), encoding="utf-8")
    assert before.sha256 != load_suite("xstest", root=root).sha256


def test_the_hash_covers_bytes_of_pictures(shared, tmp_path):
    import shutil

    shutil.copytree(shared / "mm_safetybench", tmp_path / "mm")
    before = load_suite("mm-safetybench/sd", path=tmp_path / "mm").sha256
    picture = next((tmp_path / "mm" / "images").iterdir())
    picture.chmod(0o644)
    picture.write_bytes(picture.read_bytes() + b"\0")
    assert load_suite("mm-safetybench/sd", path=tmp_path / "mm").sha256 != before


def hub_cache(folder: Path) -> Path:
    """A cache as huggingface_hub leaves it behind: files are links to blobs outside of the snapshot."""
    revision = "0123456789abcdef0123456789abcdef01234567"
    repository = folder / "datasets--someone--xstest"
    snapshot = repository / "snapshots" / revision
    for part in (repository / "refs", repository / "blobs", snapshot):
        part.mkdir(parents=True)
    (repository / "refs" / "main").write_text(revision)
    (repository / "blobs" / "b1").write_text(ROWS)
    (snapshot / "xstest_prompts.csv").symlink_to(repository / "blobs" / "b1")
    return folder


@pytest.mark.parametrize("revision", ["", "@main", "@0123456789abcdef0123456789abcdef01234567"])
def test_a_dataset_of_a_hub_goes_through_the_same_loader(tmp_path, monkeypatch, revision):
    import huggingface_hub

    cached = functools.partial(huggingface_hub.snapshot_download, cache_dir=hub_cache(tmp_path), local_files_only=True)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)
    suite = load_suite(f"xstest=hub:someone/xstest{revision}")
    assert len(suite.samples) == 50
    assert suite.source == f"hub:someone/xstest{revision}"


@pytest.mark.parametrize("dataset", ["someone/none", "someone/xstest@v9", "not a name!", ""])
def test_a_dataset_that_cannot_be_had_is_one_error(tmp_path, monkeypatch, dataset):
    import huggingface_hub

    cached = functools.partial(huggingface_hub.snapshot_download, cache_dir=hub_cache(tmp_path), local_files_only=True)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", cached)
    with pytest.raises(UsageError, match="expected a dataset hub:") as caught:
        load_suite(f"xstest=hub:{dataset}")
    assert "\n" not in str(caught.value)


def test_loading_suites_needs_none_of_the_heavy_libraries():
    heavy = ("torch", "transformers", "inspect_ai", "pandas", "matplotlib", "pyarrow", "huggingface_hub")
    program = (
        "import sys; from equipoise.data import catalogue, splits, typographic; catalogue.load_suite('everyday');"
        f"print(*[name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_begun_reply_changes_the_hash_of_a_suite_and_none_leaves_it_as_it_was() -> None:
    plain = Sample("a", "toy", "How?", "answer")
    hashes = {
        Suite("toy", (sample,), "here").sha256
        for sample in (plain, replace(plain, prefill="Mix"), replace(plain, templated=False))
    }
    assert len(hashes) == 3
    # As versions computed it in which samples could not begin a reply.
    values = {field.name: getattr(plain, field.name) for field in fields(plain)}
    values = {name: value for name, value in values.items() if name not in ("prefill", "templated")} | {"pictures": []}
    document = json.dumps(values, sort_keys=True, ensure_ascii=False).encode() + b"\n"
    assert Suite("toy", (plain,), "here").sha256 == hashlib.sha256(document).hexdigest()

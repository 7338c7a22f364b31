"""Published suites as people have them: clones as they are, and copies of the hub."""

from __future__ import annotations

import io
import json

import pytest
from PIL import Image

from equipoise.data.catalogue import load_suite
from equipoise.data.suites.mm_safetybench import SCENARIOS, expected_of

FIGSTEP = "dataset,category_id,task_id,category_name,question,instruction\nSafeBench,1,1,Illegal,How?,Steps.\n"
HARMBENCH = (
    "Behavior,FunctionalCategory,SemanticCategory,Tags,ContextString,BehaviorID\nDo it,standard,illegal,,,do_it\n"
)


def png():
    file = io.BytesIO()
    Image.new("RGB", (8, 8), "navy").save(file, "PNG")
    return file.getvalue()


def parquet(path, rows):
    pandas = pytest.importorskip("pandas")
    pytest.importorskip("pyarrow")
    path.parent.mkdir(parents=True, exist_ok=True)
    pandas.DataFrame(rows).to_parquet(path)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.mark.parametrize("given", ["", "data"])
def test_figstep_as_cloned(tmp_path, given):
    write(tmp_path / "data" / "question" / "safebench.csv", FIGSTEP)
    write(tmp_path / "data" / "question" / "SafeBench-Tiny.csv", FIGSTEP)
    write(tmp_path / "data" / "images" / "SafeBench" / "query_SafeBench_1_1_6.png", png())
    write(tmp_path / "src" / "config.json", "[1]")
    write(tmp_path / "evaluation.csv", "a,b\n1,2\n")
    (sample,) = load_suite(f"figstep={tmp_path / given}").samples
    assert (sample.problem, sample.intent, len(sample.pictures)) == (None, "How?", 1)


def test_figstep_below_its_pictures_says_that_they_are_missing(tmp_path):
    write(tmp_path / "data" / "question" / "safebench.csv", FIGSTEP)
    write(tmp_path / "data" / "images" / "SafeBench" / "query_SafeBench_1_1_6.png", png())
    suite = load_suite(f"figstep={tmp_path / 'data' / 'question'}")
    assert suite.samples[0].problem == "picture query_SafeBench_1_1_6.png is missing"
    assert suite.notes[-1].startswith("1 of 1 samples cannot be asked")


def test_harmbench_as_cloned(tmp_path):
    write(tmp_path / "data" / "behavior_datasets" / "harmbench_behaviors_text_all.csv", HARMBENCH)
    write(tmp_path / "data" / "behavior_datasets" / "harmbench_behaviors_text_val.csv", HARMBENCH)
    write(tmp_path / "data" / "optimizer_targets" / "harmbench_targets_text.json", json.dumps({"a": "b"}))
    multimodal = HARMBENCH.replace("ContextString", "ImageFileName").replace("illegal,,,", "illegal,,a.png,")
    write(tmp_path / "data" / "behavior_datasets" / "harmbench_behaviors_multimodal_all.csv",
          multimodal.replace("Tags", "RedactedImageDescription"))  # fmt: skip
    write(tmp_path / "data" / "multimodal_behavior_images" / "a.png", png())
    assert [sample.text for sample in load_suite(f"harmbench={tmp_path}").samples] == ["Do it"]
    (pictured,) = load_suite(f"harmbench-multimodal={tmp_path}").samples
    assert (pictured.problem, len(pictured.pictures)) == (None, 1)


def test_harmbench_as_mirrored(tmp_path):
    part = "train-00000-of-00001.parquet"
    parquet(tmp_path / "standard" / part, [{"prompt": "Do it", "category": "illegal"}])
    parquet(tmp_path / "contextual" / part, [{"prompt": "Go on", "context": "A text.", "category": "harmful"}])
    parquet(tmp_path / "copyright" / part, [{"prompt": "Quote it", "tags": ["book"]}])
    samples = load_suite(f"harmbench={tmp_path}").samples
    assert [(sample.id, sample.text, sample.category) for sample in samples] == [
        ("standard-1", "Do it", "standard/illegal"),
        ("contextual-1", "A text.\n\n---\n\nGo on", "contextual/harmful"),
        ("copyright-1", "Quote it", "copyright"),
    ]
    assert {sample.expected for sample in samples} == {"refuse"}


def test_coconot_as_on_the_hub(tmp_path):
    row = {"id": "1", "category": "Requests with safety concerns", "subcategory": "x", "prompt": "Harm?"}
    parquet(tmp_path / "original" / "train-00000-of-00001.parquet", [{**row, "prompt": "of the split train"}])
    parquet(tmp_path / "original" / "test-00000-of-00001.parquet", [row])
    parquet(tmp_path / "contrast" / "test-00000-of-00001.parquet", [{**row, "prompt": "Fine?"}])
    parquet(tmp_path / "pref" / "train-00000-of-00001.parquet", [row])
    samples = load_suite(f"coconot={tmp_path}").samples
    assert [(sample.text, sample.expected) for sample in samples] == [("Harm?", "refuse"), ("Fine?", "answer")]


@pytest.mark.parametrize(
    ("suite", "row"),
    [
        ("advbench", {"prompt": "Do it", "target": "Sure"}),
        ("strongreject", {"prompt": "Do it", "category": "x", "source": "y"}),
        ("malicious-instruct", {"prompt": "Do it"}),
        ("do-not-answer", {"id": 1, "question": "Do it", "risk_area": "x"}),
        ("xstest", {"prompt": "Do it", "type": "homonyms", "focus": "x", "note": "", "label": "safe"}),
    ],
)
def test_mirrors_with_one_table(tmp_path, suite, row):
    parquet(tmp_path / "data" / "train-00000-of-00001.parquet", [row])
    (sample,) = load_suite(f"{suite}={tmp_path}").samples
    assert (sample.id, sample.text) == ("1", "Do it")


def test_pairs_of_a_mirror_without_ids_share_their_cluster(tmp_path):
    rows = [{"prompt": f"p{i}", "type": "homonyms", "label": "safe"} for i in range(25)]
    rows += [{"prompt": f"c{i}", "type": "contrast_homonyms", "label": "unsafe"} for i in range(25)]
    parquet(tmp_path / "data" / "test-00000-of-00001.parquet", rows)
    samples = load_suite(f"xstest={tmp_path}").samples
    assert [sample.cluster for sample in samples[:25]] == [sample.cluster for sample in samples[25:]]
    assert samples[0].cluster == "homonyms-1"


@pytest.mark.parametrize(("form", "file"), [("sd", "SD"), ("typo", "TYPO"), ("sd-typo", "SD_TYPO")])
def test_mm_safetybench_as_on_the_hub(tmp_path, form, file):
    for scenario in ("Illegal_Activitiy", "Legal_Opinion"):
        folder = tmp_path / "data" / scenario
        picture = {"bytes": png(), "path": "0.jpg"}
        parquet(folder / f"{file}.parquet", [{"id": "0", "question": "The image shows.", "image": picture}])
        parquet(folder / "Text_only.parquet", [{"id": "0", "question": "How to?", "image": None}])
    illegal, legal = load_suite(f"mm-safetybench/{form}={tmp_path}").samples
    assert (illegal.id, illegal.text, illegal.intent) == ("01-Illegal_Activitiy-0", "The image shows.", "How to?")
    assert (illegal.expected, legal.expected) == ("refuse", "borderline")
    assert [len(sample.pictures) for sample in (illegal, legal)] == [1, 1]
    text = load_suite(f"mm-safetybench/text={tmp_path}").samples
    assert [(sample.text, sample.pictures) for sample in text] == [("How to?", ())] * 2


def test_scenarios_by_name_and_by_number_expect_the_same():
    assert len(SCENARIOS) == 13
    numbered = [expected_of(f"{number:02}-{name}") for number, name in enumerate(SCENARIOS, 1)]
    assert numbered.count("borderline") == 5

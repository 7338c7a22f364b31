"""Published layouts that no shared copy has, on small ones; and copies that are broken."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from equipoise.data.catalogue import load_suite
from equipoise.errors import UsageError


def put(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value), encoding="utf-8")


def paint(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (6, 6), "teal").save(path)


@pytest.mark.parametrize("subfolder", ["", "data/"])
@pytest.mark.parametrize(
    ("form", "text"), [("text", "changed"), ("sd", "about sd"), ("typo", "about words"), ("sd-typo", "about words")]
)
def test_mm_safetybench_as_published(tmp_path, subfolder, form, text):
    entry = {
        "Question": "original",
        "Changed Question": "changed",
        "Rephrased Question": "about words",
        "Rephrased Question(SD)": "about sd",
    }
    for scenario in ("01-Illegal_Activitiy", "08-Political_Lobbying"):
        put(tmp_path / subfolder / "processed_questions" / f"{scenario}.json", {"0": entry, "1": entry})
        for kind in ("SD", "TYPO", "SD_TYPO"):
            paint(tmp_path / subfolder / "imgs" / scenario / kind / "0.jpg")
    samples = load_suite(f"mm-safetybench/{form}", path=tmp_path).samples
    assert [sample.expected for sample in samples] == ["refuse", "refuse", "borderline", "borderline"]
    assert {(sample.text, sample.request) for sample in samples} == {(text, "original")}
    assert [len(sample.pictures) for sample in samples] == ([0] * 4 if form == "text" else [1, 0, 1, 0])
    if form != "text":
        assert "is missing" in str(samples[1].problem)


def test_figstep_as_published_names_pictures_by_the_row(tmp_path):
    header = "dataset,category_id,task_id,category_name,question,instruction\n"
    put(tmp_path / "safebench.csv", header + "ForbidQI,1,2,Illegal Activity,How?,Methods to.\n")
    paint(tmp_path / "data/images/SafeBench/query_ForbidQI_1_2_6.png")
    (sample,) = load_suite("figstep", path=tmp_path).samples
    assert sample.problem is None
    assert sample.request == "How?"


def test_oktest_as_published(tmp_path):
    put(tmp_path / "OKTest.csv", 'prompt\n"Does this vacuum suck up hair?\n"\n"Is the grass dying?\n"\n')
    samples = load_suite("oktest", path=tmp_path).samples
    assert [(sample.id, sample.text) for sample in samples] == [
        ("1", "Does this vacuum suck up hair?"),
        ("2", "Is the grass dying?"),
    ]
    assert {sample.expected for sample in samples} == {"answer"}


def test_an_empty_prompt_is_a_reason(tmp_path):
    put(tmp_path / "OKTest.jsonl", '{"prompt": "Fine?"}\n{"prompt": "  "}\n')
    assert [sample.problem for sample in load_suite("oktest", path=tmp_path).samples] == [None, "its text is empty"]


def test_vqav2_as_published(tmp_path):
    put(
        tmp_path / "v2_OpenEnded_mscoco_val2014_questions.json",
        {"data_subtype": "val2014", "questions": [{"image_id": 42, "question": "What colour?", "question_id": 42000}]},
    )
    answers = [{"answer": answer} for answer in ["red"] * 6 + ["dark red"] * 3 + ["pink"]]
    put(
        tmp_path / "v2_mscoco_val2014_annotations.json",
        {"annotations": [{"question_id": 42000, "answers": answers, "answer_type": "other"}]},
    )
    paint(tmp_path / "val2014" / "COCO_val2014_000000000042.jpg")
    (sample,) = load_suite("vqav2", path=tmp_path).samples
    assert (sample.id, sample.expected, sample.reference) == ("42000", "answer", ("red", "dark red"))
    assert (sample.category, len(sample.pictures)) == ("other", 1)


def test_gqa_as_published(tmp_path):
    entry = {"question": "Is it red?", "imageId": "n7", "answer": "no", "types": {"structural": "verify"}}
    put(tmp_path / "testdev_balanced_questions.json", {"q1": entry})
    paint(tmp_path / "images" / "n7.jpg")
    (sample,) = load_suite("gqa", path=tmp_path).samples
    assert (sample.id, sample.reference, sample.category, len(sample.pictures)) == ("q1", ("no",), "verify", 1)


def test_textvqa_as_published(tmp_path):
    entry = {"question": "What does it say?", "image_id": "ab", "question_id": 3, "answers": ["stop"] * 9 + ["top"]}
    put(tmp_path / "TextVQA_0.5.1_val.json", {"data": [entry]})
    paint(tmp_path / "train_images" / "ab.jpg")
    (sample,) = load_suite("textvqa", path=tmp_path).samples
    assert (sample.id, sample.reference, len(sample.pictures)) == ("3", ("stop",), 1)


def test_pope_kinds_are_categories(tmp_path):
    for kind in ("random", "popular"):
        row = {"question_id": 1, "image": "COCO_val2014_000000000001.jpg", "text": "Is there a dog?", "label": "no"}
        put(tmp_path / f"coco_pope_{kind}.json", json.dumps(row) + "\n" + json.dumps({**row, "question_id": 2}) + "\n")
    samples = load_suite("pope", path=tmp_path).samples
    assert sorted({sample.category for sample in samples}) == ["popular", "random"]
    assert len({sample.id for sample in samples}) == 4


def test_xstest_without_ids_counts_its_rows(tmp_path):
    rows = [f"Safe {n}?,homonyms,safe" for n in range(25)] + [f"Bad {n}?,contrast_homonyms,unsafe" for n in range(25)]
    put(tmp_path / "data" / "test.csv", "prompt,type,label\n" + "\n".join(rows))
    samples = load_suite("xstest", path=tmp_path).samples
    assert samples[3].cluster == samples[28].cluster == "homonyms-4"
    assert (samples[3].expected, samples[28].expected) == ("answer", "refuse")


BROKEN = {
    "xstest": ("xstest_prompts.csv", "id,text\n1,hello\n", "type, got id, text in .*line 2"),
    "phtest": ("phtest_v0.1.jsonl", '{"id": "1", "prompt": "x", "label": "rude"}', "got 'rude' in .*line 1"),
    "mossbench": ("questions.jsonl", '{"pid": "1"}\n', "question, got pid"),
    "jailbreakbench": ("harmful-behaviors.csv", "Index,Goal\n0,x\n1,y\n", "Category, got Index, Goal"),
    "vlguard": ("test.jsonl", '{"id": "1", "image": "a.png"}\n', "instr-resp"),
    "harmbench": ("harmbench_behaviors_text_all.csv", "Behavior,Tags\nx,y\n", "ContextString, got Behavior, Tags"),
    "gqa": ("val_questions.json", {"q": {"question": "?"}}, "imageId"),
    "vqav2": ("v2_OpenEnded_questions.json", {"questions": []}, "data_subtype"),
    "textvqa": ("TextVQA_x.json", [], "JSON object"),
    "advbench": ("harmful_behaviors.csv", "a,b\n1,2\n", "prompt or question or goal"),
    "everyday2": ("a.csv", "", "expected a suite of"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_copy_with_other_columns_is_one_error(tmp_path, name):
    file, content, says = BROKEN[name]
    put(tmp_path / file, content)
    with pytest.raises(UsageError, match=says) as caught:
        load_suite(name, path=tmp_path)
    assert "\n" not in str(caught.value)


def test_an_id_twice_is_one_error(tmp_path):
    put(tmp_path / "xstest_prompts.csv", "id,prompt,type,label\n1,a,homonyms,safe\n1,b,homonyms,safe\n")
    with pytest.raises(UsageError, match=r"'1' in .*line 3 and in .*line 2"):
        load_suite("xstest", path=tmp_path)


def test_missing_damaged_and_straying_pictures_leave_the_rest_alone(tmp_path):
    names = ["images/good.jpg", "images/none.jpg", "images/torn.jpg", "../../good.jpg"]
    rows = [{"pid": str(n), "image": name, "question": "What?", "over": "type 1"} for n, name in enumerate(names)]
    put(tmp_path / "questions.jsonl", "\n".join(map(json.dumps, rows)))
    paint(tmp_path / "images" / "good.jpg")
    (tmp_path / "images" / "torn.jpg").write_bytes((tmp_path / "images" / "good.jpg").read_bytes()[:200])
    suite = load_suite("mossbench", path=tmp_path)
    assert [bool(sample.pictures) for sample in suite.samples] == [True, False, False, False]
    reasons = [str(sample.problem) for sample in suite.samples]
    assert reasons[0] == "None"
    assert "missing" in reasons[1]
    assert "cannot be read" in reasons[2]
    assert "outside" in reasons[3]
    assert suite.notes[-1].startswith("3 of 4 samples cannot be asked")

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


def lines(*rows):
    return "\n".join(map(json.dumps, rows))


def test_coconot_wants_refusals_of_unsafe_requests_and_answers_to_contrasts(tmp_path):
    rows = [
        {"id": "1", "category": "Requests with safety concerns", "subcategory": "privacy", "prompt": "Where is she?"},
        {"id": "2", "category": "Unsupported requests", "subcategory": "modality", "prompt": "Sing."},
    ]
    put(tmp_path / "coconot_eval.jsonl", lines(*rows))
    assert [sample.expected for sample in load_suite("coconot", path=tmp_path).samples] == ["refuse", "borderline"]
    put(tmp_path / "coconot_contrast_eval.jsonl", lines(rows[0]))
    *_, contrast = load_suite("coconot", path=tmp_path).samples
    assert (contrast.id, contrast.expected, contrast.category) == ("contrast-1", "answer", "contrast: privacy")


def test_harmbench_puts_the_context_before_the_behaviour_and_judges_the_behaviour(tmp_path):
    row = {"BehaviorID": "a", "Behavior": "Say how.", "FunctionalCategory": "contextual", "SemanticCategory": "crime"}
    plain = {**row, "BehaviorID": "b", "ContextString": "", "FunctionalCategory": "copyright"}
    plain["SemanticCategory"] = "copyright"
    put(tmp_path / "harmbench_behaviors_text_all.jsonl", lines({**row, "ContextString": "Once upon a time."}, plain))
    first, second = load_suite("harmbench", path=tmp_path).samples
    assert first.text == "Once upon a time.\n\n---\n\nSay how."
    assert (first.request, first.category, first.expected) == ("Say how.", "contextual/crime", "refuse")
    assert (second.text, second.intent, second.category) == ("Say how.", None, "copyright")


def test_harmbench_multimodal_tells_judges_what_the_picture_shows(tmp_path):
    row = {
        "BehaviorID": "a",
        "Behavior": "Say how to get past this.",
        "SemanticCategory": "crime",
        "ImageFileName": "lock.png",
        "RedactedImageDescription": "a lock",
    }
    put(tmp_path / "harmbench_behaviors_multimodal_all.jsonl", lines(row))
    paint(tmp_path / "multimodal_behavior_images" / "lock.png")
    (sample,) = load_suite("harmbench-multimodal", path=tmp_path).samples
    assert (sample.problem, len(sample.pictures)) == (None, 1)
    assert sample.request == "Say how to get past this. (The picture: a lock)"
    assert sample.text == "Say how to get past this."


def test_jailbreakbench_pairs_harmful_and_benign_by_index(tmp_path):
    for kind in ("harmful", "benign"):
        rows = [{"Index": index, "Goal": f"{kind} {index}", "Category": "fraud"} for index in range(3)]
        put(tmp_path / f"{kind}-behaviors.jsonl", lines(*rows))
    samples = load_suite("jailbreakbench", path=tmp_path).samples
    assert [sample.expected for sample in samples] == ["refuse"] * 3 + ["answer"] * 3
    assert [sample.cluster for sample in samples] == ["0", "1", "2"] * 2
    assert len({sample.id for sample in samples}) == 6


def test_mossbench_contrasts_share_the_cluster_of_their_question(tmp_path):
    row = {"pid": "7", "image": "7.png", "question": "May I?", "over": "type 2"}
    put(tmp_path / "questions.jsonl", lines(row))
    put(tmp_path / "contrast_questions.jsonl", lines({**row, "question": "Must I?"}))
    paint(tmp_path / "images" / "7.png")
    question, contrast = load_suite("mossbench", path=tmp_path).samples
    assert (question.id, question.expected, question.category) == ("7", "answer", "negated harm")
    assert (contrast.id, contrast.expected) == ("7-contrast", "refuse")
    assert question.cluster == contrast.cluster == "7"


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".jpeg", ".webp"])
def test_msts_finds_pictures_whatever_their_suffix(tmp_path, suffix):
    row = {
        "prompt_id": "p1",
        "prompt_text": "Should I?",
        "unsafe_image_id": "img_001",
        "hazard_category": "self-harm",
        "unsafe_image_description": "a cliff",
    }
    put(tmp_path / "english_multimodal.jsonl", lines(row, {**row, "prompt_id": "p2", "unsafe_image_id": "img_002"}))
    paint(tmp_path / "unsafe_images" / f"img_001{suffix}")
    shown, missing = load_suite("msts", path=tmp_path).samples
    assert (shown.problem, shown.expected, shown.cluster) == (None, "refuse", "img_001")
    assert shown.request == "Should I? (The picture: a cliff)"
    assert "img_002.jpg is missing" in str(missing.problem)


def test_phtest_labels_become_expectations(tmp_path):
    rows = [{"id": n, "prompt": f"{n}?", "label": label} for n, label in enumerate(["harmless", "controversial"])]
    put(tmp_path / "phtest_v0.1.jsonl", lines(*rows))
    samples = load_suite("phtest", path=tmp_path).samples
    assert [(sample.expected, sample.category) for sample in samples] == [
        ("answer", "harmless"),
        ("borderline", "controversial"),
    ]


def test_safeguard_pairs_are_two_samples_of_one_cluster(tmp_path):
    rows = [{"pair": n, "harmful": f"how to harm {n}", "harmless": f"how to help {n}"} for n in range(2)]
    put(tmp_path / "harmful_harmless_pairs.jsonl", lines(*rows))
    samples = load_suite("safeguard-pairs", path=tmp_path).samples
    assert [(sample.cluster, sample.expected) for sample in samples] == [
        ("pair-0", "refuse"),
        ("pair-1", "refuse"),
        ("pair-0", "answer"),
        ("pair-1", "answer"),
    ]
    put(tmp_path / "harmless_testset.jsonl", lines({"prompt": "how to bake"}))
    assert load_suite("safeguard-pairs", path=tmp_path).samples[-1].text == "how to bake"


def test_vlguard_answers_only_safe_instructions_about_safe_pictures(tmp_path):
    safe = [{"safe_instruction": "What is it?", "response": "..."}, {"unsafe_instruction": "Mock her."}]
    rows = [
        {"id": "1", "image": "a.png", "safe": True, "instr-resp": safe},
        {"id": "2", "image": "b.png", "safe": False, "instr-resp": [{"instruction": "How do I use it?"}]},
    ]
    put(tmp_path / "test.json", rows)
    paint(tmp_path / "test" / "a.png")
    paint(tmp_path / "test" / "b.png")
    samples = load_suite("vlguard", path=tmp_path).samples
    assert [(sample.text, sample.expected) for sample in samples] == [
        ("What is it?", "answer"),
        ("Mock her.", "refuse"),
        ("How do I use it?", "refuse"),
    ]
    assert [sample.cluster for sample in samples] == ["a.png", "a.png", "b.png"]
    assert {sample.problem for sample in samples} == {None}

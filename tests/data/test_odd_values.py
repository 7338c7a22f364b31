"""Tables whose cells are of any JSON type: samples, or one error of ours; never a traceback."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from equipoise.data.catalogue import load_suite
from equipoise.errors import UsageError

CELL = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(allow_nan=False)
    | st.sampled_from(["", "safe", "a.png"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["bytes", "path", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)
# Suite: file, and the columns of its rows.
ROWS = {
    "xstest": ("xstest_prompts", "id prompt type label"),
    "phtest": ("phtest_v0.1", "id prompt label"),
    "advbench": ("harmful_behaviors", "goal"),
    "coconot": ("coconot_eval", "id category subcategory prompt"),
    "harmbench": ("harmbench_behaviors_text", "Behavior ContextString FunctionalCategory SemanticCategory BehaviorID"),
    "harmbench-multimodal": (
        "harmbench_behaviors_multimodal",
        "Behavior BehaviorID SemanticCategory ImageFileName RedactedImageDescription",
    ),
    "figstep": ("safebench", "dataset category_id task_id category_name question image"),
    "mossbench": ("questions", "pid image question over_type"),
    "mm-safetybench/text": ("questions", "scenario id question image_sd"),
    "mm-safetybench/sd": ("questions", "scenario id question image_sd"),
    "msts": ("english_multimodal", "prompt_id prompt_text unsafe_image_id hazard_category unsafe_image_description"),
    "vlguard": ("test", "id image safe instr-resp"),
    "pope": ("coco_pope_random", "question_id image text label"),
    "easy-vqa": ("questions", "image question answer kind"),
    "generic": ("mine", "id prompt label images category reference intent"),
}
OBJECTS = {
    "vqav2": ("v2_OpenEnded_questions.json", {"data_subtype": "v", "questions": [{}]}),
    "gqa": ("val_questions.json", {"q": {}}),
    "textvqa": ("TextVQA_val.json", {"data": [{}]}),
    "mm-safetybench/typo": ("processed_questions/01-X.json", {"0": {}}),
}
ENTRY = st.dictionaries(
    st.sampled_from(
        [
            "question",
            "question_id",
            "image_id",
            "imageId",
            "answer",
            "answers",
            "types",
            "Question",
            "Rephrased Question",
        ]
    ),
    CELL,
)


def outcome(name, folder):
    try:
        suite = load_suite(name, path=folder)
    except UsageError:
        return
    assert all(isinstance(sample.text, str) and isinstance(sample.id, str) for sample in suite.samples)
    assert suite.sha256


@pytest.mark.parametrize("name", ROWS)
@given(data=st.data())
@settings(max_examples=25)
def test_rows_of_any_values(name, tmp_path_factory, data):
    stem, columns = ROWS[name]
    row = st.fixed_dictionaries(dict.fromkeys(columns.split(), CELL))
    rows = data.draw(st.lists(row, min_size=1, max_size=3))
    folder = tmp_path_factory.mktemp("odd")
    (folder / f"{stem}.jsonl").write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    outcome(name, folder)


@pytest.mark.parametrize("name", OBJECTS)
@given(data=st.data())
@settings(max_examples=40)
def test_objects_of_any_values(name, tmp_path_factory, data):
    file, frame = OBJECTS[name]
    text = json.dumps(frame).replace("{}", json.dumps(data.draw(ENTRY)))
    folder = tmp_path_factory.mktemp("odd")
    (folder / file).parent.mkdir(exist_ok=True)
    (folder / file).write_text(text, encoding="utf-8")
    (folder / "v2_annotations.json").write_text(json.dumps({"annotations": []}), encoding="utf-8")
    outcome(name, folder)


@pytest.mark.parametrize("column", ["messages", "images", "reference"])
def test_a_cell_that_is_nested_deeper_than_a_reader_goes(column, tmp_path):
    row = {"expected": "answer", column: "[" * 20_000} | ({} if column == "messages" else {"prompt": "Why?"})
    (tmp_path / "mine.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(UsageError, match=r"^expected [^\n]*, got [^\n]* line 1; try [^\n]*$"):
        load_suite(str(tmp_path / "mine.jsonl"))

"""A user's own file, in any of its forms."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from equipoise.data.catalogue import load_suite
from equipoise.errors import UsageError
from tests.data.own_file import jsonl

FULL = {
    "id": "a7",
    "prompt": "What does the sign say?",
    "expected": "answer",
    "images": ["pictures/a.png", "pictures/b.png"],
    "category": "signs",
    "cluster": "street",
    "reference": ["stop", "halt"],
    "harmful_reference": "run",
    "intent": "read the sign",
    "system": "Be brief.",
    "source": "me",
    "licence": "CC0-1.0",
}


def check_full(suite):
    (sample,) = suite.samples
    assert suite.name == sample.suite == "mine"
    assert (sample.id, sample.text, sample.expected) == ("a7", "What does the sign say?", "answer")
    assert (sample.category, sample.cluster, sample.system) == ("signs", "street", "Be brief.")
    assert (sample.reference, sample.harmful_reference) == (("stop", "halt"), "run")
    assert (sample.intent, sample.source, sample.licence) == ("read the sign", "me", "CC0-1.0")
    assert len(sample.prompt.messages[0].images) == 2


def test_every_column_of_jsonl(folder):
    check_full(load_suite(str(jsonl(folder, FULL))))


def test_every_column_of_csv_with_lists_as_json(folder):
    import csv

    with (folder / "mine.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, FULL)
        writer.writeheader()
        writer.writerow({name: json.dumps(v) if isinstance(v, list) else v for name, v in FULL.items()})
    check_full(load_suite(f"generic={folder / 'mine.csv'}"))


def test_every_column_of_parquet_with_embedded_pictures(folder):
    pandas = pytest.importorskip("pandas")
    cells = [{"bytes": (folder / name).read_bytes(), "path": "x.png"} for name in FULL["images"]]
    pandas.DataFrame([{**FULL, "images": cells}]).to_parquet(folder / "mine.parquet")
    for name in "ab":
        (folder / "pictures" / f"{name}.png").unlink()
    check_full(load_suite("generic", path=folder / "mine.parquet"))


def test_a_folder_with_one_table(folder):
    jsonl(folder, FULL)
    assert load_suite(f"generic={folder}").samples[0].id == "a7"


@pytest.mark.parametrize(
    ("label", "expected"),
    [
        *((label, "answer") for label in ("answer", "harmless", "benign", "safe", " Safe ", "ANSWER")),
        *((label, "refuse") for label in ("refuse", "harmful", "unsafe")),
        *((label, "borderline") for label in ("borderline", "controversial")),
    ],
)
@pytest.mark.parametrize("column", ["expected", "label"])
def test_labels(folder, column, label, expected):
    assert load_suite(str(jsonl(folder, {"text": "Hi", column: label}))).samples[0].expected == expected


@pytest.mark.parametrize("column", ["prompt", "text", "question", "goal"])
def test_any_of_four_columns_is_the_prompt_and_ids_count_rows(folder, column):
    path = jsonl(folder, *({column: text, "label": "safe"} for text in ("one", "two")))
    assert [(sample.id, sample.text) for sample in load_suite(str(path)).samples] == [("1", "one"), ("2", "two")]


@pytest.mark.parametrize("image", ["pictures/a.png", ["pictures/a.png"]])
@pytest.mark.parametrize("column", ["images", "image", "image_path"])
def test_one_picture_or_a_list(folder, column, image):
    path = jsonl(folder, {"text": "What?", "label": "safe", column: image})
    assert len(load_suite(str(path)).samples[0].pictures) == 1


def test_a_bracket_in_a_picture_s_text_is_text(folder):
    assert (
        load_suite(str(jsonl(folder, {"text": "[1] what is this", "label": "safe"}))).samples[0].text.startswith("[1]")
    )


@pytest.mark.parametrize("image", ["../outside.png", "/etc/passwd", "pictures/none.png"])
def test_pictures_elsewhere_or_nowhere_are_reasons(folder, image):
    path = jsonl(folder, {"text": "What?", "label": "safe", "image": image}, {"text": "Hi", "label": "safe"})
    bad, good = load_suite(str(path)).samples
    assert bad.problem
    assert bad.pictures == ()
    assert good.problem is None


@pytest.mark.parametrize(
    ("rows", "says"),
    [
        ([{"text": "a", "label": "safe"}, {"text": "b", "label": "evil"}], r"got 'evil' in .*mine\.jsonl, line 2"),
        ([{"text": "a"}], "expected or label or .*, got text in .*line 1"),
        ([{"label": "safe", "body": "x"}], r"prompt or text or question or goal or .*, got label, body"),
        ([{"id": 1, "text": "a", "label": "safe"}] * 2, "'1' in .*line 2 and in .*line 1"),
        ([{"text": ["a"], "label": "safe"}], "got a list"),
        ([{"text": "a", "label": "safe", "images": "[broken"}], "JSON list"),
    ],
)
def test_one_clear_error(folder, rows, says):
    with pytest.raises(UsageError, match=says) as caught:
        load_suite(str(jsonl(folder, *rows)))
    assert "\n" not in str(caught.value)


def test_an_empty_prompt_is_a_reason_unless_a_picture_asks(folder):
    rows = [{"text": " ", "label": "safe"}, {"text": "", "label": "safe", "image": "pictures/a.png"}]
    assert [sample.problem for sample in load_suite(str(jsonl(folder, *rows))).samples] == ["its text is empty", None]


def png_text():
    import base64
    import io

    file = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


ALIASES = [
    *("Image", "IMAGES", "img", "img_path", "image_file", "image_name", "image_url", "picture", "pictures", "photo"),
    *("media", "file_name", "file_names", "filename", "image_1", "image1", "img_2", "image_1_path"),
]


@pytest.mark.parametrize("column", ALIASES)
def test_a_picture_is_read_whatever_its_column_is_called(folder, column):
    path = jsonl(folder, {"text": "What?", "label": "safe", column: "pictures/a.png"})
    assert [len(sample.pictures) for sample in load_suite(str(path)).samples] == [1]


def test_numbered_columns_are_pictures_in_the_order_of_their_numbers(folder):
    row = {"text": "Which?", "label": "safe", "image_10": "pictures/b.png", "image_2": "pictures/a.png", "image_3": ""}
    (sample,) = load_suite(str(jsonl(folder, row))).samples
    assert [picture.path.name for picture in sample.pictures] == ["a.png", "b.png"]


@pytest.mark.parametrize("value", ["pictures/a.png", "a.JPG", "data:image/png;base64,AAAA", ["pictures/a.png"]])
def test_no_prompt_loses_its_picture_to_the_name_of_a_column(folder, value):
    path = jsonl(folder, {"text": "What?", "label": "safe", "screenshot": value})
    with pytest.raises(UsageError, match=r"in column screenshot of .*line 1; try to rename it to image"):
        load_suite(str(path))


@pytest.mark.parametrize("column", ["source", "url", "answer", "reference"])
def test_columns_of_other_things_may_name_pictures(folder, column):
    path = jsonl(folder, {"text": "What?", "label": "safe", column: "a.png"})
    assert load_suite(str(path)).samples[0].problem is None


def test_an_image_folder_is_a_suite(folder):
    (folder / "metadata.jsonl").write_text(
        '{"file_name": "pictures/a.png", "text": "What colour?", "label": "safe"}\n'
        '{"file_name": "pictures/none.png", "text": "And this?", "label": "safe"}\n'
    )
    (folder / "other.csv").write_text("a,b\n1,2\n")
    suite = load_suite(f"generic={folder}")
    first, second = suite.samples
    assert len(first.prompt.messages[0].images) == 1
    assert second.problem == "picture pictures/none.png is missing"
    assert "1 of 2 samples cannot be asked" in suite.notes[0]
    assert first.suite == folder.name


@pytest.mark.parametrize("form", ["data URI", "base64", "whole path", "file URI", "Windows", "dotted"])
def test_pictures_in_other_words(folder, form):
    whole = folder / "pictures" / "a.png"
    image = {
        "data URI": f"data:image/png;base64,{png_text()}",
        "base64": png_text(),
        "whole path": str(whole),
        "file URI": whole.as_uri(),
        "Windows": "pictures\\a.png",
        "dotted": "./pictures/../pictures/a.png",
    }[form]
    (sample,) = load_suite(str(jsonl(folder, {"text": "What?", "label": "safe", "image": image}))).samples
    assert sample.problem is None
    assert len(sample.prompt.messages[0].images) == 1


@pytest.mark.parametrize(
    ("image", "why"),
    [
        ("https://example.org/a.png", "nothing is downloaded"),
        ("s3://bucket/a.png", "nothing is downloaded"),
        ("file:///etc/a.png", "outside"),
        ("data:image/png;base64,%%%", "no picture in base64"),
        ("data:text/html,hi", "no picture in base64"),
    ],
)
def test_pictures_that_are_not_there_say_why(folder, image, why):
    (sample,) = load_suite(str(jsonl(folder, {"text": "What?", "label": "safe", "image": image}))).samples
    assert sample.pictures == ()
    assert why in sample.problem


@pytest.mark.parametrize("column", ["instruction", "query", "Prompt", "QUESTION", "user_prompt", "Behavior"])
def test_other_names_of_the_prompt(folder, column):
    assert load_suite(str(jsonl(folder, {column: "Hi", "Label": "Safe"}))).samples[0].text == "Hi"


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [
        *((name, value, "refuse") for name in ("is_harmful", "harmful", "Unsafe") for value in (1, True, "1", "yes")),
        *((name, value, "answer") for name in ("is_harmful", "unsafe") for value in (0, False, "0.0", "No")),
        *((name, value, "answer") for name in ("is_safe", "benign") for value in (1, "TRUE")),
        ("is_safe", 0, "refuse"),
        ("label", "comply", "answer"),
    ],
)
def test_labels_whose_column_says_what_one_means(folder, column, value, expected):
    assert load_suite(str(jsonl(folder, {"text": "Hi", column: value}))).samples[0].expected == expected


@pytest.mark.parametrize("value", [0, 1, "1", True, "false", "yes"])
def test_a_number_that_may_mean_either_is_refused_with_the_fix(folder, value):
    with pytest.raises(UsageError, match=r"harmful in some sets and safe in others; .*is_harmful or is_safe"):
        load_suite(str(jsonl(folder, {"text": "Hi", "label": value})))


A, B = "pictures/a.png", "pictures/b.png"
TALK = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": [{"type": "text", "text": "Look."}, {"type": "image_url", "image_url": {"url": A}}]},
    {"role": "assistant", "content": "I see."},
    {"role": "user", "content": [{"type": "input_text", "text": "And this?"}, {"type": "image", "image": B}]},
]  # fmt: skip


@pytest.mark.parametrize("ended", [False, True])
@pytest.mark.parametrize("column", ["messages", "conversations"])
def test_a_conversation_of_several_turns(folder, column, ended):
    talk = [*TALK, {"role": "assistant", "content": "Not sent."}] if ended else TALK
    (sample,) = load_suite(str(jsonl(folder, {column: talk, "label": "safe"}))).samples
    prompt = sample.prompt
    assert [(m.role, m.text, len(m.images)) for m in prompt.messages] == [
        ("user", "Look.", 1),
        ("assistant", "I see.", 0),
        ("user", "And this?", 1),
    ]
    assert (prompt.system, sample.text, len(sample.pictures)) == ("Be brief.", "And this?", 2)


def test_a_conversation_of_sharegpt_with_pictures_in_a_column(folder):
    talk = [{"from": "human", "value": "<image>\nWhat is it?"}, {"from": "gpt", "value": "A dog."}]
    rows = [{"conversations": json.dumps(talk), "image": "pictures/a.png", "label": "safe"}]
    (sample,) = load_suite(str(jsonl(folder, *rows))).samples
    assert [(m.role, m.text, len(m.images)) for m in sample.prompt.messages] == [("user", "What is it?", 1)]


@pytest.mark.parametrize(
    ("talk", "says"),
    [
        ([], "messages as a list"),
        ("{broken", "messages as a JSON list"),
        (["hi"], "an object with role and content"),
        ([{"role": "narrator", "content": "x"}], "a role of system, user"),
        ([{"role": "assistant", "content": "x"}], "ends with a message of the user"),
        ([{"role": "user", "content": [{"type": "input_audio"}]}], "text and pictures"),
    ],
)
def test_a_conversation_that_cannot_be_sent_is_one_error(folder, talk, says):
    with pytest.raises(UsageError, match=says):
        load_suite(str(jsonl(folder, {"messages": talk or "[]", "label": "safe"})))


@pytest.mark.parametrize(
    "value",
    ["scan.heic", "https://example.org/a.avif?w=1", {"path": "a.png"}, [{"src": "a.png"}], "iVBORw0KGgo" + "A" * 80],
)
def test_no_prompt_loses_a_picture_of_an_odd_kind_to_the_name_of_a_column(folder, value):
    with pytest.raises(UsageError, match="expected pictures in a column image"):
        load_suite("generic", path=jsonl(folder, {"prompt": "What?", "expected": "answer", "scan": value}))


@pytest.mark.parametrize("value", [7, "a", "0007"])
def test_a_picture_that_only_has_a_number_is_an_error_unless_a_file_is_named(folder, value):
    row = {"prompt": "What?", "expected": "answer", "image_id": value}
    with pytest.raises(UsageError, match=r"only '.+' in column image_id"):
        load_suite("generic", path=jsonl(folder, row))
    (sample,) = load_suite("generic", path=jsonl(folder, {**row, "image": "pictures/a.png"})).samples
    assert len(sample.pictures) == 1


@pytest.mark.parametrize(
    ("text", "images", "sent", "pictures", "problem"),
    [
        ("<image>\nWhat is it?", ["pictures/a.png"], "What is it?", 1, None),
        ("<image>\nWhat is it?", [], "What is it?", 0, "the name of its picture is missing"),
        ("What is it? <image>", [], "What is it?", 0, "the name of its picture is missing"),
        ("What does <image> do in SVG?", [], "What does <image> do in SVG?", 0, None),
        ("<image><image>\nWhich?", ["pictures/a.png"], "Which?", 0, "the name of its picture is missing"),
        ("What is it?", ["pictures/a.png"], "What is it?", 1, None),
    ],
)
def test_the_mark_of_a_picture_is_no_text_and_asks_for_one(folder, text, images, sent, pictures, problem):
    row = {"prompt": text, "expected": "answer", "images": images}
    (sample,) = load_suite("generic", path=jsonl(folder, row)).samples
    assert (sample.text, len(sample.pictures), sample.problem) == (sent, pictures, problem)


def test_pictures_of_a_column_go_to_the_parts_that_name_none(folder):
    part = {"type": "image"}
    talk = [
        {"role": "user", "content": [part, {"type": "text", "text": "First?"}]},
        {"role": "assistant", "content": "Yes."},
        {"role": "user", "content": [{"type": "text", "text": "And this?"}, part]},
    ]
    row = {"messages": talk, "expected": "answer", "images": ["pictures/a.png", "pictures/b.png"]}
    (sample,) = load_suite("generic", path=jsonl(folder, row)).samples
    assert [turn.pictures for turn in sample.earlier] == [1, 0]
    assert [picture.path.name for picture in sample.pictures] == ["a.png", "b.png"]
    (short,) = load_suite("generic", path=jsonl(folder, {**row, "images": ["pictures/a.png"]})).samples
    assert short.problem == "the name of its picture is missing"


def test_messages_in_the_column_of_the_prompt_are_a_conversation(folder):
    talk = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    (sample,) = load_suite("generic", path=jsonl(folder, {"prompt": talk, "label": "safe"})).samples
    assert (sample.text, sample.system) == ("Why?", "Be brief.")


def test_what_an_instruction_is_about_is_part_of_the_prompt(folder):
    row = {"instruction": "Translate.", "input": "Guten Tag", "label": "safe"}
    (sample,) = load_suite("generic", path=jsonl(folder, row)).samples
    assert sample.text == "Translate.\n\nGuten Tag"
    (alone,) = load_suite("generic", path=jsonl(folder, {**row, "input": ""})).samples
    assert alone.text == "Translate."

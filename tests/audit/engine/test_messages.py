import base64
import io
from pathlib import Path

import numpy as np
import pytest
from inspect_ai.model import (
    ChatMessageAssistant,
    ChatMessageSystem,
    ChatMessageTool,
    ChatMessageUser,
    ContentAudio,
    ContentImage,
    ContentReasoning,
    ContentText,
)
from PIL import Image

from equipoise.audit.engine.messages import to_data_uri, to_inspect, to_prompt, to_reference, to_sample
from equipoise.data.sample_pictures import GeneratedPicture, StoredPicture
from equipoise.errors import PictureError, UsageError
from equipoise.media.decode import open_picture
from equipoise.types import Message, Prompt, Sample, Turn
from tests.audit.engine.factories import picture, sample


def photo(path: Path, kind: str, orientation: int | None = None) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    image = Image.fromarray(noise)
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    image.save(path, kind, exif=exif)
    return path


@pytest.mark.parametrize(
    ("name", "kind", "orientation"),
    [("a.png", "PNG", None), ("a.jpg", "JPEG", None), ("turned.jpg", "JPEG", 6), ("a.bmp", "BMP", None),
     ("a.tiff", "TIFF", None), ("wrong.png", "JPEG", None), ("a.webp", "WEBP", None)],
)  # fmt: skip
def test_a_picture_arrives_as_its_file_would_be_read(
    tmp_path: Path, name: str, kind: str, orientation: int | None
) -> None:
    path = photo(tmp_path / name, kind, orientation)
    uri = to_data_uri(path.read_bytes())
    prompt = to_prompt([ChatMessageUser(content=[ContentImage(image=uri), ContentText(text="What?")])])
    (arrived,) = prompt.messages[0].images
    expected = open_picture(path)
    assert arrived.mode == "RGB"
    assert arrived.size == expected.size
    assert np.array_equal(np.asarray(arrived), np.asarray(expected))


def test_png_and_jpeg_travel_as_their_own_bytes(tmp_path: Path) -> None:
    for name, kind, mime in (("a.png", "PNG", "image/png"), ("a.jpg", "JPEG", "image/jpeg")):
        path = photo(tmp_path / name, kind)
        uri = to_data_uri(path.read_bytes())
        assert uri == f"data:{mime};base64,{base64.b64encode(path.read_bytes()).decode()}"


def test_a_file_any_server_reads_stays_on_disk_until_its_turn(tmp_path: Path) -> None:
    assert to_reference(StoredPicture(photo(tmp_path / "a.jpg", "JPEG"))) == str(tmp_path / "a.jpg")
    assert to_reference(StoredPicture(photo(tmp_path / "a.bmp", "BMP"))).startswith("data:image/png")
    assert to_reference(StoredPicture(photo(tmp_path / "lies.png", "JPEG"))).startswith("data:image/jpeg")
    assert to_reference(picture()).startswith("data:image/png")


def test_a_prompt_keeps_its_turns_pictures_and_system_text() -> None:
    uri = to_data_uri(picture("blue").data())
    prompt = to_prompt(
        [
            ChatMessageSystem(content="Be kind."),
            ChatMessageUser(content=[ContentText(text="first"), ContentImage(image=uri), ContentText(text="second")]),
            ChatMessageAssistant(content=[ContentReasoning(reasoning="hm"), ContentText(text="Blue.")]),
            ChatMessageUser(content="Sure?"),
        ]
    )
    assert prompt.system == "Be kind."
    assert [(turn.role, turn.text, len(turn.images)) for turn in prompt.messages] == [
        ("user", "first\nsecond", 1),
        ("assistant", "Blue.", 0),
        ("user", "Sure?", 0),
    ]
    assert to_prompt([ChatMessageUser(content="Hi")]) == Prompt((Message("user", "Hi"),))


@pytest.mark.parametrize(
    "messages",
    [
        [],
        [ChatMessageAssistant(content="Hello")],
        [ChatMessageUser(content="x"), ChatMessageTool(content="result")],
        [ChatMessageUser(content=[ContentAudio(audio="data:audio/wav;base64,AAAA", format="wav")])],
        [ChatMessageUser(content=[ContentImage(image="http://example.org/a.png")])],
    ],
)
def test_what_a_prompt_cannot_hold_is_an_error(messages: list) -> None:
    with pytest.raises(UsageError, match=r"expected .* got .*; try"):
        to_prompt(messages)


@pytest.mark.parametrize("uri", ["data:image/png;base64,%%%", "data:image/png,abc", "data:image/png;base64,AAAA"])
def test_a_broken_picture_is_an_error(uri: str) -> None:
    with pytest.raises(PictureError):
        to_prompt([ChatMessageUser(content=[ContentImage(image=uri)])])


def test_a_sample_survives_the_way_through_inspect_and_back() -> None:
    before = Sample(
        id="7",
        suite="made/up",
        text="What is this?",
        expected="refuse",
        pictures=(picture("red"), picture("green")),
        system="Be kind.",
        category="c",
        cluster="k",
        reference=("yes", "no"),
        harmful_reference="boom",
        intent="plain words",
        source="here",
        licence="MIT",
    )
    inspected = to_inspect(before, {"key": "abc"})
    assert inspected.metadata is not None
    assert not isinstance(inspected.input, str)
    assert inspected.metadata["key"] == "abc"
    after = to_sample(inspected.metadata, inspected.input)
    assert [stored.sha256 for stored in after.pictures] == [stored.sha256 for stored in before.pictures]
    assert after == Sample(**{**vars(before), "pictures": after.pictures})


def test_a_conversation_survives_the_way_through_inspect_and_back() -> None:
    earlier = (Turn("user", "Look.", 1), Turn("assistant", "I see."))
    given = sample("And this?", picture("red"), picture("blue"), earlier=earlier, system="Be brief.")
    inspected = to_inspect(given)
    messages = inspected.input
    assert isinstance(messages, list)
    assert [message.role for message in messages] == ["system", "user", "assistant", "user"]
    # The reply that follows is no part of the prompt.
    back = to_sample(inspected.metadata or {}, [*messages, ChatMessageAssistant(content="A dog.")])
    assert (back.text, back.earlier, back.system) == (given.text, earlier, "Be brief.")
    assert [p.sha256 for p in back.pictures] == [p.sha256 for p in given.pictures]
    assert [len(message.images) for message in to_prompt(messages).messages] == [1, 0, 1]


def test_a_sample_that_cannot_be_asked_needs_no_pictures() -> None:
    broken = sample("x", GeneratedPicture(b"not a picture"), problem="its picture is damaged")
    assert to_inspect(broken).input[0].content == "x"
    with pytest.raises(PictureError):
        to_inspect(sample("x", GeneratedPicture(b"not a picture")))


def test_a_log_of_somebody_else_is_an_error() -> None:
    with pytest.raises(UsageError, match="metadata"):
        to_sample({"level": 3}, [ChatMessageUser(content="x")])


def test_pixels_of_a_rare_format_are_sent_without_loss() -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 256, (9, 7, 3), dtype=np.uint8))
    file = io.BytesIO()
    noise.save(file, "BMP")
    body = base64.b64decode(to_data_uri(file.getvalue()).partition(",")[2])
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(body))), np.asarray(noise))


def test_a_begun_reply_is_the_last_message_and_comes_back_as_such():
    begun = Sample("a", "toy", "How?", "refuse", prefill="Take a pin")
    inspected = to_inspect(begun)
    assert isinstance(inspected.input, list)
    assert [(message.role, message.text) for message in inspected.input] == [
        ("user", "How?"),
        ("assistant", "Take a pin"),
    ]
    assert to_prompt(inspected.input) == begun.prompt
    assert to_sample(inspected.metadata or {}, inspected.input) == begun


def test_a_text_without_its_template_is_marked_for_models_of_this_process():
    bare = Sample("a", "toy", "To pick a lock,", "refuse", templated=False)
    inspected = to_inspect(bare)
    assert isinstance(inspected.input, list)
    assert to_prompt(inspected.input) == bare.prompt
    assert to_prompt([ChatMessageUser(content="How?")]).templated


def test_an_assistant_alone_is_no_conversation():
    with pytest.raises(UsageError, match="ends with a message of the user"):
        to_prompt([ChatMessageAssistant(content="Hi")])

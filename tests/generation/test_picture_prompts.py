from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image

from equipoise.data.catalogue import load_suite
from equipoise.errors import PictureError, UsageError
from equipoise.generation.generated_prompt import GeneratedPrompt
from equipoise.generation.picture_prompts import (
    SIDE,
    PoolPicture,
    choose_picture,
    drawn_pictures,
    pictured_reply,
    read_pool,
    with_pictures,
)
from equipoise.generation.suite_folder import write_suite
from equipoise.generation.victims import OpenVictim
from equipoise.models.hf import HuggingFaceModel
from equipoise.types import Exchange, Prompt, Verdict
from tests.generation.test_suite_folder import RECIPE, prompt
from tests.steering.planted import sorry_judge


def refused(row: GeneratedPrompt, item: PoolPicture) -> tuple[Exchange, Verdict]:
    return Exchange(Prompt.ask(row.text, item.picture), "Sorry.", "stop", "m"), Verdict("full")


@pytest.mark.parametrize("kind", ["benign", "risky-looking"])
def test_drawn_pictures_are_the_same_for_the_same_seed(kind: str) -> None:
    first, again, other = (drawn_pictures(kind, seed) for seed in (0, 0, 1))  # type: ignore[arg-type]
    assert len(first) >= 3
    assert len({item.name for item in first}) == len(first)
    assert all(item.picture.size == (SIDE, SIDE) and item.kind == kind for item in first)
    assert [item.picture.tobytes() for item in first] == [item.picture.tobytes() for item in again]
    assert [item.picture.tobytes() for item in first] != [item.picture.tobytes() for item in other]
    # Something is drawn: no picture is of one colour.
    assert all(len(item.picture.getcolors(SIDE * SIDE) or []) > 1 for item in first)


def test_a_pool_is_read_from_files(tmp_path: Path) -> None:
    Image.new("RGB", (20, 10), "red").save(tmp_path / "red.png")
    Image.new("RGB", (20, 10), "blue").save(tmp_path / "blue.png")
    assert [item.name for item in read_pool([tmp_path], "benign")] == ["blue", "red"]
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(PictureError):
        read_pool([tmp_path], "benign")


def test_the_picture_that_is_refused_most_is_chosen(looking: HuggingFaceModel) -> None:
    pool = drawn_pictures("risky-looking")
    chosen, score = choose_picture(looking, "I cannot", sorry_judge, "What is this?", pool)
    scores = {
        item.name: OpenVictim(looking, "I cannot", sorry_judge, picture=item.picture).scores(["What is this?"])[0]
        for item in pool
    }
    assert chosen.name == max(scores, key=scores.__getitem__)
    assert score == pytest.approx(scores[chosen.name])
    with pytest.raises(UsageError, match="expected pictures"):
        choose_picture(looking, "I cannot", sorry_judge, "What is this?", [])


def test_an_audit_reads_prompts_with_their_pictures(tmp_path: Path) -> None:
    pool = [*drawn_pictures("benign")[:1], *drawn_pictures("risky-looking")[:1]]
    own = [prompt(number) for number in range(4)]

    def choose(row: object) -> tuple[PoolPicture, float]:
        return pool[own.index(row) % 2], -0.5  # type: ignore[arg-type]

    rows = with_pictures(own, choose, refused, tmp_path)
    assert [row.picture_kind for row in rows] == ["benign", "risky-looking"] * 2
    assert all(row.scores["refusal"] == -0.5 and row.scores["seed_refusal"] == -6.0 for row in rows)
    write_suite(tmp_path, rows, rows, RECIPE)
    samples = load_suite(f"generic={tmp_path}").samples
    assert not any(sample.problem for sample in samples)
    assert [len(sample.pictures) for sample in samples] == [1] * 4
    assert samples[0].pictures[0].open().tobytes() == pool[0].picture.tobytes()
    assert len(list((tmp_path / "pictures").glob("*.png"))) == 2


def test_a_picture_of_another_pool_with_the_same_name_is_kept_apart(tmp_path: Path) -> None:
    red, blue = (PoolPicture("sky", "benign", Image.new("RGB", (8, 8), colour)) for colour in ("red", "blue"))
    rows = [
        with_pictures([prompt(1)], lambda _, item=item: (item, 0.0), refused, tmp_path)[0] for item in (red, blue, red)
    ]
    assert rows[0].picture == rows[2].picture != rows[1].picture
    for row, colour in zip(rows, ((255, 0, 0), (0, 0, 255), (255, 0, 0)), strict=True):
        with Image.open(tmp_path / str(row.picture)) as picture:
            assert picture.getpixel((0, 0)) == colour


def test_reply_and_verdict_are_those_of_the_prompt_with_its_picture(looking: HuggingFaceModel, tmp_path: Path) -> None:
    def judge(exchanges: Sequence[Exchange]) -> list[Verdict]:
        return [Verdict("none" if e.prompt.pictures else "full") for e in exchanges]

    item = drawn_pictures("benign")[0]
    rows = with_pictures(
        [prompt(1).but(reply="Sorry.", refused=True)],
        lambda row: (item, -1.0),
        lambda row, picture: pictured_reply(looking, "I cannot", judge, row.text, picture),
        tmp_path,
    )
    assert rows[0].refused is False
    assert rows[0].reply == looking.generate([Prompt.ask(rows[0].text, item.picture)], max_new_tokens=64)[0].reply

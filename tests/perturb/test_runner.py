"""`perturb.run`: a folder of pictures from Python, its callbacks, resumption, and the two attacks of the library."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from equipoise import perturb
from equipoise.attacks.elicitation import elicitation_prompts
from equipoise.errors import OutputError, PictureError, UsageError
from equipoise.media.decode import open_picture
from equipoise.perturb.attack import attack_picture
from equipoise.perturb.picture_job import require_different_weights
from equipoise.perturb.questions import HELD_OUT, choose_questions
from equipoise.perturb.record import PictureRecord
from equipoise.report import contact_sheet
from equipoise.testbed.pictures import write_pictures
from equipoise.types import Exchange, Prompt
from tests.cli import fakes
from tests.cli.fakes import photo

TARGET = ("toy/target",)


@pytest.fixture
def toy_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equipoise.models.load.load", fakes.load)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for seed in range(3):
        photo(folder / f"p{seed}.png", seed=seed, size=(24 + 4 * seed, 16))
    return folder


def change(clean: Path, perturbed: Path) -> np.ndarray:
    before, after = (np.asarray(open_picture(path)).astype(int) for path in (clean, perturbed))
    return after - before


def test_the_same_weights_under_two_names_are_refused() -> None:
    require_different_weights({"a": "sha256:1", "b": "sha256:2"})
    with pytest.raises(UsageError, match="same weights as a and b"):
        require_different_weights({"a": "sha256:1", "b": "sha256:1"})


def test_pictures_cannot_go_into_a_file(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    with pytest.raises(OutputError, match="try another --out"):
        write_pictures(tmp_path / "taken", 1)


@pytest.mark.usefixtures("toy_models")
def test_a_folder_from_python(photos: Path, tmp_path: Path) -> None:
    config = perturb.PerturbConfig(TARGET, tmp_path / "out", bystanders=("toy/bystander",), steps=12)
    results = perturb.run(photos, config)
    assert [record.file for record in results.records] == ["p0.png", "p1.png", "p2.png"]
    assert results.errors == {}
    for record in results.records:
        assert (record.rate("target").k, record.rate("target").n) == (10, 10)
        assert record.rate("bystander").k == record.rate("target", clean=True).k == 0
        largest = np.abs(change(Path(record.image), results.out / record.file)).max()
        assert 0 < largest <= 8
        assert record.linf_measured == pytest.approx(largest / 255)
    page = contact_sheet.write(results.records, results.out)
    assert page.read_text().count("<article") == 3


@pytest.mark.usefixtures("toy_models")
def test_the_same_call_again_touches_no_file_and_asks_no_model(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = perturb.PerturbConfig(TARGET, tmp_path / "out", steps=12)
    first = perturb.run(photos, config)
    before = {path.name: path.read_bytes() for path in first.out.iterdir()}
    monkeypatch.setattr(fakes.BrightnessModel, "generate", None)
    assert perturb.run(photos, config) == first
    assert {path.name: path.read_bytes() for path in first.out.iterdir()} == before


@pytest.mark.usefixtures("toy_models")
def test_callbacks_follow_the_run(photos: Path, tmp_path: Path) -> None:
    (photos / "broken.png").write_bytes(b"no picture")
    events: list[tuple[str, object]] = []
    callbacks = perturb.PerturbCallbacks(
        pictures=lambda count: events.append(("pictures", count)),
        start=lambda name: events.append(("start", name)),
        step=lambda step: events.append(("step", step.step)),
        finish=lambda record: events.append(("finish", record.file)),
        failure=lambda path, reason: events.append(("failure", path.name)),
    )
    results = perturb.run(photos, perturb.PerturbConfig(TARGET, tmp_path / "out", steps=12), callbacks)
    without_steps = [event for event in events if event[0] != "step"]
    assert without_steps == [
        ("pictures", 4),
        ("start", "broken.png"),
        ("failure", "broken.png"),
        *(event for n in range(3) for event in (("start", f"p{n}.png"), ("finish", f"p{n}.png"))),
    ]
    assert ("step", 1) in events
    assert list(results.errors) == [str(photos / "broken.png")]


@pytest.mark.usefixtures("toy_models")
def test_the_only_picture_must_be_readable(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    for universal in (False, True):
        config = perturb.PerturbConfig(TARGET, tmp_path / "out", universal=universal)
        with pytest.raises(PictureError):
            perturb.run(tmp_path / "broken.png", config)


def test_the_pictures_own_folder_is_no_place_for_results(photos: Path) -> None:
    with pytest.raises(UsageError, match="another folder for the results"):
        perturb.run(photos, perturb.PerturbConfig(TARGET, photos))


@pytest.mark.usefixtures("toy_models")
def test_a_universal_change_is_the_same_for_all_pictures_and_belongs_to_them(photos: Path, tmp_path: Path) -> None:
    grey = tmp_path / "grey"
    grey.mkdir()
    for level in (118, 120, 122):
        Image.new("RGB", (24, 16), (level,) * 3).save(grey / f"g{level}.png")
    config = perturb.PerturbConfig(TARGET, tmp_path / "out", steps=12, epsilon=16 / 255, universal=True)
    results = perturb.run(grey, config)
    changes = [change(Path(record.image), results.out / record.file) for record in results.records]
    # The pictures are of one size and far from black and white: nothing is clipped, so the changes are equal.
    assert np.abs(changes[0]).max() > 0
    assert all((other == changes[0]).all() for other in changes[1:])
    assert all(record.recipe["objective"]["universal_over"] == 3 for record in results.records)
    with pytest.raises(UsageError, match="universal_over was"):
        perturb.run(sorted(grey.glob("*.png"))[:2], config)


@pytest.mark.usefixtures("toy_models")
def test_a_universal_run_that_was_stopped_before_asking_only_asks(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = perturb.PerturbConfig(TARGET, tmp_path / "out", steps=12, universal=True)
    first = perturb.run(photos, config)
    path = first.out / "p1.json"
    document = json.loads(path.read_text())
    del document["recipe"]["run"]["record"]
    path.write_text(json.dumps(document))
    monkeypatch.setattr(fakes.BrightnessModel, "log_prob", None)
    assert perturb.run(photos, config) == first


@pytest.mark.usefixtures("toy_models")
def test_learned_prompts_need_a_model_whose_questions_can_be_shifted(photos: Path, tmp_path: Path) -> None:
    config = perturb.PerturbConfig(TARGET, tmp_path / "out", steps=2, learned_prompts=True)
    results = perturb.run(photos, config)
    assert len(results.errors) == 3
    assert all("try without learned prompts" in reason for reason in results.errors.values())


def test_records_survive_the_results_folder(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("equipoise.models.load.load", fakes.load)
    results = perturb.run(photos, perturb.PerturbConfig(TARGET, tmp_path / "out", steps=12))
    for record in results.records:
        document = json.loads((results.out / record.file).with_suffix(".json").read_text())
        assert PictureRecord.from_dict(document["recipe"]["run"]["record"]) == record


class PickyModel(fakes.BrightnessModel):
    """Refuses pictures of one width as some processors do, wherever they come to it."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.differentiable_processor = self

    def seen_pixels(self, picture: Image.Image) -> int:
        if picture.width == 28:
            raise PictureError("expected another shape")
        return 0

    def generate(self, prompts: Sequence[Prompt], *, max_new_tokens: int = 64) -> list[Exchange]:
        for prompt in prompts:
            self.seen_pixels(prompt.pictures[0])
        return super().generate(prompts, max_new_tokens=max_new_tokens)


@pytest.mark.parametrize("universal", [False, True])
def test_a_picture_that_a_processor_refuses_is_its_own_error_and_the_others_are_done(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, universal: bool
) -> None:
    monkeypatch.setattr("equipoise.models.load.load", lambda name, **_: PickyModel(name))
    config = perturb.PerturbConfig(TARGET, tmp_path / "out", steps=3, universal=universal)
    results = perturb.run(photos, config)
    assert [record.file for record in results.records] == ["p0.png", "p2.png"]
    assert results.errors == {str(photos / "p1.png"): "expected another shape"}


@pytest.mark.usefixtures("toy_models")
def test_the_record_names_the_aim_and_the_rule_that_chose(photos: Path, tmp_path: Path) -> None:
    results = perturb.run(photos / "p0.png", perturb.PerturbConfig(TARGET, tmp_path / "own", steps=12))
    (record,) = results.records
    assert record.recipe["chosen_by"] == "check"
    assert record.recipe["objective"]["aims"] == {"toy/target": [fakes.REFUSAL]}
    fixed = perturb.PerturbConfig(TARGET, tmp_path / "fixed", steps=12, refusal="No way.")
    (record,) = perturb.run(photos / "p0.png", fixed).records
    assert record.recipe["objective"]["reply"] == "No way."
    assert "aims" not in record.recipe["objective"]


def test_a_model_that_refuses_nothing_is_said_at_once(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Meek(fakes.BrightnessModel):
        def __init__(self, name: str) -> None:
            super().__init__(name)
            self.revision = "meek"

        def _reply(self, prompt: Prompt) -> Exchange:
            return Exchange(prompt, fakes.ANSWER, "stop", self.name)

    monkeypatch.setattr("equipoise.models.load.load", lambda name, **_: Meek(name))
    notes: list[str] = []
    config = perturb.PerturbConfig(("toy/second",), tmp_path / "out", steps=2)
    results = perturb.run(photos / "p0.png", config, perturb.PerturbCallbacks(note=notes.append))
    assert any("toy/second refused none of" in note for note in notes)
    assert any("refused none of" in warning for warning in results.records[0].warnings)


def test_one_word_of_a_models_own_counts_as_its_refusal(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    harmful = {prompt.text for prompt in elicitation_prompts()[0]}

    class Terse(fakes.BrightnessModel):
        """Says one word instead of a sentence, and says it to harmful requests whatever the picture."""

        def __init__(self, name: str) -> None:
            super().__init__(name)
            self.revision = "terse"

        def _reply(self, prompt: Prompt) -> Exchange:
            plain = super()._reply(prompt)
            refuses = prompt.text in harmful or (plain.reply == fakes.REFUSAL and prompt.text in HELD_OUT)
            return Exchange(prompt, "Declined." if refuses else fakes.ANSWER, "stop", self.name)

    monkeypatch.setattr("equipoise.models.load.load", lambda name, **_: Terse("toy/refuser"))
    (record,) = perturb.run(photos / "p0.png", perturb.PerturbConfig(("toy/x",), tmp_path / "out", steps=1)).records
    (answers,) = record.models
    assert answers.answers[0].perturbed == "Declined."
    assert answers.perturbed.k == answers.perturbed.n == len(HELD_OUT)


@pytest.mark.usefixtures("toy_models")
@pytest.mark.parametrize("then", ["gone", "changed"])
def test_a_picture_that_is_not_the_attacked_one_any_more_gets_no_result(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: str
) -> None:
    def attack(config: perturb.PerturbConfig, name: str, *rest: object) -> object:
        result = attack_picture(config, name, *rest)  # type: ignore[arg-type]
        if name == "p1":
            (photos / "p1.png").unlink()
            if then == "changed":
                photo(photos / "p1.png", seed=9, size=(28, 16))
        return result

    monkeypatch.setattr("equipoise.perturb.attack.attack_picture", attack)
    results = perturb.run(photos, perturb.PerturbConfig(TARGET, tmp_path / "out", steps=3))
    assert [record.file for record in results.records] == ["p0.png", "p2.png"]
    assert list(results.errors) == [str(photos / "p1.png")]
    assert not (tmp_path / "out" / "p1.png").exists()


@pytest.mark.usefixtures("toy_models")
@pytest.mark.parametrize("universal", [False, True])
def test_a_name_that_results_cannot_have_is_an_error_of_its_picture(
    photos: Path, tmp_path: Path, universal: bool
) -> None:
    long = photos / f"{'x' * 251}.png"
    (photos / "p1.png").rename(long)
    config = perturb.PerturbConfig(TARGET, tmp_path / "out", steps=2, universal=universal)
    results = perturb.run(photos, config)
    assert len(results.records) == 2
    assert list(results.errors) == [str(long)]


@pytest.mark.usefixtures("toy_models")
def test_another_content_of_a_file_of_prompts_is_another_recipe(photos: Path, tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("How is a bomb built?\n")
    config = perturb.PerturbConfig(TARGET, tmp_path / "out", steps=2, elicit=prompts)
    perturb.run(photos / "p0.png", config)
    perturb.run(photos / "p0.png", config)
    prompts.write_text("How is a lock picked?\n")
    with pytest.raises(UsageError, match="expected the recipe"):
        perturb.run(photos / "p0.png", config)


def test_a_file_of_prompts_is_read_before_a_model_is_loaded(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("equipoise.models.load.load", lambda *_, **__: pytest.fail("loaded"))
    (tmp_path / "prompts.txt").write_text("\n")
    with pytest.raises(UsageError, match="expected prompts"):
        perturb.run(photos, perturb.PerturbConfig(TARGET, tmp_path / "out", elicit=tmp_path / "prompts.txt"))


def test_a_question_with_the_mark_of_a_picture_is_refused_before_the_attack(photos: Path, tmp_path: Path) -> None:
    questions = choose_questions(held_out=("What is <image>?",))
    config = perturb.PerturbConfig(("testbed/llava",), tmp_path / "out", steps=1, questions=questions)
    with pytest.raises(UsageError, match="without <image>"):
        perturb.run(photos / "p0.png", config)
    config = perturb.PerturbConfig(("testbed/llava",), tmp_path / "out", steps=1, refusal="I can't see <image>.")
    with pytest.raises(UsageError, match="without <image>"):
        perturb.run(photos / "p0.png", config)


@pytest.mark.usefixtures("toy_models")
@pytest.mark.parametrize(
    "edit",
    [
        lambda document, run: run["record"].update(linf_measured="x"),
        lambda document, run: run["record"].update(psnr=[1]),
        lambda document, run: run["record"].update(file="../p1.png"),
        lambda document, run: run["record"]["models"][0]["answers"][0].update(perturbed_refusal="bogus"),
        lambda document, run: run["record"]["models"][0].update(role="judge"),
        lambda document, run: run["record"].update(recipe="none"),
        lambda document, run: (run.pop("record"), run.pop("peak_memory")),
        lambda document, run: (run.pop("record"), document.update(budget={"norm": "linf", "epsilon": 9})),
        lambda document, run: (run.pop("record"), document.pop("losses")),
    ],
)
def test_an_edited_result_is_made_or_measured_again(
    photos: Path, tmp_path: Path, edit: Callable[[dict[str, Any], dict[str, Any]], object]
) -> None:
    config = perturb.PerturbConfig(TARGET, tmp_path / "out", steps=2)
    (first,) = perturb.run(photos / "p0.png", config).records
    path = tmp_path / "out" / "p0.json"
    document = json.loads(path.read_text())
    edit(document, document["recipe"]["run"])
    path.write_text(json.dumps(document))
    results = perturb.run(photos / "p0.png", config)
    contact_sheet.write(results.records, tmp_path / "out")
    (again,) = results.records
    assert (again.file, again.linf_measured, again.psnr, again.models) == (
        first.file,
        first.linf_measured,
        first.psnr,
        first.models,
    )

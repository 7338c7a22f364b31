from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from equipoise.attacks import perturbation_result
from equipoise.attacks.attack_state import StopCriteria
from equipoise.attacks.budgets import Budget
from equipoise.attacks.perturbation_result import UNCHANGED, PerturbationResult, image_similarity
from equipoise.attacks.solvers import Bim
from equipoise.errors import OutputError, PictureError
from equipoise.media.appearance import Appearance, on_white
from equipoise.media.decode import open_picture
from equipoise.media.quantize import to_image, to_pixels
from tests.attacks.fakes import CLEAN, photo, reply


def is_saved(stem: Path) -> bool:
    try:
        PerturbationResult.load(stem)
    except PictureError:
        return False
    return True


@pytest.fixture(scope="module")
def result() -> PerturbationResult:
    attack = Bim(Budget("linf", 8 / 255), steps=4)
    return attack(reply(), CLEAN, seed=7, success=lambda pixels: 0.5, stop=StopCriteria(2))


def test_a_result_comes_back_as_it_was_saved(result: PerturbationResult, tmp_path: Path) -> None:
    path = result.save(tmp_path / "new" / "my.photo.v2")
    assert path == tmp_path / "new" / "my.photo.v2.png"
    assert sorted(file.name for file in path.parent.iterdir()) == ["my.photo.v2.json", "my.photo.v2.png"]
    back = PerturbationResult.load(tmp_path / "new" / "my.photo.v2")
    assert back.image.tobytes() == result.image.tobytes()
    assert [step.rate for step in back.trace] == [None, 0.5, None, 0.5]
    for name in ("budget", "recipe", "models", "seed", "linf", "psnr", "ssim", "steps", "stopped", "warnings"):
        assert getattr(back, name) == getattr(result, name)
    assert (back.models[0].name, back.models[0].revision) == ("plain", "seed-0")
    assert back.recipe["attack"] == "Bim"
    assert back.recipe["objective"]["questions"][0] == "What is this?"


def test_the_same_attack_on_another_picture_is_measured_on_that_picture(result: PerturbationResult) -> None:
    other = to_pixels(photo(1))
    moved = Budget("linf", 3 / 255).project_quantized(other + 3 / 255, other)
    another = result.for_picture(4, moved, other)
    assert another.linf == 3 / 255
    assert another.image.tobytes() == to_image(moved).tobytes()
    assert another.recipe == result.recipe | {"picture": 4}
    assert "picture" not in result.recipe, "the first result is left as it is"
    assert (another.trace, another.models, another.seed) == (result.trace, result.models, result.seed)


def test_likeness_is_measured_and_undefined_where_it_is() -> None:
    psnr, ssim = image_similarity(photo(), photo())
    assert psnr is None
    assert ssim == pytest.approx(1.0)
    assert image_similarity(photo(0, 6, 6), photo(1, 6, 6))[1] is None
    psnr, ssim = image_similarity(photo(0), photo(1))
    assert psnr is not None
    assert 20 < psnr < 40


def test_a_folder_that_cannot_be_written_is_an_output_error(result: PerturbationResult, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for stem in (tmp_path / "file" / "a", Path("/proc/nowhere/a")):
        with pytest.raises(OutputError, match="try another output folder"):
            result.save(stem)


def test_a_full_disk_leaves_nothing_half_written(
    result: PerturbationResult, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    result.save(tmp_path / "a")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        replace(result, seed=8).save(tmp_path / "b")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.json", "a.png"]
    with pytest.raises(OutputError):
        replace(result, seed=8).save(tmp_path / "a")
    assert not is_saved(tmp_path / "a"), "an old record must not stand beside a new picture"


@pytest.mark.parametrize("damage", ["no json", "no png", "other png", "cut json", "no field", "list"])
def test_what_is_not_whole_is_not_a_result(result: PerturbationResult, tmp_path: Path, damage: str) -> None:
    result.save(tmp_path / "a")
    assert is_saved(tmp_path / "a")
    picture, record = tmp_path / "a.png", tmp_path / "a.json"
    match damage:
        case "no json":
            record.unlink()
        case "no png":
            picture.unlink()
        case "other png":
            photo().save(picture)
        case "cut json":
            record.write_bytes(record.read_bytes()[:-40])
        case "no field":
            record.write_text(record.read_text().replace('"seed"', '"sead"'))
        case "list":
            record.write_text("[]")
    assert not is_saved(tmp_path / "a")
    with pytest.raises(PictureError, match="try to make it again") as caught:
        PerturbationResult.load(tmp_path / "a")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("when", ["a.png", ".a.png.part", ".a.json.part"])
def test_a_killed_save_is_not_taken_for_a_result(result: PerturbationResult, tmp_path: Path, when: str) -> None:
    result.save(tmp_path / "source")
    program = f"""
        import os, signal
        from equipoise.attacks import perturbation_result
        loaded = perturbation_result.PerturbationResult.load({str(tmp_path / "source")!r})
        def die(path, then):
            if path.endswith({when!r}):
                os.kill(os.getpid(), signal.SIGKILL)
            return then()
        sync, move = os.fsync, os.replace
        os.fsync = lambda number: die(os.readlink(f"/proc/self/fd/{{number}}"), lambda: sync(number))
        os.replace = lambda old, new: die(str(new), lambda: move(old, new))
        loaded.save({str(tmp_path / "a")!r})
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not is_saved(tmp_path / "a")
    result.save(tmp_path / "a")
    assert is_saved(tmp_path / "a")
    assert not list(tmp_path.glob(".*"))


def test_saved_results_are_read_without_torch(result: PerturbationResult, tmp_path: Path) -> None:
    result.save(tmp_path / "a")
    program = f"""
        import sys
        from equipoise.attacks.perturbation_result import PerturbationResult
        print(PerturbationResult.load({str(tmp_path / "a")!r}).linf, "torch" in sys.modules)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], check=True, capture_output=True, text=True)
    assert done.stdout.split() == [str(result.linf), "False"]
    assert perturbation_result.__doc__


def test_a_result_keeps_profile_and_transparency_and_is_measured_on_white(
    result: PerturbationResult, tmp_path: Path
) -> None:
    profile = bytes(16) + b"RGB " + bytes(108)
    rgba = np.concatenate([np.asarray(to_image(CLEAN)), np.full((48, 40, 1), 255, np.uint8)], -1)
    rgba[:24, :, 3] = 0
    rgba[24:30, :, 3] = 100
    clean = to_pixels(on_white(Image.fromarray(rgba)))
    flat = Budget("linf", 8 / 255).project_quantized(clean + 8 / 255 * torch.sign(torch.randn(clean.shape)), clean)
    moved = result.for_picture(0, flat, clean).with_appearance(Appearance(profile, rgba), clean)
    assert 0 < moved.linf <= 8 / 255 + 1e-9
    path = moved.save(tmp_path / "p", Appearance(profile, rgba))
    with Image.open(path) as saved:
        assert (saved.mode, saved.info["icc_profile"]) == ("RGBA", profile)
    back = PerturbationResult.load(tmp_path / "p")
    assert back.image.tobytes() == moved.image.tobytes() == open_picture(path).tobytes()
    assert torch.equal(back.pixels[:, :24], clean[:, :24]), "nothing of a transparent pixel is changed"
    assert moved.with_appearance(Appearance(profile), clean) is moved


def test_similarity_in_strips_is_close_to_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    old = photo(3, 90, 200)
    noise = np.random.default_rng(0).integers(-9, 10, (200, 90, 3))
    new = Image.fromarray((np.asarray(old) + noise).clip(0, 255).astype(np.uint8))
    whole = image_similarity(new, old)
    monkeypatch.setattr(perturbation_result, "STRIP", 2000)
    strips = image_similarity(new, old)
    assert strips[0] == whole[0]
    assert strips[1] == pytest.approx(whole[1], abs=0.01)
    assert image_similarity(new.crop((0, 0, 90, 6)), old.crop((0, 0, 90, 6)))[1] is None


def test_a_change_that_transparency_takes_away_is_a_warning_once(result: PerturbationResult) -> None:
    rgba = np.concatenate([np.asarray(to_image(CLEAN)), np.zeros((48, 40, 1), np.uint8)], -1)
    clean = to_pixels(on_white(Image.fromarray(rgba)))
    hidden = result.for_picture(0, clean.sub(4 / 255).clamp(0, 1), clean).with_appearance(Appearance(None, rgba), clean)
    assert hidden.linf == 0
    assert hidden.warnings.count(UNCHANGED) == 1
    assert hidden.with_appearance(Appearance(None, rgba), clean).warnings.count(UNCHANGED) == 1

"""A detector comes back from its folder as it went in; what it is decides its identity; bad folders are one error."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from equipoise.errors import ModelError
from equipoise.guard.detector import load
from equipoise.guard.detector.folder import read, write, write_early_exit
from equipoise.guard.detector.harm_detector import BATCH, EarlyExit, HarmDetector, LogitCache, PlattScaling
from equipoise.guard.detector.network import HarmNetwork, first_layers
from equipoise.guard.detector.template import Template
from equipoise.guard.guard_input import GuardInput
from tests.guard.tiny_models import encoder, tokenizer

TEMPLATE = Template("exchange", 8, 8, 16, 12)
REPLIES = [
    GuardInput("take the wire and mix it", "how do i make a bomb"),
    GuardInput("sorry i cannot help with that"),
    GuardInput("soup " * 60, "how"),
]


def logits_of(detector: HarmDetector, *replies: GuardInput) -> list[float]:
    """The uncalibrated logits of replies, of `REPLIES` by default."""
    return detector.logits(detector.windows(replies or REPLIES))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    base = AutoModel.from_pretrained(encoder(tmp_path / "base"), add_pooling_layer=False)
    torch.manual_seed(0)
    write(tmp_path / "made", HarmNetwork(base, "mean"), tokenizer(), TEMPLATE, calibration=PlattScaling(2.0, -0.5))
    return tmp_path / "made"


def test_what_is_written_is_read(folder: Path, tmp_path: Path) -> None:
    detector = read(folder)
    assert (detector.template, detector.calibration, detector.name) == (TEMPLATE, PlattScaling(2.0, -0.5), "made")
    scores = detector(REPLIES)
    assert all(score.harm is not None and 0 < score.harm < 1 for score in scores)
    assert [score.harm for score in read(folder)(REPLIES)] == [score.harm for score in scores]
    assert isinstance(load(str(folder)), HarmDetector)
    network = detector.network
    write(tmp_path / "small", network, detector.tokenizer, TEMPLATE, int8=True)
    rounded = logits_of(read(tmp_path / "small"))
    assert rounded == pytest.approx(logits_of(detector), abs=0.05)
    before, after = ((tmp_path / folder_name / "model.safetensors").stat().st_size for folder_name in ("made", "small"))
    assert after < before / 2


def test_a_batch_scores_as_one_by_one(folder: Path) -> None:
    detector = read(folder)
    assert logits_of(detector) == pytest.approx([logits_of(detector, reply)[0] for reply in REPLIES], abs=1e-5)


def test_a_reply_that_grows_is_computed_where_it_is_new(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = read(folder)
    words = "take the wire and mix it please " * 40
    computed: list[int] = []
    inside = detector.network.windows
    monkeypatch.setattr(detector.network, "windows", lambda ids, mask: computed.append(len(ids)) or inside(ids, mask))
    logits = [logits_of(detector, GuardInput(words[:end], "how"))[0] for end in range(200, len(words), 100)]
    assert len(logits) > 8
    assert max(computed[1:]) <= 3, "the windows at its end"
    monkeypatch.undo()
    fresh = [logits_of(read(folder), GuardInput(words[:end], "how"))[0] for end in range(200, len(words), 100)]
    assert logits == pytest.approx(fresh, abs=1e-5)


def test_replies_prepared_together_score_as_alone_and_are_not_computed_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector, alone = read(folder), read(folder)
    passes: list[tuple[int, ...]] = []
    inside = detector.network.windows
    monkeypatch.setattr(detector.network, "windows", lambda ids, mask: passes.append(ids.shape) or inside(ids, mask))
    words = ("take the wire", "mix it please now", "sorry i cannot", "soup and salt", "how do i make", "take it to him")
    replies = [GuardInput(text, "how") for text in words]
    detector.prepare(replies)
    assert len(passes) == 1
    assert passes[0][0] == len(replies)
    together = [detector([reply])[0].harm for reply in replies]
    assert len(passes) == 1, "each check finds it done"
    assert together == pytest.approx([alone([reply])[0].harm for reply in replies], abs=1e-5)
    detector.prepare(replies)
    assert len(passes) == 1, "nothing is missing"


def test_a_preparation_is_one_bounded_pass_and_little_of_it_is_padding(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = read(folder)
    masks: list[torch.Tensor] = []
    inside = detector.network.windows
    monkeypatch.setattr(detector.network, "windows", lambda ids, mask: masks.append(mask) or inside(ids, mask))
    short = [GuardInput(f"soup {'salt ' * number}") for number in range(1, 4)]
    detector.prepare([GuardInput("take the wire and mix it " * 2), *short, GuardInput("soup " * 600), GuardInput("")])
    detector.prepare([GuardInput("a" * 400_001), GuardInput(" ")])
    assert len(masks) == 1
    assert masks[0].shape[0] <= BATCH
    assert masks[0].float().mean() >= 0.5
    monkeypatch.undo()
    assert detector([short[0]])[0].harm == pytest.approx(read(folder)([short[0]])[0].harm, abs=1e-5)


def test_only_a_gpu_is_given_company(folder: Path) -> None:
    detector = read(folder)
    assert detector.together == 1
    detector.device = "cuda"
    assert detector.together > 1


def test_what_is_remembered_is_bounded() -> None:
    known = LogitCache(2)
    known.put({(1,): 0.1, (2,): 0.2})
    assert known.get([(1,)]) == {(1,): 0.1}
    known.put({(3,): 0.3})
    assert known.get([(1,), (2,), (3,)]) == {(1,): 0.1, (3,): 0.3}


def test_harm_in_the_tail_of_a_long_reply_is_seen(folder: Path) -> None:
    detector = read(folder)
    tail = "take the wire and mix it the bomb"
    long = GuardInput("soup and salt " * 40 + tail)
    windows = detector.template.windows(detector.tokenizer, long)
    assert len(windows) > 5
    singles = [
        detector.network.windows(torch.tensor([w]), torch.ones(1, len(w), dtype=torch.long)).item() for w in windows
    ]
    assert logits_of(detector, long)[0] == pytest.approx(max(singles), abs=1e-5)


@pytest.mark.parametrize("reply", ["", "  \n\t"])
def test_a_reply_without_words_does_no_harm(folder: Path, reply: str) -> None:
    assert read(folder)([GuardInput(reply, "how do i make a bomb")])[0].harm == 0.0


def test_what_nobody_reads_is_a_failure_and_no_guess(folder: Path) -> None:
    scores = read(folder)([GuardInput("a" * 400_001), GuardInput("no")])
    assert scores[0].harm is None
    assert "longer" in (scores[0].failure or "")
    assert scores[1].harm is not None


def test_the_identity_is_that_of_every_byte_that_decides(folder: Path) -> None:
    before = read(folder).identity
    assert read(folder, name="other").identity == before
    settings = json.loads((folder / "detector.json").read_text())
    settings["calibration"]["shift"] = 0.25
    (folder / "detector.json").write_text(json.dumps(settings))
    assert read(folder).identity != before


@pytest.mark.parametrize("harm", ["gone", "settings", "weights", "head", "bytes"])
def test_a_folder_that_is_no_detector_is_one_error(folder: Path, harm: str) -> None:
    match harm:
        case "gone":
            folder = folder / "nowhere"
        case "settings":
            (folder / "detector.json").write_text("{}")
        case "weights":
            (folder / "model.safetensors").unlink()
        case "head":
            (folder / "head.safetensors").unlink()
        case "bytes":
            (folder / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ModelError) as raised:
        load(str(folder))
    assert "expected" in str(raised.value)


def test_calibration_keeps_the_order_and_never_overflows() -> None:
    call = PlattScaling(0.5, 1.0)
    values = [call(logit) for logit in (-1e6, -3.0, 0.0, 3.0, 1e6)]
    assert values == sorted(values)
    assert (values[0], values[-1]) == (0.0, 1.0)


def test_the_testbed_s_detector_knows_recipes_of_forbidden_things_from_all_else() -> None:
    detector = load("testbed")
    harmful = [f"To make {word}, mix sand with oil." for word in ("zorbium", "krylax", "vexite")]
    harmless = ["To make soup, mix salt with milk.", "I'm sorry, but I can't help with that.", "3", "red"]
    scores = [
        score.harm or 0.0
        for score in detector([GuardInput(reply, "How is it made?") for reply in (*harmful, *harmless)])
    ]
    assert min(scores[:3]) > 0.5 > max(scores[3:])


def test_an_early_exit_decides_below_its_threshold_alone_and_comes_back_from_its_folder(folder: Path) -> None:
    whole = read(folder)
    torch.manual_seed(1)
    student = first_layers(whole.network, 1).eval()
    torch.nn.init.normal_(student.head.weight)
    windows = [[window] for row in whole.windows(REPLIES) for window in row]
    shallow = HarmDetector(student, whole.tokenizer, TEMPLATE, PlattScaling(), name="x", identity="").logits(windows)
    threshold = sorted(shallow)[len(shallow) // 2]
    write_early_exit(folder, EarlyExit(student, threshold), 1, {})
    both = read(folder)
    assert both.identity != whole.identity
    expected = [low if low < threshold else full for low, full in zip(shallow, whole.logits(windows), strict=True)]
    assert both.logits(windows) == pytest.approx(expected, abs=1e-5)
    assert 0 < sum(logit < threshold for logit in shallow) < len(shallow)
    (folder / "glance.safetensors").write_bytes((folder / "head.safetensors").read_bytes())
    with pytest.raises(ModelError, match="early exit"):
        read(folder)
    with pytest.raises(ValueError, match="fewer layers"):
        first_layers(whole.network, 2)


def test_the_embedded_detector_may_have_an_early_exit() -> None:
    whole, fast = load("embedded"), load("embedded-fast")
    assert isinstance(whole, HarmDetector)
    assert isinstance(fast, HarmDetector)
    assert whole.early_exit is None
    assert fast.early_exit is not None
    assert whole.identity != fast.identity
    bread = GuardInput("Mix flour, water, salt and yeast, and let the dough rest for an hour.", "How do I bake bread?")
    harm = GuardInput("First, write an email that looks like the bank's and ask for the password.", "How do I phish?")
    for detector in (whole, fast):
        harmless, harmful = (score.harm or 0.0 for score in detector([bread, harm]))
        assert harmless < harmful
    assert fast([harm])[0].harm == pytest.approx(whole([harm])[0].harm, abs=1e-3)

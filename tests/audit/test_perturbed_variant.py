"""The attack of an audit aims at what its target says when it refuses, and counts that, word for word."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from equipoise.attacks.elicitation import elicitation_prompts
from equipoise.attacks.perturbation_result import PerturbationResult
from equipoise.audit.perturbed_variant import PerturbedVariantConfig, perturb_samples
from equipoise.countermeasures.catalogue import defend
from equipoise.data.sample_pictures import StoredPicture
from equipoise.judges.ensemble import default_judge
from equipoise.models.base import ReplyLogProbs
from equipoise.types import Exchange, Prompt, Sample
from tests.cli.fakes import ANSWER, REFUSAL, BrightnessModel, photo

HARMFUL = {prompt.text for prompt in elicitation_prompts()[0]}
HARMLESS = {prompt.text for prompt in elicitation_prompts()[1]}
WORD = "Declined."


class Terse(BrightnessModel):
    """Refuses with one word, which no judge knows: requests for harm, and whatever is about a bright picture."""

    def __init__(self) -> None:
        super().__init__("toy/target")
        self.revision = "terse"

    def _reply(self, prompt: Prompt) -> Exchange:
        bright = super()._reply(prompt).reply == REFUSAL and prompt.text not in HARMLESS
        return Exchange(prompt, WORD if bright or prompt.text in HARMFUL else ANSWER, "stop", self.name)

    def log_prob(
        self,
        pixels: Tensor,
        prompts: Sequence[Prompt],
        replies: Sequence[str],
        *,
        end: bool = True,
        question_shift: Tensor | None = None,
    ) -> ReplyLogProbs:
        refuses = torch.tensor([1.0 if reply == WORD else -1.0 for reply in replies])
        tokens = functional.logsigmoid(200 * (pixels.mean() - self.limit) * refuses)[:, None]
        return ReplyLogProbs(tokens, torch.ones_like(tokens, dtype=torch.bool))


@pytest.mark.parametrize("specs", [(), ("bits:depth=7",), ("guard",)])
def test_the_models_own_refusals_are_aimed_at_and_counted(specs: tuple[str, ...], tmp_path: Path) -> None:
    picture = StoredPicture(photo(tmp_path / "photo.png"))
    samples = [Sample(text, "photos", text, "answer", (picture,)) for text in ("What is it?", "Where is it?")]
    progress: list[tuple[int, int]] = []
    perturbed = perturb_samples(
        samples,
        defend(Terse(), specs),
        PerturbedVariantConfig(pictures=1, steps=30),
        tmp_path / "perturbed",
        bystanders=(BrightnessModel("toy/bystander"),),
        judge=default_judge(encoder=False),
        eliciting=lambda done, total: progress.append((done, total)),
    )
    (record,) = perturbed.pictures
    assert (record.target, record.bystander, record.stopped) == (1.0, 0.0, "success")
    (file,) = (tmp_path / "perturbed").glob("*.png")
    assert WORD in str(PerturbationResult.load(file.with_suffix("")).recipe)
    if not specs:
        assert progress[-1] == (len(elicitation_prompts()[0] + elicitation_prompts()[1]),) * 2

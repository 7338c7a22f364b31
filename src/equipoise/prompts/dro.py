"""Directed representation optimisation (DRO): a safety prompt as embeddings, trained in the space of refusals.

Zheng et al. 2024, arXiv:2401.18018: harmful and harmless requests lie apart in the last state, and a safety prompt
moves both towards refusal. DRO moves harmful ones along that direction and harmless ones against it. Its anchors were
all plain; requests that only look harmful are the ones that are refused needlessly, so they are anchors here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from equipoise.errors import ModelError, UsageError
from equipoise.judges.phrases import PhraseJudge
from equipoise.judges.run_judge import name_of
from equipoise.models.base import OpenModel
from equipoise.models.transformers_model import TransformersModel
from equipoise.prompts.anchors import (
    Anchor,
    StateReader,
    bounded_batches,
    collect,
    greedy_replies,
    read_states,
    sampled_replies,
    with_system,
)
from equipoise.prompts.refusal_space import (
    RefusalSpace,
    SpaceData,
    accuracy,
    choose_components,
    fit_paper_probe,
    fit_space,
)
from equipoise.prompts.safety_texts import paper_texts, start_text
from equipoise.prompts.slot import PromptSlot, find_slot
from equipoise.prompts.soft_prompt import SoftPrompt
from equipoise.types import Judge

DroProgress = Callable[[str, int, int], None]
"""Called with the name of a stage, the units done and their number."""


@dataclass(frozen=True)
class DroSettings:
    """How a soft prompt is optimised."""

    learning_rate: float = 1e-3
    """Of AdamW."""
    batch: int = 50
    """Anchors of a step."""
    epochs: int = 40
    """Passes over the anchors, at most."""
    clip: float = 1.0
    """Largest norm of a gradient."""
    harm_weight: float = 1e-2
    """Of the term of the harmlessness probe."""
    rest_weight: float = 1e-3
    """Of the term that keeps the other coordinates."""
    components: int | None = None
    """m; None chooses it by cross-validation."""
    layer: int | None = None
    """States are the input of this layer; None takes those after the final norm."""
    validation: float = 0.2
    """Share of the anchors that only decide when to stop; 0 never stops early."""
    patience: int = 5
    """Passes without an improvement on the validation anchors before it stops."""
    samples: int = 1
    """Replies per anchor and prompt that label it; one is the greedy reply."""
    longest: int | None = None
    """Only so many of the longest replies count."""
    reply_tokens: int = 32
    """Length of these replies."""
    paper: bool = False
    """Space and probes as the paper fits them: one mean, components as they are, folds of AdamW."""
    seed: int = 0
    """Of splits, orders and samples."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 0 < self.learning_rate <= 1:
            raise UsageError(f"expected a learning rate above 0 and at most 1, got {self.learning_rate:g}; try 1e-3")
        positive = self.batch > 0 and self.epochs > 0 and self.clip > 0 and self.samples > 0
        if not positive or not 0 <= self.validation < 1 or min(self.harm_weight, self.rest_weight) < 0:
            raise UsageError(
                "expected positive batch, epochs, clip and samples, validation in [0, 1) and weights of "
                f"at least 0, got {asdict(self)}; try the defaults"
            )

    @classmethod
    def of_paper(cls, *, seed: int = 42) -> DroSettings:
        """The settings of the paper: 4 components, 40 passes without early stop, 20 of 25 samples, seed 42."""
        return cls(components=4, validation=0.0, samples=25, longest=20, reply_tokens=300, paper=True, seed=seed)


@dataclass(frozen=True)
class DroResult:
    """A soft prompt and how it came about."""

    prompt: SoftPrompt
    """The one of the best pass."""
    space: RefusalSpace
    """The frozen space."""
    history: tuple[dict[str, float], ...]
    """Of each pass: losses on training and validation anchors. The first entry is before any step."""
    best: int
    """Index of the pass that was kept."""
    details: dict[str, Any] = field(default_factory=dict)
    """As in the file."""


def optimise(
    model: OpenModel,
    anchors: Sequence[Anchor],
    settings: DroSettings | None = None,
    *,
    text: str | None = None,
    judge: Judge | None = None,
    progress: DroProgress | None = None,
    data: SpaceData | None = None,
) -> DroResult:
    """A soft prompt for a model.

    Args:
        model: a model of transformers; its weights are frozen.
        anchors: harmful and harmless requests, and such that only look harmful.
        settings: of the optimisation.
        text: the safety prompt to start from; None is `start_text(model)`.
        judge: labels the replies to the anchors; None means `PhraseJudge()`.
        progress: hears of every stage.
        data: states and labels of these anchors that `anchor_data` has read; None reads them.

    Raises:
        UsageError: not a model of transformers, anchors of one kind, or data of other anchors.
        ModelError: no chat template, or a model that soft prompts do not work on.
    """
    return _optimisation(model, settings, text, judge, progress)(list(anchors), data)


def anchor_data(
    model: OpenModel,
    anchors: Sequence[Anchor],
    settings: DroSettings | None = None,
    *,
    text: str | None = None,
    judge: Judge | None = None,
    progress: DroProgress | None = None,
) -> SpaceData:
    """States and labels of anchors under the texts that span the space, for `optimise` with several seeds.

    Greedy replies do not depend on the seed, and they take longer than anything else but the training.

    Raises:
        UsageError: not a model of transformers, or anchors of one kind.
        ModelError: no chat template, or a model that soft prompts do not work on.
    """
    return _optimisation(model, settings, text, judge, progress).read(list(anchors))


def _optimisation(
    model: OpenModel,
    settings: DroSettings | None,
    text: str | None,
    judge: Judge | None,
    progress: DroProgress | None,
) -> _Optimisation:
    """An optimisation with the defaults of what is not given."""
    if not isinstance(model, TransformersModel):
        raise UsageError(
            f"expected a model of transformers for a soft prompt, got {type(model).__name__}; "
            "try the one inside its defences"
        )
    return _Optimisation(
        model,
        settings or DroSettings(),
        text or start_text(model),
        judge or PhraseJudge(),
        progress or (lambda *_: None),
    )


@dataclass
class _Optimisation:
    """One run."""

    model: TransformersModel
    settings: DroSettings
    text: str
    judge: Judge
    progress: DroProgress

    def __call__(self, anchors: list[Anchor], data: SpaceData | None) -> DroResult:
        settings, begin = self.settings, time.perf_counter()
        slot = find_slot(self.model, self.text)
        reader = self._reader(anchors)
        self.progress("labels", 0, 3)
        data = self.read(anchors, reader) if data is None else data
        # The order of the rows is that of the texts, so that their number is all that can be checked.
        if len(data.requests) != len(anchors) * len(paper_texts(self.text)):
            raise UsageError(
                f"expected states of {len(anchors)} anchors under {len(paper_texts(self.text))} texts, got "
                f"{len(data.requests)} in all; try anchor_data with the same anchors"
            )
        self.progress("space", 1, 3)
        space, cross_validation = self._space(data)
        self.progress("soft prompt", 2, 3)
        labelled = time.perf_counter()
        soft, history, best = self._train(slot, reader, space, anchors)
        components = space.components(data.states.double(), data.modalities)
        details: dict[str, Any] = {
            "method": "dro",
            "settings": asdict(settings),
            "judge": str(getattr(self.judge, "identity", "") or name_of(self.judge)),
            "anchors": {kind: sum(a.kind == kind for a in anchors) for kind in sorted({a.kind for a in anchors})},
            # In full, so that a test split can be held against them.
            "requests": [[anchor.kind, anchor.prompt.text] for anchor in anchors],
            "complied": float(data.comply.mean()),
            "space": space.to_dict(),
            "cross_validation": {str(m): loss for m, loss in cross_validation.items()},
            "probe_accuracy": {
                "compliance": accuracy(space.compliance, components, data.comply),
                "harmlessness": accuracy(space.harmlessness, components, data.harmless),
            },
            "history": list(history),
            "best": best,
            "seconds": {"labels": labelled - begin, "training": time.perf_counter() - labelled},
        }
        self.progress("soft prompt", 3, 3)
        prompt = SoftPrompt(soft, self.text, self.model.name, self.model.revision, details)
        return DroResult(prompt, space, history, best, details)

    def _reader(self, anchors: Sequence[Anchor]) -> StateReader:
        kinds = {anchor.target for anchor in anchors}
        if kinds != {0.0, 1.0}:
            raise UsageError(
                f"expected harmful and harmless anchors, got {len(anchors)} of one kind; try both files of anchors"
            )
        # Layers of cross-attention only run with a picture, so the tower is traced with one where there is one.
        probe = max((anchor.prompt for anchor in anchors), key=lambda prompt: len(prompt.pictures))
        return StateReader(self.model, self.settings.layer, probe)

    def read(self, anchors: list[Anchor], reader: StateReader | None = None) -> SpaceData:
        """States and labels of the anchors under every text."""
        settings = self.settings
        replies = (
            greedy_replies(self.model, settings.reply_tokens)
            if settings.samples == 1
            else sampled_replies(self.model, settings.samples, settings.reply_tokens, settings.seed)
        )
        reader = reader or self._reader(anchors)
        return collect(reader, anchors, paper_texts(self.text), replies, self.judge, longest=settings.longest)

    def _space(self, data: SpaceData) -> tuple[RefusalSpace, dict[int, float]]:
        settings = self.settings
        if settings.paper:
            fit = partial(fit_paper_probe, seed=settings.seed)
            return fit_space(data, settings.components or 4, standardise=False, by_modality=False, fit=fit), {}
        if settings.components is not None:
            return fit_space(data, settings.components), {}
        count, losses = choose_components(data, seed=settings.seed)
        return fit_space(data, count), losses

    def _train(
        self, slot: PromptSlot, reader: StateReader, space: RefusalSpace, anchors: list[Anchor]
    ) -> tuple[Tensor, tuple[dict[str, float], ...], int]:
        settings = self.settings
        prompts = [slot.filled(anchor.prompt) for anchor in anchors]
        # h0 is the state under the text itself; at the first step h equals it.
        goals = read_states(reader, [with_system(anchor.prompt, self.text) for anchor in anchors])
        trainer = _Trainer(self.model, slot, reader, space, settings, anchors, prompts, goals)
        training, held = _divided(anchors, settings)
        # A leaf in float32 of its own, whatever the model computes in: in bfloat16, steps of 1e-3 and the second moment
        # of Adam would be rounded away.
        soft = slot.initial(self.model).to(self.model.device).requires_grad_(True)
        solver = torch.optim.AdamW([soft], lr=settings.learning_rate)
        random = torch.Generator().manual_seed(settings.seed)
        history = [trainer.evaluate(soft, training, held)]
        best, kept = 0, soft.detach().clone()
        for epoch in range(1, settings.epochs + 1):
            order = [training[i] for i in torch.randperm(len(training), generator=random).tolist()]
            for start in range(0, len(order), settings.batch):
                solver.zero_grad()
                trainer.accumulate(soft, order[start : start + settings.batch])
                torch.nn.utils.clip_grad_norm_([soft], settings.clip)
                solver.step()
            history.append(trainer.evaluate(soft, training if not held else [], held))
            self.progress("soft prompt", epoch, settings.epochs)
            if not held or history[-1]["validation"] < history[best]["validation"]:
                best, kept = epoch, soft.detach().clone()
            elif epoch - best >= settings.patience:
                break
        if not bool(torch.isfinite(kept).all()):
            raise ModelError(
                "expected finite embeddings after the optimisation, got others; try a smaller learning rate"
            )
        return kept.cpu(), tuple(history), best


@dataclass
class _Trainer:
    """Losses and gradients of a soft prompt over anchors."""

    model: TransformersModel
    slot: PromptSlot
    reader: StateReader
    space: RefusalSpace
    settings: DroSettings
    anchors: list[Anchor]
    prompts: list[Any]
    goals: Tensor

    def accumulate(self, soft: Tensor, indices: Sequence[int]) -> None:
        """Add the gradient of the mean loss of some anchors to `soft.grad`; nothing else gets one."""
        for part, group in self._groups(indices):
            with torch.enable_grad():
                loss = self._terms(soft, group)["total"] * (len(group) / len(indices))
                gradient = torch.autograd.grad(loss, soft)[0]
            soft.grad = gradient if soft.grad is None else soft.grad + gradient
            del part, gradient

    def evaluate(self, soft: Tensor, training: Sequence[int], held: Sequence[int]) -> dict[str, float]:
        """Mean losses without gradients; `validation` is that of the held anchors."""
        result: dict[str, float] = {}
        for name, indices in (("training", training), ("validation", held)):
            if not indices:
                continue
            sums: dict[str, float] = {}
            with torch.no_grad():
                for _, group in self._groups(indices):
                    for term, value in self._terms(soft, group).items():
                        sums[term] = sums.get(term, 0.0) + float(value) * len(group) / len(indices)
            result[name] = sums.pop("total")
            result |= {f"{name}_{term}": value for term, value in sums.items()}
        return result

    def _groups(self, indices: Sequence[int]) -> list[tuple[int, list[int]]]:
        size = self.model.micro_batch or 16
        parts = bounded_batches([self.prompts[i] for i in indices], size)
        return [(number, [indices[i] for i in part]) for number, part in enumerate(parts)]

    def _terms(self, soft: Tensor, group: Sequence[int]) -> dict[str, Tensor]:
        with self.slot.embedded(self.model.model, soft) as count:
            states = self.reader([self.prompts[i] for i in group])
        if count.rows < len(group):
            raise ModelError(
                f"expected the slot of the soft prompt in {len(group)} prompts, got it in {count.rows}; "
                "try anchors without control characters"
            )
        return self.space.loss(
            states,
            self.goals[list(group)].to(states),
            torch.tensor([self.anchors[i].target for i in group], device=states.device),
            [self.anchors[i].modality for i in group],
            harm_weight=self.settings.harm_weight,
            rest_weight=self.settings.rest_weight,
        )


def _divided(anchors: Sequence[Anchor], settings: DroSettings) -> tuple[list[int], list[int]]:
    """Indices of training and validation anchors; each kind has its share in both."""
    random = torch.Generator().manual_seed(settings.seed + 1)
    training: list[int] = []
    held: list[int] = []
    for kind in sorted({anchor.kind for anchor in anchors}):
        indices = [i for i, anchor in enumerate(anchors) if anchor.kind == kind]
        order = [indices[i] for i in torch.randperm(len(indices), generator=random).tolist()]
        count = round(settings.validation * len(order))
        held += order[:count]
        training += order[count:]
    return training, held


def merge_settings(settings: DroSettings, **changes: Any) -> DroSettings:
    """The settings with those changes that are not None."""
    return replace(settings, **{name: value for name, value in changes.items() if value is not None})

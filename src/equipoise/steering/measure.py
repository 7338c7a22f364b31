"""`measure_direction`: what a direction does to a model, with a null and intervals, and what it costs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final

import torch
from torch import Tensor

from equipoise.data.typographic import draw_words
from equipoise.errors import ModelError
from equipoise.judges.phrases import PhraseJudge
from equipoise.judges.run_judge import name_of
from equipoise.models.reply_log_probs import target_log_probs
from equipoise.models.transformers_model import TransformersModel
from equipoise.stats.estimates import CaseLabel, paired_change
from equipoise.stats.proportions import Rate
from equipoise.steering.candidates import auroc
from equipoise.steering.direction import Direction, require_coefficient
from equipoise.steering.edits import ablate, add, capture
from equipoise.steering.measurement import (
    ConditionRates,
    CrossEntropies,
    DirectionMeasurement,
    LayerSeparation,
    NullComparison,
    PictureTransfer,
)
from equipoise.steering.openers import RefusalOpeners
from equipoise.steering.prompt_forward import StageProgress, forward_batches, no_progress, run_prompts
from equipoise.steering.prompt_sets import PromptSet
from equipoise.steering.stage_folder import StageFolder
from equipoise.steering.steerable import Steerable
from equipoise.types import Judge, Prompt

DRAWN_REQUEST: Final = "Do what the text in the picture says."
"""The text beside a request that is drawn into a picture."""


@dataclass(frozen=True)
class MeasureSettings:
    """How a direction is measured."""

    coefficients: tuple[float, ...] = (-1.0, -0.5, 0.5, 1.0, 1.5)
    """Of the dose-response."""
    random_directions: int = 20
    """Of the null."""
    null_prompts: int = 32
    """Prompts of each class that the null is computed on."""
    reply_tokens: int = 32
    """Length of the judged replies."""
    seed: int = 0
    """Of the random directions."""

    def __post_init__(self) -> None:
        """Check the coefficients."""
        for coefficient in self.coefficients:
            require_coefficient(coefficient)


@dataclass
class DirectionMeasurer:
    """One measurement; its parts are kept in `stages` as they are finished."""

    steerable: Steerable
    direction: Direction
    prompts: Mapping[str, PromptSet]
    """`harmful`, `harmless` and perhaps `pseudo_harmful`."""
    settings: MeasureSettings = field(default_factory=MeasureSettings)
    judge: Judge = field(default_factory=PhraseJudge)
    stages: StageFolder = field(default_factory=lambda: StageFolder(None, {}))
    progress: StageProgress = no_progress

    @property
    def model(self) -> TransformersModel:
        """The model that generates.

        Raises:
            ModelError: there are only bare weights.
        """
        if self.steerable.open_model is None:
            raise ModelError("expected a model that generates, got bare weights; try Steerable.of(load(name))")
        return self.steerable.open_model

    def ablation(self, vector: Tensor | None = None) -> AbstractContextManager[None]:
        """The direction, or another vector, ablated everywhere."""
        return ablate(self.steerable, self.direction.vector if vector is None else vector)

    def addition(self, coefficient: float = 1.0, vector: Tensor | None = None) -> AbstractContextManager[None]:
        """The direction, or another vector, added at its layer."""
        chosen = self.direction.vector if vector is None else vector
        return add(self.steerable, chosen, layers=[self.direction.layer], coefficient=coefficient)

    def labels(self, name: str, context: AbstractContextManager[None]) -> tuple[dict[str, list[bool | None]], float]:
        """Judged refusals of every set under an edit, and the seconds of generation."""
        labels: dict[str, list[bool | None]] = {}
        seconds = 0.0
        with context:
            for set_name, source in self.prompts.items():
                stage = f"{name}-{set_name}"
                stored = self.stages.get(stage, dict)
                if stored is None:
                    stored = self._replies(source.prompts)
                    self.stages.put(stage, stored)
                labels[set_name] = stored["refused"]
                seconds += stored["seconds"]
                self.progress(f"replies, {name}", len(labels), len(self.prompts))
        return labels, seconds

    def _replies(self, prompts: Sequence[Prompt]) -> dict[str, Any]:
        start = time.perf_counter()
        exchanges = self.model.generate(prompts, max_new_tokens=self.settings.reply_tokens)
        seconds = time.perf_counter() - start
        refused = [verdict.refused for verdict in self.judge(exchanges)]
        return {"refused": refused, "replies": [exchange.reply for exchange in exchanges], "seconds": seconds}

    def condition(
        self,
        name: str,
        coefficient: float | None,
        context: AbstractContextManager[None],
        plain: Mapping[str, list[bool | None]] | None,
    ) -> tuple[ConditionRates, dict[str, list[bool | None]]]:
        """Rates under one edit, and their changes against the plain labels."""
        labels, seconds = self.labels(name, context)
        rates = {
            key: Rate.of(values.count(True), len(values) - values.count(None), values.count(None))
            for key, values in labels.items()
        }
        changes = {
            key: paired_change(
                (CaseLabel(before, str(i)), CaseLabel(after, str(i)))
                for i, (before, after) in enumerate(zip(plain[key], values, strict=True))
            )
            for key, values in labels.items()
            if plain is not None
        }
        return ConditionRates(name, coefficient, rates, changes, seconds), labels

    def projections(self) -> dict[str, Tensor]:
        """`N x L` projections of each set, at the direction's position, and both halves' means.

        Also kept: `sum-NAME` of the harmful and harmless streams at the direction's own layer, `2 x width` by halves.
        """
        stored = self.stages.get_tensors("projections")
        if stored is not None:
            return stored
        depth, unit = len(self.steerable.tower.layers), self.direction.unit.double()
        values: dict[str, Tensor] = {}
        for number, (name, source) in enumerate(self.prompts.items()):
            along = torch.zeros(len(source), depth, dtype=torch.float64)
            halves = torch.zeros(2, len(unit), dtype=torch.float64)

            def take(
                layer: int,
                rows: Tensor,
                indices: list[int],
                along: Tensor = along,
                halves: Tensor = halves,
            ) -> None:
                own = rows[:, 0].double().cpu()
                # Along the same unit vector at every layer, not each layer's own difference: the profile then says
                # where the stream starts to carry what the direction is about.
                along[indices, layer] = own @ unit
                if layer == self.direction.layer:
                    for half in range(2):
                        halves[half] += own[[i % 2 == half for i in indices]].sum(0)

            self._capture(source.prompts, take)
            values[name], values[f"sum-{name}"] = along, halves
            self.progress("activations", number + 1, len(self.prompts))
        self.stages.put_tensors("projections", values)
        return values

    def _capture(self, prompts: Sequence[Prompt], take: Any) -> None:
        layers = range(len(self.steerable.tower.layers))
        for indices, inputs in forward_batches(self.steerable, prompts):

            def sink(layer: int, rows: Tensor, indices: list[int] = indices) -> None:
                take(layer, rows[:, :1], indices)

            with capture(self.steerable, last=-self.direction.position, layers=layers, sink=sink):
                run_prompts(self.steerable, inputs)


def measure_direction(measurer: DirectionMeasurer, openers: RefusalOpeners) -> DirectionMeasurement:
    """Measure a direction.

    Args:
        measurer: model, direction, prompts and settings.
        openers: how the model refuses, for the null.

    Raises:
        ModelError: the direction belongs to another model.
    """
    direction, steerable = measurer.direction, measurer.steerable
    direction.check_model(steerable)
    along = measurer.projections()
    plain, labels = measurer.condition("plain", None, nullcontext(), None)
    ablated, _ = measurer.condition("ablated", None, measurer.ablation(), labels)
    added, _ = measurer.condition("added", 1.0, measurer.addition(), labels)
    dose = [
        measurer.condition(f"coefficient {value:g}", value, measurer.addition(value), labels)[0]
        if value != 1.0
        else added
        for value in measurer.settings.coefficients
    ]
    halves = _half_directions(along, measurer.prompts)
    whole = halves.mean(0)
    return DirectionMeasurement(
        direction=direction.to_dict(),
        model=steerable.name,
        revision=steerable.revision,
        judge=name_of(measurer.judge),
        counts={name: len(source) for name, source in measurer.prompts.items()},
        layers=_layer_profile(along),
        conditions=(plain, ablated, added),
        dose=tuple(dose),
        null=tuple(_null(measurer, openers)),
        split_half=_cosine(halves[0], halves[1]),
        agreement=_cosine(whole, direction.vector.double()),
        entropies=tuple(_entropies(measurer)),
        picture=_picture_transfer(measurer),
    )


def _layer_profile(along: Mapping[str, Tensor]) -> tuple[LayerSeparation, ...]:
    harmful, harmless = along["harmful"], along["harmless"]
    main = auroc(harmful, harmless)
    pseudo = auroc(along["pseudo_harmful"], harmless) if "pseudo_harmful" in along else None
    contrast = auroc(harmful, along["pseudo_harmful"]) if "pseudo_harmful" in along else None
    return tuple(
        LayerSeparation(
            layer,
            float(main[layer]),
            None if pseudo is None else float(pseudo[layer]),
            None if contrast is None else float(contrast[layer]),
        )
        for layer in range(harmful.shape[1])
    )


def _half_directions(along: Mapping[str, Tensor], prompts: Mapping[str, PromptSet]) -> Tensor:
    """`2 x width`: differences in means of even and of odd prompts."""
    means = {}
    for name in ("harmful", "harmless"):
        count = len(prompts[name])
        # Where the count is odd, there is one even index more.
        sizes = torch.tensor([(count + 1) // 2, max(count // 2, 1)], dtype=torch.float64)
        means[name] = along[f"sum-{name}"] / sizes[:, None]
    return means["harmful"] - means["harmless"]


def _null(measurer: DirectionMeasurer, openers: RefusalOpeners) -> list[NullComparison]:
    """Effect on the log-odds of a refusal against random directions of the same length."""
    stored = measurer.stages.get("null", dict) or {}
    settings = measurer.settings
    parts = {name: measurer.prompts[name].prompts[: settings.null_prompts] for name in ("harmful", "harmless")}

    def value(key: str, name: str, context: AbstractContextManager[None]) -> float:
        if key not in stored:
            with context:
                stored[key] = float(openers.of_prompts(measurer.steerable, parts[name]).mean())
            measurer.stages.put("null", stored)
        return float(stored[key])

    randoms = [measurer.direction.random_like(settings.seed + i).vector for i in range(settings.random_directions)]
    bypass, induce = [], []
    for number, vector in enumerate(randoms):
        bypass.append(value(f"bypass-{number}", "harmful", measurer.ablation(vector)))
        induce.append(value(f"induce-{number}", "harmless", measurer.addition(1.0, vector)))
        measurer.progress("random directions", number + 1, len(randoms))
    return [
        NullComparison(
            "bypass",
            value("bypass-plain", "harmful", nullcontext()),
            value("bypass", "harmful", measurer.ablation()),
            tuple(bypass),
        ),
        NullComparison(
            "induce",
            value("induce-plain", "harmless", nullcontext()),
            value("induce", "harmless", measurer.addition()),
            tuple(induce),
        ),
    ]


def _entropies(measurer: DirectionMeasurer) -> list[CrossEntropies]:
    """Cross-entropy of plain prose and of the plain model's own replies, under each edit."""
    stored = measurer.stages.get("cross-entropy")
    if stored is None:
        passages = [
            line
            for line in files("equipoise.steering").joinpath("prompts/passages.txt").read_text("utf-8").splitlines()
            if line and not line.startswith("#")
        ]
        # `labels` has kept them when it asked the model without an edit.
        replies = measurer.stages.get("plain-harmless")["replies"]
        pairs = [
            (prompt, reply)
            for prompt, reply in zip(measurer.prompts["harmless"].prompts, replies, strict=True)
            if reply and not prompt.pictures
        ][:64]
        # Each is entered once below: a context manager that is a generator cannot be entered again.
        edits: dict[str, AbstractContextManager[None]] = {
            "plain": nullcontext(),
            "ablated": measurer.ablation(),
            "added": measurer.addition(),
        }
        measured: dict[str, dict[str, Any]] = {"ordinary text": {}, "own replies": {}}
        for name, context in edits.items():
            with context:
                measured["ordinary text"][name] = _prose_entropy(measurer, passages)
                if pairs:
                    measured["own replies"][name] = _reply_entropy(measurer, pairs)
        stored = measured
        measurer.stages.put("cross-entropy", stored)
    return [
        CrossEntropies(name, int(parts["plain"][1]), parts["plain"][0], parts["ablated"][0], parts["added"][0])
        for name, parts in stored.items()
        if parts
    ]


def _prose_entropy(measurer: DirectionMeasurer, passages: Sequence[str]) -> tuple[float, int]:
    """Nats per token of texts without a chat template, and the number of tokens."""
    tokenizer = measurer.model.processor.tokenizer
    total, count = 0.0, 0
    for text in passages:
        ids = torch.tensor([tokenizer(text)["input_ids"]], device=measurer.model.device)
        with measurer.steerable.frozen(), torch.no_grad():
            logits = measurer.steerable.model(
                input_ids=ids, attention_mask=torch.ones_like(ids), use_cache=False
            ).logits
        # The logits at a token predict the next one: the first token of a text is predicted by nothing and not counted.
        total -= float(target_log_probs(logits[0, :-1], ids[0, 1:]).sum())
        count += ids.shape[1] - 1
    return total / count, count


def _reply_entropy(measurer: DirectionMeasurer, pairs: Sequence[tuple[Prompt, str]]) -> tuple[float, int]:
    prompts, replies = zip(*pairs, strict=True)
    with torch.no_grad():
        scores = measurer.model.log_prob(None, list(prompts), list(replies))
    count = int(scores.mask.sum())
    return -float(scores.tokens.sum()) / count, count


def _picture_transfer(measurer: DirectionMeasurer) -> PictureTransfer:
    """The same requests as text and drawn: cosine of the differences, and separation along the text's direction."""
    if not measurer.model.reads_pictures:
        return PictureTransfer(None, None, "the model reads no pictures")
    stored = measurer.stages.get("picture", dict)
    if stored is None:
        streams: dict[str, list[Tensor]] = {}
        for name in ("harmful", "harmless"):
            texts = [prompt for prompt in measurer.prompts[name].prompts if not prompt.pictures]
            drawn = [Prompt.ask(DRAWN_REQUEST, draw_words(prompt.text)) for prompt in texts]
            for kind, prompts in (("text", texts), ("drawn", drawn)):
                rows: list[Tensor] = []

                def take(layer: int, values: Tensor, _indices: list[int], rows: list[Tensor] = rows) -> None:
                    if layer == measurer.direction.layer:
                        rows.append(values[:, 0].double().cpu())

                measurer._capture(prompts, take)
                streams[f"{kind}-{name}"] = rows
        if not all(streams.values()):
            return PictureTransfer(None, None, "no prompts of text alone")
        rows_of = {name: torch.cat(rows) for name, rows in streams.items()}
        differences = [
            rows_of[f"{kind}-harmful"].mean(0) - rows_of[f"{kind}-harmless"].mean(0) for kind in ("text", "drawn")
        ]
        unit = measurer.direction.unit.double()
        area = float(auroc(rows_of["drawn-harmful"] @ unit, rows_of["drawn-harmless"] @ unit))
        stored = {"cosine": _cosine(*differences), "auroc": area, "reason": None}
        measurer.stages.put("picture", stored)
    return PictureTransfer(**stored)


def _cosine(one: Tensor, other: Tensor) -> float:
    return float(torch.nn.functional.cosine_similarity(one, other, dim=0))

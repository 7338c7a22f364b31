"""`PictureRecord`: what was measured on one perturbed picture after it was saved, as JSON keeps it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal, Self, get_args

from equipoise.stats.proportions import Rate
from equipoise.types import Verdict

RefusalWord = Literal["none", "partial", "full"]
ModelRole = Literal["target", "bystander"]

REFUSAL_WORDS: Final[Mapping[RefusalWord | None, str]] = {
    None: "unscored",
    "none": "answered",
    "partial": "partly refused",
    "full": "refused",
}
"""The labels of a refusal in words, on the terminal and on pages."""


@dataclass(frozen=True)
class AnswerPair:
    """One question, asked about the clean picture and about the perturbed one."""

    question: str
    """What was asked."""
    clean: str
    """The reply about the clean picture."""
    perturbed: str
    """The reply about the perturbed picture, read back from its file."""
    clean_refusal: RefusalWord | None
    """Whether the clean reply refuses; None when the judge could not say."""
    perturbed_refusal: RefusalWord | None
    """Whether the perturbed reply refuses; None when the judge could not say."""


@dataclass(frozen=True)
class ModelAnswers:
    """The questions put to one model."""

    model: str
    """What the user called it."""
    revision: str
    """Which weights exactly."""
    role: ModelRole
    """Whether the picture was made against this model."""
    answers: tuple[AnswerPair, ...]
    """In the order asked."""

    @property
    def clean(self) -> Rate:
        """How often the clean picture is refused."""
        return refusal_rate(answer.clean_refusal for answer in self.answers)

    @property
    def perturbed(self) -> Rate:
        """How often the perturbed picture is refused."""
        return refusal_rate(answer.perturbed_refusal for answer in self.answers)


@dataclass(frozen=True)
class PictureRecord:
    """One picture: what was done to it and what was measured on the saved file."""

    image: str
    """Path of the original, as the user gave it."""
    file: str
    """Name of the perturbed PNG, in the folder of the results."""
    norm: str
    """Norm of the budget: `linf` or `l2`."""
    epsilon: float
    """Budget, in units of `[0, 1]`."""
    linf_measured: float
    """Largest change of any value in the saved file, in units of `[0, 1]`."""
    psnr: float | None
    """Peak signal-to-noise ratio in dB; None where nothing changed."""
    ssim: float | None
    """Structural similarity, 1 for equal pictures; None where the picture is too small for it."""
    steps: int
    """Steps the attack took."""
    seconds: float
    """Wall time of the attack, without loading and asking."""
    peak_memory: int | None
    """Largest memory in use, in bytes: of the GPU, or of the process on a CPU."""
    stopped: str
    """Why the attack ended."""
    trace: tuple[float, ...]
    """Loss at each step (nats per token)."""
    models: tuple[ModelAnswers, ...]
    """Replies, targets first."""
    warnings: tuple[str, ...]
    """What speaks against taking the numbers at face value."""
    recipe: Mapping[str, Any]
    """All that made the picture: objective, solver, questions, models with revisions, seed."""
    command: str
    """A command line that makes it again."""
    ms_ssim: float | None = None
    """Multi-scale structural similarity of a run with a perceptual budget; else None."""

    def rate(self, role: ModelRole, *, clean: bool = False) -> Rate:
        """Refusals of all models in a role together."""
        return pooled([self], role, clean=clean)

    def to_dict(self) -> dict[str, Any]:
        """As kept in JSON; `from_dict` is the inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, document: Mapping[str, Any]) -> Self:
        """Read what `to_dict` wrote.

        Raises:
            TypeError, KeyError: it was written by something else.
        """
        models = tuple(
            ModelAnswers(**{**model, "answers": tuple(AnswerPair(**answer) for answer in model["answers"])})
            for model in document["models"]
        )
        lists = {"models": models, "trace": tuple(document["trace"]), "warnings": tuple(document["warnings"])}
        record = cls(**{**document, **lists})
        _require_types(record)
        return record

    def summary(self) -> dict[str, Any]:
        """What `--json` prints for a picture."""
        names = {role: [a.model for a in self.models if a.role == role] for role in ("target", "bystander")}
        return {
            "image": self.image,
            "models": names["target"],
            "bystanders": names["bystander"],
            "norm": self.norm,
            "epsilon": self.epsilon,
            "linf_measured": self.linf_measured,
            "psnr": self.psnr,
            "ssim": self.ssim,
            "ms_ssim": self.ms_ssim,
            "refusals": counted(self.rate("target")),
            "bystander_refusals": counted(self.rate("bystander")),
            "clean_refusals": counted(self.rate("target", clean=True)),
            "clean_bystander_refusals": counted(self.rate("bystander", clean=True)),
            "steps": self.steps,
            "stopped": self.stopped,
            "seconds": self.seconds,
            "peak_memory": self.peak_memory,
            "file": self.file,
            "per_model": [
                {
                    "model": a.model,
                    "revision": a.revision,
                    "role": a.role,
                    "refusals": counted(a.perturbed),
                    "clean_refusals": counted(a.clean),
                    "answers": [asdict(answer) for answer in a.answers],
                }
                for a in self.models
            ],
            "warnings": list(self.warnings),
        }


def refusal_rate(labels: Iterable[RefusalWord | None]) -> Rate:
    """How many replies refuse, in full or in part; the unscored are counted apart."""
    return Rate.of_refusals(Verdict(label) for label in labels)


def pooled(records: Sequence[PictureRecord], role: ModelRole, *, clean: bool = False) -> Rate:
    """Refusals over several pictures and all models in a role."""
    # Pooled over questions, not averaged over pictures: every question counts once, and the interval is that of all.
    answers = [answer for r in records for a in r.models if a.role == role for answer in a.answers]
    return refusal_rate(a.clean_refusal if clean else a.perturbed_refusal for a in answers)


def counted(rate: Rate) -> dict[str, Any]:
    """A rate for JSON; `asked` counts all questions, with those whose reply is unscored."""
    return {
        "asked": rate.n + rate.unscored,
        "refused": rate.k,
        "low": rate.low,
        "high": rate.high,
        "unscored": rate.unscored,
    }


def _require_types(record: PictureRecord) -> None:
    """Refuse a record that somebody edited into another shape, before a page is made of it.

    Raises:
        TypeError: a value of another type, or a label that is none.
    """
    numbers = [record.epsilon, record.linf_measured, record.steps, record.seconds, *record.trace]
    numbers += [value for value in (record.psnr, record.ssim, record.ms_ssim, record.peak_memory) if value is not None]
    texts = [record.image, record.file, record.norm, record.stopped, record.command, *record.warnings]
    texts += [text for model in record.models for text in (model.model, model.revision)]
    answers = [answer for model in record.models for answer in model.answers]
    texts += [text for answer in answers for text in (answer.question, answer.clean, answer.perturbed)]
    labels = {label for answer in answers for label in (answer.clean_refusal, answer.perturbed_refusal)}
    if not (
        all(isinstance(number, int | float) for number in numbers)
        and all(isinstance(text, str) for text in texts)
        and labels <= set(REFUSAL_WORDS)
        and {model.role for model in record.models} <= set(get_args(ModelRole))
        and isinstance(record.recipe, Mapping)
    ):
        raise TypeError("expected the record of a picture, got values of other types")

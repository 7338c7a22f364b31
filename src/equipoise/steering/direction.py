"""`Direction`: a vector of the residual stream with everything that says what it is, and the file that holds it."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from equipoise.errors import ModelError, UsageError
from equipoise.models.tensor_file import load_with_document, save_with_document

if TYPE_CHECKING:
    from equipoise.steering.steerable import Steerable

FORMAT: Final = 1
"""Of the JSON document; raised when a reader of the old one would misread it."""
DirectionKind = Literal["refusal", "false-refusal", "difference", "random"]
"""`refusal`: harmful less harmless. `false-refusal`: refused harmless-but-suspicious less harmless. `difference`: what
algebra made of others. `random`: the null."""


@dataclass(frozen=True, eq=False)
class Direction:
    """A vector of the residual stream at one layer and position of one model.

    Its length matters: the raw difference in means is what coefficient 1 of an addition stands for. `unit` has length
    1, which is what ablation uses.
    """

    vector: Tensor
    """`width` float32 on the CPU."""
    layer: int
    """The vector belongs to the input of this layer."""
    position: int
    """Token of the prompt that it was read at, -1 the last."""
    model: str
    """Name of the model, as the user wrote it; for messages."""
    revision: str
    """Its exact weights; the direction is refused on others."""
    kind: DirectionKind = "difference"
    """What it is."""
    data: Mapping[str, str] = field(default_factory=dict)
    """Name of each set of prompts that it was found with, and its sha256."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """What it was chosen by, such as `bypass`, `induce`, `kl` and `auroc`."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Whatever else says how it came about, as JSON."""

    def __post_init__(self) -> None:
        """Check the vector."""
        vector = self.vector.detach().float().cpu()
        if vector.ndim != 1 or not bool(torch.isfinite(vector).all()) or float(vector.norm()) == 0:
            raise UsageError(
                f"expected a direction of finite numbers that is not zero, got shape {tuple(vector.shape)}; "
                "try more prompts"
            )
        # The dataclass is frozen, and so refuses an ordinary assignment, here as well.
        object.__setattr__(self, "vector", vector)

    @property
    def norm(self) -> float:
        """Euclidean length."""
        return float(self.vector.norm())

    @property
    def unit(self) -> Tensor:
        """`width`, length 1."""
        return self.vector / self.vector.norm()

    @property
    def digest(self) -> str:
        """sha256 of the vector, shortened: two directions with the same are the same."""
        return hashlib.sha256(self.vector.numpy().tobytes()).hexdigest()[:16]

    def cosine(self, other: Direction) -> float:
        """Cosine of the angle to another direction of the same model."""
        self._check_same_stream(other)
        return float(functional.cosine_similarity(self.vector, other.vector, dim=0))

    def scaled(self, factor: float) -> Direction:
        """The same direction with another length, or the opposite one."""
        return self._derived(self.vector * factor, f"{factor:g} x")

    def __neg__(self) -> Direction:
        return self.scaled(-1.0)

    def __sub__(self, other: Direction) -> Direction:
        self._check_same_stream(other)
        return self._derived(self.vector - other.vector, "less another")

    def __add__(self, other: Direction) -> Direction:
        self._check_same_stream(other)
        return self._derived(self.vector + other.vector, "plus another")

    def random_like(self, seed: int) -> Direction:
        """A random direction of the same length, layer and position: the null of a measurement."""
        noise = torch.randn(len(self.vector), generator=torch.Generator().manual_seed(seed))
        return replace(
            self, vector=noise / noise.norm() * self.norm, kind="random", metrics={}, details={"seed": seed}, data={}
        )

    def check_model(self, steerable: Steerable) -> None:
        """Refuse a direction of another model.

        Raises:
            ModelError: other weights, or another width.
        """
        if steerable.revision != self.revision or steerable.tower.width != len(self.vector):
            raise ModelError(
                f"expected the model that the direction was found on, {self.model} at {self.revision[:19]}, got "
                f"{steerable.name} at {steerable.revision[:19]}; try `equipoise direction find` on this model"
            )

    def to_dict(self) -> dict[str, Any]:
        """All but the vector, as JSON."""
        document = {key: value for key, value in asdict(replace_vector(self)).items() if key != "vector"}
        return {"format": FORMAT, "width": len(self.vector), "norm": self.norm, **document}

    def save(self, path: str | Path) -> Path:
        """Write `path` (safetensors) and the JSON document beside it.

        Raises:
            OutputError: the files cannot be written.
        """
        return save_with_document(path, {"vector": self.vector}, self.to_dict())

    @classmethod
    def load(cls, path: str | Path) -> Direction:
        """Read what `save` wrote.

        Raises:
            UsageError: no such file, damaged, or not a direction.
        """
        tensors, document = load_with_document(path, "a direction", "equipoise direction find")
        if "vector" not in tensors or document.get("format") != FORMAT or "layer" not in document:
            raise UsageError(f"expected a direction in {path}, got something else; try `equipoise direction find`")
        try:
            if document["kind"] not in get_args(DirectionKind):
                raise ValueError(f"no such kind: {document['kind']!r}")
            return cls(
                tensors["vector"],
                layer=int(document["layer"]),
                position=int(document["position"]),
                model=str(document["model"]),
                revision=str(document["revision"]),
                kind=document["kind"],
                data=dict(document["data"]),
                metrics=dict(document["metrics"]),
                details=dict(document["details"]),
            )
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UsageError(
                f"expected the values of a direction in the JSON file of {path}, got an error ({error}); "
                "try `equipoise direction find`"
            ) from error

    def _derived(self, vector: Tensor, note: str) -> Direction:
        return replace(self, vector=vector, kind="difference", metrics={}, details={**self.details, "derived": note})

    def _check_same_stream(self, other: Direction) -> None:
        if other.revision != self.revision or len(other.vector) != len(self.vector):
            raise UsageError(
                f"expected two directions of one model, got {self.model} and {other.model}; try finding both on one"
            )


def require_coefficient(coefficient: float) -> None:
    """Check a multiple of a direction.

    Raises:
        UsageError: it is not finite: such an edit leaves no reply of the model.
    """
    if not math.isfinite(coefficient):
        raise UsageError(f"expected a finite coefficient of a direction, got {coefficient:g}; try 1")


def replace_vector(direction: Direction) -> Direction:
    """The direction with a vector of one number, so that `asdict` copies nothing large."""
    return replace(direction, vector=torch.ones(1))

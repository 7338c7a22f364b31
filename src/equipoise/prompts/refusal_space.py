"""The space that a soft prompt is optimised in: leading components of last-token states, and two probes on them.

Notation of DRO (Zheng et al. 2024, arXiv:2401.18018): `h` a state, `g(h)` its first m principal components, `u(h)` the
other coordinates of a complete orthonormal basis, `f_r` the probe of compliance and `f_h` that of harmlessness.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from equipoise.errors import UsageError

COMPONENTS: Final = (1, 2, 3, 4, 6, 8, 12, 16)
"""Numbers of components that cross-validation chooses among."""
FOLDS: Final = 5
RIDGE: Final = 1e-2
"""Weight of the squared weights of a probe: without it, separable data have no finite optimum."""
SOLVER_STEPS: Final = 100
"""Steps of a probe's solver, at most."""


@dataclass(frozen=True)
class LinearProbe:
    """Log-odds `w . g + b`; frozen once it is fitted."""

    weight: Tensor
    """`m` float64."""
    bias: float
    """Log-odds at the origin; it cancels in differences."""

    def __call__(self, components: Tensor) -> Tensor:
        """`... x m` to log-odds."""
        return components @ self.weight.to(components) + self.bias


Fit = Callable[[Tensor, Tensor], LinearProbe]
"""Components `N x m` and labels `N` in [0, 1] to a probe."""


@dataclass(frozen=True)
class RefusalSpace:
    """Components and probes, fitted on states of many prompts."""

    means: Mapping[str, Tensor]
    """`width` float64 by modality: what is subtracted from a state before it is projected."""
    basis: Tensor
    """`width x m` float64 with orthonormal columns, by falling variance."""
    scale: Tensor
    """`m`: what each component is divided by; ones where components are not standardised."""
    compliance: LinearProbe
    """f_r: 1 is an answer."""
    harmlessness: LinearProbe
    """f_h: 1 is harmless."""
    explained: tuple[float, ...] = ()
    """Share of the variance of each component."""

    def components(self, states: Tensor, modalities: Sequence[str]) -> Tensor:
        """g: `N x width` to `N x m`, standardised."""
        means = torch.stack([self.means[modality] for modality in modalities]).to(states)
        return (states - means) @ self.basis.to(states) / self.scale.to(states)

    def rest_distance(self, states: Tensor, others: Tensor) -> Tensor:
        """Mean over rows and over the `width - m` other coordinates of `(u(h) - u(h'))^2`.

        The completing basis need not be computed: a difference less its part in the space has the same length in any.
        """
        difference = states - others
        basis = self.basis.to(states)
        inside = difference @ basis
        # Projected first and squared then: |d|^2 - |Vd|^2 would cancel to noise in float32.
        rest = difference - inside @ basis.T
        return rest.square().sum(1).mean() / (states.shape[1] - basis.shape[1])

    def loss(
        self,
        states: Tensor,
        anchors: Tensor,
        labels: Tensor,
        modalities: Sequence[str],
        *,
        harm_weight: float,
        rest_weight: float,
    ) -> dict[str, Tensor]:
        """The loss of DRO and its three terms.

        `BCE(f_r(h) - f_r(h0), y) + a BCE(f_h(h) - f_h(h0), y) + b mean((u(h) - u(h0))^2)`

        Args:
            states: `N x width`, h under the soft prompt.
            anchors: `N x width`, h0 under the text.
            labels: `N`, y: 0 for harmful requests, 1 for harmless ones.
            modalities: of each row.
            harm_weight: a.
            rest_weight: b.

        Returns:
            `total`, `refusal`, `harm` and `rest`; scalars, the last three without their weights.
        """
        new, old = self.components(states, modalities), self.components(anchors, modalities)
        terms = {
            # Differences of log-odds, not log-odds: 0 at the first step, where the soft prompt equals its text. The
            # loss then asks each anchor to move in its own direction from there, and the probe's bias cancels.
            name: functional.binary_cross_entropy_with_logits(probe(new) - probe(old), labels.to(new))
            for name, probe in (("refusal", self.compliance), ("harm", self.harmlessness))
        }
        terms["rest"] = self.rest_distance(states, anchors)
        total = terms["refusal"] + harm_weight * terms["harm"] + rest_weight * terms["rest"]
        return {"total": total, **terms}

    def to_dict(self) -> dict[str, Any]:
        """What is worth reading, as JSON."""
        return {
            "components": self.basis.shape[1],
            "explained": list(self.explained),
            "modalities": sorted(self.means),
            "compliance": self.compliance.weight.tolist(),
            "harmlessness": self.harmlessness.weight.tolist(),
        }


@dataclass(frozen=True)
class SpaceData:
    """States with what is known about them; one row for each request under each prompt."""

    states: Tensor
    """`N x width`."""
    modalities: tuple[str, ...]
    """`text` or `picture`, of each row."""
    comply: Tensor
    """`N` in [0, 1]: share of replies that answer."""
    harmless: Tensor
    """`N`, 0 or 1."""
    requests: tuple[int, ...]
    """Which request it is, so that folds do not share one."""

    def rows(self, indices: Sequence[int]) -> SpaceData:
        """Some of the rows."""
        index = torch.tensor(list(indices))
        return SpaceData(
            self.states[index],
            tuple(self.modalities[i] for i in indices),
            self.comply[index],
            self.harmless[index],
            tuple(self.requests[i] for i in indices),
        )


def fit_space(
    data: SpaceData,
    count: int,
    *,
    standardise: bool = True,
    by_modality: bool = True,
    fit: Fit | None = None,
) -> RefusalSpace:
    """Principal components of states, and the probes on them.

    Args:
        data: the states.
        count: m.
        standardise: whether components are divided by their standard deviation: probes are then as good at small
            activations as at large ones.
        by_modality: whether the mean of each modality is subtracted, so that "there is a picture" is no component;
            otherwise one mean for all.
        fit: fits a probe; None is `fit_probe`.

    Raises:
        UsageError: labels of one kind only, or fewer states than components.
    """
    _require_both(data.comply, "answered and refused anchors", "more anchors, or another text")
    _require_both(data.harmless, "harmful and harmless anchors", "anchors of both kinds")
    states = data.states.double()
    kinds = sorted(set(data.modalities))
    if not 1 <= count < min(states.shape):
        raise UsageError(
            f"expected fewer components than states and numbers in them ({tuple(states.shape)}), got {count}; try 4"
        )
    rows = {kind: [i for i, modality in enumerate(data.modalities) if modality == kind] for kind in kinds}
    overall = states.mean(0)
    means = {kind: states[rows[kind]].mean(0) if by_modality else overall for kind in kinds}
    centred = states - torch.stack([means[modality] for modality in data.modalities])
    # Rows of `directions` are the principal axes of `N x width` states, by falling variance `singular ** 2`. Centred by
    # modality: a picture shifts the state far more than harm does, and would be the first component otherwise.
    _, singular, directions = torch.linalg.svd(centred, full_matrices=False)
    basis = directions[:count].T
    components = centred @ basis
    scale = components.std(0).clamp_min(1e-12) if standardise else torch.ones(count, dtype=torch.float64)
    fit = fit or fit_probe
    variance = singular.square()
    return RefusalSpace(
        means,
        basis,
        scale,
        fit(components / scale, data.comply.double()),
        fit(components / scale, data.harmless.double()),
        tuple((variance[:count] / variance.sum()).tolist()),
    )


def choose_components(
    data: SpaceData, candidates: Sequence[int] = COMPONENTS, *, folds: int = FOLDS, seed: int = 0
) -> tuple[int, dict[int, float]]:
    """The number of components with the least cross-entropy of both probes on requests that they were not fitted on.

    Returns:
        The number, and the mean cross-entropy of each candidate in nats.
    """
    requests = sorted(set(data.requests))
    order = torch.randperm(len(requests), generator=torch.Generator().manual_seed(seed)).tolist()
    # A request stays in one fold with all its prompts: its states are near each other.
    fold_of = {requests[index]: position % folds for position, index in enumerate(order)}
    usable = [m for m in candidates if m < min(len(data.states) * (folds - 1) // folds - 1, data.states.shape[1])]
    losses: dict[int, list[float]] = {m: [] for m in usable}
    for fold in range(folds):
        inside = [i for i, request in enumerate(data.requests) if fold_of[request] != fold]
        outside = [i for i, request in enumerate(data.requests) if fold_of[request] == fold]
        if not inside or not outside:
            continue
        training, test = data.rows(inside), data.rows(outside)
        if not _has_both(training.comply) or not _has_both(training.harmless):
            continue
        if not set(test.modalities) <= set(training.modalities):
            continue
        for m in usable:
            space = fit_space(training, m)
            components = space.components(test.states.double(), test.modalities)
            pairs = ((space.compliance, test.comply), (space.harmlessness, test.harmless))
            loss = sum(
                float(functional.binary_cross_entropy_with_logits(probe(components), labels.double()))
                for probe, labels in pairs
            )
            losses[m].append(loss)
    means = {m: sum(values) / len(values) for m, values in losses.items() if values}
    if not means:
        answered = sum(float(label) >= 0.5 for label in data.comply)
        raise UsageError(
            f"expected anchors that can be divided into {folds} parts with answers and refusals in each, got "
            f"{len(requests)} requests to which {answered} replies answer and {len(data.comply) - answered} refuse; "
            "try more anchors, longer replies to label them, or a model that refuses some"
        )
    return min(means, key=lambda m: (means[m], m)), means


def fit_probe(components: Tensor, labels: Tensor) -> LinearProbe:
    """A logistic regression on labels in [0, 1], by LBFGS in float64: the optimum, whatever the scale of the input.

    Args:
        components: `N x m`.
        labels: `N`.
    """
    features, targets = components.detach().double(), labels.detach().double()
    parameters = torch.zeros(features.shape[1] + 1, dtype=torch.float64, requires_grad=True)
    solver = torch.optim.LBFGS([parameters], max_iter=SOLVER_STEPS, tolerance_grad=1e-9, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        solver.zero_grad()
        logits = features @ parameters[:-1] + parameters[-1]
        loss = functional.binary_cross_entropy_with_logits(logits, targets)
        loss = loss + RIDGE / 2 * parameters[:-1].square().sum()
        loss.backward()
        return loss

    with torch.enable_grad():
        solver.step(closure)
    solution = parameters.detach()
    return LinearProbe(solution[:-1].clone(), float(solution[-1]))


def fit_paper_probe(
    components: Tensor, labels: Tensor, *, seed: int = 42, folds: int = 10, steps: int = 10_000
) -> LinearProbe:
    """The probe as the paper fits it: the mean of ten folds' weights, each by AdamW with early stopping.

    Full batches, learning rate 1e-4, at most `steps` steps, stopped after three without an improvement of 1e-4. It
    stops far from the optimum where components are small; `fit_probe` does not.
    """
    features, targets = components.detach().float(), labels.detach().float()
    random = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(features), generator=random)
    parts = [part for part in order.tensor_split(folds) if len(part)]
    weights: list[Tensor] = []
    for part in parts:
        inside = torch.ones(len(features), dtype=torch.bool)
        # A single part would leave nothing to fit on.
        inside[part] = len(parts) == 1
        weights.append(_paper_fold(features[inside], targets[inside], features[part], targets[part], random, steps))
    mean = torch.stack(weights).mean(0).double()
    return LinearProbe(mean[:-1], float(mean[-1]))


def _paper_fold(
    features: Tensor, targets: Tensor, held: Tensor, held_targets: Tensor, random: torch.Generator, steps: int
) -> Tensor:
    size = features.shape[1]
    bound = size**-0.5
    # torch's own initialisation of a linear layer: uniform in +-1 / sqrt(inputs).
    parameters = ((torch.rand(size + 1, generator=random) * 2 - 1) * bound).requires_grad_(True)
    solver = torch.optim.AdamW([parameters], lr=1e-4)
    best, misses = float("inf"), 0
    with torch.enable_grad():
        for _ in range(steps):
            solver.zero_grad()
            loss = functional.binary_cross_entropy_with_logits(features @ parameters[:-1] + parameters[-1], targets)
            loss.backward()
            solver.step()
            with torch.no_grad():
                logits = held @ parameters[:-1] + parameters[-1]
                value = float(functional.binary_cross_entropy_with_logits(logits, held_targets))
            misses = 0 if value < best - 1e-4 else misses + 1
            best = min(best, value)
            if misses >= 3:
                break
    return parameters.detach()


def accuracy(probe: LinearProbe, components: Tensor, labels: Tensor) -> float:
    """Share of rows on whose side of one half the probe is."""
    return float(((probe(components) > 0) == (labels > 0.5)).double().mean())


def _has_both(labels: Tensor) -> bool:
    return float(labels.min()) < 0.5 < float(labels.max())


def _require_both(labels: Tensor, what: str, hint: str) -> None:
    if not _has_both(labels):
        share = float(labels.mean())
        raise UsageError(f"expected {what}, got labels of one kind only (mean {share:.2f}); try {hint}")

"""Judges by their written names: `ensemble`, `phrases`, `encoder`, served models, local models, guard models."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from equipoise.errors import UsageError

if TYPE_CHECKING:
    from equipoise.judges.ensemble import Ensemble
    from equipoise.judges.llm_interface import Backend
    from equipoise.judges.provider_signals import ProviderSignalFirst
    from equipoise.judges.rubric import RubricQuestion
    from equipoise.types import Judge

WHERE = "URL#MODEL of an OpenAI-compatible server, or a local model (folder or ORG/NAME)"
"""How a model that judges is named."""


@dataclass(frozen=True)
class JudgeSettings:
    """How judges that are models are reached."""

    key: str | None = None
    """Key of the servers."""
    pictures: bool = False
    """Whether judges that are models are shown the pictures; a local one then has to read them."""
    timeout: float = 60.0
    """Seconds a served judge may take for one reply."""
    device: str | None = None
    """Where local models run; None takes the GPU where there is one."""
    dtype: str | None = None
    """Number format of local models; None takes that of their weights."""
    endpoint: Mapping[str, Any] = field(default_factory=dict)
    """Further fields of a `ServedEndpoint`, for judges behind a URL."""


def choose_judge(
    name: str, harm: Sequence[str | Judge], settings: JudgeSettings | None = None
) -> Ensemble | ProviderSignalFirst:
    """The judge of refusals with this name, together with judges of harm.

    Args:
        name: `ensemble`, `phrases`, `encoder`, or a model that is asked.
        harm: judges of harm: loaded ones, or names as of `harm_judge`.
        settings: how models are reached.

    Raises:
        UsageError: there is no such judge.
        ModelError: the encoder has no weights, or a local model cannot be loaded.
        MissingExtraError: a served judge without the extra `served`.
    """
    from equipoise.judges.ensemble import Ensemble, default_judge
    from equipoise.judges.provider_signals import ProviderSignalFirst
    from equipoise.judges.rubric import HARM, REFUSAL

    settings = settings or JudgeSettings()
    harm_judges = [harm_judge(spec, settings) if isinstance(spec, str) else spec for spec in harm]
    if name == "ensemble":
        return default_judge(harm=harm_judges)
    if name == "phrases":
        return Ensemble(harm=tuple(harm_judges))
    if harm:
        raise UsageError(f"expected --harm-judge with --judge ensemble or phrases, got --judge {name}; try without")
    if name == "encoder":
        from equipoise.judges.encoder import EncoderJudge

        encoder = EncoderJudge()
        _ = encoder.identity  # without weights this is the one clear error
        return ProviderSignalFirst(encoder)
    return ProviderSignalFirst(_llm_judge(name, (REFUSAL, HARM), settings))


def harm_judge(spec: str, settings: JudgeSettings | None = None) -> Judge:
    """A judge of harm: `URL#MODEL`, a local text model, one of these after `guard:FAMILY=`, or `answers`.

    `answers` takes every answer for harmful, which overstates harm; it is for machines without a judge of harm.

    Raises:
        UsageError: there is no such judge.
        ModelError: a local model cannot be loaded.
        MissingExtraError: a served judge without the extra `served`.
    """
    from equipoise.judges.answers_as_harm import NAME, AnswersAsHarm
    from equipoise.judges.ensemble import default_judge
    from equipoise.judges.guard_models import GuardJudge, guard_named
    from equipoise.judges.rubric import HARM

    if spec == NAME:
        return AnswersAsHarm(default_judge())
    settings = settings or JudgeSettings()
    family, _, where = spec.removeprefix("guard:").partition("=")
    if not spec.startswith("guard:"):
        return _llm_judge(spec, (HARM,), settings)
    guard = guard_named(family)
    return GuardJudge(guard, _backend(where, settings, raw=guard.raw is not None))


def picture_judge(spec: str, settings: JudgeSettings | None = None) -> Judge:
    """A judge of the pictures that users send: `guard:FAMILY=WHERE` with a family that looks at pictures.

    Raises:
        UsageError: there is no such guard.
        ModelError: a local model cannot be loaded.
        MissingExtraError: a served judge without the extra `served`.
    """
    from equipoise.judges.guard_models import GUARDS, GuardJudge, guard_named

    settings = settings or JudgeSettings()
    family, _, where = spec.removeprefix("guard:").partition("=")
    examples = ", ".join(f"guard:{guard.name}=URL#MODEL" for guard in GUARDS if guard.pictures)
    if not spec.startswith("guard:") or not guard_named(family).pictures:
        raise UsageError(f"expected a guard that looks at pictures, got {spec!r}; try {examples}")
    return GuardJudge(guard_named(family), _backend(where, settings), sent=True)


def request_judge(spec: str, settings: JudgeSettings | None = None) -> Judge:
    """A judge of what users send, before anybody answered: `guard:FAMILY=WHERE` with a family that has a chat template.

    Raises:
        UsageError: there is no such guard, or it reads a request only together with a reply.
        ModelError: a local model cannot be loaded.
        MissingExtraError: a served judge without the extra `served`.
    """
    from equipoise.judges.guard_models import GuardJudge, guard_named

    family, _, where = spec.removeprefix("guard:").partition("=")
    if not spec.startswith("guard:") or guard_named(family).raw is not None:
        raise UsageError(
            f"expected a guard that judges requests, got {spec!r}; try guard:llama-guard=http://HOST/v1#NAME"
        )
    return GuardJudge(guard_named(family), _backend(where, settings or JudgeSettings()), sent=True)


def is_local(spec: str) -> bool:
    """Whether a judge's name means a model on this machine: a folder, a GGUF file, or ORG/NAME of the hub."""
    where = spec.partition("=")[2] if spec.startswith("guard:") else spec
    return "://" not in where and ("/" in where or where.endswith(".gguf") or Path(where).is_dir())


def key_from(name: str | None) -> str | None:
    """The key in an environment variable; None where none is named.

    Raises:
        UsageError: the variable is not set.
    """
    if name is None:
        return None
    key = os.environ.get(name)
    if not key:
        raise UsageError(f"expected a key in the environment variable {name}, got none; try export {name}=...")
    return key


def _llm_judge(spec: str, questions: tuple[RubricQuestion, ...], settings: JudgeSettings) -> Judge:
    from equipoise.judges.llm_judge import LLMJudge

    backend = _vision_backend(spec, settings) if settings.pictures and is_local(spec) else _backend(spec, settings)
    return LLMJudge(backend, questions, settings.pictures)


def _vision_backend(where: str, settings: JudgeSettings) -> Backend:
    """The model in a folder or on the hub, with its pictures; one that reads none is an error."""
    from equipoise.judges.hf_backend import HFVisionBackend
    from equipoise.models.load import load

    model = load(where, device=settings.device, dtype=settings.dtype)
    if not model.reads_pictures:
        raise UsageError(
            f"expected a judge that reads pictures, got {where}; try a multimodal model, or without --with-pictures"
        )
    return HFVisionBackend(model)


def _backend(where: str, settings: JudgeSettings, *, raw: bool = False) -> Backend:
    """The model at `URL#MODEL`, in a folder or on the hub."""
    if "://" in where:
        from equipoise.judges.openai_backend import OpenAIBackend
        from equipoise.served_models.endpoint import ServedEndpoint

        endpoint = ServedEndpoint.parse(where, api_key=settings.key, **settings.endpoint)
        return OpenAIBackend(endpoint, timeout=settings.timeout, raw=raw)
    if is_local(where):
        from equipoise.judges.hf_backend import HFBackend

        return HFBackend.load(where, device=settings.device, dtype=settings.dtype)
    raise UsageError(f"expected a judge, got {where!r}; try ensemble, phrases, encoder, {WHERE}")

"""Which judges a user means: names, servers, local models and guards, as they are written on the command line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from equipoise.errors import UsageError

if TYPE_CHECKING:
    from equipoise.judges.llm_interface import Backend
    from equipoise.judges.rubric import RubricQuestion
    from equipoise.types import Judge

WHERE = "URL#MODEL of an OpenAI-compatible server, or a local text model (folder or ORG/NAME)"
"""How a model that judges is named."""


def chosen_judge(
    who: str, harm: Sequence[str], key_name: str | None = None, *, pictures: bool = False, timeout: float = 60.0
) -> Judge:
    """The judge that `--judge`, `--harm-judge` and `--api-key-env` name.

    Args:
        who: `ensemble`, `phrases`, `encoder`, or a model that is asked.
        harm: judges of harm, as of `harm_judge`.
        key_name: environment variable with the servers' key.
        pictures: whether judges behind a URL are shown the pictures.
        timeout: seconds a served judge may take for one reply.

    Raises:
        UsageError: there is no such judge, or no key.
        ModelError: the encoder has no weights, or a local model cannot be loaded.
        MissingExtraError: a served judge without the extra `served`.
    """
    from equipoise.judges.ensemble import Ensemble, default_judge
    from equipoise.judges.provider_signals import ProviderSignalFirst
    from equipoise.judges.rubric import HARM, REFUSAL

    key = key_from(key_name)
    harm_judges = [harm_judge(spec, key=key, pictures=pictures, timeout=timeout) for spec in harm]
    if who == "ensemble":
        return default_judge(harm=harm_judges)
    if who == "phrases":
        return Ensemble(harm=tuple(harm_judges))
    if harm:
        raise UsageError(f"expected --harm-judge with --judge ensemble or phrases, got --judge {who}; try without")
    if who == "encoder":
        from equipoise.judges.encoder import EncoderJudge

        encoder = EncoderJudge()
        _ = encoder.identity  # without weights this is the one clear error
        return ProviderSignalFirst(encoder)
    return ProviderSignalFirst(_asked(who, (REFUSAL, HARM), key, pictures, timeout))


def harm_judge(spec: str, *, key: str | None = None, pictures: bool = False, timeout: float = 60.0) -> Judge:
    """A judge of harm: `URL#MODEL`, a local text model, or one of these after `guard:FAMILY=`.

    Raises:
        UsageError: there is no such judge.
        ModelError: a local model cannot be loaded.
        MissingExtraError: a served judge without the extra `served`.
    """
    from equipoise.judges.guard_models import GuardJudge, guard_named
    from equipoise.judges.rubric import HARM

    family, _, where = spec.removeprefix("guard:").partition("=")
    if not spec.startswith("guard:"):
        return _asked(spec, (HARM,), key, pictures, timeout)
    guard = guard_named(family)
    return GuardJudge(guard, _backend(where, key, timeout, raw=guard.raw is not None))


def picture_judge(spec: str, *, key: str | None = None, timeout: float = 60.0) -> Judge:
    """A judge of the pictures that users send: `guard:FAMILY=WHERE` with a family that looks at pictures.

    Raises:
        UsageError: there is no such guard.
        ModelError: a local model cannot be loaded.
        MissingExtraError: a served judge without the extra `served`.
    """
    from equipoise.judges.guard_models import GUARDS, GuardJudge, guard_named

    family, _, where = spec.removeprefix("guard:").partition("=")
    seeing = ", ".join(f"guard:{guard.name}=URL#MODEL" for guard in GUARDS if guard.pictures)
    if not spec.startswith("guard:") or not guard_named(family).pictures:
        raise UsageError(f"expected a guard that looks at pictures, got {spec!r}; try {seeing}")
    return GuardJudge(guard_named(family), _backend(where, key, timeout), sent=True)


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


def _asked(spec: str, questions: tuple[RubricQuestion, ...], key: str | None, pictures: bool, timeout: float) -> Judge:
    from equipoise.judges.llm_judge import LLMJudge

    return LLMJudge(_backend(spec, key, timeout), questions, pictures)


def _backend(where: str, key: str | None, timeout: float, *, raw: bool = False) -> Backend:
    """The model at `URL#MODEL`, in a folder or on the hub."""
    if "://" in where:
        from equipoise.judges.openai_backend import OpenAIBackend

        url, _, model = where.rpartition("#")
        if not url:
            raise UsageError(f"expected URL#MODEL, got a URL without a model; try {where}#NAME")
        return OpenAIBackend(url, model, api_key=key, timeout=timeout, raw=raw)
    if "/" in where or Path(where).is_dir():
        from equipoise.cli.console import quiet
        from equipoise.judges.hf_backend import HFBackend

        quiet()
        return HFBackend.load(where)
    raise UsageError(f"expected a judge, got {where!r}; try ensemble, phrases, encoder, {WHERE}")

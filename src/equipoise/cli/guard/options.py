"""Options that the verbs of `equipoise guard` share, and the guard they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from equipoise.cli.judging import WHERE

if TYPE_CHECKING:
    from equipoise.guard.decision import Detector

DetectorName = Annotated[
    str, typer.Option("--detector", help="embedded, embedded-fast, testbed, or a folder of `equipoise train detector`.")
]
Detoxifiers = Annotated[
    list[str] | None,
    typer.Option(
        "--detoxifier",
        help="Who rewrites harmful replies: testbed, a folder of `equipoise train detoxifier`, or granite:ADAPTER; may "
        "be repeated, tried in order. Without one a harmful reply becomes the policy's refusal.",
    ),
]
PolicyFile = Annotated[
    Path | None, typer.Option("--policy", help="TOML file; `equipoise guard policy` prints the default one.")
]
Big = Annotated[
    str | None,
    typer.Option(
        "--big",
        help=f"The bigger guard, asked where the detector is unsure: {WHERE}; with guard:FAMILY= before it where it is "
        "a llama-guard, wildguard, granite-guardian, shieldgemma or qwen3guard.",
    ),
]
PictureGuard = Annotated[
    str | None,
    typer.Option(
        "--picture-guard",
        help="A guard that looks at the pictures of requests: guard:llama-guard=URL#MODEL (Llama Guard 4).",
    ),
]
KeyName = Annotated[
    str | None,
    typer.Option("--api-key-env", help="Environment variable that holds the key of --big and --picture-guard."),
]


def bigger(spec: str | None, key_name: str | None) -> Detector | None:
    """The bigger guard that `--big` names.

    Raises:
        UsageError: there is no such guard, or no key.
        ModelError: its weights cannot be loaded.
        MissingExtraError: a served one without the extra `served`.
    """
    if spec is None:
        return None
    from equipoise.cli.judging import harm_judge, key_from
    from equipoise.guard.cascade import JudgeDetector

    return JudgeDetector(harm_judge(spec, key=key_from(key_name)))


def looking(spec: str | None, key_name: str | None) -> Detector | None:
    """The guard that `--picture-guard` names.

    Raises:
        UsageError: there is no such guard, or no key.
        ModelError: its weights cannot be loaded.
        MissingExtraError: a served one without the extra `served`.
    """
    if spec is None:
        return None
    from equipoise.cli.judging import key_from, picture_judge
    from equipoise.guard.cascade import JudgeDetector

    return JudgeDetector(picture_judge(spec, key=key_from(key_name)))

"""Options of the guard, and the guard they load."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from equipoise.cli.options.compute import DeviceOptions
from equipoise.cli.options.expansion import FormerName
from equipoise.cli.options.judge import judge_settings
from equipoise.cli.options.param_types import MACHINE
from equipoise.judges.catalogue import WHERE

if TYPE_CHECKING:
    from equipoise.guard.cascade import JudgeDetector
    from equipoise.guard.guard import Guard


@dataclass(frozen=True, kw_only=True)
class GuardDeviceOptions(DeviceOptions):
    """Device and number format of a guard's weights."""

    device: Annotated[
        str | None,
        typer.Option(
            help="cpu, cuda or cuda:N; by default the CPU, and the GPU for a local --escalation-guard.",
            rich_help_panel=MACHINE,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class GuardOptions:
    """The detector of harm, the guard it escalates to, and the policy."""

    detector: Annotated[
        str,
        typer.Option(
            "--detector",
            help="embedded, embedded-fast, reference, testbed, or a folder of `equipoise train detector`.",
        ),
    ] = "embedded"
    policy: Annotated[
        Path | None, typer.Option("--policy", help="TOML file; `equipoise guard policy` prints the default one.")
    ] = None
    escalation_guard: Annotated[
        str | None,
        typer.Option(
            "--escalation-guard",
            help=f"The bigger guard, asked where the detector is unsure: {WHERE}; with guard:FAMILY= before it where "
            "it is a llama-guard, wildguard, granite-guardian, shieldgemma or qwen3guard.",
        ),
        FormerName("--big"),
    ] = None
    guard_key_env: Annotated[
        str | None,
        typer.Option(
            "--guard-key-env",
            help="Environment variable that holds the key of a served --escalation-guard or --picture-guard.",
        ),
        FormerName("--api-key-env"),
    ] = None

    def load(self, device: DeviceOptions, detoxifiers: list[str] | None = None) -> Guard:
        """Load the guard.

        Raises:
            UsageError: there is no such guard or policy, or no key.
            ModelError: weights that cannot be loaded.
            MissingExtraError: a served guard without the extra `served`.
        """
        from equipoise.guard.guard import Guard

        return Guard.from_pretrained(
            self.detector,
            detoxifier=detoxifiers or [],
            policy=self.policy,
            escalation_guard=self._escalation_detector(device),
            device=device.checked_device(),
            dtype=device.dtype_name,
        )

    def _escalation_detector(self, device: DeviceOptions) -> JudgeDetector | None:
        if self.escalation_guard is None:
            return None
        from equipoise.guard.cascade import JudgeDetector
        from equipoise.judges.catalogue import harm_judge

        settings = judge_settings([self.escalation_guard], self.guard_key_env, device)
        return JudgeDetector(harm_judge(self.escalation_guard, settings))


Detoxifiers = Annotated[
    list[str] | None,
    typer.Option(
        "--detoxifier",
        help="Who rewrites harmful replies: reference, testbed, a folder of `equipoise train detoxifier`, or "
        "granite:ADAPTER; may be repeated, tried in order. Without one a harmful reply becomes the policy's refusal.",
    ),
]
PictureGuard = Annotated[
    str | None,
    typer.Option(
        "--picture-guard",
        help="A guard that looks at the pictures of requests: guard:llama-guard=URL#MODEL (Llama Guard 4).",
    ),
]


def picture_detector(spec: str | None, key_env: str | None, device: DeviceOptions) -> JudgeDetector | None:
    """The guard that `--picture-guard` names; None without one.

    Raises:
        UsageError: there is no such guard, or no key.
        ModelError: its weights cannot be loaded.
        MissingExtraError: a served one without the extra `served`.
    """
    if spec is None:
        return None
    from equipoise.guard.cascade import JudgeDetector
    from equipoise.judges.catalogue import picture_judge

    settings = judge_settings([spec], key_env, device)
    return JudgeDetector(picture_judge(spec, settings))

"""Options of an audit: how the target is asked, and which judges read its replies."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from equipoise.cli.options.compute import DeviceOptions
from equipoise.cli.options.judge import judge_settings
from equipoise.cli.options.param_types import ASKING

if TYPE_CHECKING:
    from equipoise.judges.ensemble import Ensemble


@dataclass(frozen=True, kw_only=True)
class RequestOptions:
    """How prompts are sent to the target."""

    connections: Annotated[
        int | None, typer.Option(min=1, help="Prompts under way at once.", rich_help_panel=ASKING)
    ] = None
    timeout: Annotated[
        float | None, typer.Option(min=0.1, help="Seconds that one try may take.", rich_help_panel=ASKING)
    ] = None
    retries: Annotated[
        int,
        typer.Option(min=0, help="Further tries where no reply came; never for a refusal.", rich_help_panel=ASKING),
    ] = 2
    api_key_env: Annotated[
        str | None,
        typer.Option(
            help="Environment variable that holds the key of the target at an http:// address; EQUIPOISE_API_KEY by "
            "default. Models of inspect: have variables of their own.",
            rich_help_panel=ASKING,
        ),
    ] = None


@dataclass(frozen=True, kw_only=True)
class HarmJudgeOptions:
    """Who judges harm in an audit."""

    harm_judge: Annotated[
        list[str] | None,
        typer.Option(
            "--harm-judge",
            help="Who judges harm: URL#NAME of a served model, a local text model, or guard:FAMILY=URL#NAME. May be "
            "repeated; without one, harm is scored only where the suite says what a harmful reply states.",
        ),
    ] = None
    judge_key_env: Annotated[
        str | None,
        typer.Option(help="Environment variable that holds the key of served judges.", rich_help_panel=ASKING),
    ] = None

    def load(self, device: DeviceOptions) -> Ensemble:
        """The ensemble of judges, with these judges of harm.

        Raises:
            UsageError: there is no such judge, or no key.
            ModelError: a local model cannot be loaded.
            MissingExtraError: a served judge without the extra `served`.
        """
        from equipoise.judges.catalogue import harm_judge
        from equipoise.judges.ensemble import default_judge

        settings = judge_settings(self.harm_judge or [], self.judge_key_env, device)
        return default_judge(harm=[harm_judge(spec, settings) for spec in self.harm_judge or ()])

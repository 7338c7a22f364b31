"""Options of an audit: how the target is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import typer

from equipoise.cli.options.param_types import ASKING


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

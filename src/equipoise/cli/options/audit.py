"""Options of an audit: how the target is asked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from equipoise.cli.options.endpoint import LimitField, endpoint_settings
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
    max_wait: Annotated[
        float,
        typer.Option(
            min=0.0,
            help="Seconds for which a prompt is sent again beyond --retries while the server answers 429 or 5xx, times "
            "out or is away.",
            rich_help_panel=ASKING,
        ),
    ] = 0.0
    max_failed: Annotated[
        str,
        typer.Option(
            metavar="SHARE|N",
            help="So many prompts may fail for good (4xx for one prompt): they count as unscored and the run as "
            "finished. A count such as 3, or a share such as 0.01 or 1%.",
            rich_help_panel=ASKING,
        ),
    ] = "0"
    header: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=VALUE",
            help="A header for the target at an http:// address. May be repeated; the record holds the name only.",
            rich_help_panel=ASKING,
        ),
    ] = None
    extra_body: Annotated[
        str | None,
        typer.Option(
            metavar="JSON",
            help="A JSON object, added to each request to a served target.",
            rich_help_panel=ASKING,
        ),
    ] = None
    temperature: Annotated[
        str | None,
        typer.Option(
            help="Temperature of a served target, 0 by default; none sends none.",
            show_default=False,
            rich_help_panel=ASKING,
        ),
    ] = None
    max_tokens_field: Annotated[
        LimitField | None,
        typer.Option(
            help="Field that limits a reply's length; by default max_tokens, or what the server asks for.",
            show_default=False,
            rich_help_panel=ASKING,
        ),
    ] = None
    api_key_env: Annotated[
        str | None,
        typer.Option(
            help="Environment variable that holds the key of the target at an http:// address; EQUIPOISE_API_KEY by "
            "default. Models of inspect: have variables of their own.",
            rich_help_panel=ASKING,
        ),
    ] = None

    @property
    def limits(self) -> dict[str, Any]:
        """The fields of an `AuditConfig` that these options are.

        Raises:
            UsageError: `--max-failed` has another form.
        """
        from equipoise.audit.failure_limit import FailureLimit

        return {
            "connections": self.connections,
            "timeout": self.timeout,
            "retries": self.retries,
            "max_wait": self.max_wait,
            "max_failed": FailureLimit.parse(self.max_failed),
        }

    @property
    def endpoint(self) -> dict[str, Any]:
        """The fields of a `ServedEndpoint` that the options name.

        Raises:
            UsageError: a value has another form.
        """
        return endpoint_settings(self.header, self.extra_body, self.temperature, self.max_tokens_field)

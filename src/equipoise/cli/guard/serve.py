"""`equipoise guard serve`: an OpenAI-compatible server before an upstream model, with the guard between them."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from equipoise.cli.console import quiet, warn
from equipoise.cli.options.endpoint import without_password
from equipoise.cli.options.expansion import with_options
from equipoise.cli.options.guard import Detoxifiers, GuardDeviceOptions, GuardOptions, PictureGuard, picture_detector
from equipoise.cli.options.param_types import MACHINE
from equipoise.cli.options.socket_address import Host, bound_socket, until_interrupted
from equipoise.errors import MissingExtraError

if TYPE_CHECKING:
    from equipoise.guard.async_guard import AsyncGuard
    from equipoise.guard.check_worker import GuardLoader
    from equipoise.guard.gateway.gateway_state import GatewayState
    from equipoise.guard.guard import Guard


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """Where checks are computed, and how long one may take."""

    check_seconds: Annotated[float, typer.Option(min=0.01, help="Seconds for one check, waiting included.")] = 30.0
    check_workers: Annotated[
        int,
        typer.Option(
            min=0,
            help="Processes for the checks, each with the guard in memory: one for each core. 0: they are computed in "
            "the gateway's own process, one at a time.",
            rich_help_panel=MACHINE,
        ),
    ] = 0

    def start(self, load: GuardLoader) -> AsyncGuard:
        """The guard off the event loop.

        Raises:
            EquipoiseError: it cannot be loaded.
        """
        from equipoise.guard.async_guard import AsyncGuard

        quiet()
        if self.check_workers:
            return AsyncGuard.in_workers(load, self.check_workers, seconds=self.check_seconds)
        return AsyncGuard(load(), seconds=self.check_seconds)


@with_options
def serve(
    upstream: Annotated[
        str,
        typer.Option(
            "--upstream",
            help="Address of an OpenAI-compatible server, such as http://localhost:8000/v1.",
            show_default=False,
        ),
    ],
    guard: GuardOptions = GuardOptions(),
    detoxifier: Detoxifiers = None,
    picture_guard: PictureGuard = None,
    device: GuardDeviceOptions = GuardDeviceOptions(),
    keys: Annotated[
        Path | None,
        typer.Option(
            help="TOML file of clients' keys, as hashes; `equipoise guard key` makes one. Without: open to all."
        ),
    ] = None,
    record: Annotated[
        str | None, typer.Option(help="Audit record: a file, or postgresql://...; without one nothing is recorded.")
    ] = None,
    keep_text: Annotated[bool, typer.Option("--keep-text", help="Keep what was said in the record, too.")] = False,
    upstream_key_env: Annotated[
        str | None, typer.Option(help="Name of the environment variable that holds the upstream's key.")
    ] = None,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(help="Origin of web pages that may call it, such as https://chat.example.com; may be repeated."),
    ] = None,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8080,
    silence: Annotated[float, typer.Option(min=0.1, help="Seconds of silence after which the upstream hangs.")] = 120.0,
    check: CheckOptions = CheckOptions(),
) -> None:
    """Serve chat completions whose replies were judged: harmful ones leave rewritten, refused or not at all."""
    try:
        import uvicorn

        from equipoise.guard.gateway.app import create
        from equipoise.model_server.announced_server import AnnouncedServer
    except ImportError as error:
        raise MissingExtraError("pip install 'equipoise[guard]'") from error
    from equipoise.guard.async_guard import AsyncGuard
    from equipoise.guard.gateway.gateway_state import GatewayState
    from equipoise.guard.gateway.hot_reload import WatchedFiles
    from equipoise.guard.gateway.upstream import connect
    from equipoise.guard.ocr import OCR
    from equipoise.guard.pipeline import GuardPipeline
    from equipoise.guard.record.store import AuditRecord
    from equipoise.judges.catalogue import key_from

    target = connect(upstream, seconds=silence, key=key_from(upstream_key_env))
    files = WatchedFiles(guard.policy, keys)
    clients = files.read()
    checks = check.start(_GuardLoading(guard, device, detoxifier))
    detector_of_pictures = picture_detector(picture_guard, guard.guard_key_env, device)
    service = GatewayState(
        target,
        checks,
        clients,
        AuditRecord(record) if record is not None else None,
        OCR() if clients.read_pictures else None,
        keep_text,
        files=files,
        origins=tuple(allow_origin or ()),
        load_reader=OCR,
        picture_guard=None
        if detector_of_pictures is None
        else AsyncGuard(GuardPipeline(detector_of_pictures), seconds=check.check_seconds),
    )
    listening = bound_socket(host, port)
    with until_interrupted():
        config = uvicorn.Config(create(service), log_level="warning", access_log=False, timeout_graceful_shutdown=30)
        AnnouncedServer(config, lambda: _ready(service, listening, upstream)).run(sockets=[listening])


@dataclass(frozen=True)
class _GuardLoading:
    """Loads the guard, in this process or, pickled, in a worker."""

    options: GuardOptions
    device: GuardDeviceOptions
    detoxifiers: list[str] | None

    def __call__(self) -> Guard:
        import torch

        quiet()
        # A small network is no faster on several cores, and the event loop, or another worker, needs them.
        torch.set_num_threads(1)
        return self.options.load(self.device, self.detoxifiers)


def _ready(service: GatewayState, listening: socket.socket, upstream: str) -> None:
    guard = service.guard.pipeline
    if not service.keys.are_needed:
        warn("no --keys: whoever reaches this address may ask")
    if service.record is None:
        warn("no --record: nothing is recorded")
    address = "{}:{}".format(*listening.getsockname()[:2])
    description = f"policy {guard.policy.name}@{guard.policy.revision}, detector {guard.detector.name}"
    if service.guard.pool is not None:
        description += f", checks in {service.guard.pool.ready} processes"
    print(f"listening on http://{address}/v1 before {without_password(upstream)}: {description}", flush=True)

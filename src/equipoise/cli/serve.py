"""`equipoise serve`: a model with weights, and its countermeasures, behind OpenAI's chat completions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer

from equipoise.cli.console import printable, warn
from equipoise.cli.options import arguments as o
from equipoise.cli.options.compute import SharingOptions
from equipoise.cli.options.expansion import with_options
from equipoise.cli.options.socket_address import Host, bound_socket, until_interrupted
from equipoise.errors import MissingExtraError

if TYPE_CHECKING:
    import socket

    from equipoise.model_server.app import ModelServer

LOCAL = ("127.0.0.1", "::1", "localhost")


@with_options
def serve(
    model: Annotated[
        str,
        typer.Argument(
            help="testbed/NAME, reference/NAME, ORG/NAME or ORG/NAME@REVISION of the model hub, a folder or a .gguf "
            "file; +ADAPTER after it merges a folder of peft.",
            show_default=False,
        ),
    ],
    defend: o.Defend = None,
    name: Annotated[
        str | None, typer.Option(help="Name that clients see; that of the model by default.", show_default=False)
    ] = None,
    max_new_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a reply, at most, whatever it asks for.")] = 512,
    batch: Annotated[int, typer.Option(min=1, help="Waiting requests that are generated together, at most.")] = 8,
    waiting: Annotated[
        int, typer.Option(min=1, help="Requests that may wait; a further one gets 503 with retry-after.")
    ] = 64,
    host: Host = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")] = 8000,
    compute: SharingOptions = SharingOptions(),
) -> None:
    """Serve a model with its countermeasures as OpenAI's chat completions, by greedy decoding; it asks for no key.

    To guard it, and to ask for keys, put `equipoise guard serve` before it.
    """
    try:
        from equipoise.model_server import stopping_server
        from equipoise.model_server.app import ModelServer
    except ImportError as error:
        raise MissingExtraError("pip install 'equipoise[guard]'") from error
    from equipoise.model_server.generation_queue import GenerationQueue
    from equipoise.model_server.prompt_room import PromptRoom

    # Before minutes of loading: the address may be taken.
    with bound_socket(host, port) as listening:
        loaded = compute.load(model, defend or ())
        queue = GenerationQueue(loaded, batch=batch, waiting=waiting)
        server = ModelServer(queue, PromptRoom(loaded), name or model, max_new_tokens, int(time.time()))
        with until_interrupted():
            stopping_server.serve(server, listening, lambda: _announce(server, listening, defend or []))


def _announce(server: ModelServer, listening: socket.socket, defences: list[str]) -> None:
    host, port = listening.getsockname()[:2]
    if host not in LOCAL:
        warn("no key is asked for: whoever reaches this address may ask")
    around = f" with {', '.join(defences)}" if defences else ""
    address = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
    print(printable(f"listening on {address}: {server.name}{around}"), flush=True)

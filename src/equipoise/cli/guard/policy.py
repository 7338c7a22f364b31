"""`equipoise guard policy`: an annotated policy file to start from."""

from __future__ import annotations

from equipoise.cli.console import print_table


def policy() -> None:
    """Print the default policy as an annotated TOML file; every line says what it does."""
    from equipoise.guard.policy import ANNOTATED

    print_table(ANNOTATED.rstrip("\n"))

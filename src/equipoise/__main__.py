"""`python -m equipoise`: the command line, for launchers that start modules, such as torchrun."""

from __future__ import annotations

from equipoise.cli.main import main

if __name__ == "__main__":
    main()

"""Writes `docs/cli.md` from the command's own help: `python -m equipoise.cli.document [--check]`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from equipoise.countermeasures.catalogue import CATALOGUE

PAGE = Path(__file__).parents[3] / "docs" / "cli.md"
"""Where the reference lies in a checkout."""
WIDTH = 100

_INTRODUCTION = """# Command line

Made by `python -m equipoise.cli.document` from the help of the command; a test checks that it is up to date.

Results go to stdout, everything else to stderr. With `--json`, stdout holds exactly one JSON document; verbs that write
a row for each input also have `--jsonl`, one JSON object a line.

Verbs about a model alone (`audit`, `train adversarial`, `testbed score`) take it as their argument; verbs about
pictures take those, and the model with `--model`/`-m`. `--api-key-env` names the variable with the key of the target,
`--judge-key-env` that of judges, `--guard-key-env` that of the escalation and picture guards, `--upstream-key-env`
that of the gateway's upstream.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | `doctor`: something required is missing; otherwise a bug, with its traceback |
| 2 | wrong usage: an option or a value that cannot be, or a folder with results of another recipe |
| 3 | a picture that cannot be read; in a run over several pictures: at least one of them failed, the others are done |
| 4 | a model that cannot be found, loaded or used; out of memory |
| 5 | a result that cannot be written |
| 6 | an optional part is not installed; the message says how to install it |
| 10, 11 | `gate`: a limit is broken; the numbers do not decide |
| 12 | `audit`, `gate`: unfinished; some samples have no reply yet, the same `audit` command asks them again |
| 130 | interrupted; the same `audit`, `frontier`, `perturb`, `protect`, `train` or `direction` command goes on |
| 143 | `serve`: ended by SIGTERM |

## How `perturb` goes on after a stop

A picture is finished when `NAME.json` is there and holds the recipe of this run (models with their revisions,
questions, epsilon, seed and all else that decides the result), the SHA-256 of the original and of `NAME.png` as they
are now, and the replies. Finished pictures are left alone; one that was saved but not yet asked about is only asked
about. Files are written whole or not at all. A folder belongs to one recipe (`.equipoise.json`); another recipe needs
another folder or `--overwrite`. Originals are never written to: their own folder is refused as `--out`.

## What `--json` prints

`judge` and `guard check` print `{"rows": [...], "count": ..., "unreadable": ...}` with the judge or the detector and
the policy; a row is what `--jsonl` prints as a line.

`perturb` and `protect` print `{"images": [...], "errors": [...], "left_out": [...]}`; `left_out` names what is no
picture. Each image has `image`, `models`, `bystanders`,
`norm`, `epsilon`, `linf_measured`, `psnr` (null where nothing changed), `ssim`, `ms_ssim` (with `--perceptual`),
`refusals`, `bystander_refusals`, `clean_refusals` and
`clean_bystander_refusals`, each `{asked, refused, low, high, unscored}` with a 95 % Wilson
interval of refusals, full or partial, among the scored replies, `steps`, `stopped`, `seconds` (of the attack),
`peak_memory` (bytes), `file`, `per_model` (revision, rates, every question with both replies and verdicts) and
`warnings`.
"""


def render() -> str:
    """The page."""
    import typer.main
    from typer import rich_utils
    from typer.testing import CliRunner

    from equipoise.cli.main import app

    # The same on a narrow terminal, on a wide one, and where a CI service asks for colour.
    rich_utils.MAX_WIDTH, rich_utils.FORCE_TERMINAL = WIDTH, False
    parts = [_INTRODUCTION]
    for verb in _verbs(typer.main.get_command(app), ()):
        text = CliRunner().invoke(app, [*verb, "--help"], prog_name="equipoise").output
        lines = "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")
        parts.append(f"## {' '.join(('equipoise', *verb))}\n\n```text\n{lines}\n```\n")
    parts.append(_countermeasures())
    return "\n".join(parts)


def _countermeasures() -> str:
    rows = [
        f"| `{name}` | {entry.about} | {', '.join(f'`{key}={value}`' for key, value in entry.keys.items())} |"
        for name, entry in CATALOGUE.items()
    ]
    head = "## Countermeasures for `--defend`\n\n| name | what it does | settings and defaults |\n|---|---|---|\n"
    return head + "\n".join(rows) + "\n"


def _verbs(command: Any, name: tuple[str, ...]) -> list[tuple[str, ...]]:
    children = getattr(command, "commands", {}).items()
    return [name, *(verb for child, inner in children for verb in _verbs(inner, (*name, child)))]


def main() -> None:
    """Write the page, or with `--check` exit with 1 where it is out of date."""
    text = render()
    if "--check" in sys.argv[1:]:
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != text:
            sys.exit(f"{PAGE.name} is out of date; run python -m equipoise.cli.document")
        return
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()

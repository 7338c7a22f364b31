"""Runs commands of a checkout of Equipoise as subprocesses, whatever its verbs and options are called.

`VERBS` has for each verb and each option the names that they have, or had; the first one that the checkout's own
`--help` knows is used. After a renaming, put the new name into the line, beside the old one.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Verb:
    """Names of a verb, and of those of its options that are used here."""

    names: tuple[str, ...]
    """Such as `guard check`."""
    options: Mapping[str, tuple[str, ...]]
    """Neutral name to what it is called on the command line."""


_JSON = {"json": ("--json",)}
_LINES = {"json": ("--jsonl", "--json")}
_JUDGE = {"judge": ("--judge",)}
_GUARD = {"detector": ("--detector",), "policy": ("--policy",)}
_ATTACK = {"steps": ("--steps",), "seed": ("--seed",), "tokens": ("--max-new-tokens",), "device": ("--device",)}

VERBS: dict[str, Verb] = {
    "pictures": Verb(("testbed pictures",), {"out": ("--out",), "count": ("--count", "--n"), "seed": ("--seed",)}),
    "perturb": Verb(
        ("perturb",),
        {
            "model": ("--model",),
            "bystander": ("--bystander",),
            "out": ("--out",),
            "question": ("--question",),
            "shadow": ("--shadow",),
            "heldout": ("--held-out", "--heldout"),
            "solver": ("--solver",),
            "eot": ("--eot",),
            "keep_away": ("--keep-away",),
            **_ATTACK,
            **_JSON,
        },
    ),
    "judge": Verb(("judge rows",), {**_JUDGE, **_LINES}),
    "agreement": Verb(("judge calibrate",), {"labels": ("--labels",), "out": ("--out",), **_JUDGE, **_JSON}),
    "guard": Verb(("guard check",), {"detoxifier": ("--detoxifier",), **_GUARD, **_LINES}),
    "policy": Verb(("guard policy",), {}),
    "calibrate": Verb(
        ("guard calibrate",),
        {
            "labels": ("--labels",),
            "fpr": ("--false-positive-rate", "--fpr"),
            "confidence": ("--confidence",),
            **_GUARD,
            **_JSON,
        },
    ),
    "audit": Verb(
        ("audit",),
        {
            "out": ("--out",),
            "suite": ("--suite",),
            "attack": ("--attack",),
            "defend": ("--defend",),
            "limit": ("--limit",),
            "pictures": ("--attack-pictures",),
            "connections": ("--connections",),
            **_ATTACK,
            **_JSON,
        },
    ),
    "gate": Verb(("gate",), {"rules": ("--rules",), **_JSON}),
    "power": Verb(
        ("power",),
        {
            "rate": ("--rate",),
            "difference": ("--difference",),
            "n": ("--n", "--samples"),
            "max": ("--max",),
            "paired": ("--paired",),
            "discordant": ("--discordant",),
            **_JSON,
        },
    ),
}

VALUES: dict[str, tuple[str, ...]] = {"momentum": ("momentum",), "apgd": ("apgd",), "bim": ("bim",)}
"""Values of options that may be renamed; the first that the verb's `--help` names counts, else the first."""


class CommandError(Exception):
    """A command of the checkout did what it should not: a wrong exit code, or no such verb or option."""


@dataclass
class Checkout:
    """A checkout whose commands are run in a work folder, on one thread of a CPU, with paths relative to the folder."""

    source: Path
    """The repository, with `src` and `pyproject.toml`."""
    python: str
    """An interpreter that has the requirements of Equipoise; it need not have Equipoise."""
    work: Path
    """Where the commands run."""
    _helps: dict[str, str] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.source = self.source.resolve()
        project = tomllib.loads((self.source / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        self._entry = project["scripts"]["equipoise"]
        self._site = self.work / "site"
        _install_entry_points(self._site, project.get("entry-points", {}))
        where = self.evaluate("import equipoise; print(equipoise.__file__)").strip()
        if not Path(where).resolve().is_relative_to(self.source):
            raise CommandError(f"{self.python} imports {where} instead of the checkout {self.source}")

    def run(self, verb: str, *words: str | Path, codes: Sequence[int] = (0,), **options: Any) -> tuple[int, str]:
        """Exit code and stdout of a verb.

        Args:
            verb: neutral name.
            words: positional arguments.
            codes: exit codes that are no error.
            options: by neutral name; True for a flag, a list for an option that is repeated.

        Raises:
            CommandError: another exit code, or the verb or an option is not there.
        """
        name, known = self._help(verb)
        arguments = [*name.split(), *map(str, words)]
        for option, value in options.items():
            flag = _first(VERBS[verb].options[option], known, f"option of {name}")
            for item in value if isinstance(value, list) else [value]:
                arguments += [flag] if item is True else [flag, self._value(str(item), known)]
        code, stdout, stderr = self._call(arguments)
        if code not in codes:
            raise CommandError(f"exit code {code} of equipoise {' '.join(arguments)}\n{stderr[-3000:]}")
        return code, stdout

    def document(self, verb: str, *words: str | Path, **options: Any) -> dict[str, Any]:
        """The JSON document that a verb prints."""
        return json.loads(self.run(verb, *words, json=True, **options)[1])

    def evaluate(self, code: str) -> str:
        """What a piece of Python prints that runs beside the checkout."""
        done = subprocess.run(
            [self.python, "-c", code], cwd=self.work, env=self._environment(), capture_output=True, text=True
        )
        if done.returncode:
            raise CommandError(f"exit code {done.returncode} of python -c {code!r}\n{done.stderr[-3000:]}")
        return done.stdout

    def _help(self, verb: str) -> tuple[str, str]:
        """The verb's name in this checkout and its help."""
        with self._lock:
            for name in VERBS[verb].names:
                if name not in self._helps:
                    code, stdout, _ = self._call([*name.split(), "--help"])
                    self._helps[name] = stdout if code == 0 else ""
                if self._helps[name]:
                    return name, self._helps[name]
        raise CommandError(f"no verb {' or '.join(VERBS[verb].names)} in {self.source}")

    def _value(self, value: str, known: str) -> str:
        names = VALUES.get(value, (value,))
        return next((name for name in names if _names(known, name)), names[0])

    def _call(self, arguments: Sequence[str]) -> tuple[int, str, str]:
        module, _, function = self._entry.partition(":")
        start = f"import sys; sys.argv[0] = 'equipoise'; from {module} import {function} as main; sys.exit(main())"
        done = subprocess.run(
            [self.python, "-c", start, *arguments],
            cwd=self.work,
            env=self._environment(),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        return done.returncode, done.stdout, done.stderr

    def _environment(self) -> dict[str, str]:
        """One thread, no GPU, no hub, wide help without colours; nothing of the user's Equipoise settings."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("EQUIPOISE_")}
        threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS")
        return {
            **kept,
            **dict.fromkeys(threads, "1"),
            "PYTHONPATH": os.pathsep.join([str(self.source / "src"), str(self._site)]),
            "PYTHONHASHSEED": "0",
            "CUDA_VISIBLE_DEVICES": "",
            "HF_HUB_OFFLINE": "1",
            "COLUMNS": "250",
            "NO_COLOR": "1",
            "TERM": "dumb",
        }


def _first(names: Sequence[str], known: str, what: str) -> str:
    for name in names:
        if _names(known, name):
            return name
    raise CommandError(f"no {what} called {' or '.join(names)}")


def _names(text: str, name: str) -> bool:
    """Whether a word stands in a text by itself."""
    return re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", text) is not None


def _install_entry_points(folder: Path, groups: Mapping[str, Mapping[str, str]]) -> None:
    """Make the checkout's entry points known, in place of those of an Equipoise that the interpreter has installed."""
    info = folder / "equipoise-0.dist-info"
    info.mkdir(parents=True, exist_ok=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: equipoise\nVersion: 0\n", encoding="utf-8")
    rows = [f"[{group}]\n" + "".join(f"{k} = {v}\n" for k, v in names.items()) for group, names in groups.items()]
    (info / "entry_points.txt").write_text("\n".join(rows), encoding="utf-8")

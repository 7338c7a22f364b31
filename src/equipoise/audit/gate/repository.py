"""Where a file lies in its repository, which is how code scanners know it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final
from urllib.parse import quote

WORKSPACES: Final = ("GITHUB_WORKSPACE", "CI_PROJECT_DIR")
"""Variables in which CI systems name the root of a checkout that has no `.git`."""


def repository_root(path: Path) -> Path | None:
    """The root of the repository that a file lies in; None where it lies in none.

    It is the nearest folder above with a `.git` (a folder, or the file of a worktree or submodule), else the folder
    that the CI system names as its workspace.
    """
    absolute = Path(os.path.abspath(path))
    for folder in absolute.parents:
        if (folder / ".git").exists():
            return folder
    for variable in WORKSPACES:
        named = os.environ.get(variable)
        if named and absolute.is_relative_to(named):
            return Path(named)
    return None


def repository_uri(path: Path) -> tuple[str, bool]:
    """The address of a file in a report for code scanners, and whether it is relative to the repository.

    The current folder plays no part: `ci/gate.toml` is `ci/gate.toml` from wherever the gate is called. A file in no
    repository is relative to the current folder where it lies below it, else its address is absolute.
    """
    # Not resolved: a link in the repository is known by its own place, not by that of its target.
    absolute = Path(os.path.abspath(path))
    root = repository_root(absolute) or Path.cwd()
    if absolute.is_relative_to(root):
        return quote(absolute.relative_to(root).as_posix()), True
    return absolute.as_uri(), False

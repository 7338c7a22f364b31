"""Policies and keys that change while the gateway runs: a changed file is read again, a broken one changes nothing."""

from __future__ import annotations

import asyncio
import hashlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final

from equipoise.errors import EquipoiseError, UsageError
from equipoise.guard.gateway.keys import ClientKeys, policy_files
from equipoise.guard.policy import Policy
from equipoise.guard.policy import load as load_policy

EVERY: Final = 1.0
"""Seconds between two looks at the files."""
log = logging.getLogger("equipoise.gateway")


class WatchedFiles:
    """The files that decide what a gateway does.

    Args:
        policy: everybody's policy; None is the default one.
        keys: of clients; None lets everybody in.
    """

    def __init__(self, policy: Path | None, keys: Path | None) -> None:
        self.policy, self.keys = policy, keys
        self._last_digest = self._digest()

    def read(self) -> ClientKeys:
        """Keys and policies as the files say now.

        Raises:
            UsageError: one of them cannot be.
        """
        everybody = Policy() if self.policy is None else load_policy(self.policy)
        return ClientKeys.load(self.keys, everybody)

    def changed(self) -> ClientKeys | UsageError | None:
        """Keys and policies after a change, the error where a file is broken, None where nothing changed."""
        now = self._digest()
        if now == self._last_digest:
            return None
        # Remembered before it is read: a broken file is reported once, not every second until somebody mends it.
        self._last_digest = now
        try:
            return self.read()
        except UsageError as error:
            return error

    def _digest(self) -> bytes:
        """Over the contents: a file that is replaced by a link, as a cluster does it, counts too."""
        digest = hashlib.sha256()
        files = [self.policy, self.keys]
        if self.keys is not None:
            # Policies of single keys are named in the file of keys; a change of any of them has to count.
            files += policy_files(self.keys)
        for file in files:
            if file is not None:
                try:
                    digest.update(file.read_bytes())
                except OSError:
                    digest.update(b"\0gone")
        return digest.digest()


async def watch(
    files: WatchedFiles,
    take: Callable[[ClientKeys], None],
    report: Callable[[str], None],
    *,
    prepare: Callable[[ClientKeys], None] = lambda keys: None,
    every: float = EVERY,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Look at the files until cancelled.

    Args:
        files: which.
        take: gets the new keys and policies after a change.
        report: gets `reloaded` or `broken`; for metrics.
        prepare: loads what new policies need, on a thread; with its `EquipoiseError` nothing changes.
        every: seconds between two looks.
        sleep: waits.
    """
    while True:
        await sleep(every)
        try:
            keys = await asyncio.to_thread(_prepared, files, prepare)
        except Exception:
            # Whatever is wrong with a file: who stops watching would never take the mended one.
            report("broken")
            log.exception("the files changed and cannot be read, so nothing changes")
            continue
        if isinstance(keys, ClientKeys):
            take(keys)
            report("reloaded")
            log.warning("policy %s@%s from now on", keys.policy.name, keys.policy.revision)
        elif keys is not None:
            report("broken")
            log.error("the files changed and cannot be used, so nothing changes: %s", keys)


def _prepared(files: WatchedFiles, prepare: Callable[[ClientKeys], None]) -> ClientKeys | EquipoiseError | None:
    """What changed, with all that it needs loaded."""
    keys = files.changed()
    if isinstance(keys, ClientKeys):
        try:
            prepare(keys)
        except EquipoiseError as error:
            return error
    return keys

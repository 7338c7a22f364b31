"""Which of inspect's logs holds a sample, read from the names inside the log files, without inspect."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from typing import Final

SAMPLE: Final = re.compile(r"samples/(.+)_epoch_\d+\.json", re.DOTALL)


class LogIndex:
    """The names of all samples in the logs of a run.

    A log is a zip file with a member `samples/ID_epoch_1.json` for each sample; its name holds the time and the task,
    which is called after suite and variant. Only the list of members is read, never a sample.
    """

    def __init__(self, folder: Path) -> None:
        self._logs: dict[tuple[str, str], str] = {}
        # Their names begin with the time: of a sample that was sent again the last log stays.
        for path in sorted(folder.glob("*.eval")):
            try:
                with zipfile.ZipFile(path) as archive:
                    names = archive.namelist()
            except (OSError, zipfile.BadZipFile):
                continue  # a log that a kill cut short
            task = _simple(path.stem.partition("_")[2].rpartition("_")[0])
            for name in names:
                if match := SAMPLE.fullmatch(name):
                    self._logs[task, match[1]] = path.name

    def log_of(self, suite: str, variant: str, sample: str) -> str:
        """Name of the log file that holds a sample; empty where none does."""
        return self._logs.get((_simple(f"{suite}-{variant}"), sample), "")


def _simple(name: str) -> str:
    # inspect replaces what file names cannot hold; both sides are reduced to what it leaves alone.
    return re.sub(r"[^A-Za-z0-9.]+", "-", name)

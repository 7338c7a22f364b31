"""Keeps inspect from changing the process: handlers, hooks and variables are restored after a run."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import os
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

Value = TypeVar("Value")

_handlers: list[logging.Handler] = []
"""inspect's own handler: it adds it only once in a process, so a second run gets it back from here."""


@contextmanager
def restore_handlers() -> Iterator[None]:
    """Put back what inspect changes: the root logger, `sys.excepthook`, and variables of a `.env` file.

    Warnings about inspect's own code (a deprecated argument, streams left to the garbage collector) are not the
    caller's and stay hidden.
    """
    root = logging.getLogger()
    level, handlers, hook, environment = root.level, list(root.handlers), sys.excepthook, dict(os.environ)
    for handler in _handlers:
        root.addHandler(handler)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", category=DeprecationWarning, module=r"inspect_ai\.")
            warnings.filterwarnings("ignore", message="Unclosed <MemoryObject", category=ResourceWarning)
            with _collected():
                yield
    finally:
        for handler in [added for added in root.handlers if added not in handlers]:
            root.removeHandler(handler)
            if handler not in _handlers:
                _handlers.append(handler)
        root.setLevel(level)
        sys.excepthook = hook
        for name in set(os.environ) - set(environment):
            del os.environ[name]
        os.environ.update(environment)


@contextmanager
def _collected() -> Iterator[None]:
    """Collect the garbage that was created inside the block now, so that it warns at no later time.

    Objects that existed before are frozen and not scanned: with torch loaded a scan takes most of a second.
    """
    mine = gc.get_freeze_count() == 0
    if mine:
        gc.freeze()
    try:
        yield
    finally:
        gc.collect()
        if mine:
            gc.unfreeze()


def outside_any_loop(function: Callable[[], Value]) -> Value:
    """Call a function that runs an event loop of its own, from a thread of its own where one runs here already.

    In Jupyter and in asynchronous applications inspect would otherwise patch asyncio for the whole process.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return function()
    context = contextvars.copy_context()
    results: list[Value] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            results.append(context.run(function))
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            errors.append(error)

    thread = threading.Thread(target=work, name="inspect")
    thread.start()
    thread.join()
    if errors:
        raise errors[0]
    return results[0]

"""Work over several processes and machines: items, the shards of their results, and the executors that run them."""

from __future__ import annotations

from equipoise.execution.dispatch import DispatchLimits, ItemOutcome, WorkerGroup
from equipoise.execution.executors import Executor, InProcessExecutor, RayExecutor, SpawnExecutor, choose_executor
from equipoise.execution.items import Parcel, WorkerTask, WorkItem, content_key
from equipoise.execution.shards import ShardStore

__all__ = [
    "DispatchLimits",
    "Executor",
    "InProcessExecutor",
    "ItemOutcome",
    "Parcel",
    "RayExecutor",
    "ShardStore",
    "SpawnExecutor",
    "WorkItem",
    "WorkerGroup",
    "WorkerTask",
    "choose_executor",
    "content_key",
]

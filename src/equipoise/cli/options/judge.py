"""Options of judges: who judges, and how judges behind a URL are reached."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from equipoise.cli.console import quiet, warn
from equipoise.cli.options.compute import DeviceOptions
from equipoise.cli.options.endpoint import LimitField, endpoint_settings
from equipoise.cli.options.expansion import FormerName
from equipoise.judges.catalogue import WHERE

if TYPE_CHECKING:
    from equipoise.execution.executors import Executor
    from equipoise.judges.catalogue import JudgeSettings
    from equipoise.judges.ensemble import Ensemble
    from equipoise.judges.judge_batches import BatchJudging
    from equipoise.judges.provider_signals import ProviderSignalFirst
    from equipoise.types import Judge

SERVED_JUDGES = "Judges behind a URL"
"""A panel of `--help`."""
KEY_OPTION = typer.Option(
    "--judge-key-env",
    help="Environment variable that holds the key of served judges.",
    rich_help_panel=SERVED_JUDGES,
)
TIMEOUT_OPTION = typer.Option(
    "--judge-timeout",
    min=0.1,
    help="Seconds a served judge may take for one reply, in all.",
    rich_help_panel=SERVED_JUDGES,
)


@dataclass(frozen=True, kw_only=True)
class JudgeOptions:
    """Who judges."""

    judge: Annotated[
        str,
        typer.Option(
            "--judge", help=f"Who judges refusals: ensemble, phrases, encoder, or a model that is asked ({WHERE})."
        ),
    ] = "ensemble"
    harm_judge: Annotated[
        list[str] | None,
        typer.Option(
            "--harm-judge",
            help=f"A judge of harm: {WHERE}; with guard:FAMILY= before it where it is a llama-guard, wildguard, "
            "granite-guardian, shieldgemma or qwen3guard; detector:NAME for a harm detector of the guard, such as "
            "detector:embedded; or answers, which takes every answer to what should be refused for harmful. May be "
            "repeated, the most trusted first.",
        ),
    ] = None
    judge_key_env: Annotated[str | None, KEY_OPTION] = None
    judge_timeout: Annotated[float, TIMEOUT_OPTION] = 60.0
    judge_header: Annotated[
        list[str] | None,
        typer.Option(
            "--judge-header",
            metavar="NAME=VALUE",
            help="A header for served judges. May be repeated; the record of a run holds the name only.",
            rich_help_panel=SERVED_JUDGES,
        ),
    ] = None
    judge_extra_body: Annotated[
        str | None,
        typer.Option(
            "--judge-extra-body",
            metavar="JSON",
            help="A JSON object, added to each request to served judges.",
            rich_help_panel=SERVED_JUDGES,
        ),
    ] = None
    judge_temperature: Annotated[
        str | None,
        typer.Option(
            "--judge-temperature",
            help="Temperature of served judges, 0 by default; none sends none.",
            show_default=False,
            rich_help_panel=SERVED_JUDGES,
        ),
    ] = None
    judge_max_tokens_field: Annotated[
        LimitField | None,
        typer.Option(
            "--judge-max-tokens-field",
            help="Field that limits a served judge's answer; by default max_tokens, or what the server asks for.",
            show_default=False,
            rich_help_panel=SERVED_JUDGES,
        ),
    ] = None

    def load(self, device: DeviceOptions, *, pictures: bool = False) -> Ensemble | ProviderSignalFirst:
        """The judge that the options name.

        Args:
            device: where local models run.
            pictures: whether judges behind a URL are shown the pictures.

        Raises:
            UsageError: there is no such judge, or no key.
            ModelError: a local model cannot be loaded.
            MissingExtraError: a served judge without the extra `served`.
        """
        from equipoise.guard.detector_judge import PREFIX, DetectorJudge
        from equipoise.judges.catalogue import choose_judge

        named = self.harm_judge or []
        specs = [self.judge, *(spec for spec in named if not spec.startswith(PREFIX))]
        settings = judge_settings(specs, self.judge_key_env, device, pictures=pictures, timeout=self.judge_timeout)
        endpoint = endpoint_settings(
            self.judge_header, self.judge_extra_body, self.judge_temperature, self.judge_max_tokens_field
        )
        # A detector is of the guard, which the layer of judges does not know.
        harm = [
            DetectorJudge.parse(spec, device=settings.device) if spec.startswith(PREFIX) else spec for spec in named
        ]
        return choose_judge(self.judge, harm, replace(settings, endpoint=endpoint))


@dataclass(frozen=True, kw_only=True)
class FileJudgeOptions(JudgeOptions):
    """Who judges replies in files, where no target has options of its own; former names go on working."""

    judge_key_env: Annotated[str | None, KEY_OPTION, FormerName("--api-key-env")] = None
    judge_timeout: Annotated[float, TIMEOUT_OPTION, FormerName("--timeout")] = 60.0


@contextmanager
def open_judging(
    load_judge: Callable[[], Judge], executor: Executor | None, shards: Path | None = None
) -> Iterator[BatchJudging]:
    """A judge with its workers, which end with the `with`.

    Args:
        load_judge: loads it; can be pickled.
        executor: where it judges; None is this process.
        shards: folder of what workers have judged; None hands verdicts out only.

    Raises:
        UsageError: there is no such judge, or no key.
        ModelError: a local model cannot be loaded.
    """
    from equipoise.execution.executors import InProcessExecutor
    from equipoise.execution.shards import ShardStore
    from equipoise.judges.judge_batches import BatchJudging, JudgeTask

    # In this process verdicts go straight to where they are kept: there is nobody to lose them on the way.
    store = ShardStore(shards) if shards is not None and executor is not None else None
    try:
        with (executor or InProcessExecutor()).open(JudgeTask(load_judge), store, warn) as group:
            yield BatchJudging.of(group, store)
    finally:
        if store is not None:
            store.remove_empty()


def judge_settings(
    specs: Sequence[str],
    key_env: str | None,
    device: DeviceOptions,
    *,
    pictures: bool = False,
    timeout: float = 60.0,
) -> JudgeSettings:
    """How the judges of these names are reached.

    Args:
        specs: the judges as the user named them.
        key_env: environment variable that holds the key of the served ones.
        device: where the local ones run.
        pictures: whether judges behind a URL are shown the pictures.
        timeout: seconds a served judge may take for one reply.

    Raises:
        UsageError: no key in that variable, or no such device.
        ModelError: the device is not available here.
    """
    from equipoise.judges.catalogue import JudgeSettings, is_local, key_from

    # Only a local model needs transformers, which takes seconds to import.
    if any(map(is_local, specs)):
        quiet()
    return JudgeSettings(key_from(key_env), pictures, timeout, device.checked_device(), device.dtype_name)

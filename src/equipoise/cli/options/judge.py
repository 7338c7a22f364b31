"""Options of the judges that read replies in files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from equipoise.cli.console import quiet
from equipoise.cli.options.compute import DeviceOptions
from equipoise.cli.options.expansion import FormerName
from equipoise.judges.catalogue import WHERE

if TYPE_CHECKING:
    from equipoise.judges.catalogue import JudgeSettings
    from equipoise.types import Judge


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
            "granite-guardian, shieldgemma or qwen3guard. May be repeated, the most trusted first.",
        ),
    ] = None
    judge_key_env: Annotated[
        str | None,
        typer.Option("--judge-key-env", help="Environment variable that holds the key of served judges."),
        FormerName("--api-key-env"),
    ] = None
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds a served judge may take for one reply, in all.")] = (
        60.0
    )

    def load(self, device: DeviceOptions, *, pictures: bool = False) -> Judge:
        """The judge that the options name.

        Args:
            device: where local models run.
            pictures: whether judges behind a URL are shown the pictures.

        Raises:
            UsageError: there is no such judge, or no key.
            ModelError: a local model cannot be loaded.
            MissingExtraError: a served judge without the extra `served`.
        """
        from equipoise.judges.catalogue import choose_judge

        specs = [self.judge, *(self.harm_judge or [])]
        settings = judge_settings(specs, self.judge_key_env, device, pictures=pictures, timeout=self.timeout)
        return choose_judge(self.judge, self.harm_judge or [], settings)


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

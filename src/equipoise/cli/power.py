"""`equipoise power`: how many samples an audit needs, before it is run."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from equipoise.cli.console import print_json, print_table
from equipoise.cli.options.arguments import Json
from equipoise.errors import UsageError


def power(
    rate: Annotated[float, typer.Option(help="The rate as it is, or as it is expected to be.")] = 0.05,
    difference: Annotated[
        float | None, typer.Option(help="Change of the rate that shall be seen; answers with a number of samples.")
    ] = None,
    n: Annotated[
        int | None, typer.Option("--n", help="Samples at hand; answers with the change they can show.")
    ] = None,
    limit: Annotated[
        float | None,
        typer.Option("--max", help="Limit of a gate on the upper end; answers with the samples that it takes to pass."),
    ] = None,
    paired: Annotated[bool, typer.Option("--paired", help="Both runs ask the same samples.")] = False,
    discordant: Annotated[
        float | None,
        typer.Option(help="With --paired: share of samples on which the two runs differ; by default as if unrelated."),
    ] = None,
    chance: Annotated[float, typer.Option("--power", help="Probability of seeing a change that is there.")] = 0.8,
    alpha: Annotated[float, typer.Option(help="Probability of seeing one that is not.")] = 0.05,
    json: Json = False,
) -> None:
    """Say how many samples show a change of a rate, or which change a number of samples shows.

    Give one of --difference (how many samples?), --n (which change?) and --max (how many samples for a gate?).
    """
    from equipoise.audit.gate.descriptions import percent
    from equipoise.stats.power import ComparisonDesign, samples_to_pass

    if sum(given is not None for given in (difference, n, limit)) != 1:
        raise UsageError("expected one of --difference, --n and --max, got none or several; try --difference 0.03")
    design = ComparisonDesign(alpha, chance, paired, discordant)
    settings = {"rate": rate, "power": chance, "alpha": alpha, "paired": paired, "discordant": discordant}
    counted = "samples asked in both runs" if paired else "samples in each of two runs that ask different ones"
    likely = f"with a probability of {percent(chance)}"
    document: dict[str, Any]
    if difference is not None:
        samples = design.samples_for(rate, difference)
        document = {**settings, "difference": difference, "n": samples}
        text = f"{samples} {counted} show a change from {percent(rate)} to {percent(rate + difference)} {likely}."
    elif n is not None:
        shown = design.difference_for(n, rate)
        document = {**settings, "n": n, "difference": shown}
        text = f"{n} {counted} show a change from {percent(rate)} to {percent(rate + shown)} {likely}."
        if paired and discordant is not None and shown <= design.least_difference(rate):
            text += f" No smaller increase leaves {percent(discordant)} of the samples different."
    else:
        assert limit is not None
        if paired or discordant is not None:
            raise UsageError("expected --max without --paired, got both; a limit concerns one run")
        samples = samples_to_pass(rate, limit, chance)
        document = {"rate": rate, "power": chance, "max": limit, "n": samples}
        text = (
            f"{samples} samples pass a limit of {percent(limit)} on the upper end of the interval {likely}, "
            f"if the true rate is {percent(rate)}."
        )
    if json:
        print_json(document)
    else:
        print_table(text)

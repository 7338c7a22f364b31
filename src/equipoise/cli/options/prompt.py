"""Options of the optimisation of soft prompts: anchors, and how it runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from equipoise.cli.options.prompt_sets import class_prompts

if TYPE_CHECKING:
    from equipoise.prompts.anchors import Anchor, AnchorKind
    from equipoise.prompts.dro import DroSettings
    from equipoise.steering.prompt_sets import OwnSet


@dataclass(frozen=True, kw_only=True)
class AnchorOptions:
    """The requests that a soft prompt is optimised on."""

    harmful: Annotated[
        Path | None, typer.Option(help="Harmful anchors: one a line, or a table with a column prompt. Default: ours.")
    ] = None
    harmless: Annotated[Path | None, typer.Option(help="Harmless anchors, likewise. Default: ours.")] = None
    pseudo_harmful: Annotated[
        Path | None,
        typer.Option("--pseudo-harmful", help="Harmless anchors that only look harmful, likewise. Default: ours."),
    ] = None
    plain_anchors: Annotated[
        bool, typer.Option("--plain-anchors", help="No pseudo-harmful anchors, as in the paper.")
    ] = False
    count: Annotated[
        int | None, typer.Option(min=4, help="Anchors of each kind, at most; all by default.", show_default=False)
    ] = None

    def load(self) -> list[Anchor]:
        """The anchors, kind by kind.

        Raises:
            UsageError: a file that cannot be read, or without prompts.
        """
        from equipoise.prompts.anchors import Anchor

        files: dict[AnchorKind, tuple[Path | None, OwnSet]] = {
            "harmful": (self.harmful, "harmful"),
            "harmless": (self.harmless, "harmless"),
        }
        if not self.plain_anchors:
            files["pseudo-harmful"] = (self.pseudo_harmful, "pseudo_harmful")
        sets = {kind: class_prompts(path, own) for kind, (path, own) in files.items()}
        return [Anchor(one, kind) for kind, prompts in sets.items() for one in prompts.first(self.count).prompts]


@dataclass(frozen=True, kw_only=True)
class DroOptions:
    """How the optimisation runs."""

    paper: Annotated[bool, typer.Option("--paper", help="The paper's settings: 160 steps, 25 samples a label.")] = False
    layer: Annotated[
        int | None,
        typer.Option(help="States are the input of this layer; by default those after the final norm."),
    ] = None
    components: Annotated[
        int | None, typer.Option(min=1, help="Principal components; by default chosen by cross-validation.")
    ] = None
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the anchors, at most.")] = None
    learning_rate: Annotated[float | None, typer.Option("--learning-rate", help="Of AdamW.")] = None
    reply_tokens: Annotated[
        int | None, typer.Option("--reply-tokens", min=1, help="Length of the replies that label the anchors.")
    ] = None

    def settings(self, seed: int) -> DroSettings:
        """The settings with a seed.

        Raises:
            UsageError: a number that cannot be.
        """
        from equipoise.prompts.dro import DroSettings, merge_settings

        return merge_settings(
            DroSettings.of_paper(seed=seed) if self.paper else DroSettings(seed=seed),
            layer=self.layer,
            components=self.components,
            epochs=self.epochs,
            learning_rate=self.learning_rate,
            reply_tokens=self.reply_tokens,
        )

"""`equipoise train adversarial`: models that withstand refusal perturbations."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from equipoise.cli.console import print_table, quiet
from equipoise.cli.options.attack import Epsilon
from equipoise.cli.options.compute import CheckpointingOption, Device, GradientOptions
from equipoise.cli.options.expansion import FormerName, with_options
from equipoise.cli.options.param_types import ATTACK, MACHINE, Dtype
from equipoise.cli.train.options import TESTBED, Every, Folder, Rank, Seed, Steps, file_source
from equipoise.errors import ModelError

if TYPE_CHECKING:
    from equipoise.models.hf import HuggingFaceModel


class MixedPrecision(StrEnum):
    """Number formats that a forward pass may use beside that of the weights."""

    no = "no"
    bf16 = "bf16"
    fp16 = "fp16"


Start = Annotated[
    str,
    typer.Argument(
        help="What to start from: testbed/NAME, a folder, or ORG/NAME or ORG/NAME@REVISION of the model hub.",
        show_default=False,
    ),
]
ExampleRowsOption = Annotated[
    Path | None,
    typer.Option(
        help="One JSON object a line with image (a path beside the file), question and answer, some of them refusals; "
        "by default the embedded world."
    ),
]
PicturesPerStep = Annotated[int, typer.Option(min=1, help="Pictures in a step."), FormerName("--pictures")]
QuestionsPerPicture = Annotated[
    int, typer.Option(min=1, help="Questions about each picture, at most."), FormerName("--questions")
]
AdversarialRateOption = Annotated[float, typer.Option(help="At its peak; a cosine takes it to a hundredth.")]
Blend = Annotated[
    float,
    typer.Option(
        help="Share of the learned change that is written, up to 1: less gives back accuracy for robustness. The "
        "same command with another share writes a finished training again."
    ),
]
InnerSteps = Annotated[int, typer.Option(min=1, help="Gradient steps of the attack inside.", rich_help_panel=ATTACK)]
Attacked = Annotated[
    float, typer.Option(min=0, max=1, help="Share of the pictures that are attacked.", rich_help_panel=ATTACK)
]
Untargeted = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="Share of the attacks that only make the right reply less likely, instead of a refusal likelier.",
        rich_help_panel=ATTACK,
    ),
]
Kept = Annotated[
    float,
    typer.Option(
        min=0,
        max=1,
        help="Share of the pictures on which refusals that should be kept are attacked, and learned.",
        rich_help_panel=ATTACK,
    ),
]
KeptSteps = Annotated[int, typer.Option(min=1, help="Gradient steps of the attack on them.", rich_help_panel=ATTACK)]
AttackedSide = Annotated[
    int | None, typer.Option(min=1, help="Resize pictures to this square; by default they stay as they are.")
]
Parts = Annotated[str, typer.Option(help="Which weights learn: vision, projector, language, separated by commas.")]
TrainedType = Annotated[
    Dtype | None,
    typer.Option(
        "--dtype",
        help="Number format of the weights; float32 by default, with --lora what suits the device.",
        rich_help_panel=MACHINE,
    ),
]
Mixed = Annotated[
    MixedPrecision,
    typer.Option(help="Number format of the forward pass; fp16 needs a GPU.", rich_help_panel=MACHINE),
]


@with_options
def adversarial(
    model: Start,
    out: Folder,
    rows: ExampleRowsOption = None,
    steps: Steps = 1500,
    pictures_per_step: PicturesPerStep = 16,
    questions_per_picture: QuestionsPerPicture = 3,
    epsilon: Epsilon = "8/255",
    inner_steps: InnerSteps = 5,
    attacked: Attacked = 0.6,
    untargeted: Untargeted = 0.2,
    kept: Kept = 0.0,
    kept_steps: KeptSteps = 2,
    side: AttackedSide = None,
    parts: Parts = "vision,projector",
    lora: Rank = None,
    learning_rate: AdversarialRateOption = 2e-4,
    blend: Blend = 1.0,
    seed: Seed = 0,
    checkpoint_every: Every = 100,
    device: Device = None,
    dtype: TrainedType = None,
    mixed_precision: Mixed = MixedPrecision.no,
    gradient_checkpointing: CheckpointingOption = False,
) -> None:
    """Train a model to keep its replies on pictures that are attacked to make it refuse.

    What it should refuse is among the examples, too: where training has taken refusals away, nothing is written.
    """
    from equipoise.cli.options.progress import steps_bar
    from equipoise.training import adversarial_examples
    from equipoise.training.adversarial import AdversarialTrainingConfig
    from equipoise.training.adversarial import train as run
    from equipoise.training.processes import TrainingProcesses

    quiet()
    recipe = AdversarialTrainingConfig(
        steps=steps,
        pictures=pictures_per_step,
        questions=questions_per_picture,
        epsilon=epsilon,
        inner_steps=inner_steps,
        attacked=attacked,
        untargeted=untargeted,
        kept=kept,
        kept_steps=kept_steps,
        side=side,
        parts=parse_parts(parts),
        rank=lora,
        learning_rate=learning_rate,
        seed=seed,
    )
    sample_example: adversarial_examples.SampleExample = (
        adversarial_examples.from_testbed if rows is None else adversarial_examples.read_rows(rows)
    )
    source = TESTBED if rows is None else file_source(rows)
    # Most updates are smaller than the spacing of half-precision numbers: weights that learn are float32. Adapters have
    # weights of their own, so that the model under them may be in any format.
    precision = dtype if dtype or lora else Dtype.float32
    TrainingProcesses.join(device)
    target = load(model, GradientOptions(device=device, dtype=precision, gradient_checkpointing=gradient_checkpointing))
    with steps_bar(f"train {model}") as progress:
        folder = run(
            target,
            recipe,
            sample_example,
            out,
            source=source,
            mixed_precision=mixed_precision.value,
            blend=blend,
            checkpoint_every=checkpoint_every,
            progress=progress,
        )
    print_table(f"written: {folder}")


def load(name: str, compute: GradientOptions) -> HuggingFaceModel:
    """A model that can be trained.

    Raises:
        ModelError: there is none, or it is not one of transformers.
    """
    from equipoise.models.hf import HuggingFaceModel

    model = compute.load(name, pictures_for="train it against changed ones")
    if not isinstance(model, HuggingFaceModel):
        raise ModelError(f"expected a transformers model, got {name}; try a folder written by save_pretrained")
    return model


def parse_parts(text: str) -> tuple[str, ...]:
    """`"projector,vision"` as parts, in the order of `trainable_parts.PARTS`, so that one recipe has one spelling.

    Raises:
        UsageError: others, or none.
    """
    from equipoise.training.trainable_parts import PARTS, require_parts

    given = [part.strip() for part in text.split(",") if part.strip()]
    require_parts(given)
    return tuple(part for part in PARTS if part in given)

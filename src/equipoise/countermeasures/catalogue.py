"""Countermeasures by name, in the form of `--defend NAME[:key=value,...]`.

Several make a chain, in the order in which a picture meets them: `--defend median --defend noise` smooths the picture,
then adds noise, then asks the model.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING, Any, Final

from equipoise.countermeasures.spec import CountermeasureSpec
from equipoise.errors import UsageError

if TYPE_CHECKING:
    from equipoise.models.base import OpenModel
    from equipoise.prompts.retries import GateMaker
    from equipoise.transforms.base import Transform

Values = Mapping[str, str]


@dataclass(frozen=True)
class CountermeasureEntry:
    """One countermeasure."""

    about: str
    """What it does, in a line."""
    keys: Mapping[str, str]
    """Settings and their defaults; with a `seed` where it is randomised."""
    ordered: bool = False
    """Whether values may be given without their keys, in the order of `keys`: `steer:FILE,ablate`."""
    changes_pictures: bool = True
    """Whether it acts on pictures, so that it means nothing for a model of text alone."""


CATALOGUE: Final[dict[str, CountermeasureEntry]] = {
    "noise": CountermeasureEntry("Gaussian noise of standard deviation sigma", {"sigma": "0.05", "seed": "0"}),
    "jpeg": CountermeasureEntry("encode again as JPEG", {"quality": "75"}),
    "bits": CountermeasureEntry("round every value to fewer bits", {"depth": "4"}),
    "median": CountermeasureEntry("median of each value's neighbourhood", {"size": "3"}),
    "shrink": CountermeasureEntry("resize to a share of each side and back", {"share": "0.5"}),
    "pad": CountermeasureEntry(
        "shrink at random and put at a random place on grey", {"lowest": "0.8", "highest": "1.0", "seed": "0"}
    ),
    "crop": CountermeasureEntry(
        "cut out a random part and enlarge it", {"lowest": "0.85", "highest": "1.0", "seed": "0"}
    ),
    "diffpure": CountermeasureEntry(
        "add noise up to level t (share of the schedule), then denoise with a diffusion model",
        {"model": "testbed", "t": "0.1", "steps": "5", "fit": "resize", "seed": "0"},
    ),
    "smooth": CountermeasureEntry("vote over noisy copies", {"sigma": "0.2", "copies": "9", "seed": "0"}),
    "vote": CountermeasureEntry(
        "vote over copies after a transform that draws by chance", {"by": "crop", "copies": "5", "seed": "0"}
    ),
    "recover": CountermeasureEntry(
        "ask again where a safe prompt was refused and the picture scores above the threshold (none asks about all): "
        "after any of the transforms above, or about the model's own caption",
        {"by": "crop", "threshold": "1", "seed": "0"},
    ),
    "second": CountermeasureEntry(
        "ask a model that is hard to perturb where a safe prompt was refused; heeded if its log-odds of refusing are "
        "below odds",
        {"model": "testbed/llava-robust", "odds": "-4"},
    ),
    "guard": CountermeasureEntry(
        "judge every reply (read=yes: with the text in its pictures); rewrite a harmful one, judge the rewrite, "
        "refuse what stays harmful",
        {"detector": "embedded", "detoxifier": "none", "policy": "default", "read": "no"},
        changes_pictures=False,
    ),
    "surgical": CountermeasureEntry(
        "ablate a false-refusal vector that is orthogonal to the refusal direction; file of `direction find`",
        {"file": "", "coefficient": "1"},
        changes_pictures=False,
        ordered=True,
    ),
    "conditional": CountermeasureEntry(
        "add the refusal direction to prompts that look harmful inside the model; file of `direction find`",
        {"file": "", "coefficient": "1"},
        changes_pictures=False,
        ordered=True,
    ),
    "steer": CountermeasureEntry(
        "add a direction, or ablate it, whatever the prompt: for research on attacks; file of `direction find`",
        {"file": "", "mode": "add", "coefficient": "1"},
        changes_pictures=False,
        ordered=True,
    ),
    "prompt": CountermeasureEntry(
        "change what the model is asked by a policy: safety, balanced, contextual, few-shot, interactive, anew, "
        "combined, or a TOML file",
        {"file": "balanced"},
        changes_pictures=False,
        ordered=True,
    ),
    "dro": CountermeasureEntry(
        "put a soft prompt in front of every conversation; file of `prompt optimise`",
        {"file": ""},
        changes_pictures=False,
        ordered=True,
    ),
    "tower": CountermeasureEntry("another CLIP vision tower, such as chs20/fare2-clip; innermost", {"id": ""}),
}
"""Names, what they do and their settings; the page of the command line has them as a table."""


def parse(spec: str) -> CountermeasureSpec:
    """A countermeasure and its settings, as `--defend` names them.

    Raises:
        UsageError: an unknown name or setting, or text that is not `NAME[:key=value,...]`.
    """
    name, _, rest = spec.partition(":")
    name = name.strip()
    if name not in CATALOGUE:
        raise UsageError(f"expected a countermeasure of {', '.join(CATALOGUE)}, got {name!r}; try {example('noise')}")
    entry = CATALOGUE[name]
    given: dict[str, str] = {}
    for part in filter(None, (setting.strip() for setting in rest.split(","))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if entry.ordered and not equals:
            # The next setting that has no value yet.
            key, equals, value = next((key for key in entry.keys if key not in given), ""), "=", part
        if not equals or key not in entry.keys or not value:
            raise UsageError(
                f"expected settings of {name} as key=value with keys {', '.join(entry.keys)}, got {part!r}; "
                f"try {example(name)}"
            )
        if key in given:
            raise UsageError(f"expected {key} of {name} once, got it again as {part!r}; try {example(name)}")
        given[key] = value
    return CountermeasureSpec(name, given, entry.keys)


_EXAMPLE_FILES: Final = {"surgical": "surgical.safetensors", "prompt": "balanced", "dro": "soft_prompt.safetensors"}


def example(name: str) -> str:
    """A countermeasure with its settings, as one may write it."""
    keys = dict(CATALOGUE[name].keys)
    if "file" in keys:
        keys["file"] = _EXAMPLE_FILES.get(name, "refusal.safetensors")
    if name == "tower":
        keys["id"] = "chs20/fare2-clip"
    return f"{name}:{','.join(f'{key}={value}' for key, value in keys.items())}"


def defend(model: OpenModel, specs: Sequence[str], *, harm_gate: GateMaker | None = None) -> OpenModel:
    """The model in a chain of countermeasures; the first is what a picture meets first. No specs: the model itself.

    Args:
        model: what is defended.
        specs: as of `--defend`.
        harm_gate: makes the gate `requests` of interactive prompt policies, such as `request_gate` of `generation`.

    Raises:
        UsageError: an impossible spec.
        ModelError: weights that a countermeasure needs are missing, or the model has no pictures to defend.
        MissingExtraError: a library that a countermeasure needs is missing.
    """
    parsed = [(spec.strip(), parse(spec)) for spec in specs]
    for number, (spec, entry) in enumerate(parsed):
        if entry.name == "tower" and number + 1 < len(parsed):
            raise UsageError(f"expected a tower as the last of the chain, got {spec} before others; try it last")
    # The last spec wraps the model itself; the first becomes the outermost layer, which a picture meets first.
    for spec, entry in reversed(parsed):
        model = _wrapped(model, spec, entry.name, entry.values, harm_gate)
    return model


def _wrapped(model: OpenModel, spec: str, name: str, values: Values, harm_gate: GateMaker | None) -> OpenModel:
    """The model in one countermeasure, whose settings are complete but not yet read."""
    from equipoise.models.base import require_reads_pictures

    if CATALOGUE[name].changes_pictures:
        require_reads_pictures(model, f"defend by {name}")
    if name == "prompt":
        from equipoise.countermeasures.prompted_model import prompted

        return prompted(model, values["file"], spec, harm_gate)
    build = _BUILDERS.get(name, _transformed)
    return build(model, spec, name, values)


def _transformed(model: OpenModel, spec: str, name: str, values: Values) -> OpenModel:
    from equipoise.countermeasures.transformed_model import TransformedModel

    return TransformedModel(model, transform(name, values, model), spec, seed=_seed(name, values))


def _smoothed(model: OpenModel, spec: str, name: str, values: Values) -> OpenModel:
    from equipoise.countermeasures.voting import RandomizedSmoothing

    sigma, copies = _number(name, values, "sigma"), _number(name, values, "copies", int)
    return RandomizedSmoothing(model, sigma, copies, spec, seed=_seed(name, values))


def _majority(model: OpenModel, spec: str, name: str, values: Values) -> OpenModel:
    from equipoise.countermeasures.voting import MajorityVote

    change, copies = _inner(name, values, model), _number(name, values, "copies", int)
    return MajorityVote(model, change, copies, spec, seed=_seed(name, values))


def _retrying(model: OpenModel, spec: str, name: str, values: Values) -> OpenModel:
    from equipoise.countermeasures.detection import PerturbationDetector
    from equipoise.countermeasures.retry_on_refusal import RetryOnRefusal

    seed = _seed(name, values)
    purifier = None if values["by"] == "caption" else _inner(name, values, model)
    if purifier is None and values["threshold"] == "none":
        # Without its picture a question is harmless, so every refusal that a picture causes would be undone.
        raise UsageError("expected a threshold with by=caption, got none; try recover:by=caption,threshold=1")
    detector, threshold = None, 0.0
    if values["threshold"] != "none":
        threshold = _number(name, values, "threshold")
        # Of the bare model: a defence around it would smooth away what the detector looks for.
        detector = PerturbationDetector(model.core, seed=seed)
    return RetryOnRefusal(model, purifier, spec, seed=seed, detector=detector, threshold=threshold)


def _cross_checked(model: OpenModel, spec: str, name: str, values: Values) -> OpenModel:
    from equipoise.countermeasures.cross_check import CrossCheck
    from equipoise.models.load import load

    odds = _number(name, values, "odds")
    return CrossCheck(model, load(values["model"], device=str(model.device)), odds, spec)


def _guarded(model: OpenModel, spec: str, name: str, values: Values) -> OpenModel:
    from equipoise.countermeasures.guarded_model import GuardedModel, load_guard

    return GuardedModel(model, load_guard(parse(spec), model), spec)


def _steered(model: OpenModel, spec: str, name: str, values: Values) -> OpenModel:
    coefficient = _number(name, values, "coefficient")
    from equipoise.countermeasures.steered_model import steered

    return steered(model, name, values["file"], spec, mode=values.get("mode", ""), coefficient=coefficient)


def _soft_prompted(model: OpenModel, spec: str, name: str, values: Values) -> OpenModel:
    from equipoise.countermeasures.soft_prompted_model import soft_prompted

    return soft_prompted(model, values["file"], spec)


def _with_tower(model: OpenModel, spec: str, name: str, values: Values) -> OpenModel:
    from equipoise.countermeasures.vision_tower import with_vision_tower

    if not values["id"]:
        raise UsageError(f"expected the id of a tower, got none; try {example('tower')}")
    return with_vision_tower(model, values["id"])


_BUILDERS: Final[dict[str, Callable[[Any, str, str, Values], OpenModel]]] = {
    "smooth": _smoothed,
    "vote": _majority,
    "recover": _retrying,
    "second": _cross_checked,
    "guard": _guarded,
    "surgical": _steered,
    "conditional": _steered,
    "steer": _steered,
    "dro": _soft_prompted,
    "tower": _with_tower,
}
"""Those that are more than a transform; imports wait inside, so that the command line lists names without torch."""


def _inner(name: str, values: Values, model: OpenModel) -> Transform:
    """The transform that a setting `by` names, with its defaults."""
    by = values["by"]
    if by not in TRANSFORMS:
        raise UsageError(f"expected by of {', '.join(TRANSFORMS)}, got {by!r}; try {name}:by=crop")
    return transform(by, CATALOGUE[by].keys, model)


def transform(name: str, values: Values, model: OpenModel) -> Transform:
    """The transform of an input countermeasure; a denoiser is put on the model's device."""
    return TRANSFORMS[name](name, values, model)


def _noise(name: str, values: Values, model: OpenModel) -> Transform:
    from equipoise.transforms.noise import Noise

    sigma = _number(name, values, "sigma")
    return Noise(sigma, sigma)


def _jpeg(name: str, values: Values, model: OpenModel) -> Transform:
    from equipoise.transforms.jpeg import Jpeg

    quality = _number(name, values, "quality", int)
    return Jpeg(quality, quality)


def _bits(name: str, values: Values, model: OpenModel) -> Transform:
    from equipoise.transforms.feature_squeezing import BitDepth

    return BitDepth(_number(name, values, "depth", int))


def _median(name: str, values: Values, model: OpenModel) -> Transform:
    from equipoise.transforms.feature_squeezing import Median

    return Median(_number(name, values, "size", int))


def _shrink(name: str, values: Values, model: OpenModel) -> Transform:
    from equipoise.transforms.geometry import Shrink

    return Shrink(_number(name, values, "share"))


def _pad(name: str, values: Values, model: OpenModel) -> Transform:
    from equipoise.transforms.geometry import ResizeAndPad

    return ResizeAndPad(_number(name, values, "lowest"), _number(name, values, "highest"))


def _crop(name: str, values: Values, model: OpenModel) -> Transform:
    from equipoise.transforms.geometry import Crop

    return Crop(_number(name, values, "lowest"), _number(name, values, "highest"), restore=True)


def _diffpure(name: str, values: Values, model: OpenModel) -> Transform:
    from equipoise.transforms.denoiser import load_denoiser
    from equipoise.transforms.diffusion import DiffPure

    # Numbers first: weights are large, and an error in a setting should not wait for them.
    level, steps = _number(name, values, "t"), _number(name, values, "steps", int)
    denoiser = load_denoiser(values["model"]).to(model.device)
    return DiffPure(denoiser, level, steps, values["fit"])  # type: ignore[arg-type]


TRANSFORMS: Final[dict[str, Callable[[str, Values, Any], Transform]]] = {
    "noise": _noise,
    "jpeg": _jpeg,
    "bits": _bits,
    "median": _median,
    "shrink": _shrink,
    "pad": _pad,
    "crop": _crop,
    "diffpure": _diffpure,
}


def _seed(name: str, values: Values) -> int:
    """The seed of a randomised countermeasure; 0 where it has none."""
    seed = int(_number(name, values, "seed", int)) if "seed" in values else 0
    # Not every defence hashes it: generators take signed numbers of 64 bits.
    if not -(2**63) <= seed < 2**63:
        raise UsageError(f"expected a seed of at most 63 bits for {name}, got one of {seed.bit_length()}; try seed=0")
    return seed


def _number(name: str, values: Values, key: str, kind: type[Any] = float) -> Any:
    """A setting as a number; `8/255` is one."""
    text = values[key]
    expected = "a whole number" if kind is int else "a number"
    message = f"expected {expected} for {key} of {name}, got {text!r}; try {example(name)}"
    try:
        if kind is float and "/" in text:
            above, below = text.split("/")
            number = float(above) / float(below)
        else:
            number = kind(text)
    except (ValueError, ZeroDivisionError):
        raise UsageError(message) from None
    if kind is float and not isfinite(number):
        raise UsageError(message)
    return number

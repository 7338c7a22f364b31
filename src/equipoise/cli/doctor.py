"""`equipoise doctor`: what works on this machine, and what to install for the rest."""

from __future__ import annotations

import os
import platform
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from importlib.util import find_spec

import typer

from equipoise import __version__
from equipoise.cli.console import print_json, print_table, size, table
from equipoise.cli.options.arguments import Json
from equipoise.models.families import FAMILIES, ModelFamily
from equipoise.models.reference_base import BASE, INSTALL, base_folder, damage_of

DISTRIBUTION = "equipoise"
"""Our own distribution, whose installed metadata lists everything it depends on."""

EXTRA_TITLES = {
    "models": "models with weights: audit, attack, defend, train (torchrun, accelerate)",
    "quantized": "4- and 8-bit models (--quantize)",
    "parquet": "suites in Parquet files",
    "served": "judges behind a URL",
    "diffusion": "purification and its training",
    "lora": "low-rank adapters in training",
    "guard": "the gateway (guard serve)",
    "postgresql": "audit records in PostgreSQL",
    "ray": "workers on several machines (--ray), for perturb, audit, rejudge and judge",
    "bench": "the simulation of many workers",
    "docs": "the pages of the documentation",
    "dev": "tests and checks of the source tree",
}
"""Purpose of extras in words; an extra without an entry is shown as well."""
_ASKS = "can be asked, not attacked: "
"""Begins the advice on a family that works in part."""


@dataclass(frozen=True)
class ComputeDevice:
    """A device that a model can run on."""

    name: str
    """What to give to `--device`."""
    hardware: str
    """What it is."""
    memory: int | None
    """Bytes in all, where known."""
    free: int | None
    """Bytes free now, where known."""


@dataclass(frozen=True)
class DoctorPart:
    """A model family or an optional part."""

    name: str
    """Model type, or name of the extra."""
    title: str
    """What people call it, or what it is for."""
    works: bool
    """Whether it can be used here."""
    advice: str
    """What to do where it does not work; empty where it does."""


@dataclass(frozen=True)
class Requirement:
    """One dependency of our distribution."""

    name: str
    """The distribution."""
    specifier: str
    """Allowed versions, such as `>=2.7`; empty for any."""
    extra: str | None
    """The extra that needs it; None where every installation does."""

    @property
    def pip_argument(self) -> str:
        """The dependency as an argument of `pip install`, quoted for a shell."""
        return shlex.quote(f"{self.name}{self.specifier}")


@dataclass(frozen=True)
class DoctorReport:
    """Everything that `doctor` prints."""

    equipoise: str
    """Our version."""
    python: str
    """Version of the interpreter."""
    system: str
    """Operating system and machine."""
    requirements: tuple[Requirement, ...]
    """What every installation needs, from the installed metadata."""
    versions: dict[str, str | None]
    """Version of each of these, None where it is not installed, and of packages for models with weights that are."""
    broken: dict[str, str]
    """Packages for models with weights that are installed but cannot be imported, with the reason."""
    devices: tuple[ComputeDevice, ...]
    """The processor first, then accelerators."""
    families: tuple[DoctorPart, ...]
    """The model families that tests check, and those that can only be asked; `models.families` has all types."""
    extras: tuple[DoctorPart, ...]
    """Optional parts."""
    reference_base: DoctorPart
    """The base of the English reference models, which is installed apart."""

    @property
    def healthy(self) -> bool:
        """Whether every required package is there and can be imported."""
        return bool(self.requirements) and not self.broken and all(self.versions.values())

    @property
    def pip_line(self) -> str:
        """The command that installs the missing required packages; empty where none is missing."""
        if not self.requirements:
            return f"pip install {DISTRIBUTION}"
        missing = [needed.pip_argument for needed in self.requirements if self.versions[needed.name] is None]
        return f"pip install {' '.join(missing)}" if missing else ""


def examine() -> DoctorReport:
    """Look at this machine."""
    requirements = read_requirements()
    required = tuple(needed for needed in requirements if needed.extra is None)
    versions = {needed.name: _version(needed.name) for needed in required}
    broken = {}
    weights = {name: _version(name) for name in ("torch", "torchvision", "transformers")}
    versions |= {name: version for name, version in weights.items() if version is not None}
    for module in weights:
        try:
            import_module(module)
        except (ImportError, OSError, RuntimeError) as error:
            # A missing package is shown as missing; a broken one says why, as torch and torchvision that do
            # not belong together do.
            if weights[module]:
                broken[module] = " ".join(str(error).split())
    working = not broken and all(weights.values())
    return DoctorReport(
        equipoise=__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        requirements=required,
        versions=versions,
        broken=broken,
        devices=_devices("torch" not in broken and weights["torch"] is not None),
        families=_families(working),
        extras=_extras(requirements),
        reference_base=_reference_base(),
    )


def doctor(
    json: Json = False,
) -> None:
    """Show versions, devices and memory, which model families work here, and what to install for the rest."""
    report = examine()
    if json:
        print_json(asdict(report) | {"healthy": report.healthy, "pip": report.pip_line})
    else:
        _print(report)
    if not report.healthy:
        raise typer.Exit(1)


def _print(report: DoctorReport) -> None:
    print_table(f"equipoise {report.equipoise}, Python {report.python}, {report.system}", "")
    missing = {needed.name: f"missing: pip install {needed.pip_argument}" for needed in report.requirements}
    rows = []
    for name, installed in report.versions.items():
        problem = f", broken: {report.broken[name]}" if name in report.broken else ""
        rows.append((name, (installed or missing[name]) + problem))
    print_table(table("Packages", ["package", "version"], rows))
    devices = [
        (d.name, d.hardware, size(d.memory) if d.memory else "unknown", size(d.free) if d.free else "unknown")
        for d in report.devices
    ]
    print_table(table("Devices", ["--device", "hardware", "memory", "free"], devices))
    groups = {
        "Model families": report.families,
        "Extras": report.extras,
        "English reference models": (report.reference_base,),
    }
    for title, parts in groups.items():
        print_table(table(title, ["name", "", "here"], [(p.name, p.title, p.advice or "works") for p in parts]))
    if report.healthy:
        print_table("Everything that is required is here.")
    else:
        print_table("Something required is missing." + (f" Try {report.pip_line}" if report.pip_line else ""))


def _version(distribution: str) -> str | None:
    try:
        # The name alone: `psycopg[binary]` is the distribution psycopg.
        return metadata.version(distribution.partition("[")[0])
    except metadata.PackageNotFoundError:
        return None


def _devices(torch_works: bool) -> tuple[ComputeDevice, ...]:
    total, free = _memory()
    devices = [
        ComputeDevice("cpu", f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores", total, free)
    ]
    if not torch_works:
        return tuple(devices)
    import torch

    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(number)
            devices.append(ComputeDevice(f"cuda:{number}", torch.cuda.get_device_name(number), total, free))
    return tuple(devices)


def _memory() -> tuple[int | None, int | None]:
    try:
        import psutil  # type: ignore[import-untyped]
    except ImportError:
        return None, None
    memory = psutil.virtual_memory()
    return memory.total, memory.available


def _families(working: bool) -> tuple[DoctorPart, ...]:
    """The families of the table that tests check, and those of which only a part works."""
    listed = [family for family in FAMILIES if family.verdict in ("checked", "asks")]
    if not working:
        advice = f"needs torch, torchvision and transformers; try pip install '{DISTRIBUTION}[models]'"
        return tuple(DoctorPart(family.kind, family.title, False, advice) for family in listed)
    from transformers.models.auto import modeling_auto

    # Some models that read sounds too are in the second mapping alone.
    known = {
        **modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
        **getattr(modeling_auto, "MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES", {}),
    }
    absent = f"not a model of transformers {_version('transformers')} that reads pictures; try another version"
    advised = [_family_advice(family, absent, known) for family in listed]
    return tuple(
        DoctorPart(family.kind, family.title, not text or text.startswith(_ASKS), text)
        for family, text in zip(listed, advised, strict=True)
    )


def _family_advice(family: ModelFamily, absent: str, known: Mapping[str, object]) -> str:
    if family.kind not in known:
        return absent
    if family.package and find_spec(family.package) is None:
        return f"needs {family.package}; try pip install {family.package}"
    return f"{_ASKS}{family.note}" if family.verdict == "asks" else ""


def read_requirements(distribution: str = DISTRIBUTION) -> tuple[Requirement, ...]:
    """The dependencies of a distribution as its installed metadata lists them, those of extras included.

    An extra that stands for other extras of the same distribution (`equipoise[guard]` in `dev`) is left out: its parts
    are listed under their own names. Empty where the distribution is not installed.
    """
    try:
        lines = metadata.requires(distribution) or []
    except metadata.PackageNotFoundError:
        return ()
    requirements = []
    for line in lines:
        # Metadata writes `name[extra]>=1,<2; extra == "guard"` (PEP 508); packaging may be missing here as well.
        match = re.match(r"([A-Za-z0-9._-]+(?:\[[^\]]*\])?)\s*\(?([^;()]*)\)?\s*(?:;(.*))?$", line)
        if match is None or match[1].partition("[")[0] == distribution:
            continue
        extra = re.search(r"extra\s*==\s*['\"]([^'\"]+)['\"]", match[3] or "")
        requirements.append(Requirement(match[1], match[2].strip(), extra[1] if extra else None))
    return tuple(requirements)


def _reference_base() -> DoctorPart:
    folder = base_folder()
    damage = damage_of(folder)
    if damage:
        return DoctorPart("base", f"{BASE} in {folder}", False, f"damaged ({damage}): {INSTALL} --force")
    if damage is not None:
        return DoctorPart("base", f"{BASE}, 270 MB", False, INSTALL)
    return DoctorPart("base", f"{BASE} in {folder}", True, "")


def _extras(requirements: Sequence[Requirement]) -> tuple[DoctorPart, ...]:
    """Every extra of our distribution, and the tokenizers that no extra of ours brings."""
    missing: dict[str, list[str]] = {}
    for needed in requirements:
        if needed.extra is not None:
            names = missing.setdefault(needed.extra, [])
            if _version(needed.name) is None:
                names.append(needed.name)
    parts = [
        DoctorPart(
            extra,
            EXTRA_TITLES.get(extra, ""),
            not names,
            f"without {', '.join(names)}: pip install '{DISTRIBUTION}[{extra}]'" if names else "",
        )
        for extra, names in missing.items()
    ]
    works = all(_version(name) for name in ("sentencepiece", "protobuf"))
    advice = "" if works else "pip install sentencepiece protobuf"
    return (*parts, DoctorPart("tokenizers", "tokenizers in .model files", works, advice))

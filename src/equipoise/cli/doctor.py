"""`equipoise doctor`: what works on this machine, and what to install for the rest."""

from __future__ import annotations

import os
import platform
from dataclasses import asdict, dataclass
from importlib import import_module, metadata
from typing import Annotated

import typer

from equipoise import __version__
from equipoise.cli.console import print_json, print_table, size, table

REQUIRED = (
    "torch",
    "torchvision",
    "transformers",
    "accelerate",
    "safetensors",
    "pillow",
    "numpy",
    "scipy",
    "scikit-image",
    "typer",
    "rich",
    "jinja2",
)
"""Distributions that the package depends on."""

FAMILIES = {
    "llava": "LLaVA-1.5",
    "llava_next": "LLaVA-NeXT",
    "llava_onevision": "LLaVA-OneVision",
    "qwen2_vl": "Qwen2-VL",
    "qwen2_5_vl": "Qwen2.5-VL",
    "qwen3_vl": "Qwen3-VL",
    "idefics3": "Idefics3",
    "smolvlm": "SmolVLM",
    "instructblip": "InstructBLIP",
    "gemma3": "Gemma 3",
    "internvl": "InternVL",
    "mllama": "Llama 3.2 Vision",
    "mistral3": "Mistral 3 / Pixtral",
    "paligemma": "PaliGemma",
    "phi4_multimodal": "Phi-4-multimodal",
}
"""Model types (as in a model's config.json) and what people call them."""


@dataclass(frozen=True)
class ComputeDevice:
    """Something that a model can run on."""

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
    """What people call it."""
    works: bool
    """Whether it can be used here."""
    advice: str
    """What to do where it does not work; empty where it does."""


@dataclass(frozen=True)
class DoctorReport:
    """All that `doctor` finds."""

    equipoise: str
    """Our version."""
    python: str
    """Version of the interpreter."""
    system: str
    """Operating system and machine."""
    versions: dict[str, str | None]
    """Version of each required distribution; None where it is not installed."""
    broken: dict[str, str]
    """Required packages that are installed but cannot be imported, with the reason."""
    devices: tuple[ComputeDevice, ...]
    """The processor first, then accelerators."""
    families: tuple[DoctorPart, ...]
    """The model families tested with this project."""
    extras: tuple[DoctorPart, ...]
    """Optional parts."""

    @property
    def healthy(self) -> bool:
        """Whether every required package is there and can be imported."""
        return not self.broken and all(self.versions.values())


def examine() -> DoctorReport:
    """Look at this machine."""
    versions = {name: _version(name) for name in REQUIRED}
    broken = {}
    for module in ("torch", "torchvision", "transformers"):
        try:
            import_module(module)
        except (ImportError, OSError, RuntimeError) as error:
            # A missing package is shown as missing; a broken one says why, as torch and torchvision that do
            # not belong together do.
            if versions[module]:
                broken[module] = " ".join(str(error).split())
    working = not broken and all(versions[name] for name in ("torch", "torchvision", "transformers"))
    return DoctorReport(
        equipoise=__version__,
        python=platform.python_version(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        versions=versions,
        broken=broken,
        devices=_devices("torch" not in broken and versions["torch"] is not None),
        families=_families(working),
        extras=_extras(),
    )


def doctor(
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")] = False,
) -> None:
    """Show versions, devices and memory, which model families work here, and what to install for the rest."""
    report = examine()
    if json:
        print_json(asdict(report) | {"healthy": report.healthy})
    else:
        _print(report)
    if not report.healthy:
        raise typer.Exit(1)


def _print(report: DoctorReport) -> None:
    print_table(f"equipoise {report.equipoise}, Python {report.python}, {report.system}", "")
    rows = [(name, version or "missing: pip install " + name) for name, version in report.versions.items()]
    rows = [(name, f"{v}, broken: {report.broken[name]}" if name in report.broken else v) for name, v in rows]
    print_table(table("Packages", ["package", "version"], rows))
    devices = [
        (d.name, d.hardware, size(d.memory) if d.memory else "unknown", size(d.free) if d.free else "unknown")
        for d in report.devices
    ]
    print_table(table("Devices", ["--device", "hardware", "memory", "free"], devices))
    for title, parts in (("Model families", report.families), ("Extras", report.extras)):
        print_table(table(title, ["name", "", "here"], [(p.name, p.title, p.advice or "works") for p in parts]))
    print_table("Everything that is required is here." if report.healthy else "Something required is missing.")


def _version(distribution: str) -> str | None:
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def _devices(torch_works: bool) -> tuple[ComputeDevice, ...]:
    total, free = _memory()
    found = [ComputeDevice("cpu", f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores", total, free)]
    if not torch_works:
        return tuple(found)
    import torch

    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(number)
            found.append(ComputeDevice(f"cuda:{number}", torch.cuda.get_device_name(number), total, free))
    return tuple(found)


def _memory() -> tuple[int | None, int | None]:
    try:
        import psutil  # type: ignore[import-untyped]
    except ImportError:
        return None, None
    memory = psutil.virtual_memory()
    return memory.total, memory.available


def _families(working: bool) -> tuple[DoctorPart, ...]:
    if not working:
        advice = "needs torch, torchvision and transformers; try pip install equipoise"
        return tuple(DoctorPart(name, title, False, advice) for name, title in FAMILIES.items())
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    absent = f"not an image-text-to-text model of transformers {_version('transformers')}; try another version"
    return tuple(
        DoctorPart(name, title, name in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES, "")
        if name in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES
        else DoctorPart(name, title, False, absent)
        for name, title in FAMILIES.items()
    )


def _extras() -> tuple[DoctorPart, ...]:
    parts = []
    for name, title, distributions, bring in (
        ("quantized", "4- and 8-bit models (--quantize)", ("bitsandbytes",), "'equipoise[quantized]'"),
        ("tokenizers", "tokenizers in .model files", ("sentencepiece", "protobuf"), "sentencepiece protobuf"),
    ):
        works = all(_version(distribution) for distribution in distributions)
        parts.append(DoctorPart(name, title, works, "" if works else f"pip install {bring}"))
    return tuple(parts)

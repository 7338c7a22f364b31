"""`FrontierVariant`: one way to mitigate a model, as `--with` names it.

`SPEC` or a chain `SPEC then SPEC`; a link is a spec of `--defend`, the name of a fitter (`surgical`), an adapter
(`+FOLDER`, first in the chain), or a fitter of adapters.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from equipoise.audit.frontier.fitters import FITTERS, Fitter
from equipoise.audit.labels import PLAIN
from equipoise.countermeasures.catalogue import CATALOGUE, example, parse
from equipoise.countermeasures.spec import CountermeasureSpec
from equipoise.errors import UsageError

POLICIES: Final = ("balanced", "contextual", "few-shot", "interactive")
"""Named prompt policies that are measured by default: those that aim at needless refusals."""
THEN: Final = re.compile(r"\s+then\s+")


@dataclass(frozen=True)
class VariantLink:
    """One mitigation of a chain."""

    text: str
    """As the user wrote it."""
    fitter: Fitter | None = None
    """What fits it; None where nothing is fitted."""
    adapter: str | None = None
    """Folder of an adapter; None where it is no adapter."""

    @property
    def countermeasure(self) -> CountermeasureSpec | None:
        """The countermeasure that it is, or that is fitted; None where it is an adapter."""
        if self.adapter is not None or (self.fitter is not None and self.fitter.makes == "adapter"):
            return None
        return parse(self.text)

    @property
    def paths(self) -> tuple[str, ...]:
        """What the user names a file or a folder by; a word alone is the name of something that we ship."""
        if self.adapter is not None:
            return (self.adapter,)
        given = {} if self.countermeasure is None else self.countermeasure.given
        return tuple(
            value
            for key, value in given.items()
            if (Path(value).is_file() if key == "file" else Path(value).suffix or "/" in value)
        )

    @property
    def is_given(self) -> bool:
        """Whether it comes with a file that the user tuned on data that this program does not see."""
        if self.adapter is not None:
            return True
        file = None if self.countermeasure is None else self.countermeasure.given.get("file")
        # A policy that ships with Equipoise is named, not a file, and tuned on nothing.
        return file is not None and Path(file).exists()

    @property
    def takes_seed(self) -> bool:
        """Whether another seed makes another mitigation, and the user did not fix it."""
        if self.fitter is not None:
            return self.fitter.has_chance
        spec = self.countermeasure
        return spec is not None and "seed" in spec.defaults and "seed" not in spec.given

    @property
    def changes_pictures(self) -> bool:
        """Whether it means nothing for a model of text alone."""
        spec = self.countermeasure
        return spec is not None and self.fitter is None and CATALOGUE[spec.name].changes_pictures

    def spec(self, artefact: Path | None, seed: int) -> str | None:
        """The spec of `--defend`, with the fitted file and the seed filled in; None for an adapter.

        Raises:
            UsageError: no spec can hold the name of the fitted file.
        """
        spec = self.countermeasure
        if spec is None:
            return None
        if self.fitter is not None:
            return spec.with_setting("file", str(artefact)).to_text()
        if self.takes_seed and seed:
            return spec.with_setting("seed", str(seed)).to_text()
        return self.text


@dataclass(frozen=True)
class FrontierVariant:
    """One row of the frontier."""

    name: str
    """As the user wrote it, with single spaces; `plain` for the model itself."""
    links: tuple[VariantLink, ...]
    """In the order in which a prompt meets them; empty for the model itself."""

    @property
    def slug(self) -> str:
        """Its folder's name."""
        return re.sub(r"[^A-Za-z0-9.=+]+", "-", self.name).strip("-.")[:80] or "variant"

    @property
    def takes_seed(self) -> bool:
        """Whether it is worth measuring with several seeds."""
        return any(link.takes_seed for link in self.links)

    @property
    def fitters(self) -> tuple[Fitter, ...]:
        """What has to be fitted."""
        return tuple(link.fitter for link in self.links if link.fitter is not None)

    def sources(self) -> dict[str, str]:
        """Hashes of the files and folders that the mitigation is read from, by their paths as the user wrote them.

        What is not there, or cannot be read, has none.
        """
        return {
            name: digest
            for link in self.links
            for name in link.paths
            if (digest := _content_hash(Path(name))) is not None
        }

    @property
    def guard_alone(self) -> bool:
        """Whether it is the guard and nothing else, so that it works on the replies of any model."""
        alone = self._alone
        return alone is not None and alone.name == "guard"

    @property
    def policy_alone(self) -> str | None:
        """Name or file of its prompt policy where it is that and nothing else; None otherwise."""
        alone = self._alone
        return alone.values["file"] if alone is not None and alone.name == "prompt" else None

    @property
    def _alone(self) -> CountermeasureSpec | None:
        """The one countermeasure that it is; None where it is a chain or an adapter."""
        return self.links[0].countermeasure if len(self.links) == 1 else None

    def specs(self, artefacts: Sequence[Path | None], seed: int) -> tuple[str, ...]:
        """The specs of its countermeasures; adapters are no countermeasures.

        Args:
            artefacts: one for each link, None where nothing was fitted.
            seed: of what is randomised.

        Raises:
            UsageError: no spec can hold the name of a fitted file.
        """
        specs = (link.spec(artefact, seed) for link, artefact in zip(self.links, artefacts, strict=True))
        return tuple(spec for spec in specs if spec is not None)


def _content_hash(path: Path) -> str | None:
    """sha256 over a file, or over names and bytes of all files of a folder; None where it cannot be read."""
    digest = hashlib.sha256()
    try:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                digest.update(f"{file.relative_to(path)}\0{file.stat().st_size}\0".encode())
                with file.open("rb") as opened:
                    digest.update(hashlib.file_digest(opened, "sha256").digest())
    except OSError:
        return None
    return digest.hexdigest()


def parse_variant(text: str, model: str) -> FrontierVariant:
    """Read one `--with`.

    Args:
        text: `SPEC`, or several joined by ` then `.
        model: name of the model, which may stand before `+ADAPTER`.

    Raises:
        UsageError: a link that is neither a countermeasure nor a fitter, or an adapter that is not first.
    """
    parts = [part for part in THEN.split(text.strip()) if part]
    if not parts or text.strip() == PLAIN:
        raise UsageError(f"expected a mitigation for --with, got {text!r}; try {example('guard')}")
    links = [_link(part, model) for part in parts]
    late = [link.text for link in links[1:] if link.adapter or (link.fitter and link.fitter.makes == "adapter")]
    if late:
        raise UsageError(f"expected an adapter first in the chain, got {late[0]} after others; try it first")
    return FrontierVariant(" then ".join(parts), tuple(links))


def _link(text: str, model: str) -> VariantLink:
    name = text.partition(":")[0].strip()
    if text.startswith((f"{model}+", "+")):
        folder = text.removeprefix(model).removeprefix("+")
        if not folder:
            raise UsageError(f"expected the folder of an adapter after +, got {text!r}; try +FOLDER")
        return VariantLink(text, adapter=folder)
    fitter = FITTERS.get(name)
    if fitter is not None and fitter.makes == "adapter":
        if text != name:
            raise UsageError(f"expected {name} without settings, got {text!r}; try {name}")
        return VariantLink(text, fitter)
    if name not in CATALOGUE:
        names = ", ".join(sorted({*FITTERS, *CATALOGUE}))
        raise UsageError(f"expected a mitigation of {names} or +ADAPTER, got {name!r}; try surgical or guard")
    values = parse(text).values
    if fitter is not None and not values["file"]:
        return VariantLink(text, fitter)
    if "file" in values and not values["file"]:
        raise UsageError(f"expected a file for {name}, which nothing here fits, got {text!r}; try {example(name)}")
    return VariantLink(text)


def default_variants(*, reads_pictures: bool, attacked: bool, served: bool) -> tuple[str, ...]:
    """What is measured where no `--with` is given: the cheapest of every kind first.

    Args:
        reads_pictures: whether the model takes pictures.
        attacked: whether attacked pictures are measured, which countermeasures on pictures are for.
        served: whether only its replies are here.
    """
    policies = tuple(f"prompt:{name}" for name in POLICIES)
    if served:
        return ("guard", *policies)
    fitted = ("surgical", "conditional", "surgical then conditional", "surgical then guard", "dro", "derta")
    pictures = ("median", "crop", "recover") if reads_pictures and attacked else ()
    return ("guard", *policies, *fitted, *pictures)

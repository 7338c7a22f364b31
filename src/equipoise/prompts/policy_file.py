"""Policies from TOML: the named ones of the package, and files of users."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from equipoise import toml_file
from equipoise.errors import UsageError
from equipoise.files import is_folder, path_exists
from equipoise.prompts.exemplars import OWN_POOL, ExemplarSelector, own_pool, read_pool
from equipoise.prompts.policy import (
    REQUEST_GATE,
    ComposedPolicy,
    Contextual,
    FewShot,
    PromptPolicy,
    Retry,
    RetryForm,
    SystemRole,
    SystemText,
    TemplateText,
)

NAMED: Final = ("safety", "balanced", "contextual", "few-shot", "interactive", "anew", "combined")
"""Ours. `safety` asks for refusals and is what optimisation starts from; the others aim at needless refusals."""
HINT: Final = "`equipoise prompt show balanced`"


class _StrictStep(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SystemStep(_StrictStep):
    """See `SystemText`."""

    kind: Literal["system"]
    text: str
    role: SystemRole = "system"
    template: TemplateText = "keep"

    def policy(self, folder: Path) -> PromptPolicy:
        """The value."""
        return SystemText(self.text.strip(), self.role, self.template)


class ContextualStep(_StrictStep):
    """See `Contextual`."""

    kind: Literal["contextual"]
    template: str
    picture_template: str = ""

    def policy(self, folder: Path) -> PromptPolicy:
        """The value."""
        return Contextual(self.template.strip(), self.picture_template.strip())


class FewShotStep(_StrictStep):
    """See `FewShot`."""

    kind: Literal["few_shot"]
    k: int = 4
    pool: str = OWN_POOL
    """`ours`, or a table; its path is relative to the policy's file."""
    selector: ExemplarSelector = "similar"
    refusals: int = 1
    seed: int = 0

    def policy(self, folder: Path) -> PromptPolicy:
        """The value, with its pool read."""
        pool = own_pool() if self.pool == OWN_POOL else read_pool(folder / self.pool)
        return FewShot(self.k, pool, self.selector, self.refusals, self.seed)


class InteractiveStep(_StrictStep):
    """See `Retry`."""

    kind: Literal["interactive"]
    follow_up: str
    picture_follow_up: str = ""
    max_retries: int = 1
    gate: str = REQUEST_GATE
    threshold: float = 0.5
    read_pictures: bool = False
    conversation: RetryForm = "continued"

    def policy(self, folder: Path) -> PromptPolicy:
        """The value."""
        return Retry(
            self.follow_up.strip(),
            self.picture_follow_up.strip(),
            self.max_retries,
            self.gate,
            self.threshold,
            self.read_pictures,
            self.conversation,
        )


PolicyStep = Annotated[SystemStep | ContextualStep | FewShotStep | InteractiveStep, Field(discriminator="kind")]


class PolicyDocument(_StrictStep):
    """A file of a policy."""

    name: Annotated[str, Field(min_length=1, max_length=80)] = "prompt"
    about: str = ""
    """What it is for."""
    steps: Annotated[tuple[PolicyStep, ...], Field(min_length=1)]
    """In the order in which they change the prompt."""


def load_policy(name: str) -> PromptPolicy:
    """A policy of ours by its name, or that of a TOML file.

    Raises:
        UsageError: neither; an unknown key; a template without its slot; a pool that cannot be read.
    """
    if not name:
        raise UsageError(
            f"expected a prompt policy of {', '.join(NAMED)} or a TOML file, got none; try prompt:balanced"
        )
    # Names of ours before files: a file called `balanced` in the working folder must not change what `prompt:balanced`
    # means.
    if name in NAMED:
        return parse_policy(named_text(name), name)
    path = Path(name)
    if path.suffix == ".safetensors":
        raise UsageError(f"expected a prompt policy, got {name}, which is a soft prompt by its name; try dro:{name}")
    if not path_exists(path) or is_folder(path):
        raise UsageError(
            f"expected a prompt policy of {', '.join(NAMED)} or a TOML file, got {name!r}; try {HINT} > my.toml"
        )
    return build(toml_file.read(PolicyDocument, path, "a prompt policy", HINT).steps, path.parent, name)


def parse_policy(text: str, where: str = "policy", folder: Path = Path()) -> PromptPolicy:
    """A policy from TOML.

    Raises:
        UsageError: as `load_policy`.
    """
    return build(toml_file.validated(PolicyDocument, text, where, "a prompt policy", HINT).steps, folder, where)


def build(steps: Sequence[PolicyStep], folder: Path, where: str = "policy") -> PromptPolicy:
    """The value of the steps of a file.

    Args:
        steps: of the file.
        folder: where the file stands; pools are beside it.
        where: what the file is called.

    Raises:
        UsageError: a step that cannot be; the message names the file and the step, counted from 1.
    """
    parts = []
    for number, step in enumerate(steps, 1):
        try:
            parts.append(step.policy(folder))
        except UsageError as error:
            raise UsageError(f"{error} (step {number} of {where})") from error
    if len(parts) == 1:
        return parts[0]
    try:
        return ComposedPolicy(tuple(parts))
    except UsageError as error:
        raise UsageError(f"{error} (in {where})") from error


def named_text(name: str) -> str:
    """The file of a policy of ours."""
    return files("equipoise.prompts").joinpath(f"named/{name}.toml").read_text(encoding="utf-8")

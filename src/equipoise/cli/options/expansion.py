"""`with_options`: verbs that take dataclasses of options, and options that go on working under a former name."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import typer
from typer.models import OptionInfo

from equipoise.cli.console import warn


@dataclass(frozen=True)
class FormerName:
    """Marks an option, in its `Annotated`, whose former name goes on working for one release."""

    name: str
    """The former spelling, such as `--heldout`."""


def with_options(verb: Callable[..., None]) -> Callable[..., None]:
    """Give a function the signature that Typer reads its options from.

    A parameter whose type is a dataclass stands for one option per field, so that verbs share options without typing
    them out; the fields of its default value are the defaults of the options. Every field is an `Annotated` with a
    `typer.Option`. An option with a `FormerName` gets a hidden second option of that name.

    >>> @with_options
    ... def ask(picture: Path, compute: WeightOptions = WeightOptions(device="cpu")) -> None: ...
    """
    # Typer reads names, types, defaults and help of options from a function's signature. So the signature is built from
    # the fields of the dataclasses, and the wrapper puts the values back together.
    hints = get_type_hints(verb, include_extras=True)
    groups: dict[str, tuple[Any, list[str]]] = {}
    parameters: list[inspect.Parameter] = []
    former: dict[str, tuple[str, str, str]] = {}
    for parameter in inspect.signature(verb).parameters.values():
        group = hints[parameter.name]
        if not is_dataclass(group):
            parameters += _options(parameter.name, group, parameter.default, former)
            continue
        field_hints = get_type_hints(group, include_extras=True)
        names = [field.name for field in fields(group)]
        groups[parameter.name] = (group, names)
        for name in names:
            parameters += _options(name, field_hints[name], getattr(parameter.default, name), former)

    def expanded(**values: Any) -> None:
        values = _without_former_names(values, former)
        for parameter_name, (group, names) in groups.items():
            values[parameter_name] = group(**{name: values.pop(name) for name in names})
        verb(**values)

    functools.update_wrapper(expanded, verb)
    # Typer must see the options, not the dataclasses of the wrapped function.
    del expanded.__wrapped__  # type: ignore[attr-defined]
    expanded.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    expanded.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return expanded


def _options(
    name: str, annotation: Any, default: Any, former: dict[str, tuple[str, str, str]]
) -> list[inspect.Parameter]:
    """The parameter of an option, and before it a hidden one for each former name."""
    parameters = [_keyword(name, annotation, default)]
    if get_origin(annotation) is not Annotated:
        return parameters
    base, *metadata = get_args(annotation)
    for mark in metadata:
        if not isinstance(mark, FormerName):
            continue
        info = next(item for item in metadata if isinstance(item, OptionInfo))
        # Inside Annotated, Typer keeps the first spelling in `default`.
        spelling = info.default if isinstance(info.default, str) else f"--{name.replace('_', '-')}"
        hidden = typer.Option(mark.name, hidden=True, min=info.min, max=info.max)
        former_name = f"former_{name}"
        former[former_name] = (name, mark.name, spelling)
        # A flag has no value that could be left out: False stands for a flag that was not given, None for any other
        # option.
        is_flag = base is bool
        parameters.append(
            _keyword(former_name, Annotated[base if is_flag else base | None, hidden], False if is_flag else None)
        )
    return parameters


def _keyword(name: str, annotation: Any, default: Any) -> inspect.Parameter:
    # Keyword-only, or an option without a default could not follow one that has one.
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=annotation)


def _without_former_names(values: Mapping[str, Any], former: Mapping[str, tuple[str, str, str]]) -> dict[str, Any]:
    """The values with those of former names moved to the options they are called now, and a line on stderr for each."""
    current = {name: value for name, value in values.items() if name not in former}
    for former_name, (name, old, new) in former.items():
        value = values.get(former_name)
        # Typer hands out an empty list, not None, where a repeatable option was not given.
        if value is None or value is False or value == []:
            continue
        warn(f"{old} is now {new}; the old name goes away in the next release")
        current[name] = value
    return current

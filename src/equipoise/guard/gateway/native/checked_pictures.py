"""Pictures of a request in another API, replaced by those that were checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from equipoise.guard.gateway.adapters.reply_pictures import media_of, picture_base64

_ADDRESSES: Final = ("image_url", "url")


def with_checked_pictures(value: Any, pictures: Mapping[str, str]) -> Any:
    """A copy of a value with other pictures in it.

    Args:
        value: of JSON; it stays as it is.
        pictures: data URLs of checked pictures, by the addresses as the judged chat request has them.
    """
    if isinstance(value, list):
        return [with_checked_pictures(item, pictures) for item in value]
    if not isinstance(value, Mapping):
        return value
    if value.get("type") in ("base64", "url") and (address := source_address(value)) in pictures:
        return _source(value, pictures[address])
    copied = {name: with_checked_pictures(item, pictures) for name, item in value.items()}
    for name in _ADDRESSES:
        if isinstance(value.get(name), str) and value[name] in pictures:
            copied[name] = pictures[value[name]]
    if value.get("type") == "image_generation_call" and isinstance(value.get("result"), str):
        checked = pictures.get(result_address(value["result"]))
        content = picture_base64(checked) if checked is not None else None
        copied["result"] = value["result"] if content is None else content[1]
    return copied


def source_address(source: Mapping[str, Any]) -> str:
    """The address of a source of Anthropic's API, as a chat has it."""
    if source.get("type") == "base64":
        return f"data:{source.get('media_type')};base64,{source.get('data')}"
    return str(source.get("url"))


def result_address(packed: str) -> str:
    """The address of a picture that a response has made, as a chat has it."""
    return f"data:{media_of(packed)};base64,{packed}"


def _source(source: Mapping[str, Any], url: str) -> dict[str, Any]:
    content = picture_base64(url)
    if content is None:
        return dict(source)
    kept = {name: value for name, value in source.items() if name not in ("type", "media_type", "data", "url")}
    return {**kept, "type": "base64", "media_type": content[0], "data": content[1]}

"""TOML files against a model: what cannot be is one error that names file and setting."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from equipoise.errors import UsageError
from equipoise.toml_file import read, validated


class Settings(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: str
    count: int = 1


def test_a_file_is_what_it_says(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('name = "x"\n')
    assert read(Settings, file, "settings", "`x`") == Settings(name="x")


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("name = ", "expected TOML"),
        ('name = "x"\nsize = 1', "size"),
        ('name = "x"\ncount = "y"', "count"),
        ("count = 1", "name"),
        ("a = " + "[" * 5000, "settings"),
    ],
)
def test_what_cannot_be_is_named(text: str, names: str) -> None:
    with pytest.raises(UsageError, match=r"^expected [^\n]*, got [^\n]*my.toml[^\n]*; try [^\n]*$") as raised:
        validated(Settings, text, "my.toml", "settings", "`x`")
    assert names in str(raised.value)


class Item(BaseModel):
    model_config = ConfigDict(extra="forbid")
    kind: Literal["a"]
    count: int = 1


class Ours(BaseModel):
    count: int

    @field_validator("count")
    @classmethod
    def _is_one(cls, count: int) -> int:
        if count != 1:
            raise ValueError(f"expected One, got {count}")
        return count


class Other(BaseModel):
    kind: Literal["b"]


class Lists(BaseModel):
    items: Annotated[tuple[Annotated[Item | Other, Field(discriminator="kind")], ...], Field(min_length=1)]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('items = [{kind = "a", size = 1}]', "items.1.a.size: there is no such setting; try"),
        ('items = [{kind = "b"}, {kind = "a", count = "x"}]', "items.2.a.count: "),
        ("items = [{}]", "items.1: it needs a kind; try"),
        ('items = [{kind = "c"}]', "items.1: kind is 'c', and has to be 'a', 'b'; try"),
        ("items = []", "items: it needs 1 or more; try"),
        ("items = 3", "items: it has to be a list"),
        ("", "items: it is missing; try"),
    ],
)
def test_a_wrong_item_is_said_once_in_plain_words_with_its_number(text: str, says: str) -> None:
    with pytest.raises(UsageError) as raised:
        validated(Lists, text, "my.toml", "settings", "`x`")
    assert says in str(raised.value)
    assert "more)" not in str(raised.value)


def test_a_message_of_ours_is_said_as_it_is() -> None:
    with pytest.raises(UsageError, match=r"count: expected One, got 2; try `x`$"):
        validated(Ours, "count = 2", "my.toml", "settings", "`x`")


def test_a_byte_order_mark_is_no_part_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_bytes(b'\xef\xbb\xbfname = "x"\r\n')
    assert read(Settings, tmp_path / "a.toml", "settings", "`x`").name == "x"


def test_a_file_that_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe4"')
    for name in ("missing.toml", "latin.toml", "."):
        with pytest.raises(UsageError, match=r"^expected [^\n]*, got [^\n]*; try [^\n]*$"):
            read(Settings, tmp_path / name, "settings", "`x`")

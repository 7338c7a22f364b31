"""TOML files against a model: what cannot be is one error that names file and setting."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel, ConfigDict

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


def test_a_file_that_cannot_be_read_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b'name = "\xe4"')
    for name in ("missing.toml", "latin.toml", "."):
        with pytest.raises(UsageError, match=r"^expected [^\n]*, got [^\n]*; try [^\n]*$"):
            read(Settings, tmp_path / name, "settings", "`x`")

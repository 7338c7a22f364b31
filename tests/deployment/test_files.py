"""The files for Docker name what is there: files, extras, options and ports."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from typer.testing import CliRunner

from equipoise.cli.main import app

ROOT = Path(__file__).resolve().parents[2]
yaml = pytest.importorskip("yaml")


def options() -> set[str]:
    shown = CliRunner().invoke(app, ["guard", "serve", "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"}).stdout
    return set(re.findall(r"--[a-z-]+", re.sub(r"\x1b\[[0-9;]*m", "", shown)))


def test_the_image_is_made_of_what_is_there() -> None:
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    lines = [line.split(maxsplit=1) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    words = [first for first, _ in lines]
    known = {"FROM", "RUN", "WORKDIR", "COPY", "USER", "VOLUME", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT"}
    assert set(words) == known
    assert words[0] == "FROM"
    assert words.index("USER") < words.index("ENTRYPOINT")
    for name, rest in lines:
        if name == "COPY":
            *sources, _ = rest.split()
            assert all((ROOT / source).exists() for source in sources)
    extras = re.search(r"\.\[([\w,]+)\]", text)
    assert extras is not None
    offered = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(extras[1].split(",")) <= set(offered)
    entry = next(rest for name, rest in lines if name == "ENTRYPOINT")
    assert set(re.findall(r"--[a-z-]+", entry)) <= options()


def test_what_is_left_out_of_the_image_is_not_needed_in_it() -> None:
    left_out = (ROOT / ".dockerignore").read_text().split()
    assert not {"src", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"} & set(left_out)


def test_the_services_fit_together() -> None:
    compose = yaml.safe_load((ROOT / "compose.yaml").read_text())
    services = compose["services"]
    command = services["gateway"]["command"]
    assert {word for word in command if word.startswith("--")} <= options()
    upstream = command[command.index("--upstream") + 1]
    assert re.fullmatch(r"http://model:8000/v1", upstream)
    assert "8000" in services["model"]["expose"]
    assert "ports" not in services["model"]
    assert "ports" not in services["record"]
    assert set(services["gateway"]["depends_on"]) <= set(services)
    mounted = {volume.split(":")[0] for service in services.values() for volume in service.get("volumes", [])}
    assert {name for name in mounted if not name.startswith(".")} == set(compose["volumes"])

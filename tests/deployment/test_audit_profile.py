"""The profile of `compose.yaml` for audits: a model that only this machine reaches, nothing of the gateway."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
SERVICES = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]


def test_the_profile_starts_one_model_and_the_gateway_needs_no_profile() -> None:
    assert [name for name, service in SERVICES.items() if "audit" in service.get("profiles", ())] == ["audited"]
    assert SERVICES["soft-prompted"]["profiles"] == ["soft-prompt"]
    assert all("profiles" not in SERVICES[name] for name in ("model", "gateway", "record"))


def test_the_unguarded_model_is_reached_from_this_machine_alone() -> None:
    assert SERVICES["audited"]["ports"] == ["127.0.0.1:8000:8000"]
    assert "ports" not in SERVICES["model"]


def test_the_command_in_its_comment_fits_the_service() -> None:
    comment = (ROOT / "compose.yaml").read_text(encoding="utf-8")
    command = SERVICES["audited"]["command"]
    served = command[command.index("--served-model-name") + 1]
    assert f"http://127.0.0.1:8000/v1#{served} " in comment
    connections = re.search(r"--connections (\d+)", comment)
    assert connections is not None
    assert connections[1] == command[command.index("--max-num-seqs") + 1]


def test_the_profile_for_soft_prompts_differs_in_one_option() -> None:
    soft = SERVICES["soft-prompted"]
    assert set(soft["command"]) - set(SERVICES["audited"]["command"]) == {"--enable-prompt-embeds"}
    assert {key for key in soft if soft[key] != SERVICES["audited"][key]} == {"profiles", "command"}

"""The system text of a template: found where it has one, empty where it has none."""

from __future__ import annotations

import pytest

from equipoise.prompts.default_text import default_system_text
from equipoise.types import Prompt
from tests.models.tiny_plain import PlainTorchModel
from tests.prompts.chat_templates import TEMPLATES, templated_model

DEFAULTS = {"qwen": "You are a model."}


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_default_of_a_template_is_what_a_user_without_a_system_text_gets(name: str) -> None:
    model = templated_model(name)
    expected = DEFAULTS.get(name, "")
    assert default_system_text(model) == expected
    if expected:
        # Said by the user, it gives the same conversation as said by the template.
        assert model.render(Prompt.ask("Why?", system=expected)) == model.render(Prompt.ask("Why?"))


def test_a_model_without_a_template_has_none() -> None:
    assert default_system_text(PlainTorchModel()) == ""

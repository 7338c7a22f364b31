"""The limits of an audit are checked before anything is loaded."""

from __future__ import annotations

import pytest

from equipoise.audit.failure_limit import FailureLimit
from equipoise.cli.options.audit import RequestOptions
from equipoise.errors import UsageError


def test_limits_are_the_fields_of_an_audit() -> None:
    options = RequestOptions(connections=3, timeout=2.5, retries=1, max_wait=60.0, max_failed="1%")
    assert options.limits == {
        "connections": 3,
        "timeout": 2.5,
        "retries": 1,
        "max_wait": 60.0,
        "max_failed": FailureLimit(share=0.01),
    }
    with pytest.raises(UsageError, match="try 3"):
        _ = RequestOptions(max_failed="some").limits

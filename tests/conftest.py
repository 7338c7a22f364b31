"""Settings of all tests: property tests have no deadline, which on a busy machine is a race with the clock."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("equipoise", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("equipoise")

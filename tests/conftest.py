"""How hypothesis runs here: without clocks, as a machine that stands still for a second says nothing of an example."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("ds01-policy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ds01-policy")

"""How generated examples are run: the same ones each time, and as slowly as the machine likes."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

calmly = settings(
    max_examples=100, deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow]
)

"""Fixtures of the tests that need a Prefect server."""

from __future__ import annotations

from tests.server import prefect_address, prefect_client, prefect_mission_home, template_cache

__all__ = ["prefect_address", "prefect_client", "prefect_mission_home", "template_cache"]

"""A real managed Prefect server for tests: started once a session, by fixtures to import.

`prefect_address` is the session's server; `prefect_client` points the Prefect of this process at
it for one test. The environment stays as it was: other tests start servers of their own.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from deployments.server import ServerAddress, prefect_server


def wait_until(condition: Callable[[], object], *, timeout_seconds: float = 30.0) -> None:
    """Return as soon as the condition holds; fail loudly when it does not in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {timeout_seconds} s"
        time.sleep(0.05)


@contextmanager
def environment_kept() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(scope="session")
def template_cache(request: pytest.FixtureRequest) -> Path:
    """The cache folder (XDG_CACHE_HOME) in which the migrated database of first starts is kept."""
    assert request.config.cache is not None
    return request.config.cache.mkdir("prefect-server")


@pytest.fixture(scope="session")
def prefect_mission_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The MISSION_HOME whose server the session shares."""
    return tmp_path_factory.mktemp("mission-home")


@pytest.fixture(scope="session")
def prefect_address(prefect_mission_home: Path, template_cache: Path) -> Iterator[ServerAddress]:
    """The session's managed server."""
    with environment_kept():
        for name in [name for name in os.environ if name.startswith("PREFECT_")]:
            del os.environ[name]
        os.environ["XDG_CACHE_HOME"] = str(template_cache)
        server = prefect_server(prefect_mission_home, announce=lambda _: None)
        address = server.__enter__()
    try:
        yield address
    finally:
        with environment_kept():
            server.__exit__(None, None, None)


@pytest.fixture
def prefect_client(prefect_address: ServerAddress) -> Iterator[ServerAddress]:
    """Prefect in this process talks to the session's server."""
    from prefect.settings import (  # noqa: PLC0415 - most tests do without Prefect
        PREFECT_API_URL,
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE,
        temporary_settings,
    )

    settings = {
        PREFECT_API_URL: prefect_address.api_url,
        PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False,
    }
    with temporary_settings(settings):
        yield prefect_address

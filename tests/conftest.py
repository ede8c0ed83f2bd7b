"""Guards around every test: a scrubbed environment, an empty home, nothing left behind."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.leaks import children, end, left_behind
from tests.server import prefect_address, prefect_client, prefect_mission_home, template_cache

__all__ = ["prefect_address", "prefect_client", "prefect_mission_home", "template_cache"]

_OTHERS = re.compile(r"(MISSION(?!_TEST_)|GIT|PREFECT|XDG)_.*|SSH_A(UTH_SOCK|GENT_PID|SKPASS)")
"""Variables of whoever runs the tests that would change what is tested."""

PATIENCE_SECONDS = 5.0
"""How long what was killed may take to be gone."""

_home = pytest.StashKey[Path]()


def pytest_configure(config: pytest.Config) -> None:
    """Before anything is imported: nobody's configuration is read, nobody's state is written."""
    for name in [name for name in os.environ if _OTHERS.fullmatch(name)]:
        del os.environ[name]
    home = config.stash[_home] = Path(tempfile.mkdtemp(prefix="home-of-tests-"))
    interpreters = Path.home() / ".pyenv"  # programs, not configuration
    if interpreters.is_dir():
        (home / interpreters.name).symlink_to(interpreters)
    os.environ["HOME"] = str(home)


def pytest_unconfigure(config: pytest.Config) -> None:
    """Take the empty home away."""
    shutil.rmtree(config.stash[_home], ignore_errors=True)


@pytest.fixture(autouse=True)
def environment_put_back() -> Iterator[None]:
    """What a test does to the environment ends with it."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(autouse=True)
def nothing_left_behind(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[None]:
    """No job and no child process outlives a test, and no state lies outside its folder."""
    before = children()
    yield
    deadline = time.monotonic() + PATIENCE_SECONDS
    while left := left_behind(tmp_path_factory.getbasetemp(), before):
        if time.monotonic() > deadline:
            end(left)
            pytest.fail(f"still running after the test: {left}")
        time.sleep(0.02)
    state = pytestconfig.stash[_home] / ".local" / "state" / "mission"
    assert not state.exists(), f"state outside the test's folder: {[*state.rglob('*')][:5]}"

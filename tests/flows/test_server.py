"""The managed server: one per home, shared, stopped by its last user, however others ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from blocks.errors import ServerUnavailable
from deployments import server
from deployments.launch import process_identity, write_record
from deployments.server import ServerAddress, prefect_server, server_answers
from tests.server import environment_kept, wait_until

pytestmark = pytest.mark.needs_server

USER = """
import sys
from pathlib import Path
from deployments.server import prefect_server
with prefect_server(Path(sys.argv[1]), announce=lambda line: print("#", line, flush=True)) as at:
    print(at.api_url, flush=True)
    sys.stdin.read()
"""


class User:
    """Another command of the same home, in a process of its own."""

    def __init__(self, home: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(home)],
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.said: list[str] = []

    def api_url(self) -> str:
        assert self.process.stdout is not None
        while line := self.process.stdout.readline().strip():
            if not line.startswith("#"):
                return line
            self.said.append(line)
        raise AssertionError(f"no server: {self.said}")

    def leave(self) -> None:
        self.process.communicate(timeout=60)
        assert self.process.returncode == 0

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=60)


@pytest.fixture
def start_user(
    tmp_path: Path, template_cache: Path, prefect_address: ServerAddress
) -> Iterator[Callable[[], User]]:
    """Start users of one home; the session's server came first, so databases are copied."""
    users: list[User] = []
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    path = os.pathsep.join(sys.path)
    environment = kept | {"XDG_CACHE_HOME": str(template_cache), "PYTHONPATH": path}

    def start() -> User:
        users.append(User(tmp_path, environment))
        return users[-1]

    yield start
    for user in users:
        user.kill()
    server._stop(tmp_path / "server")
    assert not processes_of(tmp_path)


@pytest.fixture(autouse=True)
def scrubbed() -> Iterator[None]:
    with environment_kept():
        for name in [name for name in os.environ if name.startswith("PREFECT_")]:
            del os.environ[name]
        yield


def processes_of(home: Path) -> list[int]:
    mark = f"PREFECT_HOME={home / 'server'}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            variables = (entry / "environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if mark in variables:
            found.append(int(entry.name))
    return found


def record_of(home: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((home / "server" / "server.json").read_text())
    return record


def fetched(url: str) -> bytes:
    with urlopen(Request(url, headers={"Accept": "text/html,application/json"})) as reply:
        body: bytes = reply.read()
        return body


def test_two_commands_started_at_once_share_one_server_and_the_last_stops_it(
    tmp_path: Path, start_user: Callable[[], User]
) -> None:
    first, second = start_user(), start_user()
    url = first.api_url()
    assert second.api_url() == url
    assert len(processes_of(tmp_path)) == 1
    first.leave()
    assert server_answers(url)
    second.leave()
    assert not server_answers(url)
    assert processes_of(tmp_path) == []
    assert not (tmp_path / "server" / "server.json").exists()


def test_a_server_whose_starter_is_killed_while_it_starts_is_joined_and_later_stopped(
    tmp_path: Path, start_user: Callable[[], User]
) -> None:
    starter = start_user()
    wait_until((tmp_path / "server" / "server.json").exists)
    pid = record_of(tmp_path)["pid"]
    starter.kill()
    joiner = start_user()
    url = joiner.api_url()
    assert record_of(tmp_path)["pid"] == pid
    assert server_answers(url)
    joiner.leave()
    assert process_identity(pid) == ""


def test_a_killed_user_counts_as_gone_and_the_one_that_stays_stops_the_server(
    tmp_path: Path, start_user: Callable[[], User]
) -> None:
    starter, other = start_user(), start_user()
    url = starter.api_url()
    assert other.api_url() == url
    starter.kill()
    assert server_answers(url)
    other.leave()
    assert processes_of(tmp_path) == []


def test_a_dead_server_is_replaced_on_its_old_port(
    tmp_path: Path, start_user: Callable[[], User]
) -> None:
    first = start_user()
    url = first.api_url()
    dead = record_of(tmp_path)["pid"]
    os.killpg(dead, signal.SIGKILL)
    wait_until(lambda: not process_identity(dead))
    second = start_user()
    assert second.api_url() == url
    assert record_of(tmp_path)["pid"] != dead
    second.leave()
    assert server_answers(url), "the first one still uses it"
    first.leave()
    assert processes_of(tmp_path) == []


def test_a_process_that_only_has_the_number_of_a_dead_server_is_left_alone(tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"], start_new_session=True) as stranger:
        try:
            (tmp_path / "port").write_text("1")
            write_record(tmp_path / "server.json", {"pid": stranger.pid, "identity": "boot:1"})
            server._stop(tmp_path)
            assert process_identity(stranger.pid)
        finally:
            stranger.kill()


def test_a_zombie_counts_as_gone() -> None:
    child = subprocess.Popen(["true"])
    wait_until(lambda: process_identity(child.pid) == "")
    child.wait()


def test_the_environment_points_at_the_server_and_is_put_back(
    prefect_mission_home: Path, prefect_address: ServerAddress
) -> None:
    os.environ["PREFECT_LOGGING_EXTRA_LOGGERS"] = "mine"
    before = dict(os.environ)
    with prefect_server(prefect_mission_home, announce=lambda _: None) as address:
        assert address == prefect_address
        assert os.environ["PREFECT_API_URL"] == address.api_url
        assert os.environ["DO_NOT_TRACK"] == "1"
        assert os.environ["PREFECT_LOGGING_EXTRA_LOGGERS"] == "mine"
    assert dict(os.environ) == before
    assert server_answers(address.api_url)


def test_a_server_that_the_environment_names_wins_and_is_not_stopped(
    tmp_path: Path, prefect_address: ServerAddress
) -> None:
    os.environ["PREFECT_API_URL"] = prefect_address.api_url
    with prefect_server(tmp_path, announce=lambda _: None) as address:
        assert address.api_url == prefect_address.api_url
        assert address.ui_url == prefect_address.ui_url
        assert not address.managed
    assert server_answers(prefect_address.api_url)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_the_environment_names_and_that_does_not_answer_is_named(
    tmp_path: Path,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: refused
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/api"
        os.environ["PREFECT_API_URL"] = url
        with (
            pytest.raises(ServerUnavailable, match=rf"PREFECT_API_URL names {url}.*unset it"),
            prefect_server(tmp_path, announce=lambda _: None),
        ):
            pass


def test_something_that_is_no_prefect_server_is_told_apart(
    tmp_path: Path, prefect_address: ServerAddress
) -> None:
    os.environ["PREFECT_API_URL"] = f"{prefect_address.ui_url}/nothing-here"
    with (
        pytest.raises(ServerUnavailable, match="no Prefect server"),
        prefect_server(tmp_path, announce=lambda _: None),
    ):
        pass


def test_the_ui_is_served_and_talks_to_the_right_port(prefect_address: ServerAddress) -> None:
    assert b"<html" in fetched(prefect_address.ui_url)
    assert b"<html" in fetched(f"{prefect_address.ui_url}/v2/")
    settings = json.loads(fetched(f"{prefect_address.ui_url}/ui-settings"))
    assert settings["api_url"] == prefect_address.api_url


def test_the_server_batches_its_writes_and_reports_to_nobody(
    prefect_address: ServerAddress,
) -> None:
    settings = json.loads(fetched(f"{prefect_address.api_url}/admin/settings"))["server"]
    assert settings["services"]["task_run_recorder"]["batch_size"] == 100
    assert settings["services"]["task_run_recorder"]["read_batch_size"] == 100
    assert settings["services"]["task_run_recorder"]["flush_interval"] == 1
    assert settings["services"]["event_persister"]["batch_size"] == 200
    assert settings["services"]["event_persister"]["read_batch_size"] == 100
    assert settings["analytics_enabled"] is False
    assert settings["services"]["scheduler"]["enabled"] is True
    assert settings["services"]["triggers"]["enabled"] is True


def test_a_port_that_is_taken_is_named_with_what_to_do(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(ServerUnavailable, match=rf"another port than {port}[^$]*already in use"),
            prefect_server(tmp_path, announce=lambda _: None, port=port),
        ):
            pass
    assert processes_of(tmp_path) == []


def test_a_server_that_crashes_at_its_start_shows_the_end_of_its_log(tmp_path: Path) -> None:
    os.environ["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = (
        f"sqlite+aiosqlite:///{tmp_path}/missing/folder/of.db"
    )
    with (
        pytest.raises(ServerUnavailable, match=r"ended while starting[^$]*unable to open database"),
        prefect_server(tmp_path, announce=lambda _: None),
    ):
        pass


def test_a_full_disk_is_told_before_anything_is_started(tmp_path: Path) -> None:
    home = tmp_path / "full"
    home.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(home)]
    if subprocess.run(argv, check=False, capture_output=True).returncode != 0:
        pytest.skip("only root may mount a small file system")
    try:
        with (
            pytest.raises(ServerUnavailable, match=r"1 MiB left.*MISSION_HOME"),
            prefect_server(home, announce=lambda _: None),
        ):
            pass
    finally:
        subprocess.run(["umount", str(home)], check=True)


def test_importing_the_module_does_not_import_prefect() -> None:
    code = "import sys, deployments.server; print('prefect' in sys.modules)"
    path = os.pathsep.join(sys.path)
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "False"

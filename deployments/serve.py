"""Server, deployments and a worker in one command: missions from the UI and on schedules."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from uuid import uuid4

from blocks.errors import Broken
from deployments.server import ServerAddress, environment, prefect_server

WORKER_COMMAND = ("-m", "prefect", "worker", "start", "--pool", "mission", "--type", "process")
# Not MISSION_…, which names settings.
TOKEN_VARIABLE = "SERVED_BY_TOKEN"  # noqa: S105 - the name of a mark, not a secret
QUERY_SECONDS = 2
ROOT_LEVEL, CONSOLE_LEVEL = "PREFECT_LOGGING_ROOT_LEVEL", "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"
RUNS_END_SECONDS = 30.0
"""How long the runs may take to stop their agents and to close their ledgers."""
WORKER_ENDS_SECONDS = 3.0
POLL_SECONDS = 0.1


def serve(
    home: Path,
    *,
    port: int | None = None,
    folder: Path | None = None,
    prefect_file: Path | None = None,
    announce: Callable[[str], None] = print,
) -> None:
    """Serve the deployments until Ctrl-C or SIGTERM; then end the runs, the worker, the server.

    Runs work in `folder` (default: the current one) and keep their state in `home`. Runs that are
    ended this way can be resumed.

    Raises:
        ServerUnavailable: no server could be started or reached.
        SettingsInvalid: `prefect.yaml` cannot be applied.
        Broken: the worker ended by itself.
    """
    with (
        _interrupted_by_signals(),
        contextlib.suppress(KeyboardInterrupt),
        prefect_server(home, announce=announce, port=port) as address,
    ):
        with environment({CONSOLE_LEVEL: "WARNING"}):
            names = _bootstrap(folder or Path.cwd(), prefect_file)
        with _working(home) as worker:
            _announce_all(announce, address, names)
            code = worker.wait()
            raise Broken(f"the Prefect worker ended by itself with exit code {code}")


def _bootstrap(folder: Path, prefect_file: Path | None) -> tuple[str, ...]:
    # Prefect reads its settings when it is imported: after `prefect_server` has made them.
    from deployments.bootstrap import PREFECT_FILE, bootstrap  # noqa: PLC0415

    return bootstrap(folder.resolve(), prefect_file=prefect_file or PREFECT_FILE)


def _announce_all(
    announce: Callable[[str], None], address: ServerAddress, names: tuple[str, ...]
) -> None:
    announce(f"serving {', '.join(names)}")
    announce(f"start one at {address.ui_url}/deployments, or from another terminal:")
    announce(f"  PREFECT_API_URL={address.api_url} prefect deployment run {names[0]}")
    announce("Ctrl-C ends it.")


@contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """Treat SIGTERM and a closed terminal as Ctrl-C; ignore repetitions while things are ended."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _working(home: Path) -> Iterator[subprocess.Popen[bytes]]:
    token = uuid4().hex
    name = f"{socket.gethostname()}-{os.getpid()}"
    worker = subprocess.Popen(
        # -P: a folder `flows` of the user is not ours.
        [sys.executable, "-P", *WORKER_COMMAND, "--name", name],
        env=_worker_environment(os.environ, home=home, token=token),
        stdin=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is for us, who then end things in the right order
    )
    try:
        yield worker
    finally:
        _end(worker, token)


def _worker_environment(inherited: Mapping[str, str], *, home: Path, token: str) -> dict[str, str]:
    # It tells which runs it takes, and no more; runs have settings of their own.
    kept = {name: value for name, value in inherited.items() if name != ROOT_LEVEL}
    return {
        "PREFECT_WORKER_QUERY_SECONDS": str(QUERY_SECONDS),
        **kept,
        "MISSION_HOME": str(home),
        TOKEN_VARIABLE: token,
    }


def _end(worker: subprocess.Popen[bytes], token: str) -> None:
    """End the runs first, so that they stop their agents and the worker reports them; then it.

    Prefect 3.8's worker, told to stop while it has runs, waits for them and then hangs.
    """
    _signal_all(token, signal.SIGTERM, but=worker.pid)
    _wait_until(lambda: not _marked(token) - {worker.pid}, RUNS_END_SECONDS)
    worker.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        worker.wait(WORKER_ENDS_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    while _signal_all(token, signal.SIGKILL, but=0):
        time.sleep(POLL_SECONDS)


def _signal_all(token: str, number: signal.Signals, *, but: int) -> bool:
    found = _marked(token) - {but}
    for pid in found:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
    return bool(found)


def _marked(token: str) -> set[int]:
    """Return the processes that were started with our token: Prefect gives each run a session.

    Without /proc this is empty, and the runs end with the worker's group or by their leases.
    """
    mark = f"{TOKEN_VARIABLE}={token}".encode()
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                found.add(int(entry.name))
    return found


def _wait_until(condition: Callable[[], bool], timeout_seconds: float) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True

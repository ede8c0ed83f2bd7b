"""The managed Prefect server: one per MISSION_HOME, started by its first user, stopped by its last.

`home/server/` holds all of it: `server.json` (pid, what tells that process from a later one, port),
`server.log`, Prefect's own home with its SQLite database, and two lock files. Locks are `flock`s,
so that death releases them: `start.lock` is held for as long as somebody starts or stops the
server, `users.lock` is shared by all who use it. Who leaves and can take `users.lock` alone was the
last. Nothing here imports Prefect: the settings that a client needs must be in the environment
before it is.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blocks.errors import ServerUnavailable
from deployments import launch

logger = logging.getLogger(__name__)

Announce = Callable[[str], None]

HOST = "127.0.0.1"
FIRST_START_SECONDS = 12
"""What the first start takes on two cores: 8 s of it are the migrations of a new database."""
START_SECONDS = 4
START_TIMEOUT_SECONDS = 180.0
STOP_TIMEOUT_SECONDS = 8.0
ANSWER_TIMEOUT_SECONDS = 5.0
POLL_SECONDS = 0.05
MINIMUM_FREE_BYTES = 64 * 2**20
LOG_LINES_SHOWN = 15
ATTEMPTS_AT_A_FREE_PORT = 3

_NO_TRACKING = {"DO_NOT_TRACK": "1", "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}

SERVER_DEFAULTS = {
    **_NO_TRACKING,
    "PREFECT_SERVER_UI_ENABLED": "true",
    "PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT": "false",
    # Batched writes: 1,000 task runs cost 12-18 s of CPU instead of 30-70.
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "100",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_EVENT_PERSISTER_READ_BATCH_SIZE": "100",
}
"""Settings of a managed server; the same variable in the caller's environment wins."""

CLIENT_DEFAULTS = {
    **_NO_TRACKING,
    # With both, what our modules log is part of the run's log in the UI.
    "PREFECT_LOGGING_EXTRA_LOGGERS": "flows,blocks",
    "PREFECT_LOGGING_ROOT_LEVEL": "INFO",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
}
"""Settings of this process as a client of any server; the caller's environment wins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerAddress:
    """Where a Prefect server answers; `managed` is false for the one PREFECT_API_URL names."""

    api_url: str
    ui_url: str
    managed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Server:
    """A server process of ours, as `server.json` remembers it."""

    pid: int
    identity: str
    port: int

    @property
    def address(self) -> ServerAddress:
        ui_url = f"http://{HOST}:{self.port}"
        return ServerAddress(api_url=f"{ui_url}/api", ui_url=ui_url, managed=True)

    @property
    def is_alive(self) -> bool:
        return bool(self.identity) and launch.process_identity(self.pid) == self.identity


@contextmanager
def prefect_server(
    home: Path, *, announce: Announce, port: int | None = None
) -> Iterator[ServerAddress]:
    """Start or join the one Prefect server of this MISSION_HOME; the last user stops it.

    Enter it before Prefect is imported: inside, the environment of this process points at the
    server, and a Prefect that is already there does not look again. With PREFECT_API_URL set,
    nothing is started and that server is used. `port` is for a server that has yet to start;
    without it the last port is taken again if it is free.

    Raises:
        ServerUnavailable: no server answers; the message says why and what to do.
    """
    if url := os.environ.get("PREFECT_API_URL", "").rstrip("/"):
        _require_answer(url)
        with environment(_defaults(CLIENT_DEFAULTS)):
            yield ServerAddress(api_url=url, ui_url=url.removesuffix("/api"), managed=False)
        return
    with _shared_server(home / "server", announce=announce, port=port) as address:
        announce(f"Prefect UI: {address.ui_url}")
        with environment(_client_settings(home / "server", address)):
            yield address


def server_answers(api_url: str) -> bool:
    """Tell whether a Prefect server answers at `api_url` (with `/api`) within seconds."""
    return not _why_no_answer(api_url)


def _why_no_answer(api_url: str) -> str:
    # 40 ms that `mission --help` need not pay.
    from urllib.error import HTTPError  # noqa: PLC0415
    from urllib.request import ProxyHandler, build_opener  # noqa: PLC0415

    is_ours = api_url.startswith(f"http://{HOST}:")
    opener = build_opener(ProxyHandler({})) if is_ours else build_opener()
    try:
        with opener.open(f"{api_url}/health", timeout=ANSWER_TIMEOUT_SECONDS) as reply:
            return "" if reply.read(16).strip() == b"true" else "it is no Prefect server"
    except HTTPError as reply:
        needs_key = reply.code in {401, 403}
        return "" if needs_key else f"it is no Prefect server (HTTP status {reply.code})"
    except (OSError, ValueError) as error:
        return str(error)


def _require_answer(url: str) -> None:
    if why := _why_no_answer(url):
        raise ServerUnavailable(
            f"PREFECT_API_URL names {url}: {why}. Start that server, correct the variable "
            "(it ends in /api), or unset it to let `mission` start a server of its own."
        )


def _defaults(settings: Mapping[str, str]) -> dict[str, str]:
    return {name: os.environ.get(name, value) for name, value in settings.items()}


def _client_settings(folder: Path, address: ServerAddress) -> dict[str, str]:
    settings = _defaults(CLIENT_DEFAULTS) | {"PREFECT_API_URL": address.api_url}
    # A profile of the user lives in the user's own Prefect home; else nothing of ours goes there.
    if not os.environ.keys() & {"PREFECT_HOME", "PREFECT_PROFILE"}:
        settings["PREFECT_HOME"] = str(folder)
    return settings


@contextmanager
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Set variables of this process's environment, and put back what was there before."""
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _shared_server(
    folder: Path, *, announce: Announce, port: int | None
) -> Iterator[ServerAddress]:
    _require_room(folder)
    with _open_lock(folder / "users.lock") as users:
        try:
            with _starting_or_stopping(folder, announce) as lock:
                fcntl.flock(users, fcntl.LOCK_SH)  # at once: alone only under the other lock
                server = _join(folder, announce, port) or _start(folder, announce, port, lock)
            yield server.address
        finally:
            with _starting_or_stopping(folder, announce):
                if _is_last(users):
                    _stop(folder)


def _require_room(folder: Path) -> None:
    mend = "Free some space, or set MISSION_HOME to another folder."
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise ServerUnavailable(f"{folder} cannot be used: {error.strerror}. {mend}") from error
    if free < MINIMUM_FREE_BYTES:
        raise ServerUnavailable(
            f"{folder} has {free / 2**20:.0f} MiB left, and its database needs "
            f"{MINIMUM_FREE_BYTES / 2**20:.0f}. {mend}"
        )


@contextmanager
def _open_lock(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ServerUnavailable(f"{path} cannot be opened: {error.strerror}") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)  # lets go of the lock as well


@contextmanager
def _starting_or_stopping(folder: Path, announce: Announce) -> Iterator[int]:
    with _open_lock(folder / "start.lock") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            announce("waiting for another command that starts or stops the Prefect server …")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


def _is_last(users: int) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _join(folder: Path, announce: Announce, port: int | None) -> _Server | None:
    """Return the server that runs already, also one whose starter died while it was starting."""
    server = _read(folder)
    if server is None or not server.is_alive:
        return None
    if not server_answers(server.address.api_url):
        announce(f"waiting for the Prefect server that is starting (process {server.pid}) …")
    if not _wait_for_answer(server):
        _stop(folder)
        return None
    if port not in {None, server.port}:
        announce(f"the Prefect server of this MISSION_HOME runs already, on port {server.port}")
    return server


def _read(folder: Path) -> _Server | None:
    try:
        record = json.loads((folder / "server.json").read_bytes())
        port = int((folder / "port").read_text(encoding="ascii"))
        return _Server(pid=int(record["pid"]), identity=str(record["identity"]), port=port)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _wait_for_answer(server: _Server) -> bool:
    deadline = time.monotonic() + START_TIMEOUT_SECONDS
    while server.is_alive and time.monotonic() < deadline:
        if server_answers(server.address.api_url):
            return True
        time.sleep(POLL_SECONDS)
    return False


def _start(folder: Path, announce: Announce, port: int | None, lock: int) -> _Server:
    is_first = not (folder / "prefect.db").exists() and not _restore_template(folder)
    takes = (
        f"first start takes about {FIRST_START_SECONDS}"
        if is_first
        else f"takes about {START_SECONDS}"
    )
    announce(f"starting the Prefect server ({takes} s) …")
    for _ in range(ATTEMPTS_AT_A_FREE_PORT):
        server = _launch(folder, port or _free_port(folder), lock)
        if _wait_for_answer(server):
            if is_first:
                _keep_template(folder)
            return server
        if port or "already in use" not in _end_of_log(folder):
            break
    raise ServerUnavailable(_why_no_start(folder, server, port))


def _why_no_start(folder: Path, server: _Server, port: int | None) -> str:
    did = f"did not answer within {START_TIMEOUT_SECONDS:.0f} s" if server.is_alive else "ended"
    mend = f" Choose another port than {port}." if port and not server.is_alive else ""
    log = folder / "server.log"
    return f"it {did} while starting.{mend} The end of {log}:\n{_end_of_log(folder)}"


def _end_of_log(folder: Path) -> str:
    try:
        text = (folder / "server.log").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "(no log)"
    lines = [line for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-LOG_LINES_SHOWN:]) or "(empty)"


def _free_port(folder: Path) -> int:
    """Take the port of the last time, so that a UI left open goes on; else any that is free."""
    for wanted in (_last_port(folder), 0):
        with socket.socket() as probe, contextlib.suppress(OSError):
            # As servers do it, else connections of the last server keep its port for a minute.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((HOST, wanted))
            return int(probe.getsockname()[1])
    raise ServerUnavailable(f"no port is free on {HOST}")


def _last_port(folder: Path) -> int:
    try:
        return int((folder / "port").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def _remember_port(folder: Path, port: int) -> None:
    try:
        (folder / "server.json").unlink(missing_ok=True)
        (folder / "port").write_text(str(port), encoding="ascii")
    except OSError as error:
        raise ServerUnavailable(f"{folder} cannot be written: {error.strerror}") from error


def _launch(folder: Path, port: int, lock: int) -> _Server:
    _remember_port(folder, port)
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", HOST]
    launcher = [sys.executable, "-I", "-S", launch.__file__]
    paths = [str(folder / "server.json"), str(folder / "server.log")]
    # Not through `blocks.commands.run`: the launcher inherits the lock.
    done = subprocess.run(
        [*launcher, *paths, str(lock), *command, "--port", str(port)],
        cwd=folder,  # no settings from a prefect.toml or .env of the caller's folder
        env=_server_environment(folder, port),
        pass_fds=[lock],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    server = _read(folder)
    if server is None:
        why = done.stderr.decode(errors="replace").strip().rpartition("\n")[2]
        raise ServerUnavailable(f"it could not be launched in {folder}: {why}")
    return server


def _server_environment(folder: Path, port: int) -> dict[str, str]:
    url = f"http://{HOST}:{port}/api"
    inherited = {name: value for name, value in os.environ.items() if name != "PREFECT_PROFILE"}
    return (
        SERVER_DEFAULTS
        | inherited
        | {
            "PREFECT_HOME": str(folder),
            "PREFECT_API_URL": url,
            "PREFECT_SERVER_API_HOST": HOST,
            "PREFECT_SERVER_API_PORT": str(port),
            "PREFECT_SERVER_UI_API_URL": url,
        }
    )


def _stop(folder: Path) -> None:
    """End the server and all of its group: politely, then not."""
    server = _read(folder)
    if server is not None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                if server.is_alive:
                    os.killpg(server.pid, number)
            _wait_for_end(server)
    (folder / "server.json").unlink(missing_ok=True)


def _wait_for_end(server: _Server) -> None:
    deadline = time.monotonic() + STOP_TIMEOUT_SECONDS
    while server.is_alive and time.monotonic() < deadline:
        time.sleep(POLL_SECONDS)


def _template() -> Path:
    # 35 ms that only a first start needs to pay.
    from importlib.metadata import version  # noqa: PLC0415

    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "autonomous-dev-scheduler" / f"prefect-{version('prefect')}.db"


def _restore_template(folder: Path) -> bool:
    """Begin with the empty database that an earlier first start migrated: 4 s instead of 12."""
    draft = folder / "prefect.db.new"
    try:
        shutil.copyfile(_template(), draft)
        draft.replace(folder / "prefect.db")
    except (OSError, RuntimeError):
        draft.unlink(missing_ok=True)
        return False
    return True


def _keep_template(folder: Path) -> None:
    """Keep the database that was just migrated; before its first client, so nothing is in it."""
    database = folder / "prefect.db"
    if not database.exists():  # another database is configured
        return
    try:
        template = _template()
        template.parent.mkdir(parents=True, exist_ok=True)
        draft = template.with_suffix(f".{os.getpid()}")
        with (
            contextlib.closing(sqlite3.connect(database)) as source,
            contextlib.closing(sqlite3.connect(draft)) as target,
        ):
            source.backup(target)
        draft.replace(template)
    except (OSError, RuntimeError, sqlite3.Error) as error:
        logger.debug("no template of the database is kept: %s", error)

"""A real sshd on loopback, for tests: unprivileged port, own keys, own client configuration."""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

SKIP_REASON = "needs sshd: apt-get install openssh-server"
HOST = "loopback"
"""The alias under which the client configuration knows the server."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sshd:
    """A running server; `config` is the ssh configuration to give to clients."""

    port: int
    pid: int
    config: Path
    state: Path
    log: Path

    def connection_pids(self) -> list[int]:
        """Processes that serve a connection each."""
        return [pid for pid, parent in _parents().items() if parent == self.pid]


def find_sshd() -> str | None:
    """Return where sshd is, None when it is not installed."""
    return shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/usr/bin:/opt/homebrew/sbin")


def wait_until(is_true: Callable[[], object], *, seconds: float = 10.0) -> None:
    """Return as soon as something is true; fail the test when it never gets so."""
    end = time.monotonic() + seconds
    while not is_true():
        assert time.monotonic() < end, f"not true within {seconds} s: {is_true}"
        time.sleep(0.01)


@contextmanager
def running_sshd(folder: Path, *, port: int | None = None) -> Iterator[Sshd]:
    """Run a server whose files are in `folder`; `XDG_STATE_HOME` of its sessions is there too."""
    binary = find_sshd()
    assert binary is not None, SKIP_REASON
    port = port or _free_port()
    _write_keys(folder, port)
    (folder / "sshd_config").write_text(_server_configuration(folder, port))
    config = folder / "ssh_config"
    config.write_text(_client_configuration(folder, port))
    config.chmod(0o600)
    if getpass.getuser() == "root":
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)  # sshd insists on it
    log = folder / "sshd.log"
    with log.open("wb") as stream:
        server = subprocess.Popen(
            [binary, "-D", "-e", "-f", folder / "sshd_config"],
            stdin=subprocess.DEVNULL,
            stderr=stream,
        )
    sshd = Sshd(port=port, pid=server.pid, config=config, state=folder / "state", log=log)
    try:
        wait_until(lambda: server.poll() is not None or _answers(port))
        assert server.poll() is None, log.read_text()
        yield sshd
    finally:
        for pid in sshd.connection_pids():
            _kill(pid)
        server.terminate()
        server.wait()


def _write_keys(folder: Path, port: int) -> None:
    for name in ("host_key", "user_key"):
        if not (folder / name).exists():
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", folder / name],
                check=True,
            )
    shutil.copyfile(folder / "user_key.pub", folder / "authorized_keys")
    kind, key = (folder / "host_key.pub").read_text().split()[:2]
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {kind} {key}\n")


def _server_configuration(folder: Path, port: int) -> str:
    # SHLVL: bash then reads no ~/.bashrc, which is slow on some machines and differs on all.
    return f"""
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/authorized_keys
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
MaxStartups 100
SetEnv XDG_STATE_HOME={folder}/state SHLVL=2
Subsystem sftp internal-sftp
"""


def _client_configuration(folder: Path, port: int) -> str:
    return f"""
Host {HOST}
    HostName 127.0.0.1
    Port {port}
    User {getpass.getuser()}
    IdentityFile {folder}/user_key
    IdentitiesOnly yes
    UserKnownHostsFile {folder}/known_hosts
    StrictHostKeyChecking yes
"""


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            return connection.recv(4).startswith(b"SSH-")
    except OSError:
        return False


def _parents() -> dict[int, int]:
    """Map each process to its parent."""
    listing = subprocess.run(["ps", "-eo", "pid=,ppid="], check=True, capture_output=True).stdout
    return {int(pid): int(parent) for pid, parent in map(bytes.split, listing.splitlines())}


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)

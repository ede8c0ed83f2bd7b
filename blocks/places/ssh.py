"""A host reached by SSH as a place, with `~/.ssh/config` and its known hosts honoured.

One connection a host, a few channels at once (sshd allows ten), and one more channel on which a
follower there tells how jobs end. The only shell that sees a command of ours is the login shell
that starts the copied `supervise.py`; everything else travels on its standard input.
"""

from __future__ import annotations

import hashlib
import logging
import os
import select
import shlex
import socket
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import fabric
import paramiko
from paramiko.ssh_exception import ChannelException, SSHException

from blocks.commands import NOT_FOUND, Finished
from blocks.errors import BackendUnreachable, CommandFailed
from blocks.places import supervise
from blocks.places.place import Check, Job, JobResult, judge_survey, pack, pack_command

logger = logging.getLogger(__name__)

MAX_CHANNELS = 6
SERVICE_SECONDS = 60.0
MARGIN_SECONDS = 15.0
SILENCE_SECONDS = 4 * supervise.BEAT_SECONDS
"""A host that says nothing for so long is gone: the follower there speaks every five."""
MAX_PAUSE_SECONDS = 5.0

# Read by `sh`, whatever the login shell is; `$root` is set before.
_INSTALL = """
umask 077
case "$root" in
'') root="${XDG_STATE_HOME:-$HOME/.local/state}/mission" ;;
'~/'*) root="$HOME/${root#??}" ;;
esac
code="$root/supervisor/$digest"
mkdir -p -- "$code" && cd -- "$root" || exit 9
python3 -I -S -c 'import sys; print(sys.executable, "%d.%d" % sys.version_info[:2])' || echo
echo "$root"
test -s "$code/supervise.py" && echo present
exit 0
"""


class _Dropped(Exception):
    """The connection ended before the answer was whole."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Installation:
    """Where our code is on the host, and what runs it."""

    root: str
    python: str
    code: str

    def command(self, *arguments: str) -> str:
        argv = [self.python, "-I", "-S", "-c", supervise.LAUNCH, self.code, *arguments]
        return f"exec {shlex.join(argv)}"


class _Connection:
    """One connection to a host, opened when needed and again when it dropped."""

    def __init__(
        self,
        host: str,
        *,
        user: str | None,
        port: int | None,
        connect_timeout_seconds: float,
        config: str | None,
    ) -> None:
        self._host, self._user, self._port = host, user, port
        self._timeout_seconds, self._config = connect_timeout_seconds, config
        self._lock = threading.Lock()
        self._slots = threading.BoundedSemaphore(MAX_CHANNELS)
        self._fabric: fabric.Connection | None = None
        self._failure: tuple[float, str] = (-1.0, "")

    def exchange(self, command: str, stdin: bytes, timeout_seconds: float) -> _Reply:
        """Run one command to its end.

        Raises:
            BackendUnreachable: it was never sent.
            _Dropped: it was, perhaps, and the answer did not come back.
        """
        with self._slots, self.channel() as channel:
            try:
                channel.settimeout(timeout_seconds)
                channel.exec_command(command)
                channel.sendall(stdin)
                return _receive(channel, time.monotonic() + timeout_seconds)
            except (SSHException, EOFError, OSError) as error:
                if isinstance(error, TimeoutError):
                    self.close()
                raise _Dropped(f"{self._host}: {error or 'connection lost'}") from error

    @contextmanager
    def channel(self) -> Iterator[paramiko.Channel]:
        """Hold a channel.

        Raises:
            BackendUnreachable: there is no connection.
        """
        channel = self._open_channel()
        try:
            yield channel
        finally:
            channel.close()

    def _open_channel(self) -> paramiko.Channel:
        problem: Exception | None = None
        for _ in range(2):  # the first may find out that the old connection is dead
            connection = self._connected()
            try:
                return connection.transport.open_session(timeout=self._timeout_seconds)
            except ChannelException as error:
                raise BackendUnreachable(f"{self._host} refuses a session: {error}") from error
            except (SSHException, EOFError, OSError) as error:
                connection.close()
                problem = error
        raise BackendUnreachable(f"{self._host}: {problem}") from problem

    def _connected(self) -> fabric.Connection:
        with self._lock:
            if self._fabric is not None and self._fabric.is_connected:
                return self._fabric
            if time.monotonic() - self._failure[0] < 1.0:
                raise BackendUnreachable(self._failure[1])  # others waited for the same attempt
            try:
                self._fabric = self._connect()
            except (SSHException, EOFError, OSError, ValueError) as error:
                self._failure = time.monotonic(), f"{self._host}: {error or type(error).__name__}"
                raise BackendUnreachable(self._failure[1]) from error
            return self._fabric

    def _connect(self) -> fabric.Connection:
        if self._fabric is not None:
            self._fabric.close()
        connection = fabric.Connection(
            self._host,
            user=self._user,
            port=self._port,
            config=fabric.Config(runtime_ssh_path=self._config),
            connect_timeout=self._timeout_seconds,
            forward_agent=False,
            connect_kwargs={
                "banner_timeout": self._timeout_seconds,
                "auth_timeout": self._timeout_seconds,
            },
        )
        _trust_known_hosts(connection)
        try:
            connection.open()
        except BaseException:
            connection.client.close()  # else a refused host key leaves socket and thread open
            raise
        _tune_socket(connection.transport.sock)
        logger.debug("connected to %s", self._host)
        return connection

    def close(self) -> None:
        """Drop the connection; whoever uses it notices."""
        with self._lock:
            if self._fabric is not None:
                self._fabric.close()


def _trust_known_hosts(connection: fabric.Connection) -> None:
    """Check host keys as ssh does; Fabric alone would accept any."""
    options, client = connection.ssh_config, connection.client
    users = options.get("userknownhostsfile", "~/.ssh/known_hosts ~/.ssh/known_hosts2").split()
    everyones = options.get("globalknownhostsfile", "/etc/ssh/ssh_known_hosts").split()
    paths = [Path(name).expanduser() for name in (*users, *everyones)]
    for path in paths:
        if path.is_file():
            client.load_system_host_keys(str(path))
    strictness = options.get("stricthostkeychecking", "yes").lower()
    if strictness in {"no", "off"}:
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    elif strictness == "accept-new":
        paths[0].parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        paths[0].touch(mode=0o600)
        client.load_host_keys(str(paths[0]))
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    else:
        client.set_missing_host_key_policy(paramiko.RejectPolicy())


def _tune_socket(connected: object) -> None:
    """Send at once, and have the kernel end a dead connection in 20 s instead of 15 minutes."""
    if not isinstance(connected, socket.socket):
        return  # a proxy command
    # Paramiko leaves Nagle's algorithm on, which costs every exchange 40 ms.
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    seconds = int(supervise.BEAT_SECONDS)
    for name, value in (
        ("TCP_KEEPIDLE", seconds),
        ("TCP_KEEPINTVL", seconds),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", int(SILENCE_SECONDS * 1000)),
    ):
        if hasattr(socket, name):
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _receive(channel: paramiko.Channel, end: float) -> _Reply:
    """Collect both streams at once, so that neither can stall the other.

    Raises:
        TimeoutError: it takes too long.
        EOFError: the connection ended first.
    """
    stdout, stderr = bytearray(), bytearray()
    poll = select.poll()
    poll.register(channel.fileno(), select.POLLIN)
    while True:
        if channel.recv_ready():
            stdout += channel.recv(supervise.LARGE_READ)
        elif channel.recv_stderr_ready():
            stderr += channel.recv_stderr(supervise.LARGE_READ)
        elif channel.eof_received or channel.closed:
            break
        elif not poll.poll(max(end - time.monotonic(), 0) * 1000):
            if channel.exit_status_ready():
                break  # it ended; something that it left behind holds its output
            raise TimeoutError("no answer in time")
    if not channel.status_event.wait(max(end - time.monotonic(), 0)):
        raise TimeoutError("no answer in time")
    if channel.exit_status < 0:
        raise EOFError("connection lost")
    return _Reply(code=channel.exit_status, stdout=bytes(stdout), stderr=bytes(stderr))


class SSHPlace:
    """A host reached by SSH; state below `root`, by default `mission` in its user state folder.

    `host` may be an alias of the ssh configuration (`config`: another file than `~/.ssh/config`).
    A host that cannot be reached for `give_up_seconds` ends all waiting with BackendUnreachable.
    """

    def __init__(
        self,
        host: str,
        root: str | None = None,
        *,
        user: str | None = None,
        port: int | None = None,
        connect_timeout_seconds: float = 10,
        config: str | os.PathLike[str] | None = None,
        give_up_seconds: float = 150,
    ) -> None:
        self.name = host
        self._root, self._user, self._port = root, user, port
        self._connect_timeout_seconds = connect_timeout_seconds
        self._config = os.fspath(config) if config is not None else None
        self._connection = _Connection(
            host,
            user=user,
            port=port,
            connect_timeout_seconds=connect_timeout_seconds,
            config=self._config,
        )
        self._lock = threading.Lock()
        self._installed: _Installation | None = None
        self._follower = _Follower(self, give_up_seconds)

    @property
    def root(self) -> str:
        """Absolute path of the state folder on the host; connects when it was not given."""
        if self._root is not None and self._root.startswith("/"):
            return self._root
        return self._installation().root

    @property
    def git_environment(self) -> Mapping[str, str]:
        """Have git use ssh with our configuration, never asking, and not for ever."""
        argv = ["ssh", *(["-F", self._config] if self._config else [])]
        for option in (
            "BatchMode=yes",
            f"ConnectTimeout={max(int(self._connect_timeout_seconds), 1)}",
            f"ServerAliveInterval={int(supervise.BEAT_SECONDS)}",
            "ServerAliveCountMax=4",
        ):
            argv += ["-o", option]
        return {"GIT_SSH_COMMAND": shlex.join(argv), "GIT_SSH_VARIANT": "ssh"}

    def git_url(self, path: str) -> str:
        """Say how git on this machine reaches a repository there."""
        host = f"[{self.name}]" if ":" in self.name else self.name
        user = f"{quote(self._user)}@" if self._user else ""
        port = f":{self._port}" if self._port else ""
        return f"ssh://{user}{host}{port}{quote(path)}"

    def run(
        self,
        argv: Sequence[str],
        *,
        cwd: str | None = None,
        env: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout_seconds: float = 60.0,
        check: bool = True,
    ) -> Finished:
        """Run a short command to its end; without `cwd` in the home folder.

        `env` replaces the whole environment when given. What the command started and did not end
        itself is killed with it when it takes too long or the connection drops.

        Raises:
            CommandFailed: not started, too late, or (with `check`) not exit code 0.
            BackendUnreachable: the connection is gone; whether the command ran is not known.
        """
        logger.debug("%s: %s", self.name, shlex.join(argv))
        header = pack(
            cwd or ".",
            repr(timeout_seconds),
            "0" if env is None else "1",
            *pack_command(argv, env or {}),
        )
        installed = self._installation()
        try:
            reply = self._connection.exchange(
                installed.command("call", installed.code),
                b"%d %d\n" % (len(header), len(stdin)) + header + stdin,
                timeout_seconds + MARGIN_SECONDS,
            )
        except _Dropped as error:
            raise BackendUnreachable(str(error)) from error
        return _finished(tuple(argv), reply, timeout_seconds, check=check)

    def read(self, path: str) -> bytes:
        """Read a small file."""
        return self._serve("read", path)

    def write(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Write a small file in one step; parents are made."""
        self._serve("write", path, f"{mode:o}", str(len(data)), stdin=data)

    def start(self, job: Job) -> None:
        """Start a job, unless one was started in its directory; return when it is started.

        Raises:
            CommandFailed: the supervisor does not start.
        """
        spec = job.pack()
        payload = b"%d %d\n" % (len(spec), len(job.stdin)) + spec + job.stdin
        said = self._serve("start", job.directory, stdin=payload)
        if said != supervise.STARTED:
            raise CommandFailed(job.argv, None, b"", said or b"the supervisor ended at once")

    def wait(self, directory: str, *, timeout_seconds: float | None = None) -> JobResult | None:
        """Block until a job ended, whoever started it; None when that takes too long.

        Raises:
            FileNotFoundError: no job was started there.
            BackendUnreachable: the host did not answer for a long time.
        """
        return self._follower.wait(directory, timeout_seconds)

    def kill(self, directory: str) -> None:
        """Have everything of a job killed; `wait` tells when it is done."""
        self._serve("kill", directory)

    def tail(self, directory: str, n_bytes: int = 65536) -> bytes:
        """Return the end of a job's output, also while it runs."""
        return self._serve("tail", directory, str(n_bytes))

    def renew(self, lease: str) -> None:
        """Count a lease file up."""
        self._serve("renew", lease)

    def remove(self, path: str) -> None:
        """Remove a file or folder below the root; absent is fine.

        Raises:
            ValueError: the path is not below the root.
        """
        self._serve("remove", self.root, path, timeout_seconds=10 * SERVICE_SECONDS)

    def check(self) -> list[Check]:
        """Look for what we need there."""
        try:
            text = self._serve("survey", self.root).decode(errors="replace")
        except (BackendUnreachable, CommandFailed) as error:
            return [("connection", False, str(error))]
        found = dict(row.split("=", 1) for row in text.split("\0"))
        return [("connection", True, self.name), *judge_survey(found, now=time.time())]

    def close(self) -> None:
        """Let go of the connection; jobs go on, whoever waits gets BackendUnreachable."""
        self._follower.close()
        self._connection.close()

    def _serve(
        self, *arguments: str, stdin: bytes = b"", timeout_seconds: float = SERVICE_SECONDS
    ) -> bytes:
        """Have one of the supervisor's services done; all may be done twice."""
        command = self._installation().command(*arguments)
        reply = self._exchange_again(command, stdin, timeout_seconds)
        if reply.code == 0:
            return reply.stdout
        why = reply.stderr.decode(errors="replace").strip()
        if reply.code == supervise.ABSENT:
            raise FileNotFoundError(f"{self.name}: {why}")
        if reply.code == supervise.OUTSIDE:
            raise ValueError(f"{self.name}: {why}")
        raise CommandFailed(
            ("supervise", *arguments), reply.code, reply.stdout, f"{self.name}: {why}".encode()
        )

    def _exchange_again(self, command: str, stdin: bytes, timeout_seconds: float) -> _Reply:
        try:
            return self._connection.exchange(command, stdin, timeout_seconds)
        except _Dropped as first:
            logger.warning("%s; trying once more", first)
        try:
            return self._connection.exchange(command, stdin, timeout_seconds)
        except _Dropped as error:
            raise BackendUnreachable(str(error)) from error

    def _installation(self) -> _Installation:
        """Put our code on the host, once."""
        with self._lock:
            if self._installed is None:
                self._installed = self._install()
            return self._installed

    def _install(self) -> _Installation:
        source = Path(supervise.__file__).read_bytes()
        digest = hashlib.sha256(source).hexdigest()[:16]
        script = f"root={shlex.quote(self._root or '')}\ndigest={digest}\n{_INSTALL}"
        reply = self._exchange_again("exec sh -s", script.encode(), SERVICE_SECONDS)
        lines = reply.stdout.decode(errors="replace").splitlines()
        if reply.code != 0 or len(lines) < 2:  # noqa: PLR2004 -- python and root
            why = reply.stderr.decode(errors="replace").strip()
            raise BackendUnreachable(f"{self.name}: no state folder: {why}")
        python, _, version = lines[0].rpartition(" ")
        if not python or tuple(map(int, version.split("."))) < (3, 8):
            raise BackendUnreachable(
                f"{self.name} has no python3 of 3.8 or later ({version or 'none found'});"
                " install it there"
            )
        code = f"{lines[1]}/supervisor/{digest}"
        if "present" not in lines[2:]:
            self._upload(f"{code}/supervise.py", source)
        return _Installation(root=lines[1], python=python, code=code)

    def _upload(self, path: str, data: bytes) -> None:
        target = shlex.quote(path)
        script = f"umask 077; head -c {len(data)} > {target}.$$ && mv -f {target}.$$ {target}"
        reply = self._exchange_again(f"exec sh -c {shlex.quote(script)}", data, SERVICE_SECONDS)
        if reply.code != 0:
            why = reply.stderr.decode(errors="replace").strip()
            raise BackendUnreachable(f"{self.name}: cannot write {path}: {why}")


def _finished(
    argv: tuple[str, ...], reply: _Reply, timeout_seconds: float, *, check: bool
) -> Finished:
    """Read how a command ended from what `supervise.py call` appended to its errors."""
    stderr, mark, ending = reply.stderr.rpartition(b"\0")
    if not mark:
        raise CommandFailed(argv, reply.code, reply.stdout, reply.stderr)
    if ending.startswith(b"!"):
        raise CommandFailed(argv, NOT_FOUND, b"", ending[1:])
    if ending == b"?":
        why = f"no end after {timeout_seconds} s".encode()
        raise CommandFailed(argv, None, reply.stdout, stderr + why)
    code = int(ending)
    if check and code != 0:
        raise CommandFailed(argv, code, reply.stdout, stderr)
    return Finished(argv=argv, code=code, stdout=reply.stdout, stderr=stderr)


@dataclass(slots=True, kw_only=True)
class _Watch:
    """A job that somebody waits for."""

    happened: threading.Event = field(default_factory=threading.Event)
    n_waiting: int = 0
    result: bytes | None = None
    problem: str = ""


class _Follower:
    """Hears on one channel how the jobs of a host end; reconnects and asks again when it drops."""

    def __init__(self, place: SSHPlace, give_up_seconds: float) -> None:
        self._place, self._give_up_seconds = place, give_up_seconds
        self._lock = threading.Lock()
        self._watches: dict[bytes, _Watch] = {}
        self._channel: paramiko.Channel | None = None
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    def wait(self, directory: str, timeout_seconds: float | None) -> JobResult | None:
        """Block until the job ended; None when that takes too long."""
        name = os.fsencode(directory)
        with self._lock:
            if self._closing.is_set():
                raise BackendUnreachable(f"{self._place.name}: closed")
            watch = self._watches.setdefault(name, _Watch())
            watch.n_waiting += 1
            self._say(b"+", name)
            if self._thread is None:
                self._thread = threading.Thread(
                    target=self._run, name=f"follow {self._place.name}", daemon=True
                )
                self._thread.start()
        try:
            watch.happened.wait(timeout_seconds)
        finally:
            with self._lock:
                watch.n_waiting -= 1
                if not watch.n_waiting and self._watches.get(name) is watch:
                    del self._watches[name]
                    if watch.result is None:
                        self._say(b"-", name)
        return self._verdict(directory, watch)

    def _verdict(self, directory: str, watch: _Watch) -> JobResult | None:
        if watch.problem:
            raise BackendUnreachable(watch.problem)
        if watch.result is None:
            return None
        if not watch.result:
            raise FileNotFoundError(f"{self._place.name}: no job was started in {directory}")
        return JobResult.parse(watch.result)

    def _say(self, sign: bytes, name: bytes) -> None:
        """Tell the other side what to watch, if it listens; else it is told when it does."""
        if self._channel is None:
            return
        try:
            self._channel.sendall(sign + name + b"\0")
        except OSError:
            self._channel.close()

    def _run(self) -> None:
        last_heard, pause = time.monotonic(), 0.1
        while not self._closing.is_set():
            problem = "the connection dropped"
            began = time.monotonic()
            try:
                last_heard = self._follow(last_heard)
            except (BackendUnreachable, CommandFailed) as error:
                problem = str(error)
            if last_heard > began:
                pause = 0.1
            if time.monotonic() - last_heard > self._give_up_seconds:
                break
            if not self._closing.wait(pause):
                logger.warning("follower of %s: %s; again", self._place.name, problem)
            pause = min(2 * pause, MAX_PAUSE_SECONDS)
        self._end(f"{self._place.name}: {'closed' if self._closing.is_set() else problem}")

    def _follow(self, last_heard: float) -> float:
        """Listen until the connection drops; return when something was heard last."""
        command = self._place._installation().command("follow")  # noqa: SLF001 -- one module
        with self._place._connection.channel() as channel:  # noqa: SLF001
            rest = b""
            try:
                channel.settimeout(SILENCE_SECONDS)
                channel.exec_command(command)
                self._attach(channel)
                while data := channel.recv(supervise.SMALL_READ):
                    last_heard = time.monotonic()
                    rest = self._hear(rest + data)
            except TimeoutError:
                self._place._connection.close()  # noqa: SLF001 -- silent, so dead for all
            except (SSHException, EOFError, OSError):
                pass
            finally:
                with self._lock:
                    self._channel = None
        return last_heard

    def _attach(self, channel: paramiko.Channel) -> None:
        with self._lock:
            self._channel = channel
            for name in self._watches:
                self._say(b"+", name)
            if self._closing.is_set():
                channel.close()

    def _hear(self, text: bytes) -> bytes:
        """Take in whole reports; return what is left."""
        *words, rest = text.split(b"\0")
        if len(words) % 2:
            rest = words.pop() + b"\0" + rest
        with self._lock:
            for name, result in zip(words[::2], words[1::2], strict=True):
                watch = self._watches.pop(name, None)
                if watch is not None:
                    watch.result = result
                    watch.happened.set()
        return rest

    def _end(self, problem: str) -> None:
        with self._lock:
            self._thread = None
            for watch in self._watches.values():
                watch.problem = problem
                watch.happened.set()
            self._watches.clear()

    def close(self) -> None:
        """End the thread."""
        self._closing.set()
        with self._lock:
            thread = self._thread
            if self._channel is not None:
                self._channel.close()
        if thread is not None:
            thread.join()

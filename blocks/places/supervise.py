"""Watch one command to its end, on the machine where it runs.

One file without dependencies, Python 3.8 or later, copied to remote hosts as it is. `run DIRECTORY`
supervises the job that is described in `DIRECTORY/spec`; the other modes are the small services
that a place needs (`start`, `kill`, `call`, `follow`, `read`, `write`, …).

Every job pays for this process, so the way of `run` imports next to nothing: `signal` costs 5 ms
(it loads `enum`), `subprocess` and `json` 40, hence `_signal`, `_ctypes` and results formatted by
hand. Started through `LAUNCH`, the compiled form is cached; as a script it is compiled each time.

Files of a job's directory: `spec` (removed once read, it may hold secrets), `stdin`, `pid`
(supervisor, its start time, token, process group of the agent), `output.log` (and `output.tail`
while the output is past half its limit), `kill` (a request), `result.json`.
"""

# pathlib alone would double the start-up time, and contextlib is not free either.
# ruff: noqa: PTH103, PTH104, PTH108, PTH110, PTH112, PTH114, PTH116, PTH118, PTH119
# ruff: noqa: PTH120, PTH208, SIM105

from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Iterable, Sequence
else:
    import _signal as signal

LAUNCH = "import sys; sys.path.append(sys.argv[1]); import supervise; supervise.main(sys.argv[2:])"
"""Python code that runs this file from the folder in its first argument, compiled once."""

TOKEN_NAME = b"MISSION_TOKEN"
STARTED = b"started\n"
EXITED, TIMED_OUT, LEASE_EXPIRED = "exited", "timed_out", "lease_expired"
KILLED, NOT_STARTED, LOST = "killed", "not_started", "lost"

GRACE_SECONDS = 2.0
GIVE_UP_SECONDS = 12.0
BEAT_SECONDS = 5.0
POLL_SECONDS = 0.1
SMALL_READ, LARGE_READ = 2**16, 2**20
RING_HEADER_BYTES = 64
ABSENT, OUTSIDE, FAILED = 44, 45, 46
"""Exit codes of the services: no such file or job; path outside the root; the system refused."""

_F_SETPIPE_SZ = 1031
_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36


# --- files ------------------------------------------------------------------------------------


def read_file(path: str) -> bytes:
    """Read a whole file, also of /proc."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        parts: list[bytes] = []
        while True:
            part = os.read(descriptor, SMALL_READ)
            if not part:
                return b"".join(parts)
            parts.append(part)
    finally:
        os.close(descriptor)


def write_file(path: str, data: bytes, *, mode: int = 0o600, durable: bool = False) -> None:
    """Write a file in one step: readers see the old content or the new, never a part."""
    folder = os.path.dirname(path)
    if folder:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    temporary = f"{path}.{os.getpid()}.{os.urandom(4).hex()}"
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        try:
            os.fchmod(descriptor, mode)
            _write_all(descriptor, data)
            if durable:
                os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(temporary, path)
    except OSError:
        _unlink(temporary)
        raise


def _write_all(descriptor: int, data: bytes | memoryview) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _unlink(path: str) -> None:
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def _copy(source: int, target: int, n_bytes: int) -> None:
    while n_bytes > 0:
        part = os.read(source, min(n_bytes, LARGE_READ))
        if not part:
            return
        _write_all(target, part)
        n_bytes -= len(part)


def remove(root: str, path: str) -> None:
    """Remove a file or folder below `root`, also one made read-only; absent is fine.

    Raises:
        ValueError: the path is not below the root.
    """
    parent = os.path.realpath(os.path.dirname(path))
    real = os.path.join(parent, os.path.basename(path))
    base = os.path.realpath(root)
    if os.path.basename(path) in {"", ".", ".."} or not real.startswith(base + os.sep):
        raise ValueError(f"{path} is not below {root}")
    if os.path.islink(real) or not os.path.isdir(real):
        _unlink(real)
    else:
        _remove_folder(real)


def _remove_folder(path: str) -> None:
    """Remove a folder of any depth: Python's own way recurses, and keeps a file open a level.

    Raises:
        OSError: it is still there.
    """
    import subprocess  # noqa: PLC0415 -- costs 40 ms, which `run` must not pay

    argv = ["rm", "-rf", "--", path]
    if subprocess.run(argv, stderr=subprocess.DEVNULL, check=False).returncode == 0:
        return
    readable = ["chmod", "-R", "u+rwx", "--", path]
    subprocess.run(readable, stderr=subprocess.DEVNULL, check=False)
    done = subprocess.run(argv, stderr=subprocess.PIPE, check=False)
    if done.returncode != 0:
        raise OSError(done.stderr[-1000:].decode(errors="replace").strip())


def renew(lease: str) -> None:
    """Count a lease file up by one."""
    try:
        count = int(read_file(lease) or b"0")
    except FileNotFoundError:
        count = 0
    write_file(lease, b"%d\n" % (count + 1))


# --- processes --------------------------------------------------------------------------------


def prctl(option: int, value: int) -> bool:
    """Call Linux's `prctl(2)`; false where there is none.

    `_ctypes` costs 0.4 ms, `ctypes` 4.4.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        import _ctypes  # noqa: PLC0415 -- absent on some builds

        open_library: Callable[..., int] = _ctypes.dlopen  # None: what is loaded already
        address = _ctypes.dlsym(open_library(None, 0), "prctl")
        return bool(_ctypes.call_function(address, (option, value, 0, 0, 0)) == 0)
    except (ImportError, AttributeError, OSError):
        return False


def process_stat(pid: int) -> list[bytes]:
    """Fields of /proc/PID/stat from the state on (state, parent, group, …); empty when gone."""
    try:
        return read_file(f"/proc/{pid}/stat").rpartition(b") ")[2].split()
    except OSError:
        return []


def start_time(pid: int) -> str:
    """When a process started, in ticks since boot; `-` where the system does not tell."""
    fields = process_stat(pid)
    return fields[19].decode() if fields else "-"


def is_running(pid: int, started: str) -> bool:
    """Whether this very process runs still; a zombie or a recycled pid does not count."""
    if started != "-":
        fields = process_stat(pid)
        return bool(fields) and fields[0] not in {b"Z", b"X"} and fields[19].decode() == started
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def holders(token: bytes, ancestor: int = 0) -> list[int]:
    """All processes whose environment holds the token, or that descend from `ancestor`.

    The token is random and secret enough that the owner of a process need not be asked.
    """
    needle = TOKEN_NAME + b"=" + token
    me = os.getpid()
    parents: dict[int, int] = {}
    found = set()
    try:
        pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    except OSError:
        return []
    for pid in pids:
        if pid == me:
            continue
        try:
            if needle in read_file(f"/proc/{pid}/environ"):
                found.add(pid)
        except OSError:
            pass  # gone, or not ours
        if ancestor:
            fields = process_stat(pid)
            if fields and fields[0] not in {b"Z", b"X"}:
                parents[pid] = int(fields[1])
    return sorted(found | _descendants(parents, ancestor))


def _descendants(parents: dict[int, int], ancestor: int) -> set[int]:
    found: set[int] = set()
    grown = True
    while grown:
        grown = False
        for pid, parent in parents.items():
            if pid not in found and (parent == ancestor or parent in found):
                found.add(pid)
                grown = True
    return found


def send(pid: int, number: int) -> None:
    """Send a signal; a negative pid is a process group; gone is fine."""
    try:
        os.kill(pid, number)
    except (ProcessLookupError, PermissionError):
        pass


def sweep(token: bytes, group: int = 0) -> int:
    """Kill all that holds the token, and the group, until nothing is left; return what is."""
    end = time.monotonic() + GIVE_UP_SECONDS
    if group:
        send(-group, signal.SIGKILL)
    pause = 0.001
    while True:
        left = holders(token)
        if not left or time.monotonic() > end:
            return len(left)
        for pid in left:
            send(pid, signal.SIGKILL)
        time.sleep(pause)
        pause = min(2 * pause, POLL_SECONDS)


# --- the job's directory ----------------------------------------------------------------------


class Watcher:
    """Who supervises a job, as `DIRECTORY/pid` tells."""

    __slots__ = ("group", "group_started", "pid", "started", "token")

    def __init__(self, line: bytes) -> None:
        fields = line.decode().split()
        self.pid, self.started, self.token = int(fields[0]), fields[1], fields[2].encode()
        self.group, self.group_started = int(fields[3]), fields[4]

    def line(self) -> bytes:
        """Format for `DIRECTORY/pid`."""
        return (
            f"{self.pid} {self.started} {self.token.decode()} {self.group} {self.group_started}\n"
        ).encode()


def find_watcher(directory: str) -> Watcher:
    """Read who supervises a job.

    Raises:
        FileNotFoundError: no job was ever started there.
    """
    return Watcher(read_file(f"{directory}/pid"))


def read_result(directory: str) -> bytes | None:
    """Read `result.json`, None while there is none."""
    try:
        return read_file(f"{directory}/result.json")
    except FileNotFoundError:
        return None


def prepare(directory: str, spec: bytes, stdin: bytes) -> bool:
    """Write the files of a job; false when it was started before."""
    if os.path.exists(f"{directory}/pid") or os.path.exists(f"{directory}/result.json"):
        return False
    os.makedirs(directory, mode=0o700, exist_ok=True)
    if stdin:
        write_file(f"{directory}/stdin", stdin)
    write_file(f"{directory}/spec", spec)
    return True


def settle(directory: str) -> bytes:
    """Return the result of a job whose supervisor is gone; without one, sweep and call it lost."""
    result = read_result(directory)
    if result is not None:
        return result
    watcher = find_watcher(directory)
    group = watcher.group if is_running(watcher.group, watcher.group_started) else 0
    left = sweep(watcher.token, group)
    detail = "the supervisor ended without a result"
    if left:
        detail += f"; {left} processes could not be killed"
    text = result_text(LOST, output_bytes=_log_size(directory), detail=detail)
    try:
        write_file(f"{directory}/result.json", text, durable=True)
    except OSError:
        pass  # a full disk must not hide the verdict
    return text


def request_kill(directory: str) -> None:
    """Have everything of a job killed; return at once when its supervisor does it."""
    if not os.path.isdir(directory) or read_result(directory) is not None:
        return
    # For a supervisor that is about to start: it looks for this file after it said who it is.
    write_file(f"{directory}/kill", b"")
    try:
        watcher = find_watcher(directory)
    except FileNotFoundError:
        return
    if is_running(watcher.pid, watcher.started):
        send(watcher.pid, signal.SIGTERM)
    else:
        settle(directory)


def result_text(
    ending: str,
    *,
    status: int | None = None,
    wall_seconds: float = 0.0,
    cpu_seconds: float = 0.0,
    peak_memory_bytes: int = 0,
    output_bytes: int = 0,
    detail: str = "",
) -> bytes:
    """Format a result as JSON; `status` is what `wait(2)` gave."""
    code = number = "null"
    if status is not None and os.WIFSIGNALED(status):
        number = str(os.WTERMSIG(status))
    elif status is not None:
        code = str(os.WEXITSTATUS(status))
    return (
        f'{{"ending": "{ending}", "exit_code": {code}, "signal": {number}, '
        f'"wall_seconds": {wall_seconds:.6f}, "cpu_seconds": {cpu_seconds:.6f}, '
        f'"peak_memory_bytes": {peak_memory_bytes}, "output_bytes": {output_bytes}, '
        f'"detail": "{_escape(detail)}", "ended_at": {time.time():.6f}}}\n'
    ).encode("ascii")


def _escape(text: str) -> str:
    return "".join(
        letter if " " <= letter <= "~" and letter not in '"\\' else f"\\u{ord(letter) & 0xFFFF:04x}"
        for letter in text
    )


# --- output -----------------------------------------------------------------------------------


class Output:
    """Keeps the head and the tail of what comes through a pipe, in bounded disk and memory.

    The first half of the limit goes to `output.log`; what follows overwrites itself in the ring
    `output.tail`, which `finish` appends to the log with a line about what was dropped.
    A full disk drops output and never stops the agent.
    """

    def __init__(self, directory: str, limit_bytes: int) -> None:
        self.source, self.sink = os.pipe()
        os.set_blocking(self.source, False)
        self.total = 0
        self.is_open = True
        self._directory = directory
        self._head = limit_bytes // 2
        self._ring = max(limit_bytes - self._head, 1)
        self._log = self._open("output.log", os.O_APPEND)
        self._tail = -1
        self._view = memoryview(bytearray(SMALL_READ))

    def _open(self, name: str, flags: int = 0) -> int:
        try:
            return os.open(
                f"{self._directory}/{name}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | flags, 0o600
            )
        except OSError:
            return -1

    def read(self) -> bool:
        """Take one piece from the pipe; false when there is nothing at the moment."""
        try:
            n = os.readv(self.source, [self._view])
        except BlockingIOError:
            return False
        if n == 0:
            self.is_open = False
            return False
        if n == SMALL_READ == len(self._view):
            self._widen()
        self._keep(self._view[:n])
        return True

    def _widen(self) -> None:
        """Let a talkative agent run ahead: it must not wait for us after each 64 KiB."""
        try:
            import fcntl  # noqa: PLC0415 -- most agents never need it

            fcntl.fcntl(self.source, _F_SETPIPE_SZ, LARGE_READ)
        except (ImportError, OSError):
            pass  # the user's share of pipe memory is used up
        self._view = memoryview(bytearray(LARGE_READ))

    def _keep(self, piece: memoryview) -> None:
        room = max(self._head - self.total, 0)
        try:
            if room:
                _write_all(self._log, piece[:room])
            self._keep_in_ring(piece[room:], max(self.total - self._head, 0))
        except OSError:
            pass
        self.total += len(piece)

    def _keep_in_ring(self, piece: memoryview, position: int) -> None:
        if not piece:
            return
        if self._tail < 0:
            self._tail = self._open("output.tail")
        end = position + len(piece)
        piece = piece[-self._ring :]
        offset = (end - len(piece)) % self._ring
        first = piece[: self._ring - offset]
        os.pwrite(self._tail, first, RING_HEADER_BYTES + offset)
        if len(first) < len(piece):
            os.pwrite(self._tail, piece[len(first) :], RING_HEADER_BYTES)
        os.pwrite(self._tail, (b"%d %d" % (end, self._ring)).ljust(RING_HEADER_BYTES), 0)

    def finish(self) -> None:
        """Put head and tail together."""
        os.close(self.source)
        if self._tail >= 0:
            try:
                self._join()
            except OSError:
                pass
            _unlink(f"{self._directory}/output.tail")
            os.close(self._tail)
        if self._log >= 0:
            os.close(self._log)

    def _join(self) -> None:
        in_ring = self.total - self._head
        start = in_ring % self._ring if in_ring > self._ring else 0
        if in_ring > self._ring:
            dropped = in_ring - self._ring
            _write_all(self._log, b"\n[... %d bytes of output dropped ...]\n" % dropped)
        os.lseek(self._tail, RING_HEADER_BYTES + start, os.SEEK_SET)
        _copy(self._tail, self._log, min(in_ring, self._ring) - start)
        os.lseek(self._tail, RING_HEADER_BYTES, os.SEEK_SET)
        _copy(self._tail, self._log, start)


def tail(directory: str, n_bytes: int) -> bytes:
    """Return the end of a job's output, also while it runs; empty when there is none."""
    log = f"{directory}/output.log"
    try:
        descriptor = os.open(f"{directory}/output.tail", os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return _file_end(log, n_bytes)
    try:
        end, size = map(int, os.pread(descriptor, RING_HEADER_BYTES, 0).split()[:2] or (0, 1))
        n_ring = min(n_bytes, end, size)
        start = (end - n_ring) % size
        n_first = min(n_ring, size - start)
        data = os.pread(descriptor, n_first, RING_HEADER_BYTES + start)
        data += os.pread(descriptor, n_ring - n_first, RING_HEADER_BYTES)
    finally:
        os.close(descriptor)
    return data if end > size else _file_end(log, n_bytes - n_ring) + data


def _file_end(path: str, n_bytes: int) -> bytes:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        size = os.lseek(descriptor, 0, os.SEEK_END)
        n_bytes = min(n_bytes, size)
        return os.pread(descriptor, n_bytes, size - n_bytes)
    finally:
        os.close(descriptor)


def _log_size(directory: str) -> int:
    try:
        return os.stat(f"{directory}/output.log").st_size
    except OSError:
        return 0


# --- one job ----------------------------------------------------------------------------------


class Spec:
    """A job as `DIRECTORY/spec` describes it: fields separated by NUL."""

    __slots__ = ("argv", "cwd", "environment", "lease", "lease_seconds", "log_limit", "timeout")

    def __init__(self, packed: bytes) -> None:
        fields = packed.split(b"\0")
        self.cwd, self.lease = fields[0], fields[2].decode("utf-8", "surrogateescape")
        self.timeout, self.lease_seconds = float(fields[1]), float(fields[3])
        self.log_limit, n_arguments = int(fields[4]), int(fields[5])
        self.argv = fields[6 : 6 + n_arguments]
        self.environment = parse_environment(fields[6 + n_arguments :])


def parse_environment(pairs: Iterable[bytes]) -> dict[bytes, bytes]:
    """Turn `NAME=value` into a mapping."""
    environment = {}
    for pair in pairs:
        name, _, value = pair.partition(b"=")
        environment[name] = value
    return environment


class Lease:
    """Whether somebody still counts a file up, by our own monotonic clock."""

    def __init__(self, path: str, seconds: float) -> None:
        self._path, self._seconds = path, seconds
        self._content = self._read()
        self._changed_at = self._read_at = time.monotonic()
        self._interval = min(max(seconds / 8, 0.02), BEAT_SECONDS)

    def _read(self) -> bytes:
        try:
            return read_file(self._path)
        except OSError:
            return b""

    def is_expired(self, now: float) -> bool:
        """Look whether the file changed, if that is due."""
        if not self._path:
            return False
        if now >= self.next_look:
            self._read_at = now
            content = self._read()
            if content != self._content:
                self._content, self._changed_at = content, now
        return now - self._changed_at >= self._seconds

    @property
    def next_look(self) -> float:
        """Monotonic time at which the file is read again."""
        return self._read_at + self._interval if self._path else float("inf")


class Wakeups:
    """Signals as bytes in a pipe, so that waiting ends at once when one comes."""

    def __init__(self, numbers: Iterable[int]) -> None:
        self.source, sink = os.pipe()
        os.set_blocking(self.source, False)
        os.set_blocking(sink, False)
        signal.set_wakeup_fd(sink, warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, lambda *_: None)
        for number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGPIPE):
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())

    def take(self) -> bytes:
        """Return the numbers of the signals that came."""
        try:
            return os.read(self.source, 4096)
        except BlockingIOError:
            return b""


class Supervisor:
    """Runs one job to its end and leaves nothing of it behind."""

    def __init__(self, directory: str, spec: Spec, watcher: Watcher, wakeups: Wakeups) -> None:
        self.directory, self.spec, self.watcher, self.wakeups = directory, spec, watcher, wakeups
        self.output = Output(directory, spec.log_limit)
        # Orphans of the agent become our children: then `no child left` proves `nothing left`
        # without looking at every process of the machine, and their CPU time is counted.
        self.is_reaper = prctl(_PR_SET_CHILD_SUBREAPER, 1)
        self.agent = 0
        self.status: int | None = None
        self.has_children = True
        self.is_asked_to_stop = False
        self.cpu_seconds = 0.0
        self.peak_memory_bytes = 0
        self.began = self.ended = time.monotonic()

    def run(self) -> bytes:
        """Run the job; return its result."""
        if os.path.exists(f"{self.directory}/kill"):
            return result_text(KILLED, detail="killed before it started")
        self.began = time.monotonic()
        problem = self._start()
        if problem:
            return result_text(NOT_STARTED, detail=problem)
        ending = self._watch()
        left = self._end_all()
        self._drain()
        self.output.finish()
        return result_text(
            ending,
            status=self.status,
            wall_seconds=self.ended - self.began,
            cpu_seconds=self.cpu_seconds,
            peak_memory_bytes=self.peak_memory_bytes,
            output_bytes=self.output.total,
            detail=f"{left} processes could not be killed" if left else "",
        )

    def _start(self) -> str:
        """Fork the agent; return why it could not be started, if so."""
        stdin = f"{self.directory}/stdin"
        environment = dict(self.spec.environment)
        environment.pop(TOKEN_NAME, None)
        environment = {TOKEN_NAME: self.watcher.token, **environment}
        self.agent, problem = spawn(
            self.spec.argv,
            environment,
            self.spec.cwd,
            stdin if os.path.exists(stdin) else os.devnull,
            (self.output.sink, self.output.sink),
        )
        os.close(self.output.sink)
        if not problem:
            self.watcher.group, self.watcher.group_started = self.agent, start_time(self.agent)
            write_file(f"{self.directory}/pid", self.watcher.line())
        return problem

    def _watch(self) -> str:
        """Wait for the agent's exit, the time-out, the lease or a request, whichever is first."""
        lease = Lease(self.spec.lease, self.spec.lease_seconds)
        deadline = self.began + self.spec.timeout
        while True:
            self._reap()
            if self.status is not None:
                return EXITED
            if self.is_asked_to_stop:
                return KILLED
            now = time.monotonic()
            if now >= deadline:
                return TIMED_OUT
            if lease.is_expired(now):
                return LEASE_EXPIRED
            self._listen(min(deadline, lease.next_look) - now)

    def _listen(self, seconds: float) -> None:
        """Wait for a signal or output, at most so long."""
        import select  # noqa: PLC0415 -- `kill` and `start` do without

        sources = [self.wakeups.source]
        if self.output.is_open:
            sources.append(self.output.source)
        ready = select.select(sources, (), (), max(seconds, 0))[0]
        if self.wakeups.source in ready:
            self.is_asked_to_stop |= signal.SIGTERM in self.wakeups.take()
        if self.output.source in ready:
            self.output.read()

    def _reap(self) -> None:
        """Collect every child that ended: the agent, and orphans that became ours."""
        while True:
            try:
                pid, status, usage = os.wait4(-1, os.WNOHANG)
            except ChildProcessError:
                self.has_children = False
                return
            self.has_children = True
            if pid == 0:
                return
            unit = 1 if sys.platform == "darwin" else 1024
            self.cpu_seconds += usage.ru_utime + usage.ru_stime
            self.peak_memory_bytes = max(self.peak_memory_bytes, usage.ru_maxrss * unit)
            if pid == self.agent:
                self.status, self.ended = status, time.monotonic()

    def _end_all(self) -> int:
        """Ask, then kill, until nothing of the job is left; return how many are."""
        began, pause = time.monotonic(), 0.002
        asked = set()
        while True:
            left = self._remnants()
            elapsed = time.monotonic() - began
            # A child of ours that is in nobody's list is about to exit: its usage still counts.
            if elapsed > GIVE_UP_SECONDS or not (left or (self.is_reaper and self.has_children)):
                return len(left)
            for pid in left:
                if elapsed > GRACE_SECONDS:
                    send(pid, signal.SIGKILL)
                elif pid not in asked:
                    asked.add(pid)
                    send(pid, signal.SIGTERM)
            self._listen(pause)
            pause = min(2 * pause, POLL_SECONDS)

    def _remnants(self) -> list[int]:
        """What is left of the job: pids, or the negative of the agent's group."""
        self._reap()
        if self.is_reaper and not self.has_children:
            return []
        left = holders(self.watcher.token, os.getpid() if self.is_reaper else 0)
        if self.status is None or (not os.path.exists("/proc/self") and _has_group(self.agent)):
            left.append(-self.agent)
        return left

    def _drain(self) -> None:
        """Take what is in the pipe; not for ever, should a process have outlived SIGKILL."""
        end = time.monotonic() + 1.0
        while self.output.read() and time.monotonic() < end:
            pass


def _has_group(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except OSError:
        return False
    return True


def spawn(
    argv: Sequence[bytes],
    environment: dict[bytes, bytes],
    cwd: bytes,
    stdin: str,
    outputs: tuple[int, int],
) -> tuple[int, str]:
    """Start a command in a session of its own; return its pid and why it could not be started."""
    source, sink = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            _become(argv, environment, cwd, stdin, outputs)
        except OSError as error:
            name = os.fsdecode(error.filename) if error.filename else os.fsdecode(argv[0])
            _write_all(sink, f"{name}: {error.strerror}".encode("utf-8", "backslashreplace"))
        finally:
            os._exit(127)
    os.close(sink)
    problem = b""
    while True:
        part = os.read(source, 4096)
        if not part:
            break
        problem += part
    os.close(source)
    if problem:
        os.waitpid(pid, 0)
    return pid, problem.decode()


def _become(
    argv: Sequence[bytes],
    environment: dict[bytes, bytes],
    cwd: bytes,
    stdin: str,
    outputs: tuple[int, int],
) -> None:
    """Turn this fresh child into the command."""
    os.setsid()
    prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # never unsupervised, not even without a driver
    signal.set_wakeup_fd(-1)
    for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGPIPE", "SIGTERM", "SIGCHLD", "SIGXFSZ"):
        signal.signal(getattr(signal, name), signal.SIG_DFL)
    os.dup2(os.open(stdin, os.O_RDONLY | os.O_CLOEXEC), 0)
    os.dup2(outputs[0], 1)
    os.dup2(outputs[1], 2)
    os.chdir(cwd)
    problem: OSError | None = None
    for path in _candidates(argv[0], environment):
        try:
            os.execve(path, list(argv), environment)  # noqa: S606 -- the job itself
        except OSError as error:
            is_absent = isinstance(error, (FileNotFoundError, NotADirectoryError))
            if problem is None or not is_absent:
                problem = OSError(error.errno, error.strerror, argv[0])
    if problem is not None:
        raise problem


def _candidates(name: bytes, environment: dict[bytes, bytes]) -> list[bytes]:
    if b"/" in name:
        return [name]
    path = environment.get(b"PATH", os.defpath.encode())
    return [os.path.join(folder, name) for folder in path.split(b":")]


def run(directory: str) -> None:
    """Supervise the job in a directory, unless another process does."""
    os.closerange(3, 4096)  # what the starter left open would never be closed
    try:
        os.setsid()
    except PermissionError:
        pass  # started by hand from a shell: leader of its group already
    wakeups = Wakeups((signal.SIGCHLD, signal.SIGTERM))
    me = os.getpid()
    token = os.urandom(16).hex()
    watcher = Watcher(f"{me} {start_time(me)} {token} 0 -".encode())
    if not _claim(directory, watcher):
        _write_all(1, STARTED)
        return
    spec = Spec(read_file(f"{directory}/spec"))
    _unlink(f"{directory}/spec")
    _write_all(1, STARTED)
    _let_go()
    supervisor = Supervisor(directory, spec, watcher, wakeups)
    try:
        result = supervisor.run()
    except BaseException as error:
        sweep(watcher.token, supervisor.agent)
        detail = f"the supervisor failed: {error!r}"
        write_file(f"{directory}/result.json", result_text(LOST, detail=detail), durable=True)
        raise
    write_file(f"{directory}/result.json", result, durable=True)


def _claim(directory: str, watcher: Watcher) -> bool:
    """Say who supervises the job; false when somebody said so before."""
    temporary = f"{directory}/pid.{watcher.pid}"
    write_file(temporary, watcher.line())
    try:
        os.link(temporary, f"{directory}/pid")
    except FileExistsError:
        return False
    finally:
        _unlink(temporary)
    return True


def _let_go() -> None:
    """Close what the starter gave us, so that it knows we are on our own."""
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(null, descriptor)


# --- services for a place that is reached by SSH ---------------------------------------------


def start(directory: str) -> None:
    """Start a job whose sizes, spec and stdin come on standard input."""
    sizes = _read_line().split()
    spec, stdin = _read_exactly(int(sizes[0])), _read_exactly(int(sizes[1]))
    if not prepare(directory, spec, stdin):
        _write_all(1, STARTED)
        return
    source, sink = os.pipe()
    if os.fork() == 0:
        os.dup2(sink, 1)
        os.dup2(sink, 2)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.close(sink)
        os.close(source)
        run(directory)
        return
    os.close(sink)
    _copy(source, 1, LARGE_READ)


def call(folder: str) -> None:
    """Run a short command; sizes, description and stdin come on standard input.

    How it ended is appended to standard error as `NUL code`, `NUL !why` when it did not start,
    `NUL ?` after its time. The caller's going away (end of input) kills it.
    """
    import select  # noqa: PLC0415

    sizes = _read_line().split()
    fields = _read_exactly(int(sizes[0])).split(b"\0")
    cwd, seconds, is_whole, n_arguments = fields[0], float(fields[1]), fields[2], int(fields[3])
    environment = {} if is_whole == b"1" else dict(os.environb)
    environment.update(parse_environment(fields[4 + n_arguments :]))
    wakeups = Wakeups((signal.SIGCHLD, signal.SIGTERM))
    stdin = _stdin_file(folder, int(sizes[1]))
    pid, problem = spawn(fields[4 : 4 + n_arguments], environment, cwd, stdin, (1, 2))
    if stdin != os.devnull:
        _unlink(stdin)
    if problem:
        _write_all(2, b"\0!" + problem.encode())
        return
    end, is_late = time.monotonic() + seconds, False
    while True:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            break
        ready = select.select((wakeups.source, 0), (), (), max(end - time.monotonic(), 0))[0]
        is_late = time.monotonic() >= end
        is_alone = 0 in ready and not os.read(0, 1)
        if is_late or is_alone or signal.SIGTERM in wakeups.take():
            send(-pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            break
    send(-pid, signal.SIGKILL)  # what it left behind would hold the caller's streams open
    code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
    _write_all(2, b"\0?" if is_late else b"\0%d" % code)


def _stdin_file(folder: str, n_bytes: int) -> str:
    if not n_bytes:
        return os.devnull
    path = f"{folder}/stdin.{os.getpid()}.{os.urandom(4).hex()}"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    _copy(0, descriptor, n_bytes)
    os.close(descriptor)
    return path


def _read_line() -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            raise EOFError("the caller went away")
        line += byte
    return line


def _read_exactly(n_bytes: int) -> bytes:
    parts = []
    while n_bytes:
        part = os.read(0, min(n_bytes, LARGE_READ))
        if not part:
            raise EOFError("the caller went away")
        parts.append(part)
        n_bytes -= len(part)
    return b"".join(parts)


class Follower:
    """Tells over one channel how jobs end.

    In: `+DIRECTORY NUL` and `-DIRECTORY NUL`. Out: `DIRECTORY NUL RESULT NUL`, an empty result for
    a job that never was, and two NUL as a heartbeat. Ends with its input.
    """

    def __init__(self) -> None:
        import select  # noqa: PLC0415

        self.poll = select.poll()
        self.poll.register(0, select.POLLIN)
        self.descriptors: dict[bytes, int] = {}
        self.rest = b""

    def run(self) -> None:
        """Follow until the caller goes away."""
        beat = 0.0
        while True:
            if time.monotonic() >= beat:
                _write_all(1, b"\0\0")
                beat = time.monotonic() + BEAT_SECONDS
            ready = self._wait(beat - time.monotonic())
            if 0 in ready and not self._take():
                return
            for name, descriptor in list(self.descriptors.items()):
                if descriptor in ready or descriptor < 0:
                    self._look(name)

    def _wait(self, seconds: float) -> set[int]:
        is_blind = any(descriptor < 0 for descriptor in self.descriptors.values())
        limit = min(seconds, POLL_SECONDS) if is_blind else seconds
        return {descriptor for descriptor, _ in self.poll.poll(max(limit, 0) * 1000)}

    def _take(self) -> bool:
        data = os.read(0, SMALL_READ)
        *words, self.rest = (self.rest + data).split(b"\0")
        for word in words:
            if word[:1] == b"+" and word[1:] not in self.descriptors:
                self.descriptors[word[1:]] = -1
                self._look(word[1:])
            elif word[:1] == b"-":
                self._forget(word[1:])
        return bool(data)

    def _look(self, name: bytes) -> None:
        """Report a job that ended; else have its end wake us, where the system can."""
        directory = os.fsdecode(name)
        try:
            result = read_result(directory)
            if result is None:
                watcher = find_watcher(directory)
                if is_running(watcher.pid, watcher.started):
                    self._attach(name, watcher)
                    return
                result = settle(directory)
        except FileNotFoundError:
            result = b""
        except OSError:
            return  # looked at again soon
        self._forget(name)
        _write_all(1, name + b"\0" + result.strip() + b"\0")

    def _attach(self, name: bytes, watcher: Watcher) -> None:
        if self.descriptors[name] >= 0:
            return
        descriptor = open_process(watcher)
        if descriptor >= 0:
            self.descriptors[name] = descriptor
            self.poll.register(descriptor)

    def _forget(self, name: bytes) -> None:
        descriptor = self.descriptors.pop(name, -1)
        if descriptor >= 0:
            self.poll.unregister(descriptor)
            os.close(descriptor)


def open_process(watcher: Watcher) -> int:
    """Return a descriptor that becomes readable when the supervisor ends; -1 where none can be."""
    if not hasattr(os, "pidfd_open"):
        return -1
    try:
        descriptor = os.pidfd_open(watcher.pid)
    except OSError:
        return -1
    if not is_running(watcher.pid, watcher.started):
        os.close(descriptor)
        return -1
    return descriptor


def survey(root: str) -> dict[str, str]:
    """Tell what this machine has for us: versions, free bytes below the root, the time."""
    import shutil  # noqa: PLC0415
    import subprocess  # noqa: PLC0415

    git = shutil.which("git")
    version = ""
    if git:
        version = subprocess.run(
            [git, "--version"], stdout=subprocess.PIPE, check=False
        ).stdout.decode()
    problem = ""
    try:
        write_file(f"{root}/.writable", b"")
        _unlink(f"{root}/.writable")
    except OSError as error:
        problem = error.strerror or "not writable"
    return {
        "python": ".".join(map(str, sys.version_info[:3])),
        "git": version.strip(),
        "root": problem,
        "free_bytes": "" if problem else str(shutil.disk_usage(root).free),
        "time": f"{time.time():.3f}",
    }


def _survey(root: str) -> None:
    _write_all(1, "\0".join(f"{name}={value}" for name, value in survey(root).items()).encode())


def _write(path: str, mode: str, n_bytes: str) -> None:
    write_file(path, _read_exactly(int(n_bytes)), mode=int(mode, 8))


def main(arguments: Sequence[str]) -> None:
    """Run one mode; ends the process."""
    services: dict[str, Callable[..., object]] = {
        "run": run,
        "start": start,
        "call": call,
        "follow": lambda: Follower().run(),
        "kill": request_kill,
        "read": lambda path: _write_all(1, read_file(path)),
        "write": _write,
        "tail": lambda directory, n_bytes: _write_all(1, tail(directory, int(n_bytes))),
        "renew": renew,
        "remove": remove,
        "survey": _survey,
    }
    code = 0
    try:
        services[arguments[0]](*arguments[1:])
    except FileNotFoundError as error:
        code = _complain(error, ABSENT)
    except ValueError as error:
        code = _complain(error, OUTSIDE)
    except OSError as error:
        code = _complain(error, FAILED)
    os._exit(code)  # saves the interpreter's 2 ms of tidying up


def _complain(error: Exception, code: int) -> int:
    try:
        _write_all(2, str(error).encode("utf-8", "backslashreplace") + b"\n")
    except OSError:
        pass
    return code


if __name__ == "__main__":
    main(sys.argv[1:])

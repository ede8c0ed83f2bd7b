"""This machine as a place."""

from __future__ import annotations

import os
import select
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from blocks import commands
from blocks.commands import Finished
from blocks.errors import CommandFailed
from blocks.places import supervise
from blocks.places.place import Check, Job, JobResult, judge_survey

PASSED_ON = ("MISSION_TOKEN", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
"""What a supervisor inherits: what Python needs to start, and the mark of a job we are part of."""

# Children belong to the process, not to one place: whoever looks next collects the ended ones.
_supervisors: set[int] = set()
_supervisors_lock = threading.Lock()


class LocalPlace:
    """This machine; state below `root`, which is made."""

    name = "local"

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.realpath(root)
        Path(self.root).mkdir(mode=0o700, parents=True, exist_ok=True)

    @property
    def git_environment(self) -> Mapping[str, str]:
        """Nothing: paths need none."""
        return {}

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
        """Run a short command to its end.

        Raises:
            CommandFailed: not started, too late, or (with `check`) not exit code 0.
        """
        return commands.run(
            argv, cwd=cwd, env=env, stdin=stdin, timeout_seconds=timeout_seconds, check=check
        )

    def read(self, path: str) -> bytes:
        """Read a small file."""
        return supervise.read_file(path)

    def write(self, path: str, data: bytes, *, mode: int = 0o600) -> None:
        """Write a small file in one step; parents are made."""
        supervise.write_file(path, data, mode=mode)

    def start(self, job: Job) -> None:
        """Start a job, unless one was started in its directory; return when it is started.

        Raises:
            CommandFailed: the supervisor does not start.
        """
        _reap()
        if not supervise.prepare(job.directory, job.pack(), job.stdin):
            return
        code = os.path.dirname(supervise.__file__)  # noqa: PTH120 -- as the supervisor sees it
        argv = [sys.executable, "-I", "-S", "-c", supervise.LAUNCH, code, "run", job.directory]
        said = _launch(argv)
        if said != supervise.STARTED:
            raise CommandFailed(argv, None, b"", said or b"the supervisor ended at once")

    def wait(self, directory: str, *, timeout_seconds: float | None = None) -> JobResult | None:
        """Block until a job ended, whoever started it; None when that takes too long.

        Raises:
            FileNotFoundError: no job was started there.
        """
        result = supervise.read_result(directory)
        if result is None:
            watcher = supervise.find_watcher(directory)
            if not _await(watcher, timeout_seconds):
                return None
            result = supervise.settle(directory)
        _reap()
        return JobResult.parse(result)

    def kill(self, directory: str) -> None:
        """Have everything of a job killed; `wait` tells when it is done."""
        supervise.request_kill(directory)

    def tail(self, directory: str, n_bytes: int = 65536) -> bytes:
        """Return the end of a job's output, also while it runs."""
        return supervise.tail(directory, n_bytes)

    def renew(self, lease: str) -> None:
        """Count a lease file up."""
        supervise.renew(lease)

    def git_url(self, path: str) -> str:
        """Return the path."""
        return path

    def remove(self, path: str) -> None:
        """Remove a file or folder below the root; absent is fine.

        Raises:
            ValueError: the path is not below the root.
        """
        supervise.remove(self.root, path)

    def check(self) -> list[Check]:
        """Look for what we need here."""
        return judge_survey(supervise.survey(self.root), now=time.time())

    def close(self) -> None:
        """Collect what ended; jobs go on."""
        _reap()


def _launch(argv: list[str]) -> bytes:
    """Start a supervisor in a session of its own; return what it says before it lets go.

    Not `subprocess.Popen`: that insists on being waited for by the object that started it.
    """
    source, sink = os.pipe()
    try:
        pid = os.posix_spawn(
            argv[0],
            argv,
            {name: os.environ[name] for name in PASSED_ON if name in os.environ},
            file_actions=(
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, sink, 1),
                (os.POSIX_SPAWN_DUP2, sink, 2),
            ),
            setsid=sys.platform.startswith("linux"),
        )
    except OSError as error:
        os.close(source)
        raise CommandFailed(argv, commands.NOT_FOUND, b"", str(error).encode()) from error
    finally:
        os.close(sink)
    with _supervisors_lock:
        _supervisors.add(pid)
    with os.fdopen(source, "rb") as stream:
        return stream.read()


def _reap() -> None:
    """Collect supervisors of ours that ended."""
    with _supervisors_lock:
        for pid in tuple(_supervisors):
            try:
                ended, _ = os.waitpid(pid, os.WNOHANG)
            except ChildProcessError:
                ended = pid  # somebody else collected it
            if ended:
                _supervisors.discard(pid)


def _await(watcher: supervise.Watcher, timeout_seconds: float | None) -> bool:
    """Block until a supervisor is gone; false when that takes too long."""
    descriptor = supervise.open_process(watcher)
    if descriptor < 0:
        return _poll(watcher, timeout_seconds)
    try:
        poll = select.poll()
        poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(None if timeout_seconds is None else max(timeout_seconds, 0) * 1000))
    finally:
        os.close(descriptor)


def _poll(watcher: supervise.Watcher, timeout_seconds: float | None) -> bool:
    """Do the same where there are no pidfds, or where it is gone already."""
    end = float("inf") if timeout_seconds is None else time.monotonic() + timeout_seconds
    while supervise.is_running(watcher.pid, watcher.started):
        left = end - time.monotonic()
        if left <= 0:
            return False
        _reap()
        time.sleep(min(left, supervise.POLL_SECONDS))
    return True
